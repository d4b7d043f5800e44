"""Iceberg tables in plait."""

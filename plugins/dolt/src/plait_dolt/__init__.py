"""Adapter of dolt stores: in the making."""

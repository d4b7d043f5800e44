"""Adapter of block stores: in the making."""

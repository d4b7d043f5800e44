"""Adapter of delta stores: in the making."""

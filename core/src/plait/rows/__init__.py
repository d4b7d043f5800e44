"""Rows of tables, for adapters that hold some: what a row is called, what differs, and merges by row. Needs pyarrow."""

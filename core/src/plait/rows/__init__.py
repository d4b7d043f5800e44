"""Rows of tables, for adapters of tables: their items (names), differences, and merges by row. Needs pyarrow."""

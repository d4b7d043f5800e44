"""plait's catalog server."""

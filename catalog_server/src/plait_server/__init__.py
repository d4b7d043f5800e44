"""plait's catalog server."""

import os

# Before gRPC is imported: it would write lines of its own between those of the log, which are JSON.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

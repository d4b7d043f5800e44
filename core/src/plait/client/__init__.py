"""A served catalog, as seen from a client: every call of `Backend` sent over gRPC.

Native handles are opened in this process, by the same adapters that the server has: data never passes through gRPC.
"""

from plait.client.backend import RemoteBackend
from plait.client.connecting import connect_remote

__all__ = ["RemoteBackend", "connect_remote"]

"""The client of a served catalog: `Backend`, implemented by calls over gRPC.

Native handles are opened in the client's process, by the same adapters that the server has: data never passes through
gRPC.
"""

from plait.client.backend import RemoteBackend
from plait.client.connecting import connect_remote

__all__ = ["RemoteBackend", "connect_remote"]

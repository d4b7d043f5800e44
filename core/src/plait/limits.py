"""Every bound of plait's own, in one place; docs/limits.md is made from this module."""

from __future__ import annotations

from typing import Final

KEY_PARTS_MAX: Final = 16
"""Parts of a key, which dots join."""
KEY_PART_BYTES_MAX: Final = 255
"""Bytes of one part of a key."""
REF_NAME_BYTES_MAX: Final = 255
"""Bytes of a branch's or tag's name."""
MESSAGE_BYTES_MAX: Final = 64 * 1024
"""Bytes of a commit's message."""
NAME_BYTES_MAX: Final = 1024
"""Bytes of authors, principals, clients, working sets and tokens."""
PROPERTIES_BYTES_MAX: Final = 64 * 1024
"""Bytes of all properties of a commit together."""
SNAPSHOT_BYTES_MAX: Final = 64 * 1024
"""Bytes of what the catalog keeps of one version of an asset."""
OPERATIONS_MAX: Final = 10_000
"""Keys that one commit sets, removes or expects."""
PROPOSALS_MAX: Final = 1_000
"""Commits that one `commit_many` asks for."""
RPC_MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of one gRPC request or answer."""
IDEMPOTENCY_KEY_BYTES_MAX: Final = 255
"""Bytes of what makes a request repeatable."""

SEQ_MAX: Final = 2**63 - 1
"""What databases, and the wire, count to."""
LEASE_US: Final = 15 * 60 * 1_000_000
"""How long a `with` block, or a process on another machine, is taken to live without a sign of it, in microseconds."""
GATE_US_MAX: Final = 60 * 1_000_000
"""How long a gate may take, in microseconds."""

WATCHES_MAX: Final = 64
"""Watches of events that one server keeps open at once: each holds a thread."""
STREAMS_MAX: Final = 48
"""Other streamed answers (`log`, `diff`, …) that one server gives at once: each holds a thread, and a connection to the
database until its client has read it."""
QUEUE_PROPOSALS_MAX: Final = 4_096
"""Commits that may wait in one process, and calls that a server takes at once; one more is `RESOURCE_EXHAUSTED`."""
BATCH_PROPOSALS_MAX: Final = 256
"""Commits that share one database transaction."""
STORE_RETRY_US: Final = 30 * 1_000_000
"""How long commits leave a store alone that did not answer them, in microseconds. `publish` and recovery do ask."""
MERGE_ROUNDS_MAX: Final = 64
"""How often one proposal is merged onto a head that moved again before it is refused."""

ERROR_CONFLICTS_MAX: Final = 20
"""Conflicts that travel inside an error; the rest are streamed by `conflicts`."""
ERROR_DETAIL_BYTES_MAX: Final = 6 * 1024
"""Bytes of an error as it travels over gRPC."""

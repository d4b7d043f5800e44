"""Every bound plait puts on its input, in one place; docs/limits.md is made from this module."""

from __future__ import annotations

from typing import Final

KEY_PARTS_MAX: Final = 16
KEY_PART_BYTES_MAX: Final = 255
REF_NAME_BYTES_MAX: Final = 255
MESSAGE_BYTES_MAX: Final = 64 * 1024
NAME_BYTES_MAX: Final = 1024
"""Of authors, principals, clients, working sets and tokens."""
PROPERTIES_BYTES_MAX: Final = 64 * 1024
SNAPSHOT_BYTES_MAX: Final = 64 * 1024
OPERATIONS_MAX: Final = 10_000
PROPOSALS_MAX: Final = 1_000
RPC_MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
IDEMPOTENCY_KEY_BYTES_MAX: Final = 255

SEQ_MAX: Final = 2**63 - 1
"""What databases, and the wire, count to."""
LEASE_US: Final = 15 * 60 * 1_000_000
GATE_US_MAX: Final = 60 * 1_000_000

WATCHES_MAX: Final = 64
"""Watches of events that one server keeps open at once: each holds a thread."""
QUEUE_PROPOSALS_MAX: Final = 4_096
BATCH_PROPOSALS_MAX: Final = 256
STORE_RETRY_US: Final = 30 * 1_000_000
"""How long commits leave a store alone that did not answer them; `publish` and recovery ask it at once."""
MERGE_ROUNDS_MAX: Final = 64
"""How often one proposal is merged onto a head that moved again before it is refused."""

ERROR_CONFLICTS_MAX: Final = 20
"""Conflicts that travel inside an error; the rest are streamed by `conflicts`."""
ERROR_DETAIL_BYTES_MAX: Final = 6 * 1024

"""Where an export goes: what it asks of a place. `folder_target` and `bucket_target` are two of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Protocol, TypeAlias

from plait.errors import Corrupt, NotFound, PlaitError, StoreUnavailable

from plait_s3.blobs import STAGING, Blobs
from plait_s3.committed import differs
from plait_s3.export_state import Record, State
from plait_s3.manifest import Entry
from plait_s3.selection import content_of

Group: TypeAlias = Sequence[tuple[str, Entry]]
"""Some objects, each with its name at the target."""

Moved: TypeAlias = Callable[[int], None]
"""Hears of bytes that were moved."""


class Held(Protocol):
    """What a target has under a name."""

    @property
    def size_bytes(self) -> int: ...

    def holds(self, content: str) -> bool:
        """Whether it is surely this (`content_of`). Cost: up to reading it, or one request."""
        ...

    def record(self, content: str, *, is_left: bool) -> Record | None:
        """What to remember of it, once it is known what it holds; None: nothing."""
        ...


class Target(ABC):
    """A folder, or a prefix of a bucket. Thread-safe. Raises: PermissionDenied, StoreUnavailable."""

    uri: str
    remembers_all: ClassVar[bool]
    """Whether it has a record of every name, and not only of those that are left over."""

    @abstractmethod
    def load(self) -> State | None:
        """What the exports before this one remember. Raises: Corrupt."""

    @abstractmethod
    def begin(self) -> None:
        """Make it a place to write to, and keep other exports out. Raises: StoreUnavailable where one is writing."""

    @abstractmethod
    def disturbed(self, state: State, *, check: bool) -> set[str]:
        """Names whose records say nothing of what is there now, as far as that can be seen without reading.
        `check`: trust no record."""

    @abstractmethod
    def names(self) -> Collection[str]:
        """Everything that is there but the export's own; whoever asks has `held` answer from that."""

    @abstractmethod
    def held(self, name: str) -> Held | None: ...

    def blocking(self, written: Collection[str], doomed: Collection[str]) -> set[str]:
        """Which of the doomed have to go before the others can be written."""
        return set()

    @abstractmethod
    def refused(self, written: Collection[str], doomed: Collection[str]) -> Iterator[str]:
        """Sentences on the names that cannot be written here, or must not."""

    @abstractmethod
    def save(self, state: State, changed: Iterable[str]) -> None:
        """Remember the state, durably; the records of `changed` differ from what it remembers."""

    @abstractmethod
    def write(self, group: Group, moved: Moved) -> Mapping[str, Record]:
        """Put these objects there, durably, each whole or not at all. Returns: what is remembered of them already."""

    @abstractmethod
    def delete(self, names: Sequence[str]) -> None:
        """Remove these. What is gone already is fine."""

    @abstractmethod
    def close(self) -> None:
        """Let other exports in."""


def checked(blobs: Blobs, entry: Entry, moved: Moved) -> Iterator[bytes]:
    """An object's bytes, as they were committed: before the end it raises Corrupt (of a working set, StoreUnavailable)
    if they were others, or none. So what is made whole at the end only is right."""
    hashed = entry.new_hash()
    try:
        for chunk in blobs.stream(entry.key, entry.version):
            hashed.update(chunk)
            moved(len(chunk))
            yield chunk
    except NotFound as error:
        raise altered(blobs.uri(entry.key), entry) from error
    if differs(blobs, entry, hashed.hexdigest()):
        raise altered(blobs.uri(entry.key), entry)


def altered(where: str, entry: Entry) -> PlaitError:
    """What an object's source is told to be, when it is not what was selected."""
    if entry.place.startswith(STAGING) and not entry.version:
        return StoreUnavailable(f"{where} was written to while it was exported", remedy="repeat when its writer ended")
    return Corrupt(
        f"{where} is lost or holds other bytes than were committed, expected {content_of(entry)}",
        remedy="restore it from a backup of the store; 'plait verify --depth bytes' finds all that are so",
    )

"""What a third party writes to have an adapter proved: five small functions over one real store.

    pytest --pyargs plait_conformance.suite --harness my_adapter.testing:Harness

The suite speaks of *rows*: an asset holds row → text. A harness says what that is in its store: a table's rows,
objects, files in a file system, blocks of a volume. Promised to a harness:

    a row is named "r" and a number: r0, r17, r1200; an asset "a", "b" … (`name` makes a key of it)
    a text has 1 to 60 printable characters, without line breaks; not only ASCII
    an asset that is created has at least one row
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, TypeAlias

from plait.adapter import Adapter, Context, StagingPort
from plait.types import Json, Key, Location, SnapshotRef

Rows: TypeAlias = Mapping[str, str]
"""What an asset holds: row → text."""

Edits: TypeAlias = Mapping[str, str | None]
"""Rows to set, and (None) to remove."""


class NotOffered(Exception):
    """A harness lacks an optional function (and says why): what needs it is pending, or fails where it may not be."""


class Harness(ABC):
    """One empty store for the length of one test. Five functions are needed, and `corrupt` to pass assertion 9."""

    keeps_all_in_folder: ClassVar[bool] = False
    """Everything that the store keeps is below `folder`, so that a copy of the folder is a backup of the store."""

    survives_fork: ClassVar[bool] = True
    """The store's client can be used in a process forked from one that used it. If not, the children that are killed
    are started anew, and the harness has to be picklable for them."""

    def __init__(self, folder: Path) -> None:
        """`folder` exists, is empty, and is this harness's own. Made anew for each test."""
        self.folder = folder

    # -- the five ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def open(self, context: Context) -> Adapter:
        """A NEW instance of the adapter, each time on the same storage, as a restarted process would make it."""

    @abstractmethod
    def create(self, adapter: Adapter, port: StagingPort, key: Key, rows: Rows) -> None:
        """Begin a new asset inside the port's transaction, with these rows, as a user of plait does."""

    @abstractmethod
    def write(self, adapter: Adapter, port: StagingPort, key: Key, edits: Edits) -> None:
        """Set and remove rows of an asset inside the port's transaction, as a user of plait does.

        The key is in the transaction's base, or was created in it. Removing a row that is not there is fine.
        """

    @abstractmethod
    def read(self, location: Location) -> Rows:
        """All rows at a location, read by the store's own client where it has one. Never by a catalog."""

    @abstractmethod
    def write_behind(self, snapshot: SnapshotRef | None, edits: Edits) -> str:
        """Write as somebody who has never heard of plait does; the asset's native name, as `plait import` takes it.

        None: make a native asset with these rows. A snapshot: change the native asset that it is a snapshot of, at
        its native head (or, in stores that have none, on top of this snapshot).
        """

    # -- names: override where yours differ --------------------------------------------------------------------------

    def name(self, asset: str) -> tuple[str, ...]:
        """The parts of an asset's key that follow the store's name."""
        return (asset,)

    def item(self, row: str) -> str:
        """What the adapter calls a row in diffs, conflicts and resolutions."""
        return row

    def value(self, row: str, text: str) -> Json:
        """What a `Resolution` by value is given so that a row becomes this text."""
        return text

    # -- optional ----------------------------------------------------------------------------------------------------

    def corrupt(self, snapshot: SnapshotRef) -> None:
        """Change one byte of what the snapshot's rows are stored in, past every check of the store."""
        raise NotOffered("the harness has no corrupt")

    def denied(self) -> AbstractContextManager[None]:
        """Within the block, the store refuses plait's writes for want of permission."""
        raise NotOffered("the harness has no denied")

    def cost(self, adapter: Adapter) -> Mapping[str, int]:
        """What this instance has asked of the store so far, ever growing: say, requests, bytes, nodes."""
        raise NotOffered("the harness has no cost")

    def close(self) -> None:
        """The test is over: stop what the harness itself started."""
        return

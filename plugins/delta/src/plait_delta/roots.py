"""Where things lie in a store: tables, and the private roots that transactions write in.

    hourly/                                   a table, as everybody opens it
    hourly/_branches/claim                    which new asset this folder was given to

A root is a Delta table of a transaction's own, with a log of its own that names the table's files, so that none is
copied. Where roots lie and how their logs reach the table is different on a disk (`plait_delta.disk_roots`) and in a
bucket (`plait_delta.bucket_roots`).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from plait.errors import InvalidArgument, NotFound

from plait_delta.files import BRANCHES, LOG, OWN, Failpoint, Files, Native, tables_below

CLAIM: Final = f"{BRANCHES}/claim"
ROOTS: Final = f"{OWN}/roots"
"""Where a store keeps what it knows of roots."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")


@dataclass(frozen=True, slots=True)
class Root:
    """A folder with a log: of the table itself, or of a transaction. `own` is where its own files are in the table."""

    folder: str
    table: str
    files: Files = field(repr=False, compare=False)
    own: str = ""
    link: str = ""
    """What its log names the table's files by: the way from its folder to the table's."""

    def path(self, *parts: str) -> str:
        return "/".join((self.folder, *parts))

    def canonical(self, path: str) -> str:
        """A path as this root's log has it, relative to the table's folder."""
        if not self.own:
            return path
        return path.removeprefix(self.link) if path.startswith(self.link) else self.own + path

    def place(self, path: str) -> str:
        """A canonical path as this root's log is to have it."""
        if not self.own:
            return path
        return path.removeprefix(self.own) if path.startswith(self.own) else self.link + path


class Layout(ABC):
    """The places of one store below its path."""

    def __init__(self, path: str, files: Files, failpoint: Failpoint) -> None:
        self.files = files
        self.path = files.normal(path)
        self._failpoint = failpoint

    # -- names -------------------------------------------------------------------------------------------------------

    def absolute(self, place: str) -> str:
        """A place relative to the store, or an absolute one, as an absolute one."""
        return self.files.normal(place if self.is_absolute(place) else f"{self.path}/{place}")

    @abstractmethod
    def is_absolute(self, place: str) -> bool: ...

    def asset_of(self, folder: str) -> str:
        """The asset whose table lies in a folder: relative to the store where it is inside."""
        return self.files.normal(folder).removeprefix(f"{self.path}/")

    def table(self, asset: str) -> Root:
        """The table of an asset."""
        folder = self.absolute(asset)
        return Root(folder, folder, self.files)

    @abstractmethod
    def root(self, asset: str, tx: str, name: str) -> Root:
        """The root in a transaction's folder of this name."""

    def version_text(self, root: Root, version: int) -> str:
        """A version of a root as `SnapshotRef.version` says it."""
        return f"{self.asset_of(root.folder)}@{version}"

    def parse(self, asset: str, text: str) -> tuple[Root, int]:
        """The root and version that `version_text` wrote. Raises: InvalidArgument."""
        place, _, number = text.rpartition("@")
        if not place or not number.isdigit():
            raise InvalidArgument(f"{text!r} names no version of a Delta table")
        return self.parse_folder(asset, place), int(number)

    @abstractmethod
    def parse_folder(self, asset: str, folder: str) -> Root:
        """The root in a folder, given relative to the store or absolute."""

    # -- folders of new tables ---------------------------------------------------------------------------------------

    def claim(self, tx: str, intent: str, name: str) -> str:
        """Give a new asset a folder: `name` if it is free, else one named after the intent too; the asset.

        Repeat: the same folder. A name that is taken stays its owner's.
        """
        plain = name if _PLAIN.match(name) else ""
        unique = f"{plain or 'table'}-{intent}"
        content = f"{tx}\n{intent}\n"
        for folder in filter(None, (unique, plain)):
            if self._claimed(self.absolute(folder)) == content:
                return folder
        for folder in filter(None, (plain, unique)):
            place = self.absolute(folder)
            if self._claim(tx, place, content.encode()) or self._claimed(place) == content:
                return folder
        raise InvalidArgument(f"folder {unique!r} in {self.path} is taken", remedy="move what lies there away")

    @abstractmethod
    def _claim(self, tx: str, folder: str, content: bytes) -> bool:
        """Make a folder with this claim in it, unless there is one; say whether it did."""

    def _claimed(self, folder: str) -> str | None:
        """Who has a folder; None for nobody. A damaged claim is somebody else's."""
        try:
            return self.files.read(f"{folder}/{CLAIM}").decode(errors="replace")
        except NotFound:
            return None

    def _drop_table(self, tx: str, folder: str) -> None:
        """Delete what a transaction left in a table, and the folder it claimed for one that never came to be."""
        self.files.remove(f"{folder}/{BRANCHES}/{tx}")
        self._failpoint("delta.abort.after_data")
        claimed = self._claimed(folder)
        is_mine = claimed is not None and claimed.startswith(f"{tx}\n")
        if is_mine and LOG not in self.files.children(folder)[0]:
            self.files.remove(folder)

    # -- roots -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def problems(self) -> Sequence[str]:
        """Probe the place: what it lacks for holding roots, as sentences."""

    @abstractmethod
    def is_there(self, root: Root) -> bool:
        """Whether a working set's root is still there, as far as that shows without a table in it."""

    @abstractmethod
    def made(self, root: Root) -> Root | None:
        """The root that was made under this name, where it is whole; else None."""

    @abstractmethod
    def make_root(self, root: Root, tx: str, fill: Callable[[Root], None]) -> Root:
        """Make a root under a name, unless one is there, which then stays as it is; the root to use.

        `fill` writes into a root that nobody else sees. A death before its end leaves nothing under the name.
        """

    @abstractmethod
    def keep(self, root: Root, names: Collection[str], check_cancelled: Callable[[], None]) -> None:
        """Make a root's log and its own files (canonical names) durable, and found in the table. Repeat: no-op."""

    @abstractmethod
    def links(self, root: Root) -> list[str]:
        """What a root's readers follow to its table: a link, on a disk."""

    @abstractmethod
    def own_places(self, root: Root, name: str) -> list[str]:
        """Every place where a data file is, by its canonical name: in the table, and, on disks, in its root."""

    @abstractmethod
    def view(self, root: Root, log: Callable[[Callable[[str], str]], bytes]) -> AbstractContextManager[Native]:
        """A table for reading only, until the context ends. `log` writes its log, given how to name canonical paths."""

    @abstractmethod
    def drop(self, tx: str) -> None:
        """Delete what a transaction left: its data in tables, folders it claimed for tables that never came to be, its
        roots. Repeat: no-op."""

    # -- all of it ---------------------------------------------------------------------------------------------------

    def tables(self) -> Iterator[Root]:
        """Every table in the store, and every folder that one is to be in."""

        def is_table(folder: str, folders: list[str]) -> bool:
            if folder == self.path:
                return False
            return LOG in folders or (BRANCHES in folders and self._claimed(folder) is not None)

        for folder in tables_below(self.files, self.path, is_table=is_table):
            yield Root(folder, folder, self.files)

    def check_table(self, root: Root) -> None:
        """Raises: NotFound where a root's table was moved or deleted: what is written there is half of a table."""
        if self._claimed(root.table) is None and LOG not in self.files.children(root.table)[0]:
            raise NotFound(
                f"the table's folder {root.table} is gone, or holds no table any more",
                remedy="bring it back and commit again, or discard the working set",
            )

    @abstractmethod
    def private(self) -> Iterator[str]:
        """The folders below which all files are plait's own, outside of tables."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a file by its item's path, and the folders that this leaves empty. Repeat: no-op.

        Raises: InvalidArgument for a path that is neither in a root nor among a table's branches.
        """

    def _own_place(self, name: str) -> str:
        """Where an item is, after checking that it is plait's own."""
        place = self.absolute(name)
        if not (place.startswith(f"{self.path}/{OWN}/") or BRANCHES in place.split("/")[:-1]):
            raise InvalidArgument(f"{name!r} is no file of plait's", remedy="delete what `inventory` names")
        return place


def check_part(part: str) -> str:
    """One part of a root's place. Raises: InvalidArgument for one that could lead elsewhere."""
    if not _PLAIN.match(part):
        raise InvalidArgument(f"{part!r} cannot name a transaction's folder")
    return part

"""What the adapter asks of the place where a store's files are: a folder of a disk, or a prefix of a bucket.

Places are absolute paths, or URLs of objects; both are joined by slashes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, ClassVar, Final, TypeAlias

from plait.errors import PermissionDenied, Unsupported

Failpoint: TypeAlias = Callable[[str], None]

LOG: Final = "_delta_log"
BRANCHES: Final = "_branches"
OWN: Final = "_plait"
LINK: Final = "_table"

SCHEME: Final = "s3://"
OPTIONS: Final = frozenset({"endpoint", "region", "access_key", "secret_key"})
"""Of a store in a bucket, beside its path."""


@dataclass(frozen=True, slots=True)
class Info:
    """What is known of a file without reading it."""

    size: int
    changed_us: int


@dataclass(frozen=True, slots=True)
class Native:
    """How deltalake opens a table: `DeltaTable(uri, storage_options=options)`."""

    uri: str
    options: dict[str, str] | None


class Files(ABC):
    """Reads and writes of whole files. Thread-safe.

    All raise NotFound (unless they say otherwise), PermissionDenied, and StoreUnavailable.
    """

    is_remote: ClassVar[bool]
    """Whether a server answers for them, with one right to all. On a disk each folder has an owner of its own."""
    misread: ClassVar[re.Pattern[str]]
    """What no place of a table may have in it: deltalake takes places for URLs, and would look elsewhere, or panic."""

    @abstractmethod
    def normal(self, place: str) -> str:
        """A place in its one form, so that equal places have equal names."""

    @abstractmethod
    def read(self, place: str) -> bytes: ...

    @abstractmethod
    def open(self, place: str) -> AbstractContextManager[IO[bytes]]:
        """The file, to be read in any order."""

    @abstractmethod
    def put_new(self, place: str, data: bytes) -> bool:
        """Make a file with this content, whole and durable, unless the name is taken; say whether it did."""

    @abstractmethod
    def replace(self, place: str, data: bytes) -> None:
        """Give a file this content, whole and durable, whatever it had."""

    @abstractmethod
    def infos(self, places: Iterable[str]) -> Mapping[str, Info]:
        """What is known of those that exist. Cost: a question for each, or the listing of their folders."""

    @abstractmethod
    def children(self, folder: str) -> tuple[list[str], list[str]]:
        """The names of the folders and of the files in a folder, sorted; none for a folder that is not there."""

    @abstractmethod
    def below(self, folder: str) -> Iterator[tuple[str, Info]]:
        """All files in a folder and the folders in it; none for a folder that is not there."""

    @abstractmethod
    def remove(self, place: str) -> None:
        """Delete a folder with everything in it, or a file. Repeat: no-op."""

    @abstractmethod
    def sha256(self, place: str, *, trusting: bool = False) -> str:
        """The hash of a file. Cost: its bytes; nothing where it is trusted to hold what this process wrote there."""

    @abstractmethod
    def native(self, folder: str) -> Native:
        """How deltalake is to open the table in a folder, for all that it can. Raises: Unsupported."""

    def check_native(self, folder: str) -> str:
        """The folder, unless deltalake would look for it elsewhere. Raises: Unsupported."""
        if found := self.misread.search(folder):
            raise Unsupported(
                f"{folder} cannot be read by delta-rs: it has {found[0]!r} in it, which deltalake reads otherwise",
                remedy="choose a place without one of % # ? [ ] | ^ and backslashes",
            )
        return folder

    def is_folder(self, folder: str) -> bool:
        """Whether there is a folder; in a bucket, which has none, whether anything is in it."""
        return any(self.children(folder))

    def exists(self, place: str) -> bool:
        """Whether there is a file."""
        return bool(self.infos([place]))

    def close(self) -> None:  # noqa: B027  (a disk has nothing to stop)
        """Stop what serves native handles."""


def tables_below(files: Files, top: str, *, is_table: Callable[[str, list[str]], bool] | None = None) -> Iterator[str]:
    """The folders at and below one that hold a Delta table, in order of their paths; none inside another, none that
    is plait's own, and none in a folder whose name begins with a dot.

    Args:
        is_table: decides by a folder's place and the names of the folders in it; None: whether it has a log.
    Cost: a listing for each folder that is no table.
    """
    folders, _ = files.children(top)
    if is_table(top, folders) if is_table else LOG in folders:
        yield top
        return
    for name in folders:
        if name not in (OWN, BRANCHES) and not name.startswith("."):
            try:
                yield from tables_below(files, f"{top.rstrip('/')}/{name}", is_table=is_table)
            except PermissionDenied:
                if files.is_remote:
                    raise
                # Else somebody else's folder, like lost+found.

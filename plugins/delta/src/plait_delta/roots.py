"""Where things lie in a store: tables, and the private roots that transactions write in. The one module that knows.

    hourly/                               a table, as everybody opens it
    hourly/_branches/<tx>/<name>/part-…   the data that transactions added to it
    hourly/_branches/claim                which new asset this folder was given to
    _plait/roots/<tx>/<name>/             a root: a Delta table of its own, with a log of its own …
    _plait/roots/<tx>/<name>/_table       … and a link to the table's folder, so that its log can name files there
    _plait/tmp/<tx>/…                     roots being made

A log may only name files inside its own folder, or most readers refuse it. Through the link all files of the table are
inside a root's folder, so a root is an ordinary table, readable and writable by every Delta client, and none is copied.
A root cannot lie inside the table: the link would be a loop, on which delta-rs's vacuum fails. Therefore `prepare`
gives files that a root gained a second name in the table (a hard link), under which the table's own log can name them.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from plait.errors import InvalidArgument, NotFound

from plait_delta.disk import Failpoint, make_folders, place_folder, read_bytes, translated

BRANCHES: Final = "_branches"
LINK: Final = "_table"
OWN: Final = "_plait"
ROOTS: Final = f"{OWN}/roots"
TEMPORARY: Final = f"{OWN}/tmp"
LOG: Final = "_delta_log"
CLAIM: Final = f"{BRANCHES}/claim"

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")


@dataclass(frozen=True, slots=True)
class Root:
    """A folder with a log: of the table itself, or of a transaction. `own` is where its own files are in the table."""

    folder: str
    table: str
    own: str = ""

    def path(self, *parts: str) -> str:
        return os.path.join(self.folder, *parts)

    def canonical(self, path: str) -> str:
        """A path as this root's log has it, relative to the table's folder."""
        if not self.own:
            return path
        if path.startswith(f"{LINK}/"):
            return path.removeprefix(f"{LINK}/")
        return self.own + path

    def place(self, path: str) -> str:
        """A canonical path as this root's log is to have it."""
        if not self.own:
            return path
        return path.removeprefix(self.own) if path.startswith(self.own) else f"{LINK}/{path}"


class Layout:
    """The places of one store below its folder."""

    def __init__(self, path: str, failpoint: Failpoint) -> None:
        self.path = os.path.normpath(path)
        self._failpoint = failpoint

    # -- names -------------------------------------------------------------------------------------------------------

    def asset_of(self, folder: str) -> str:
        """The asset whose table lies in a folder: relative to the store where it is inside."""
        folder = os.path.normpath(folder)
        return os.path.relpath(folder, self.path) if folder.startswith(self.path + os.sep) else folder

    def table(self, asset: str) -> Root:
        """The table of an asset."""
        folder = os.path.normpath(os.path.join(self.path, asset))
        return Root(folder, folder)

    def root(self, asset: str, tx: str, name: str) -> Root:
        """The root that a transaction gives this name."""
        for part in (tx, name):
            if not _PLAIN.match(part):
                raise InvalidArgument(f"{part!r} cannot name a transaction's folder")
        return Root(os.path.join(self.path, ROOTS, tx, name), self.table(asset).folder, f"{BRANCHES}/{tx}/{name}/")

    def version_text(self, root: Root, version: int) -> str:
        """A version of a root as `SnapshotRef.version` says it."""
        return f"{self.asset_of(root.folder)}@{version}"

    def parse(self, asset: str, text: str) -> tuple[Root, int]:
        """The root and version that `version_text` wrote. Raises: InvalidArgument."""
        place, _, number = text.rpartition("@")
        if not place or not number.isdigit():
            raise InvalidArgument(f"{text!r} names no version of a Delta table")
        return self.parse_folder(asset, place), int(number)

    def parse_folder(self, asset: str, folder: str) -> Root:
        """The root in a folder, given relative to the store or absolute."""
        relative = self.asset_of(os.path.join(self.path, folder))
        parts = relative.split(os.sep)
        if relative.startswith(ROOTS + os.sep) and len(parts) == 4:
            return self.root(asset, parts[2], parts[3])
        return self.table(relative)

    # -- folders of new tables ---------------------------------------------------------------------------------------

    def claim(self, tx: str, intent: str, name: str) -> str:
        """Give a new asset a folder: `name` if it is free, else one named after the intent too; the asset.

        Repeat: the same folder. A name that is taken stays its owner's.
        """
        plain = name if _PLAIN.match(name) else ""
        unique = f"{plain or 'table'}-{intent}"
        content = f"{tx}\n{intent}\n"
        for folder in filter(None, (unique, plain)):
            if self._claimed(folder) == content:
                return folder
        for folder in filter(None, (plain, unique)):
            temporary = self._temporary(tx)
            make_folders(os.path.join(temporary, BRANCHES))
            with open(os.path.join(temporary, CLAIM), "x", encoding="utf-8") as stream:
                stream.write(content)
            if (
                place_folder(temporary, os.path.join(self.path, folder), self._failpoint)
                or self._claimed(folder) == content
            ):
                return folder
        raise InvalidArgument(f"folder {unique!r} in {self.path} is taken", remedy="move what lies there away")

    def _claimed(self, folder: str) -> str | None:
        try:
            return read_bytes(os.path.join(self.path, folder, CLAIM)).decode()
        except NotFound:
            return None

    # -- making and dropping roots -----------------------------------------------------------------------------------

    def make_root(self, root: Root, tx: str, fill: Callable[[Root], None]) -> bool:
        """Build a root aside, then give it its name; False when it was there already, which then stays as it is."""
        if os.path.isdir(root.folder):
            return False
        temporary = self._temporary(tx)
        with translated(temporary):
            make_folders(temporary)
            # As deep as the root will be, so that the relative link fits both.
            os.symlink(os.path.relpath(root.table, os.path.dirname(root.folder) + "/x"), os.path.join(temporary, LINK))
        try:
            fill(Root(temporary, root.table, root.own))
            return place_folder(temporary, root.folder, self._failpoint)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _temporary(self, tx: str) -> str:
        if not _PLAIN.match(tx):
            raise InvalidArgument(f"{tx!r} is no transaction's id")
        return os.path.join(self.path, TEMPORARY, tx, secrets.token_hex(8))

    def roots_of(self, tx: str) -> Iterator[Root]:
        """Every root of a transaction."""
        if not _PLAIN.match(tx):
            raise InvalidArgument(f"{tx!r} is no transaction's id")
        folder = os.path.join(self.path, ROOTS, tx)
        for name in sorted(_listed(folder)):
            link = os.path.join(folder, name, LINK)
            with translated(link):
                table = os.path.normpath(os.path.join(folder, name, os.readlink(link)))
            yield self.root(self.asset_of(table), tx, name)

    def tables(self) -> Iterator[Root]:
        """Every table in the store's folder, and every folder that one is to be in."""
        for path, folders, _ in os.walk(self.path):
            is_table = "_delta_log" in folders or os.path.exists(os.path.join(path, CLAIM))
            folders[:] = [] if is_table else sorted(name for name in folders if not name.startswith(("_", ".")))
            if is_table and path != self.path:
                yield Root(path, path)

    def drop(self, tx: str, tables: Iterable[str]) -> None:
        """Delete what a transaction left: its data in these tables, folders it claimed for tables that never came to
        be, its roots. Repeat: no-op."""
        for folder in tables:
            self._remove(os.path.join(folder, BRANCHES, tx))
            self._failpoint("delta.abort.after_data")
            claimed = self._claimed(folder)
            is_mine = claimed is not None and claimed.startswith(f"{tx}\n")
            if is_mine and not os.path.isdir(os.path.join(folder, "_delta_log")):
                self._remove(folder)
        self._failpoint("delta.abort.before_roots")
        for area in (ROOTS, TEMPORARY):
            self._remove(os.path.join(self.path, area, tx))

    def delete(self, name: str) -> None:
        """Delete a file by its item's path, and the folders that this leaves empty. Repeat: no-op.

        Raises: InvalidArgument for a path that is neither in a root nor among a table's branches.
        """
        path = os.path.normpath(os.path.join(self.path, name))
        parts = path.split(os.sep)
        if not (path.startswith(os.path.join(self.path, OWN) + os.sep) or BRANCHES in parts[:-1]):
            raise InvalidArgument(f"{name!r} is no file of plait's", remedy="delete what `inventory` names")
        with translated(path), suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)
        folder = os.path.dirname(path)
        while os.path.basename(folder) not in (BRANCHES, OWN):
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = os.path.dirname(folder)

    def _remove(self, folder: str) -> None:
        with translated(folder), suppress(FileNotFoundError):
            shutil.rmtree(folder)


def _listed(folder: str) -> list[str]:
    try:
        with translated(folder):
            return os.listdir(folder)
    except NotFound:
        return []


def tables_below(top: str) -> Iterator[str]:
    """The folders at and below one that hold a Delta table, in order of their paths; none inside another."""
    for folder, below, _ in os.walk(top):
        if LOG in below:
            below.clear()
            yield folder
        below[:] = sorted(name for name in below if not name.startswith(("_", ".")))

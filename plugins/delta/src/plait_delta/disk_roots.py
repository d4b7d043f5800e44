"""A store on a local disk: roots reach their table by a symbolic link.

    hourly/_branches/<tx>/<name>/part-…   the data that transactions added to the table
    _plait/roots/<tx>/<name>/             a root: a Delta table of its own, with a log of its own …
    _plait/roots/<tx>/<name>/_table       … and a link to the table's folder, so that its log can name files there
    _plait/tmp/<tx>/…                     roots being made

A log may only name files inside its own folder, or readers on a disk refuse it. Through the link all files of the table
are inside a root's folder, so a root is an ordinary table, readable and writable by every Delta client. A root cannot
lie inside the table: the link would be a loop, on which delta-rs's vacuum fails. Therefore `prepare` gives files that a
root gained a second name in the table (a hard link), under which the table's own log can name them.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from plait.disk import fsync

from plait_delta.disk import keep, make_folders, place_folder, translated
from plait_delta.files import BRANCHES, LINK, LOG, OWN, Native
from plait_delta.roots import CLAIM, ROOTS, Layout, Root, check_part

TEMPORARY: Final = f"{OWN}/tmp"
_OWN_LINK: Final = "_own"


class DiskLayout(Layout):
    """Below a folder."""

    def is_absolute(self, place: str) -> bool:
        return place.startswith(("/", "file://"))

    def root(self, asset: str, tx: str, name: str) -> Root:
        own = f"{check_part(tx)}/{check_part(name)}"
        folder = f"{self.path}/{ROOTS}/{own}"
        return Root(folder, self.table(asset).folder, self.files, f"{BRANCHES}/{own}/", f"{LINK}/")

    def parse_folder(self, asset: str, folder: str) -> Root:
        relative = self.asset_of(self.absolute(folder))
        parts = relative.split("/")
        if relative.startswith(f"{ROOTS}/") and len(parts) == 4:
            return self.root(asset, parts[2], parts[3])
        return self.table(relative)

    def _claim(self, tx: str, folder: str, content: bytes) -> bool:
        temporary = self._temporary(tx)
        make_folders(f"{temporary}/{BRANCHES}")
        with open(f"{temporary}/{CLAIM}", "xb") as stream:
            stream.write(content)
        return place_folder(temporary, folder, self._failpoint)

    # -- roots -------------------------------------------------------------------------------------------------------

    def problems(self) -> Sequence[str]:
        self.files.native(self.path)
        name = f"probe-{uuid.uuid4()}"
        probe = self.root(f".{name}", name, "probe")
        try:
            make_folders(probe.table)
            self.make_root(probe, name, lambda root: None)
            os.stat(probe.path(LINK))
            self.drop(name)
            os.rmdir(probe.table)
        except OSError as error:
            return (f"folder {self.path} cannot hold branches of Delta tables: {error}",)
        return ()

    def is_there(self, root: Root) -> bool:
        return os.path.isdir(root.folder)

    def made(self, root: Root) -> Root | None:
        return root if os.path.isdir(root.folder) else None

    def make_root(self, root: Root, tx: str, fill: Callable[[Root], None]) -> Root:
        if os.path.isdir(root.folder):
            return root
        temporary = self._temporary(tx)
        with translated(temporary):
            make_folders(temporary)
            # As deep as the root will be, so that the relative link fits both.
            os.symlink(os.path.relpath(root.table, os.path.dirname(root.folder) + "/x"), f"{temporary}/{LINK}")
        try:
            fill(Root(temporary, root.table, self.files, root.own, root.link))
            place_folder(temporary, root.folder, self._failpoint)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return root

    def _temporary(self, tx: str) -> str:
        return f"{self.path}/{TEMPORARY}/{check_part(tx)}/{secrets.token_hex(8)}"

    def keep(self, root: Root, names: Collection[str], check_cancelled: Callable[[], None]) -> None:
        folders = set()
        for name in names:
            check_cancelled()
            self._failpoint("delta.prepare.before_file")
            target, source = self.own_places(root, name)
            keep(source, target)
            folders |= {os.path.dirname(target), os.path.dirname(source)}
        for folder in folders:
            fsync(folder)
        for name in self.files.children(root.path(LOG))[1]:
            fsync(root.path(LOG, name))
        fsync(root.path(LOG))
        fsync(root.folder)

    def links(self, root: Root) -> list[str]:
        return [root.path(LINK)] if root.own else []

    def own_places(self, root: Root, name: str) -> list[str]:
        places = [f"{root.table}/{name}"]
        if root.own and name.startswith(root.own):
            places.append(root.path(name.removeprefix(root.own)))
        return places

    @contextmanager
    def view(self, root: Root, log: Callable[[Callable[[str], str]], bytes]) -> Iterator[Native]:
        """A log in a temporary folder, with links to where the files are."""

        def place(path: str) -> str:
            if root.own and path.startswith(root.own):
                return f"{_OWN_LINK}/{path.removeprefix(root.own)}"
            return f"{LINK}/{path}"

        with tempfile.TemporaryDirectory(prefix="plait-delta-") as folder:
            with translated(folder):
                os.symlink(root.table, f"{folder}/{LINK}")
                os.symlink(root.folder, f"{folder}/{_OWN_LINK}")
                os.mkdir(f"{folder}/{LOG}")
                with open(f"{folder}/{LOG}/{0:020}.json", "wb") as stream:
                    stream.write(log(place))
            yield Native(folder, None)

    def drop(self, tx: str) -> None:
        tables = {table.folder for table in self.tables()}
        folder = f"{self.path}/{ROOTS}/{check_part(tx)}"
        for name in self.files.children(folder)[0]:
            link = f"{folder}/{name}/{LINK}"
            with translated(link):
                tables.add(os.path.normpath(f"{folder}/{name}/{os.readlink(link)}"))
        for table in sorted(tables):
            self._drop_table(tx, table)
        self._failpoint("delta.abort.before_roots")
        for area in (ROOTS, TEMPORARY):
            self.files.remove(f"{self.path}/{area}/{tx}")

    # -- all of it ---------------------------------------------------------------------------------------------------

    def private(self) -> Iterator[str]:
        yield f"{self.path}/{ROOTS}"
        yield f"{self.path}/{TEMPORARY}"

    def delete(self, name: str) -> None:
        path = self._own_place(name)
        with translated(path), suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)
        folder = os.path.dirname(path)
        while os.path.basename(folder) not in (BRANCHES, OWN):
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = os.path.dirname(folder)

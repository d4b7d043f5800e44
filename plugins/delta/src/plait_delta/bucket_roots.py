"""A store in a bucket: roots lie inside their table, and reach its files by `../../../`.

    hourly/_branches/<tx>/<name>-<unique>/    a root: a Delta table of its own, with a log of its own and what it gained
    _plait/roots/<tx>/<name>-<unique>         says which table it is in, before anything of it is there
    _plait/roots/<tx>/<name>                  says which one is the root of this name, once it is whole

A log in a bucket may name files outside of its own folder: DuckDB and Polars read, and delta-rs reads and appends to it
so. (Through `plait_delta.gateway` deltalake updates and deletes, too.) What a root gained is inside the table
already, so publishing names it there, and nothing is copied. Other clients' vacuum passes over names with a `_`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from plait.errors import Corrupt, NotFound

from plait_delta.bucket import INSIDE, OUTSIDE, BucketFiles
from plait_delta.files import BRANCHES, OWN, SCHEME, Failpoint, Native
from plait_delta.roots import CLAIM, ROOTS, Layout, Root, check_part


class BucketLayout(Layout):
    """Below a prefix."""

    def __init__(self, path: str, files: BucketFiles, failpoint: Failpoint) -> None:
        super().__init__(path, files, failpoint)
        self._bucket = files

    def is_absolute(self, place: str) -> bool:
        return "://" in place

    def root(self, asset: str, tx: str, name: str) -> Root:
        own = f"{BRANCHES}/{check_part(tx)}/{check_part(name)}/"
        table = self.table(asset).folder
        return Root(f"{table}/{own}".rstrip("/"), table, self.files, own, OUTSIDE)

    def parse_folder(self, asset: str, folder: str) -> Root:
        parts = self.absolute(folder).split("/")
        if len(parts) > 6 and parts[-3] == BRANCHES:
            return self.root("/".join(parts[:-3]), parts[-2], parts[-1])
        return self.table(folder)

    def _claim(self, tx: str, folder: str, content: bytes) -> bool:
        if any(self.files.children(folder)):
            return False
        self._note(tx, f"claim-{secrets.token_hex(8)}", {"table": folder})
        return self.files.put_new(f"{folder}/{CLAIM}", content)

    # -- roots -------------------------------------------------------------------------------------------------------

    def _record(self, tx: str, name: str = "") -> str:
        return f"{self.path}/{ROOTS}/{check_part(tx)}/{name}".rstrip("/")

    def _note(self, tx: str, name: str, told: dict[str, str]) -> bool:
        return self.files.put_new(self._record(tx, name), json.dumps(told).encode())

    def _noted(self, place: str, *names: str) -> list[str]:
        """What a record says under these names. Raises: NotFound, Corrupt."""
        try:
            told = json.loads(self.files.read(place))
            found = [told[name] for name in names]
        except (ValueError, KeyError, TypeError) as error:
            raise _unreadable(place, f"{type(error).__name__}: {error}") from error
        if not all(isinstance(one, str) for one in found):
            raise _unreadable(place, f"it names {found!r}, expected texts")
        return found

    def problems(self) -> Sequence[str]:
        self.files.native(self.path)
        self.files.children(self.path)  # First: there are servers that make a missing bucket when it is written to.
        place = f"{self.path}/{OWN}/probe-{secrets.token_hex(8)}"
        first, second = (self.files.put_new(place, content) for content in (b"first", b"second"))
        folder, _, name = place.rpartition("/")
        found, listed = self.files.read(place), self.files.children(folder)[1]
        self.files.remove(place)
        if not first or second or found != b"first":
            return (f"the server of {self.path} does not honour If-None-Match: two commits could take one number",)
        return () if name in listed else (f"listings of {self.path} lag behind writes",)

    def is_there(self, root: Root) -> bool:
        return self.files.exists(self._record(*_named(root)))

    def made(self, root: Root) -> Root | None:
        tx, name = _named(root)
        try:
            table, unique = self._noted(self._record(tx, name), "table", "root")
        except NotFound:
            return None
        return self.root(table, tx, unique)

    def make_root(self, root: Root, tx: str, fill: Callable[[Root], None]) -> Root:
        if (held := self.made(root)) is not None:
            return held
        _, name = _named(root)
        unique = f"{name}-{secrets.token_hex(4)}"
        told = {"table": root.table, "root": unique}
        making = self.root(root.table, tx, unique)
        self._note(tx, unique, told)
        fill(making)
        self._failpoint("delta.bucket.before_root")
        if self._note(tx, name, told):
            return making
        held = self.made(root)
        assert held is not None, "a record of this name was there"
        return held

    def keep(self, root: Root, names: Collection[str], check_cancelled: Callable[[], None]) -> None:
        """Objects are durable as they are, and already inside the table."""

    def links(self, root: Root) -> list[str]:
        return []

    def own_places(self, root: Root, name: str) -> list[str]:
        return [f"{root.table}/{name}"]

    @contextmanager
    def view(self, root: Root, log: Callable[[Callable[[str], str]], bytes]) -> Iterator[Native]:
        """A log that only this process sees."""
        content = log(lambda path: INSIDE + path)
        with self._bucket.gateway.view(self._bucket.key(root.table), content) as key:
            yield self._bucket.native(f"{SCHEME}{self._bucket.bucket}/{key}")

    def drop(self, tx: str) -> None:
        records = [place for place, _ in self.files.below(self._record(tx))]
        tables = set()
        for place in records:
            with suppress(Corrupt, NotFound):
                tables.update(self._noted(place, "table"))
        for table in sorted(tables):
            self._drop_table(tx, table)
        self._failpoint("delta.abort.before_roots")
        self.files.remove(self._record(tx))

    # -- all of it ---------------------------------------------------------------------------------------------------

    def private(self) -> Iterator[str]:
        yield f"{self.path}/{ROOTS}"

    def delete(self, name: str) -> None:
        self.files.remove(self._own_place(name))


def _unreadable(place: str, why: str) -> Corrupt:
    return Corrupt(f"{place} cannot be read: {why}", remedy="discard the working set")


def _named(root: Root) -> tuple[str, str]:
    """The transaction that a root is of, and its name there."""
    _, tx, name, _ = root.own.split("/")
    return tx, name

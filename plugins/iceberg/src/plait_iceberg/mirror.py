"""The mirror: an external Iceberg catalog whose tables follow the bound ref, for engines that know nothing of plait.

A store has one where its options `mirror.…` name one; then each of its tables has a native head, which is what that
catalog registers under the table's key. Views, and tables without a namespace, are passed over.

Comparing and moving are one statement where the catalog is a SQL one. Others know no such call: between plait's look
and its write, some milliseconds, a commit of somebody else's to the same table is overwritten there, though its files
stay. Where they cannot replace a table either (Hive, Glue), it is dropped, without its data, and registered anew: its
readers find no table meanwhile, and after a death in between until the move is repeated.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import Final, TypeVar

from plait.adapter import Adapter, Capability, Context
from plait.errors import InvalidArgument, PlaitError, StoreUnavailable
from plait.types import Key, Move, Published, PublishState, SnapshotRef, Store
from pyiceberg.catalog import Catalog, CatalogType
from pyiceberg.typedef import Identifier

from plait_iceberg.catalogs import ANSWERS, asked, is_atomic, location, move_if, opened, overwrite
from plait_iceberg.files import Files
from plait_iceberg.metadata import VIEW, Metadata, load
from plait_iceberg.patience import Patience

T = TypeVar("T")
PREFIX: Final = "mirror."
_IDENTITY: Final = ("name", "type", "py-catalog-impl", "uri", "warehouse", "glue.id")
"""The properties that say which catalog it is; the others, how it is reached."""
_TRIES_MAX: Final = 3
_DONE: Final = Published(PublishState.DONE)
_BUSY: Final = Published(PublishState.BUSY)
_SQLITE: Final = re.compile(r"sqlite[^:]*:///(/[^?]+)")


class _Again(Exception):
    """Somebody else moved a table between a look and a write."""


def mirror_options(store: Store) -> dict[str, str]:
    """The properties of a store's mirror, as they were given; empty: it has none."""
    given = {name.removeprefix(PREFIX): value for name, value in store.options.items() if name.startswith(PREFIX)}
    return {name: value for name, value in given.items() if value}


def check_mirror_options(store: Store) -> None:
    """Raises: InvalidArgument for what can be no mirror, or is another one for each process."""
    given = mirror_options(store)
    kind, uri = given.get("type"), given.get("uri", "")
    known = sorted({one.value for one in CatalogType} - {CatalogType.IN_MEMORY.value})
    if kind is not None and kind not in known:
        raise InvalidArgument(
            f"option 'mirror.type' of store {store.name!r} is {kind!r}", remedy=f"it is one of {', '.join(known)}"
        )
    if uri.startswith("sqlite") and not _SQLITE.match(uri):
        raise InvalidArgument(
            f"option 'mirror.uri' of store {store.name!r} names no file by an absolute path",
            remedy="an absolute path has four slashes: sqlite:////data/tables.db",
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Under which name plait registered an asset. `is_aside`: plait took it away from there, to put it back."""

    identifier: Identifier
    is_aside: bool = False


class _Places:
    """What the mirror's names were last, by asset: a key may have another name by now. Durable, per mirror."""

    def __init__(self, context: Context, mirror: str) -> None:
        self._state = context.state
        self._prefix = f"mirror {hashlib.sha256(mirror.encode()).hexdigest()[:16]}"
        self._is_begun = False

    def get(self, asset: str) -> Place | None:
        held = self._state.get(f"{self._prefix} {asset}")
        if held is None:
            return None
        told = json.loads(held)
        return Place(tuple(told["at"]), told["aside"])

    def put(self, asset: str, place: Place | None) -> None:
        name = f"{self._prefix} {asset}"
        value = None
        if place is not None:
            value = json.dumps({"at": place.identifier, "aside": place.is_aside}).encode()
        held = self._state.get(name)
        if held != value and not self._state.compare_and_set(name, held, value):
            raise _Again

    @property
    def is_begun(self) -> bool:
        """Whether plait has registered anything in this mirror yet."""
        self._is_begun = self._is_begun or self._state.get(self._prefix) is not None
        return self._is_begun

    def begin(self) -> None:
        if not self.is_begun:
            self._state.compare_and_set(self._prefix, None, b"begun")


class Mirror:
    """The mirror of one store. Thread-safe. `files` are the store's, by the credentials that count now."""

    def __init__(self, store: Store, context: Context, files: Callable[[], Files]) -> None:
        self._store = store
        self._context = context
        self._files = files
        self._options = mirror_options(store)
        self._shown = self._options.get("uri") or self._options.get("name") or self._options.get("type", "")
        self._places = _Places(context, heads_of(store))
        self._patience = Patience(f"the mirror of store {store.name!r}, {self._shown},", self._forget)
        self._catalog: tuple[dict[str, str], Catalog] | None = None

    # -- asking ------------------------------------------------------------------------------------------------------

    def check(self) -> Sequence[str]:
        """What keeps the mirror from being used, as `Adapter.check` tells it."""
        try:
            self._ask(lambda catalog: catalog.list_namespaces())
        except PlaitError as error:
            return (str(error),)
        return ()

    def close(self) -> None:
        known, self._catalog = self._catalog, None
        if known is not None:
            known[1].close()

    def _forget(self) -> None:
        """Another call is to go another way than one that hangs."""
        self._catalog = None

    def _open(self) -> Catalog:
        """Raises: InvalidArgument, StoreUnavailable."""
        properties = {name: self._context.credential(value) for name, value in self._options.items()}
        found = _SQLITE.match(properties.get("uri", ""))
        is_begun = self._places.is_begun
        if found and is_begun and not os.path.exists(found[1]):
            # SQLite would make it anew, and every table would look as if somebody had dropped it.
            raise StoreUnavailable(
                f"the mirror of store {self._store.name!r}, {self._shown}, is gone", remedy="bring its file back"
            )
        known = self._catalog
        if known is None or known[0] != properties:  # Without a lock: whoever hangs would hold it.
            given = {**self._files().properties, "init_catalog_tables": str(not is_begun).lower(), **properties}
            self._catalog = known = properties, opened(given.pop("name", "default"), given, self._shown)
        return known[1]

    def _ask(self, call: Callable[[Catalog], T]) -> T:
        """Call the mirror. Raises: as `asked`, and StoreUnavailable for one that hangs."""

        def ask() -> T:
            catalog = self._open()
            with asked(catalog, f"the mirror of store {self._store.name!r}", self._shown):
                return call(catalog)

        return self._patience.call(ask)

    def _look(self, identifier: Identifier) -> str | None:
        """The metadata file that the mirror names, as the mirror spells it."""
        if len(identifier) < 2:
            return None
        return self._ask(lambda catalog: location(catalog, identifier))

    def _is_at(self, there: str | None, snapshot: SnapshotRef | None) -> bool:
        if there is None or snapshot is None:
            return there is None and snapshot is None
        files = self._files()
        return there == snapshot.version or files.canonical(there) == files.canonical(snapshot.version)

    def _descends(self, found: Metadata, location: str) -> bool:
        """Whether a version was written on top of another, as far as its log goes back."""
        log = {self._files().canonical(entry["metadata-file"]) for entry in found.document.get("metadata-log", ())}
        return self._files().canonical(location) in log

    # -- moving ------------------------------------------------------------------------------------------------------

    def move(self, key: Key, move: Move) -> Published:
        """One head, as `Adapter.publish` moves it."""
        one, identifier = move.after or move.before, key[1:]
        if one is None or one.attrs.get("format") == VIEW:
            return _DONE  # pyiceberg's catalogs register no views.
        for _ in range(_TRIES_MAX):
            try:
                place = self._places.get(one.asset) or Place(identifier)
                if move.after is None:
                    return self._remove(one, place, None)
                if len(identifier) < 2:  # Nothing can be there outside of a namespace; it may get one later.
                    return self._remove(move.before or one, place, Place(identifier, is_aside=True))
                if place.identifier != identifier and (answer := self._rename(place, identifier, move)) is not None:
                    return answer
                return self._move(identifier, move, move.after)
            except (_Again, *ANSWERS):
                continue
        return _BUSY

    def _move(self, identifier: Identifier, move: Move, after: SnapshotRef) -> Published:
        place, there = self._places.get(after.asset), self._look(identifier)
        if self._is_at(there, after):
            self._places.put(after.asset, Place(identifier))
            return _DONE
        if not self._is_at(there, move.before) and not (there is None and place and place.is_aside):
            if there is None:
                return Published(PublishState.DIVERGED)
            found = load(self._files(), there)
            if move.before is not None or not self._catches_up(found, after):
                return self._elsewhere(identifier, found, after)
        if place is None:
            self._places.put(after.asset, Place(identifier))  # Before it is there: a later rename has to find it.
        self._places.begin()
        self._write(identifier, there, after)
        self._places.put(after.asset, Place(identifier))
        return self._seen_again(identifier, after)

    def _catches_up(self, found: Metadata, after: SnapshotRef) -> bool:
        """Whether a table that plait did not put there, so far as it knows, is but an older version: of an export."""
        return found.asset == after.asset and self._descends(load(self._files(), after.version), found.location)

    def _elsewhere(self, identifier: Identifier, found: Metadata, after: SnapshotRef) -> Published:
        """The answer where something else has the name: another asset of plait's that is to leave it, or foreign."""
        if found.asset != after.asset and self._places.get(found.asset) == Place(identifier):
            return _BUSY
        return Published(PublishState.DIVERGED, found.refer(self._store.name, self._store.kind))

    def _write(self, identifier: Identifier, there: str | None, after: SnapshotRef) -> None:
        """Let the mirror go from what was seen there to `after`. Raises: _Again where it cannot be that any more."""
        failpoint = self._context.failpoint
        failpoint("iceberg.publish.before_move")
        if there is None:
            self._register(identifier, after)
        elif self._ask(is_atomic):
            if not self._ask(lambda catalog: move_if(catalog, identifier, there, after.version)):
                raise _Again
        elif not self._ask(lambda catalog: overwrite(catalog, identifier, after.version)):
            self._places.put(after.asset, Place(identifier, is_aside=True))  # So that a repeat knows who dropped it.
            failpoint("iceberg.publish.before_drop")
            self._ask(lambda catalog: catalog.drop_table(identifier))
            failpoint("iceberg.publish.after_drop")
            self._register(identifier, after)
        failpoint("iceberg.publish.after_move")

    def _register(self, identifier: Identifier, after: SnapshotRef) -> None:
        self._make_namespaces(identifier)
        self._ask(lambda catalog: catalog.register_table(identifier, after.version))

    def _make_namespaces(self, identifier: Identifier) -> None:
        for length in range(1, len(identifier)):
            self._ask(methodcaller("create_namespace_if_not_exists", identifier[:length]))

    def _seen_again(self, identifier: Identifier, after: SnapshotRef) -> Published:
        """DONE, or what is there in place of what was just written. What was written on top of it, the next look
        tells, with `after` as its base."""
        if self._ask(is_atomic):
            return _DONE
        there = self._look(identifier)
        if there is None or self._is_at(there, after):
            return _DONE
        found = load(self._files(), there)
        if self._descends(found, after.version):
            return _DONE
        return Published(PublishState.DIVERGED, found.refer(self._store.name, self._store.kind))

    # -- leaving a name ----------------------------------------------------------------------------------------------

    def _remove(self, asset: SnapshotRef, place: Place, then: Place | None) -> Published:
        """The asset is gone from the ref, or has no name there: drop its table, without its data, if it is where plait
        left it."""
        there = self._look(place.identifier)
        if there is not None:
            if self._is_at(there, asset):
                self._drop(place.identifier, there)
            elif (found := load(self._files(), there)).asset == asset.asset:
                return Published(PublishState.DIVERGED, found.refer(self._store.name, self._store.kind))
        self._places.put(asset.asset, then)
        return _DONE

    def _drop(self, identifier: Identifier, there: str) -> None:
        self._context.failpoint("iceberg.publish.before_removal")
        if not self._ask(is_atomic):
            self._ask(lambda catalog: catalog.drop_table(identifier))
        elif not self._ask(lambda catalog: move_if(catalog, identifier, there, None)):
            raise _Again
        self._context.failpoint("iceberg.publish.after_removal")

    def _rename(self, place: Place, identifier: Identifier, move: Move) -> Published | None:
        """Bring the table from the name that it had to the one that it has; None: go on there."""
        assert move.after is not None
        known = [one for one in (move.before, move.after) if one is not None]
        old, new = self._look(place.identifier), self._look(identifier)
        if old is not None and not any(self._is_at(old, one) for one in known):
            found = load(self._files(), old)
            if found.asset == move.after.asset:
                return Published(PublishState.DIVERGED, found.refer(self._store.name, self._store.kind))
            old = None  # Another table has the name by now: ours is gone from there.
        is_aside = place.is_aside
        if new is None and old is not None:
            self._make_namespaces(identifier)
            self._context.failpoint("iceberg.publish.before_rename")
            self._ask(lambda catalog: catalog.rename_table(place.identifier, identifier))
            self._context.failpoint("iceberg.publish.after_rename")
        elif new is not None and not any(self._is_at(new, one) for one in known):
            answer = self._elsewhere(identifier, load(self._files(), new), move.after)
            if answer is not _BUSY:
                return answer
            # Two that swap their names wait for each other: this one makes room.
            if old is not None:
                self._drop(place.identifier, old)
            self._places.put(move.after.asset, Place(identifier, is_aside=True))
            return _BUSY
        elif old is not None:  # Registered under both: a death in the middle of a rename.
            self._drop(place.identifier, old)
        self._places.put(move.after.asset, Place(identifier, is_aside))
        return None


def heads_of(store: Store) -> str:
    """Which catalog a store's mirror is; "" without one."""
    given = mirror_options(store)
    return json.dumps([given.get(name) for name in _IDENTITY]) if given else ""


class Mirrored(Adapter):
    """The part of the Iceberg adapter that has to do with native heads: there are some where there is a mirror."""

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        check_mirror_options(store)
        self._mirror = Mirror(store, context, lambda: self.files) if mirror_options(store) else None

    @property
    @abstractmethod
    def files(self) -> Files:
        """The warehouse's files."""

    @classmethod
    def capabilities_of(cls, store: Store) -> frozenset[Capability]:
        return cls.capabilities | {Capability.NATIVE_HEAD} if mirror_options(store) else cls.capabilities

    @classmethod
    def heads_of(cls, store: Store) -> str:
        return heads_of(store)

    def check_mirror(self) -> Sequence[str]:
        """What keeps the mirror from being used; empty without one."""
        return () if self._mirror is None else self._mirror.check()

    def publish(self, moves: Mapping[Key, Move]) -> Mapping[Key, Published]:
        """Let the mirror's tables go to what the moves say. Views, and keys without a namespace, are DONE as they are.

        Raises: StoreUnavailable for a mirror that does not answer. Cost: one look for each key, which reads the table's
        metadata file, and one write for each that moves; twice the looks where the catalog is no SQL one.
        """
        if self._mirror is None:
            return super().publish(moves)
        answers = {}
        for key, move in moves.items():
            self.context.check_cancelled()
            answers[key] = self._mirror.move(key, move)
        return answers

    def close(self) -> None:
        if self._mirror is not None:
            self._mirror.close()

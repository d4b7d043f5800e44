"""Rows of stores: their configuration, adapters' state, publications, subscriptions, tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from plait.codec import decode_key, encode_key
from plait.errors import NotFound
from plait.persist import schema, statements
from plait.persist.base import from_json, of_bytes, of_bytes_or_none, of_enum, to_json
from plait.persist.tx_rows import TxRows
from plait.store_names import no_store
from plait.types import Key, Mode, Store

NO_SNAPSHOT = b""
"""The value of `moving` while a native head is being removed."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Where one native head is, and where it should be. `published`, `target`: ref_digests, None for absent.

    `moving`: the ref_digest that a claimed move sets the head to; whoever finds it after a crash finishes that move
    first. `seq`: that of the ref's move which set the target. `state`: idle, busy (another writer holds the head: try
    again later) or diverged; `found` is then the canonical bytes of the snapshot at which the head was found.
    """

    store: str
    asset: str
    key: Key
    published: bytes | None
    target: bytes | None
    seq: int
    moving: bytes | None = None
    state: str = "idle"
    found: bytes | None = None
    owner: str = ""
    lease_until_us: int = 0
    epoch: int = 0

    @property
    def is_done(self) -> bool:
        """Whether the native head is where it should be."""
        return self.moving is None and self.published == self.target and self.state == "idle"


class StoreRows(TxRows):
    # -- stores ------------------------------------------------------------------------------------------------------

    def stores(self) -> dict[str, Store]:
        """All stores by name, in order of name."""
        rows = sorted(self._all(schema.store), key=lambda row: str(row.name))
        return {row.name: _to_store(row) for row in rows}

    def store(self, name: str) -> Store:
        """Raises: NotFound."""
        row = self._named(schema.store, name=name)
        if row is None:
            raise no_store(name, self.stores())
        return _to_store(row)

    def put_store(self, store: Store) -> None:
        row = {
            "name": store.name,
            "kind": store.kind,
            "mode": store.mode.value,
            "bound_ref": store.bound_ref,
            "options": to_json(store.options),
        }
        self._upsert(schema.store, [row], update=("kind", "mode", "bound_ref", "options"))

    def delete_store(self, name: str) -> bool:
        self._delete(schema.store_state, store=name)
        self.delete_publications(name)
        return self._delete(schema.store, name=name) == 1

    # -- adapters' state ---------------------------------------------------------------------------------------------

    def state(self, store: str, name: str) -> bytes | None:
        row = self._named(schema.store_state, store=store, name=name)
        return None if row is None else row.value

    def swap_state(self, store: str, name: str, expected: bytes | None, value: bytes | None) -> bool:
        here = {"store": store, "name": name}
        if expected is None and value is None:
            return not self._all(schema.store_state, **here)
        if expected is None:
            return self._insert_absent(schema.store_state, {**here, "value": value})
        if value is None:
            return self._delete(schema.store_state, **here, value=expected) == 1
        return self._swap(schema.store_state, {**here, "value": expected}, {"value": value})

    # -- publications ------------------------------------------------------------------------------------------------

    def publications(self, store: str | None = None) -> list[Publication]:
        """All publications, or all of a store, by store and asset. Cost: what exists."""
        return _by_asset(self._all(schema.publication, **({} if store is None else {"store": store})))

    def publications_of(self, store: str, assets: Iterable[str]) -> dict[str, Publication]:
        """A store's publications of these assets."""
        rows = self._in(schema.publication, "asset", assets, store=store)
        return {row.asset: _to_publication(row) for row in rows}

    def publications_under(self, keys: Iterable[Key]) -> list[Publication]:
        """Publications whose heads follow these keys, by store and asset."""
        return _by_asset(self._in(schema.publication, "key", map(encode_key, keys)))

    def undone_publications(self) -> list[Publication]:
        """The publications that are not done, by store and asset."""
        return _by_asset(statements.select_undone(self._dialect).rows(self._connection, self._owner))

    def delete_publications(self, store: str) -> None:
        """Forget a store's native heads, and how far it has followed."""
        for table in (schema.publish_cursor, schema.publication):  # In publishers' order of locks.
            self._delete(table, store=store)

    def publication(self, store: str, asset: str) -> Publication:
        """Raises: NotFound."""
        row = self._named(schema.publication, store=store, asset=asset)
        if row is None:
            raise NotFound(f"store {store!r} publishes no asset {asset!r}")
        return _to_publication(row)

    def set_targets(self, publications: Sequence[Publication]) -> None:
        """Insert publications; of existing ones set only key, target and seq, which `swap_publication` never does."""
        rows = [_from_publication(publication) for publication in sorted(publications, key=in_order)]
        self._upsert(schema.publication, rows, update=("key", "target", "seq"))

    def swap_publication(self, before: Publication, after: Publication) -> bool:
        """Change the columns that publishers write, if key, owner and epoch are still those of `before`: what was moved
        under a key that it no longer has is moved again."""
        written = ("published", "moving", "found", "state", "owner", "lease_until_us", "epoch")
        values = {name: value for name, value in _from_publication(after).items() if name in written}
        still = {"store": before.store, "asset": before.asset, "owner": before.owner, "epoch": before.epoch}
        still["key"] = encode_key(before.key)
        return self._swap(schema.publication, still, values)

    def publish_cursors(self, *, lock: bool = False) -> dict[str, tuple[str, int]]:
        """By store: (head, seq) of the bound ref up to which the store's publications have their targets.

        `lock` locks these rows until the transaction ends.
        """
        statement = statements.select_one(self._dialect, schema.publish_cursor, (), lock)
        rows = statement.rows(self._connection, self._owner)
        return {row.store: (of_bytes(row.head, f"the publish cursor of {row.store}").hex(), row.seq) for row in rows}

    def set_publish_cursors(self, cursors: Mapping[str, tuple[str, int]]) -> None:
        rows = [{"store": store, "head": bytes.fromhex(head), "seq": seq} for store, (head, seq) in cursors.items()]
        self._upsert(schema.publish_cursor, rows, update=("head", "seq"))

    # -- subscriptions and tokens ------------------------------------------------------------------------------------

    def subscription(self, name: str) -> int:
        """How far a subscriber has read: the seq of its last event, 0 before the first."""
        row = self._named(schema.subscription, name=name)
        return 0 if row is None else row.seq

    def set_subscription(self, name: str, seq: int) -> None:
        self._upsert(schema.subscription, [{"name": name, "seq": seq}], update=("seq",))

    def insert_token(self, name: str, token_digest: bytes, created_at_us: int) -> None:
        self._insert(schema.token, [{"name": name, "digest": token_digest, "created_at_us": created_at_us}])

    def token_name(self, token_digest: bytes) -> str | None:
        row = self._named(schema.token, digest=token_digest)
        return None if row is None else row.name

    def tokens(self) -> list[tuple[str, int]]:
        """(name, created_at_us), by name."""
        return sorted((row.name, row.created_at_us) for row in self._all(schema.token))

    def delete_token(self, name: str) -> bool:
        return self._delete(schema.token, name=name) == 1


def _to_store(row: sa.Row[Any]) -> Store:
    mode = of_enum(Mode, row.mode, f"store {row.name!r}")
    return Store(row.name, row.kind, mode, row.bound_ref, from_json(row.options, f"store {row.name}"))


def _from_publication(publication: Publication) -> dict[str, object]:
    return {
        "store": publication.store,
        "asset": publication.asset,
        "key": encode_key(publication.key),
        "published": publication.published,
        "target": publication.target,
        "moving": publication.moving,
        "found": publication.found,
        "seq": publication.seq,
        "state": publication.state,
        "owner": publication.owner,
        "lease_until_us": publication.lease_until_us,
        "epoch": publication.epoch,
    }


def in_order(publication: Publication) -> tuple[str, str]:
    """The order, by store and asset, in which everybody changes publications, so that no two writers deadlock."""
    return publication.store, publication.asset


def _by_asset(rows: Iterable[sa.Row[Any]]) -> list[Publication]:
    return sorted(map(_to_publication, rows), key=in_order)


def _to_publication(row: sa.Row[Any]) -> Publication:
    """Raises: Corrupt naming the row and the column."""
    what = f"publication of {row.store}, {row.asset}: column"
    return Publication(
        store=row.store,
        asset=row.asset,
        key=decode_key(of_bytes(row.key, f"{what} key")),
        published=of_bytes_or_none(row.published, f"{what} published"),
        target=of_bytes_or_none(row.target, f"{what} target"),
        moving=of_bytes_or_none(row.moving, f"{what} moving"),
        seq=row.seq,
        state=row.state,
        found=of_bytes_or_none(row.found, f"{what} found"),
        owner=row.owner,
        lease_until_us=row.lease_until_us,
        epoch=row.epoch,
    )

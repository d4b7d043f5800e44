"""The example catalog: a table and some objects, with a branch that is worth merging."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.errors import StoreUnavailable, Unsupported
from plait.plugins import Plugins

if TYPE_CHECKING:
    from plait.catalog import Catalog

_STORES = {"lake": ("iceberg", "warehouse"), "raw": ("files", "path")}


def example_stores() -> Mapping[str, tuple[str, str]]:
    """The stores that it can have here: name → kind and option. Raises: Unsupported when no adapter is installed."""
    installed = Plugins().kinds
    found = {name: store for name, store in _STORES.items() if store[0] in installed}
    if not found:
        raise Unsupported("no adapter is installed to fill an example", remedy="pip install plait-iceberg plait-s3")
    return found


def make_example(catalog: Catalog, folder: Path) -> None:
    """Fill a new catalog; the stores are folders in `folder`. Raises: Unsupported, StoreUnavailable."""
    stores = example_stores()
    for name, (kind, option) in stores.items():
        if missing := catalog.add_store(name, kind, {option: str(folder / name)}):
            told = f"the example's store {name!r} cannot be made in {folder}: {missing[0].problem}"
            raise StoreUnavailable(told, remedy=missing[0].remedy)
    with catalog.transaction(message="Three orders") as tx:
        _write(tx, stores, [(1, "tea", 4), (2, "salt", 1), (3, "rice", 7)], create=True)
    catalog.create_branch("more-orders")
    with catalog.transaction("more-orders", message="Two more orders") as tx:
        _write(tx, stores, [(4, "oil", 9), (5, "honey", 6)], create=False)
    with catalog.transaction(message="A late order") as tx:
        _write(tx, stores, [(6, "pepper", 3)], create=False)


def _write(tx: Any, stores: Mapping[str, object], orders: list[tuple[int, str, int]], *, create: bool) -> None:
    if "raw" in stores:
        objects = tx.open("raw.landing", create=create)
        for number, item, price in orders:
            objects.pipe(f"{number}.json", f'{{"id": {number}, "item": "{item}", "price": {price}}}\n'.encode())
    if "lake" in stores:
        import pyarrow as pa

        schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("item", pa.string()), ("price", pa.int64())])
        if create:
            table = tx.store("lake").create_table("sales.orders", schema)
            with table.update_schema() as update:
                update.set_identifier_fields("id")
        columns = [list(column) for column in zip(*orders, strict=True)]
        tx.open("lake.sales.orders").append(pa.table(columns, schema=schema))

"""`plait init --example`: a table and some objects, with a branch that is worth merging."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.errors import Unsupported

if TYPE_CHECKING:
    from plait.catalog import Catalog


def make_example(catalog: Catalog, folder: Path) -> list[str]:
    """Fill a new catalog; what to try next. Raises: Unsupported when no adapter is installed."""
    from plait.plugins import Plugins

    installed, stores = Plugins().kinds, []
    for name, kind, option in (("lake", "iceberg", "warehouse"), ("raw", "files", "path")):
        if kind in installed:
            catalog.add_store(name, kind, {option: str(folder / name)})
            stores.append(name)
    if not stores:
        raise Unsupported("no adapter is installed to fill an example", remedy="pip install plait-iceberg plait-s3")
    with catalog.transaction(message="Three orders") as tx:
        _write(tx, stores, [(1, "tea", 4), (2, "salt", 1), (3, "rice", 7)], create=True)
    catalog.create_branch("more-orders")
    with catalog.transaction("more-orders", message="Two more orders") as tx:
        _write(tx, stores, [(4, "oil", 9), (5, "honey", 6)], create=False)
    with catalog.transaction(message="A late order") as tx:
        _write(tx, stores, [(6, "pepper", 3)], create=False)
    return [
        "plait log --graph --all",
        "plait ls",
        "plait diff main more-orders --items",
        "plait merge more-orders",
    ]


def _write(tx: Any, stores: list[str], orders: list[tuple[int, str, int]], *, create: bool) -> None:
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

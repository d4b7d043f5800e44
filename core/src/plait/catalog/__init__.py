"""The catalog: one history over many stores, embedded or remote. `plait.open` and `plait.connect` return it."""

from plait.catalog.catalog import Catalog, Closer
from plait.catalog.history import KeyText

__all__ = ["Catalog", "Closer", "KeyText"]

"""The table that a working set gives out: pyiceberg's, which does not make staged metadata anew for each look at it."""

from __future__ import annotations

from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableUpdate


class WorkingTable(Table):
    """A pyiceberg table of a working set."""

    def transaction(self) -> Transaction:
        return WorkingTransaction(self)


class WorkingTransaction(Transaction):
    """A pyiceberg transaction whose staged metadata is made once for each update, not for each look at it.

    pyiceberg makes it, and copies every snapshot of the table, some twenty times in an append. Nothing changes metadata
    once it is made: each update makes a new one.
    """

    _made: tuple[TableMetadata, tuple[TableUpdate, ...], TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        base, updates = self._table.metadata, self._updates
        if not updates:
            return base
        if self._made is None or self._made[0] is not base or self._made[1] is not updates:
            self._made = base, updates, super().table_metadata
        return self._made[2]

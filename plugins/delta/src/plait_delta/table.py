"""Native handles: deltalake's own DeltaTable on a transaction's root, and a small namespace of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn, cast

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, QueryBuilder, Schema, write_deltalake
from deltalake.exceptions import (
    CommitFailedError,
    DeltaError,
    DeltaProtocolError,
    SchemaMismatchError,
    TableNotFoundError,
)
from plait.adapter import StagingPort
from plait.errors import AlreadyExists, InvalidArgument, NotFound, StoreUnavailable, Unsupported
from plait.refspec import format_key
from plait.types import Key, Staging

from plait_delta.actions import KEEPING, KEPT_FOR, KEY_COLUMNS
from plait_delta.files import LOG, Files, Native
from plait_delta.roots import Root

# What delta-rs says of rows that break a CHECK constraint, or are null where none may be; it has no exception for that.
_BROKEN_RULE: Final = "Invalid data found"


@contextmanager
def translated(what: str) -> Iterator[None]:
    """deltalake's errors as plait's own, for the calls that plait makes itself."""
    try:
        yield
    except TableNotFoundError as error:
        raise NotFound(f"{what} does not exist") from error
    except SchemaMismatchError as error:
        raise InvalidArgument(f"{what} cannot take these rows: {error}") from error
    except (DeltaProtocolError, CommitFailedError) as error:
        raise Unsupported(f"{what} cannot be written by delta-rs: {error}") from error
    except (DeltaError, pa.ArrowException, OSError) as error:
        if _BROKEN_RULE in str(error):
            raise InvalidArgument(
                f"{what} cannot take these rows, which a constraint of it forbids: {error}",
                remedy="correct the rows, or drop the constraint first",
            ) from error
        raise StoreUnavailable(f"{what} cannot be read or written by delta-rs: {error}") from error
    except Exception as error:
        # What goes wrong while rows stream out of delta-rs arrives as a bare Exception.
        if type(error) is not Exception:
            raise
        raise StoreUnavailable(f"{what} cannot be read by delta-rs: {error}") from error


def open_table(root: Root, version: int | None = None) -> DeltaTable:
    """A version of a table or of a root (None: the newest), for all that deltalake can."""
    return open_native(root.files.native(root.folder), version)


def open_native(native: Native, version: int | None = None) -> DeltaTable:
    """The same, where it is known how deltalake gets there."""
    return DeltaTable(native.uri, version=version, storage_options=native.options)


def engine_of(table: DeltaTable) -> QueryBuilder:
    """delta-rs's SQL engine with a table as `this`. (`to_pyarrow_table` refuses deletion vectors, this one reads them.)

    Spark's timestamps (INT96) are read as microseconds. As nanoseconds, the engine's default, they end in 2262, and it
    reads what is later, like the 9999 of many a warehouse, as some other time.
    """
    engine = QueryBuilder()
    engine.execute("SET datafusion.execution.parquet.coerce_int96 = 'us'").read_all()
    return engine.register("this", table)


def rows_of(table: DeltaTable, sql: str = "SELECT * FROM this") -> pa.Table:
    """Query a table as `this` with SQL."""
    return pa.table(engine_of(table).execute(sql).read_all())


def check_rewritable(table: DeltaTable) -> None:
    """Raises: Unsupported for rows that delta-rs would change by writing their file anew. Cost: as `misread_rows`."""
    if number := misread_rows(table):
        raise Unsupported(
            f"{number} rows have times before 1678 or after 2261 as INT96, which delta-rs would change where it "
            "rewrites their files",
            remedy="rewrite the table with Spark first, with spark.sql.parquet.outputTimestampType=TIMESTAMP_MICROS",
        )


def misread_rows(table: DeltaTable) -> int:
    """How many rows have times that delta-rs takes for others wherever it reads not by `engine_of`: where it rewrites
    files, and in a change data feed.

    Times inside of lists and maps are not looked at. Cost: nothing without columns of times; else a query by them,
    which statistics answer where all times are near.
    """
    times = times_in(json.loads(table.schema().to_json()), table.metadata().partition_columns)
    if not times:
        return 0
    # What nanoseconds hold, to the microsecond: what they do not hold is misread as a time that they do.
    first, last = "timestamp '1677-09-21T00:12:43.145225Z'", "timestamp '2262-04-11T23:47:16.854775Z'"
    far = " OR ".join(f"{one} < {first} OR {one} > {last}" for one in times)
    sql = f"SELECT count(*) AS number FROM this WHERE {far}"
    number = int(rows_of(table, sql)["number"][0].as_py())
    if number:
        misread = pa.table(QueryBuilder().register("this", table).execute(sql).read_all())
        number -= int(misread["number"][0].as_py())
    return number


def times_in(schema: Mapping[str, Any], partition_columns: Sequence[str]) -> list[str]:
    """The columns of times in a schema as Delta's log has it, as SQL names them; not those that partition the table."""
    fields = [field for field in schema["fields"] if field["name"] not in partition_columns]
    return [one for field in fields for one in _times(field["type"], quoted(field["name"]))]


def _times(kind: Any, place: str) -> Iterator[str]:
    """The columns of times in one of a type, as SQL names them."""
    if kind == "timestamp":
        yield place
    elif isinstance(kind, dict) and kind["type"] == "struct":
        for one in kind["fields"]:
            name = one["name"].replace("'", "''")
            yield from _times(one["type"], f"{place}['{name}']")


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


class WorkingTable(DeltaTable):
    """A deltalake DeltaTable on a transaction's private root: all that it can, it can here, unseen by others.

    Its commits carry the transaction's id. `append` and `overwrite` are what `write_deltalake` does; `write_deltalake`
    itself takes this table too. Nothing here reaches the published table before plait commits.
    """

    def __init__(self, native: Native, properties: Mapping[str, str]) -> None:
        super().__init__(native.uri, storage_options=native.options)
        self._properties = dict(properties)

    @property
    def _commit(self) -> CommitProperties:
        return CommitProperties(custom_metadata=dict(self._properties))

    def read(self, sql: str = "SELECT * FROM this") -> pa.Table:
        """The rows, or what an SQL query over the table `this` gives."""
        self.update_incremental()
        return rows_of(self, sql)

    def append(self, rows: object, *, schema_mode: str | None = None) -> None:
        """Add rows: anything with the Arrow interface. `schema_mode="merge"` adds columns that the table lacks."""
        self._write(rows, "append", schema_mode)

    def overwrite(self, rows: object, *, predicate: str | None = None, schema_mode: str | None = None) -> None:
        """Replace all rows, or those that a predicate matches."""
        self._write(rows, "overwrite", schema_mode, predicate)

    def set_key_columns(self, *names: str) -> None:
        """Say which columns identify a row in diffs and merges; none: rows are a multiset. Raises: InvalidArgument."""
        self.update_incremental()
        check_columns(names, [field.name for field in self.schema().fields])
        # deltalake knows its own properties and refuses others, unless it is told not to.
        self.alter.set_table_properties(
            {KEY_COLUMNS: ",".join(names)}, raise_if_not_exists=False, commit_properties=self._commit
        )

    def _write(self, rows: object, mode: str, schema_mode: str | None, predicate: str | None = None) -> None:
        if predicate is not None:
            check_rewritable(self)
        write_deltalake(
            self, cast(Any, rows), mode=cast(Any, mode), schema_mode=cast(Any, schema_mode), predicate=predicate,
            commit_properties=self._commit, post_commithook_properties=KEEP_LOG,
        )  # fmt: skip

    def delete(self, predicate: str | None = None, *args: Any, **options: Any) -> dict[str, Any]:
        return super().delete(predicate, *args, **self._stamped(options))

    def update(self, *args: Any, **options: Any) -> dict[str, Any]:
        return super().update(*args, **self._stamped(options))

    def merge(self, *args: Any, **options: Any) -> Any:
        return super().merge(*args, **self._stamped(options))

    @property
    def optimize(self) -> Any:
        check_rewritable(self)
        return super().optimize

    def _stamped(self, options: dict[str, Any]) -> dict[str, Any]:
        """For what rewrites files."""
        check_rewritable(self)
        return {"commit_properties": self._commit, "post_commithook_properties": KEEP_LOG, **options}

    def vacuum(self, *args: Any, **options: Any) -> NoReturn:
        raise Unsupported(
            "vacuum deletes files that other branches may need", remedy="plait's retention deletes what no commit needs"
        )


def check_columns(named: Sequence[str], known: Sequence[str]) -> None:
    """Raises: InvalidArgument."""
    if unknown := [one for one in named if one not in known]:
        raise InvalidArgument(f"column {unknown[0]!r} is not in the schema", remedy=f"it has {', '.join(known)}")


KEEP_LOG = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
"""A working set may live for longer than the log's retention."""


class SnapshotTable(DeltaTable):
    """One version, for reading. (What deltalake would write lands beside it: the version itself stays as it is.)"""

    def read(self, sql: str = "SELECT * FROM this") -> pa.Table:
        """The rows, or what an SQL query over the table `this` gives."""
        return rows_of(self, sql)

    def _refuse(self, *args: Any, **options: Any) -> NoReturn:
        raise Unsupported("a committed snapshot cannot be changed", remedy="open it in a transaction")

    delete = update = merge = optimize = alter = restore = repair = vacuum = _refuse  # type: ignore[assignment]


class Namespace:
    """The Delta tables of one store inside a transaction. Identifiers are `schema.table`, without the store's name."""

    def __init__(
        self, store: str, port: StagingPort, files: Files, open_table: Callable[[Staging], WorkingTable]
    ) -> None:
        self._store = store
        self._files = files
        self._port = port
        self._open = open_table

    def create_table(
        self,
        identifier: str | tuple[str, ...],
        schema: Schema | pa.Schema,
        *,
        partition_by: Sequence[str] = (),
        key_columns: Sequence[str] = (),
        configuration: Mapping[str, str] | None = None,
        description: str | None = None,
    ) -> WorkingTable:
        """A new, empty table. `key_columns` identify its rows in diffs and merges.

        Unless `configuration` says else, vacuums of other clients spare what only older commits need.

        Raises: AlreadyExists, InvalidArgument.
        """
        key = self._key(identifier)
        names = [one.name for one in (schema if isinstance(schema, pa.Schema) else schema.fields)]
        check_columns((*partition_by, *key_columns), names)
        settings = {KEEPING: KEPT_FOR, **(configuration or {})}
        if key_columns:
            settings[KEY_COLUMNS] = ",".join(key_columns)
        staging = self._port.get(key)
        if staging is None:
            staging = self._port.add(key, new=True)
        elif self._files.children(f"{staging.location}/{LOG}")[1]:
            raise AlreadyExists(f"{format_key(key)} exists already")
        native = self._files.native(staging.location)
        with translated(f"table {format_key(key)}"):
            DeltaTable.create(
                native.uri, schema, partition_by=list(partition_by), configuration=settings,
                storage_options=native.options, description=description, raise_if_key_not_exists=False,
                commit_properties=CommitProperties(custom_metadata=dict(self._port.properties)),
            )  # fmt: skip
        return self._open(staging)

    def load_table(self, identifier: str | tuple[str, ...]) -> WorkingTable:
        """The table, staged for writing. Raises: NotFound."""
        return self._open(self._port.add(self._key(identifier)))

    def list_tables(self, prefix: str | tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        """Identifiers below a prefix, in order."""
        return [key[1:] for key in self._port.keys(self._key(prefix))]

    def table_exists(self, identifier: str | tuple[str, ...]) -> bool:
        key = self._key(identifier)
        return key in self._port.keys(key)

    def drop_table(self, identifier: str | tuple[str, ...]) -> None:
        """The table is absent once the transaction commits. No data is deleted. Raises: NotFound."""
        self._port.drop(self._key(identifier))

    def rename_table(self, before: str | tuple[str, ...], after: str | tuple[str, ...]) -> None:
        """The same table under another name; its folder stays. Raises: NotFound, AlreadyExists."""
        self._port.move(self._key(before), self._key(after))

    def _key(self, identifier: str | tuple[str, ...]) -> Key:
        parts = tuple(filter(None, identifier.split("."))) if isinstance(identifier, str) else tuple(identifier)
        return (self._store, *parts)

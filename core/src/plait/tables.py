"""Results that a notebook shows as a table, and that convert to Arrow tables: lists and lazy iterators."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from plait.errors import Unsupported
from plait.refspec import format_key, format_time
from plait.types import (
    Change,
    Commit,
    Conflict,
    Entry,
    Event,
    ItemChange,
    Participant,
    Ref,
    RefMove,
    Resolution,
    Store,
    Tx,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from plait.blame import Blamed
    from plait.persist.store_rows import Publication

V = TypeVar("V")
_ROWS_DRAWN_MAX = 100
_CELL_CHARACTERS_MAX = 200


def _named(name: str) -> tuple[str, str]:
    """`at__time` → (at, time)."""
    plain, _, kind = name.partition("__")
    return plain, kind or "text"


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return str(value)
    return json.dumps(dict(value) if isinstance(value, Mapping) else value, ensure_ascii=False, default=str)


def _cell(kind: str, value: Any) -> str:
    if kind == "time":
        return format_time(value)
    text = ("yes" if value else "") if kind == "bool" else (_text(value) or "")
    return cut(text, _CELL_CHARACTERS_MAX)


def cut(text: str, characters_max: int) -> str:
    """A text, cut to size."""
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


class Columns(Generic[V]):
    """How values of one kind become rows: each column has a name, a type, and a function from value to cell.

    A name may end in `__int`, `__bool` or `__time` (microseconds of Unix time). All other columns are text; cells that
    are no text (a row, properties, a list) become JSON.
    """

    def __init__(self, **columns: Callable[[V], object]) -> None:
        self._columns = [(*_named(name), of) for name, of in columns.items()]

    def html(self, values: Iterable[V], caption: str = "") -> str:
        """An HTML table of the first hundred values."""
        shown = list(islice(values, _ROWS_DRAWN_MAX + 1))
        head = "".join(f"<th>{escape(name)}</th>" for name, _, _ in self._columns)
        rows = [
            "".join(f"<td>{escape(_cell(kind, of(value)))}</td>" for _, kind, of in self._columns)
            for value in shown[:_ROWS_DRAWN_MAX]
        ]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        more = f"the first {_ROWS_DRAWN_MAX}" if len(shown) > _ROWS_DRAWN_MAX else ""
        told = " · ".join(filter(None, (escape(caption), more)))
        told = f"<caption>{told}</caption>" if told else ""
        return f"<table>{told}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def arrow(self, values: Iterable[V]) -> pa.Table:
        """An Arrow table, with the same columns even without rows. Raises: Unsupported without pyarrow."""
        try:
            import pyarrow as pa
        except ImportError as error:
            raise Unsupported("to_arrow needs pyarrow", remedy="pip install 'plait[arrow]'") from error
        types = {"text": pa.string(), "int": pa.int64(), "bool": pa.bool_(), "time": pa.timestamp("us", tz="UTC")}
        schema = pa.schema([(name, types[kind]) for name, kind, _ in self._columns])
        rows = list(values)
        columns = [
            pa.array([_text(of(row)) if kind == "text" else of(row) for row in rows], types[kind])
            for _, kind, of in self._columns
        ]
        return pa.table(columns, schema=schema)


class Listing(list[V]):
    """A list that a notebook draws as a table."""

    def __init__(self, columns: Columns[V], values: Iterable[V]) -> None:
        super().__init__(values)
        self._columns = columns

    def _repr_html_(self) -> str:
        return self._columns.html(self)

    def to_arrow(self) -> pa.Table:
        """All of it as an Arrow table; integers, instants and text, all else as JSON. Raises: Unsupported."""
        return self._columns.arrow(self)


class Stream(Iterator[V]):
    """A lazy iterator that a notebook draws as a table. Drawing runs the query again, and consumes nothing."""

    def __init__(self, columns: Columns[V], ask: Callable[[], Iterator[V]]) -> None:
        self._columns = columns
        self._ask = ask
        self._begun: Iterator[V] | None = None

    def __iter__(self) -> Iterator[V]:
        """What is left, without a call of this class for each value."""
        if self._begun is None:
            self._begun = self._ask()
        return self._begun

    def __next__(self) -> V:
        return next(iter(self))

    def _repr_html_(self) -> str:
        return self._columns.html(self._ask())

    def to_arrow(self) -> pa.Table:
        """All of it, from its beginning, as an Arrow table. Raises: Unsupported without pyarrow."""
        return self._columns.arrow(self._ask())


COMMITS: Columns[Commit] = Columns(
    commit=lambda one: one.id,
    message=lambda one: one.message,
    author=lambda one: one.author,
    at__time=lambda one: one.committed_at_us,
    parents=lambda one: one.parents,
    principal=lambda one: one.session.principal,
    client=lambda one: one.session.client,
    properties=lambda one: one.described,
    seq__int=lambda one: one.seq,
)
REFS: Columns[Ref] = Columns(
    name=lambda one: one.name,
    kind=lambda one: one.kind,
    head=lambda one: one.head,
    protected__bool=lambda one: one.protected,
)
MOVES: Columns[RefMove] = Columns(
    seq__int=lambda one: one.seq,
    at__time=lambda one: one.moved_at_us,
    before=lambda one: one.before,
    after=lambda one: one.after,
)
ENTRIES: Columns[Entry] = Columns(
    key=lambda one: format_key(one.key),
    kind=lambda one: one.snapshot.kind,
    version=lambda one: one.snapshot.version,
    content_id=lambda one: one.content_id,
)
CHANGES: Columns[Change] = Columns(
    key=lambda one: format_key(one.key),
    change=lambda one: "added" if one.before is None else "removed" if one.after is None else "changed",
    before=lambda one: None if one.before is None else one.before.snapshot.version,
    after=lambda one: None if one.after is None else one.after.snapshot.version,
)
ITEMS: Columns[ItemChange] = Columns(
    item=lambda one: one.item,
    change=lambda one: one.kind,
    aspect=lambda one: one.aspect,
    before=lambda one: one.before,
    after=lambda one: one.after,
)
HISTORY: Columns[tuple[Commit, Change]] = Columns(
    commit=lambda one: one[0].id,
    message=lambda one: one[0].message,
    author=lambda one: one[0].author,
    at__time=lambda one: one[0].committed_at_us,
    principal=lambda one: one[0].session.principal,
    client=lambda one: one[0].session.client,
    properties=lambda one: one[0].described,
    before=lambda one: None if one[1].before is None else one[1].before.snapshot.version,
    after=lambda one: None if one[1].after is None else one[1].after.snapshot.version,
)
BLAMES: Columns[Blamed] = Columns(
    item=lambda one: one.item,
    commit=lambda one: one.commit.id,
    author=lambda one: one.commit.author,
    at__time=lambda one: one.commit.committed_at_us,
    message=lambda one: one.commit.message,
    principal=lambda one: one.commit.session.principal,
    client=lambda one: one.commit.session.client,
    properties=lambda one: one.commit.described,
)
CONFLICTS: Columns[tuple[Conflict, Resolution | None]] = Columns(
    key=lambda one: format_key(one[0].key),
    item=lambda one: one[0].item,
    kind=lambda one: one[0].kind,
    base=lambda one: one[0].base,
    ours=lambda one: one[0].ours,
    theirs=lambda one: one[0].theirs,
    detail=lambda one: one[0].detail,
    settled=lambda one: None if one[1] is None else one[1].choice,
)
PARTICIPANTS: Columns[Participant] = Columns(
    state=lambda one: one.phase,
    key=lambda one: format_key(one.key),
    location=lambda one: None if one.staging is None else one.staging.location,
)
PUBLICATIONS: Columns[Publication] = Columns(
    store=lambda one: one.store,
    key=lambda one: format_key(one.key),
    state=lambda one: one.state,
)
TXS: Columns[Tx] = Columns(
    id=lambda one: one.id,
    name=lambda one: one.name,
    ref=lambda one: one.ref,
    state=lambda one: one.state,
    created__time=lambda one: one.created_at_us,
    message=lambda one: one.message,
)
STORES: Columns[Store] = Columns(
    name=lambda one: one.name,
    kind=lambda one: one.kind,
    mode=lambda one: one.mode,
    bound_ref=lambda one: one.bound_ref,
    options=lambda one: one.options,
)
EVENTS: Columns[Event] = Columns(
    seq__int=lambda one: one.seq,
    kind=lambda one: one.kind,
    message=lambda one: None if one.commit is None else one.commit.message,
    keys=lambda one: [format_key(change.key) for change in one.changes],
)

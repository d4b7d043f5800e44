"""What differs between two points, or in a working set: keys, and the items inside them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from plait.cli.points import SPEC_OR_KEY, must_be_there, points_and_key
from plait.cli.previewing import preview_rows, print_preview
from plait.cli.printing import change_row
from plait.cli.session import COUNT, Session, json_option, pass_session
from plait.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plait.types import ItemChange, Key

_ITEM_COLUMNS = ("change", "item", "before", "after")
_EXAMPLE = "plait diff main~1 main lake.sales.orders"


@click.command("diff")
@click.argument("arguments", nargs=-1, metavar="[BEFORE [AFTER]] [KEY[::ITEM]]", type=SPEC_OR_KEY)
@click.option(
    "--items",
    is_flag=True,
    help="Rows, objects and schema parts, not only keys. Of a working set that begin began they are shown anyway.",
)
@click.option("--limit", type=COUNT, default=1000, show_default=True, help="At most so many items.")
@json_option
@pass_session
def diff(session: Session, arguments: tuple[str, ...], items: bool, limit: int) -> None:
    """Show what differs: the working set against its base, or BEFORE against AFTER (default: the branch).

    Of a working set that came from a merge: what its commit would bring, and which conflicts are left; with --items,
    what was written in it. A KEY is what begins with a store's name, unless a branch or tag is named just so; of
    KEY::ITEM one item is shown.
    """
    from plait.refspec import format_key

    catalog = session.catalog
    words, only = _item_apart(arguments)
    points, key = points_and_key(session, words, 2, _EXAMPLE)
    if not points:
        _diff_working_set(session, key, limit, items=items, only=only)
        return
    before, after = points[0], points[1] if len(points) == 2 else session.branch
    changes = list(catalog.diff(before, after, prefix=key))
    if not changes:
        must_be_there(session, key, (before, after))
    if only is not None:
        changes = [change for change in changes if format_key(change.key) == key]
    if not items and only is None:
        rows = [change_row(change, whole=session.as_json) for change in changes]
        session.table(rows, ("change", "key", "before", "after"), "no difference")
        return
    found: Iterable[dict[str, Any]] = (
        row
        for change in changes
        for row in _item_rows(
            catalog.diff_items(change.key, before, after, items=only), change.key, whole=session.as_json
        )
    )
    others = changes and only is None
    empty = f"no items differ, but assets do\n→ plait diff {before} {after}" if others else "no difference"
    if only is not None:
        found = list(found) or _none_differs(session, key, only, (before, after))
    _print_items(session, found, limit, empty)


def _none_differs(session: Session, key: str, only: Sequence[str], points: Sequence[str]) -> Iterable[dict[str, Any]]:
    """No rows. Raises: NotFound where no point has the item."""
    for point in points:
        with suppress(NotFound):  # The key need not be at both.
            if any(True for _ in session.catalog.diff_items(key, None, point, items=only)):
                return []
    raise NotFound(
        f"{key}::{only[0]} does not exist there", remedy=f"see all that differ with 'plait diff … {key} --items'"
    )


def _item_apart(words: Sequence[str]) -> tuple[Sequence[str], list[str] | None]:
    """The words with KEY for KEY::ITEM, and that item alone; None where there is none. Raises: InvalidArgument."""
    from plait.refspec import format_key, parse_path

    paths = [word for word in words if "::" in word]
    if len(paths) > 1:
        raise InvalidArgument("give at most one item", remedy=f"{_EXAMPLE}::id=1, or --items for all")
    key, item = parse_path(paths[0]) if paths else ((), None)
    if item is None:
        return words, None
    return [format_key(key) if word == paths[0] else word for word in words], [item]


def _item_rows(changes: Iterable[ItemChange], key: Key, *, whole: bool) -> Iterable[dict[str, Any]]:
    from plait.refspec import format_path

    for change in changes:
        yield {
            "change": change.kind.value,
            "item": format_path(key, change.item),
            "aspect": change.aspect,
            "before": change.before if whole else _summary(change.before, change.aspect),
            "after": change.after if whole else _summary(change.after, change.aspect),
        }


def _summary(value: Any, aspect: str) -> Any:
    """What people want to read of it: of a snapshot, what it did."""
    return value.get("operation") if aspect == "snapshot" and isinstance(value, dict) else value


def _diff_working_set(session: Session, key: str, limit: int, *, items: bool, only: Sequence[str] | None) -> None:
    from plait.refspec import parse_key

    tx = session.current_tx()
    if tx is None:
        raise NotFound(
            "no working set is open here", remedy="begin one, or compare two points: 'plait diff main~1 main'"
        )
    prefix = parse_key(key) if key else ()
    if tx.tx.source is not None and not items and only is None:
        print_preview(session, preview_rows(session, tx, prefix), tx.tx.ref, "see 'plait conflicts'")
        return
    staged = [one for one in tx.participants() if one.key[: len(prefix)] == prefix]
    found = (
        row for one in staged for row in _item_rows(tx.diff_items(one.key, items=only), one.key, whole=session.as_json)
    )
    empty = f"the working set changes nothing {f'in {key}' if key else 'yet'}"
    if only is None and any(one.dropped or (one.staging is not None and one.base is None) for one in staged):
        empty = "no items differ, but assets do\n→ plait status"
    if tx.tx.source is not None:
        empty = "nothing was written in this working set\n→ plait diff   shows what its commit brings"
    _print_items(session, found, limit, empty)


def _print_items(session: Session, found: Iterable[dict[str, Any]], limit: int, empty: str) -> None:
    """Up to `limit` rows, and whether there are more: the rest is not even looked for."""
    from itertools import islice

    rows = list(islice(found, limit + 1))
    session.table(rows[:limit], _ITEM_COLUMNS, empty)
    if len(rows) > limit:
        click.echo(f"… only the first {limit}; see --limit", err=True)


COMMANDS = (diff,)

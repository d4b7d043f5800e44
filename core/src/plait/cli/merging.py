"""The three-way operations: merge, conflicts, resolve, cherry-pick, revert, restore."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from plait.cli.points import KEY, SPEC, TX
from plait.cli.previewing import preview_rows, print_preview
from plait.cli.printing import conflict_columns, conflict_row
from plait.cli.session import COUNT, NEXT_AFTER_CONFLICTS, Session, json_option, pass_session
from plait.cli.working_sets import committed
from plait.errors import CommitConflict, InvalidArgument, NotFound

if TYPE_CHECKING:
    from plait.types import Choice, Key
    from plait.working_set import WorkingSet

_CONFLICTS_SHOWN = 100


@click.command("merge")
@click.argument("source", type=SPEC)
@click.argument("keys", nargs=-1, metavar="[KEY]…", type=KEY)
@click.option("--into", type=SPEC, help="The branch to merge into; default: the current one.")
@click.option("-m", "--message", default="", help="The commit's message; default: what was done.")
@click.option("--dry-run", is_flag=True, help="Say what would be merged and what conflicts; change nothing.")
@click.option("--squash", is_flag=True, help="One parent: the branch does not become part of the history.")
@click.option("--ours", multiple=True, metavar="KEY", type=KEY, help="Settle conflicts of KEY by our side.")
@click.option("--theirs", multiple=True, metavar="KEY", type=KEY, help="Settle conflicts of KEY by their side.")
@click.option("--drop", multiple=True, metavar="KEY", type=KEY, help="Leave KEY as we have it.")
@click.option(
    "--strategy",
    type=click.Choice(["normal", "ours", "theirs"]),
    default="normal",
    help="For keys that none of the three names.",
)
@json_option
@pass_session
def merge(
    session: Session,
    source: str,
    keys: tuple[str, ...],
    into: str | None,
    message: str,
    dry_run: bool,
    squash: bool,
    ours: tuple[str, ...],
    theirs: tuple[str, ...],
    drop: tuple[str, ...],
    strategy: str,
) -> None:
    """Merge SOURCE into a branch, natively in every store, as one commit.

    Of KEYs only what they name is merged, and SOURCE does not become a parent: a later merge finds the rest. A KEY, in
    the options too, may be a prefix of keys; the longest that fits counts. Conflicts are kept in a working set, which
    becomes the current one: settle them with resolve, then commit.
    """
    from plait.refspec import parse_key
    from plait.types import Strategy

    chosen: dict[Key, Strategy] = {}
    for each, named in ((Strategy.OURS, ours), (Strategy.THEIRS, theirs), (Strategy.DROP, drop)):
        for key in named:
            if chosen.setdefault(parse_key(key), each) is not each:
                raise InvalidArgument(f"choose one of --ours, --theirs and --drop for {key}")
    branch, catalog = into or session.branch, session.catalog
    if dry_run:
        tx = catalog.begin_merge(
            source, branch, squash=squash, default=Strategy(strategy), strategies=chosen, keys=keys
        )
        try:
            rows = preview_rows(session, tx)
        finally:
            tx.discard()
        print_preview(session, rows, branch, "nothing was changed")
        if rows["conflicts"]:
            raise click.exceptions.Exit(CommitConflict.exit_code)  # Ends as the merge itself would.
        return
    with session.keeping_refused():
        made = catalog.merge(
            source, branch, message=message, squash=squash, default=Strategy(strategy), strategies=chosen, keys=keys
        )
    committed(session, made)


@click.command("conflicts")
@click.argument("name", required=False, type=TX)
@click.option("--limit", type=COUNT, help="At most so many conflicts; default: 100, all as JSON.")
@click.option("--left", "only_left", is_flag=True, help="Only those that are not settled yet.")
@json_option
@pass_session
def conflicts(session: Session, name: str | None, limit: int | None, only_left: bool) -> None:
    """List the conflicts of the working set: key, item, base, ours, theirs, and how each is settled.

    By a side, by a value, or as you have written it with the store's own client.
    """
    every = [{**conflict_row(one), "settled": how} for one, how in session.working_set(name).settlements()]
    left = [row for row in every if row["settled"] is None]
    rows = left if only_left else every
    if session.as_json:
        session.emit(rows[:limit])
        return
    shown = rows[: limit or _CONFLICTS_SHOWN]
    session.table(shown, (*conflict_columns(shown), "settled"), "" if every else "no conflicts")
    if len(rows) > len(shown):
        session.emit(None, f"… and {len(rows) - len(shown)} more; see --limit")
    if left:
        session.emit(None, NEXT_AFTER_CONFLICTS)
    elif every:
        session.emit(None, "all are settled\n→ plait commit")


@click.command("resolve")
@click.argument("paths", nargs=-1, type=KEY)
@click.option("--ours", is_flag=True, help="As the branch has it that is merged into.")
@click.option("--theirs", is_flag=True, help="As the merged side has it.")
@click.option("--base", is_flag=True, help="As it was before both.")
@click.option("--value", help="The item itself, as JSON; null removes it.")
@click.option("--all", "everything", is_flag=True, help="Every conflict that is not settled yet.")
@click.option("--in", "name", type=TX, help="The working set; default: the current one.")
@json_option
@pass_session
def resolve(
    session: Session,
    paths: tuple[str, ...],
    ours: bool,
    theirs: bool,
    base: bool,
    value: str | None,
    everything: bool,
    name: str | None,
) -> None:
    """Settle conflicts by a side or by a value.

    All that are named are settled, or, if one of them is not listed, none; one that was settled before is settled
    anew. --all leaves those alone. Or write to the key with its native client.
    """
    from plait.refspec import parse_path
    from plait.types import Choice, Resolution

    sides = [side for side, asked in ((Choice.OURS, ours), (Choice.THEIRS, theirs), (Choice.BASE, base)) if asked]
    if len(sides) + (value is not None) != 1:
        raise InvalidArgument("choose one of --ours, --theirs, --base and --value")
    if bool(paths) == everything:
        raise InvalidArgument("name the conflicts as KEY::ITEM, or give --all")
    try:
        content = None if value is None else json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"--value {(value or '')[:80]!r} is no JSON: {error}", remedy="quote it: --value '{…}'"
        ) from error
    if everything and not sides:
        raise InvalidArgument("--all goes with --ours, --theirs or --base")
    choice = sides[0] if sides else Choice.VALUE
    tx = session.working_set(name)
    if everything:
        _settle_open(session, tx, choice)
        return
    resolutions: list[Resolution] = []
    for path in paths:
        key, item = parse_path(path)
        if item is not None or not sides:
            resolutions.append(Resolution(key, item, choice, content))
            continue
        below = tx.sided(choice, key)
        if not below:
            raise NotFound(f"{path} has no conflict", remedy="see 'plait conflicts'")
        resolutions += below
    tx.settle(resolutions)
    left = len(tx.open_conflicts())
    step = "plait conflicts" if left else "plait commit"
    value_told = {"settled": len(resolutions), "left": left}
    session.emit(value_told, f"{len(resolutions)} settled, {left} left\n→ {step}")


def _settle_open(session: Session, tx: WorkingSet, choice: Choice) -> None:
    """Settle by a side what nothing settles yet, and say how many others stay as they are."""
    settled = tx.resolve_all(choice)
    kept = sum(1 for _ in tx.conflicts()) - settled
    told = f"{settled} settled, 0 left" + (f"; {kept} left as settled before" if kept else "")
    session.emit({"settled": settled, "left": 0, "kept": kept}, f"{told}\n→ plait commit")


@click.command("cherry-pick")
@click.argument("spec", type=SPEC)
@click.argument("keys", nargs=-1, metavar="[KEY]…", type=KEY)
@click.option("-m", "--message", default="", help="The commit's message; default: what was done.")
@click.option("--onto", type=SPEC, help="The branch to commit to; default: the current one.")
@json_option
@pass_session
def cherry_pick(session: Session, spec: str, keys: tuple[str, ...], message: str, onto: str | None) -> None:
    """Apply what one commit changed to a branch: all of it, or some keys."""
    with session.keeping_refused():
        made = session.catalog.cherry_pick(spec, onto or session.branch, message=message, keys=keys)
    committed(session, made)


@click.command("revert")
@click.argument("spec", type=SPEC)
@click.argument("paths", nargs=-1, metavar="[KEY[::ITEM]]…", type=KEY)
@click.option("-m", "--message", default="", help="The commit's message; default: what was done.")
@click.option("--on", "branch", type=SPEC, help="The branch to commit to; default: the current one.")
@json_option
@pass_session
def revert(session: Session, spec: str, paths: tuple[str, ...], message: str, branch: str | None) -> None:
    """Undo what one commit changed: all of it, some keys, or some items.

    What changed again since then is a conflict, to be settled as those of a merge.
    """
    keys, items = _keys_and_items(paths)
    with session.keeping_refused():
        made = session.catalog.revert(spec, branch or session.branch, message=message, keys=keys, items=items)
    committed(session, made)


@click.command("restore")
@click.argument("paths", nargs=-1, metavar="[KEY[::ITEM]]…", type=KEY)
@click.option("--from", "spec", type=SPEC, required=True, help="The point to take it from.")
@click.option("-m", "--message", default="", help="The commit's message; default: what was done.")
@click.option("--on", "branch", type=SPEC, help="The branch to commit to; default: the current one.")
@json_option
@pass_session
def restore(session: Session, paths: tuple[str, ...], spec: str, message: str, branch: str | None) -> None:
    """Bring everything, some keys, or some items to what they were at a point, as a new commit."""
    keys, items = _keys_and_items(paths)
    with session.keeping_refused():
        made = session.catalog.restore(spec, branch or session.branch, keys=keys, items=items, message=message)
    committed(session, made)


def _keys_and_items(paths: tuple[str, ...]) -> tuple[list[Key], dict[Key, list[str]]]:
    from plait.refspec import parse_path

    keys: list[Key] = []
    items: dict[Key, list[str]] = {}
    for path in paths:
        key, item = parse_path(path)
        if item is None:
            keys.append(key)
        else:
            items.setdefault(key, []).append(item)
    if keys and items:
        raise InvalidArgument("give whole keys or items, not both in one commit")
    return keys, items


COMMANDS = (merge, conflicts, resolve, cherry_pick, revert, restore)

"""Working sets and the three-way operations: begin, status, commit, merge, conflicts, resolve, revert, restore …"""

from __future__ import annotations

import json
from typing import Any

import click

from plait.cli.history import change_row, commit_row
from plait.cli.session import Session, conflict_row, json_option, pairs, pass_session
from plait.errors import CommitConflict, InvalidArgument


def committed(session: Session, commit: Any) -> None:
    """Say what was committed."""
    head = (commit.message.splitlines() or [""])[0]
    session.emit(commit_row(commit), f"{commit.id[:12]} {head}")


def _tx_row(tx: Any) -> dict[str, Any]:
    return {"id": tx.id, "name": tx.name, "ref": tx.ref, "state": tx.state.value, "base": tx.base[:12]}


@click.command("begin")
@click.argument("name", default="")
@click.option("-m", "--message", default="", help="The commit's message, unless commit gives another.")
@click.option("--on", "branch", help="Default: the current branch.")
@click.option("--property", "properties", multiple=True, metavar="NAME=VALUE", help="A run id, a code version, a URL.")
@json_option
@pass_session
def begin(session: Session, name: str, message: str, branch: str | None, properties: tuple[str, ...]) -> None:
    """Begin a working set, and make it this directory's current one."""
    given = pairs(properties, "--property")
    tx = session.catalog.begin(branch or session.branch, name=name, message=message, properties=given)
    session.set_current(tx=tx.id)
    session.emit(
        _tx_row(tx.tx),
        f"working set {name or tx.id} on {tx.tx.ref}\n"
        "→ plait put FILE KEY::ITEM   → plait status   → plait commit -m '…'",
    )


@click.command("status")
@click.argument("name", required=False)
@json_option
@pass_session
def status(session: Session, name: str | None) -> None:
    """Show what the working set stages, drops, and conflicts with."""
    from plait.refspec import format_key

    tx = session.working_set(name)
    rows = []
    for participant in tx.participants():
        if participant.dropped:
            state = "dropped"
        elif participant.staging is None:
            state = "merged"
        else:
            state = "staged" if participant.base is not None else "new"
        rows.append(
            {
                "state": state,
                "key": format_key(participant.key),
                "location": participant.staging.location if participant.staging else None,
            }
        )
    conflicts = [conflict_row(conflict) for conflict, settled in tx.conflicts() if settled is None]
    if session.as_json:
        session.emit({**_tx_row(tx.tx), "assets": rows, "conflicts": conflicts})
        return
    click.echo(f"working set {tx.tx.name or tx.id} on {tx.tx.ref}, {tx.tx.state.value}, from {tx.tx.base[:12]}")
    session.table(rows, ("state", "key", "location"), "nothing is staged yet")
    if conflicts:
        click.echo(f"{len(conflicts)} conflicts wait\n→ plait conflicts   → plait resolve KEY::ITEM --theirs")


@click.command("commit")
@click.argument("name", required=False)
@click.option("-m", "--message")
@click.option("--author", default="")
@click.option("--property", "properties", multiple=True, metavar="NAME=VALUE")
@click.option(
    "--unchanged", multiple=True, metavar="KEY", help="Commit only if KEY still is what the working set read."
)
@click.option("--allow-empty", is_flag=True)
@json_option
@pass_session
def commit(
    session: Session,
    name: str | None,
    message: str | None,
    author: str,
    properties: tuple[str, ...],
    unchanged: tuple[str, ...],
    allow_empty: bool,
) -> None:
    """Make the working set one commit, in all stores or in none."""
    tx = session.working_set(name)
    made = tx.commit(
        message,
        author=author,
        properties=pairs(properties, "--property"),
        unchanged=unchanged,
        allow_empty=allow_empty or bool(tx.tx.merged_parents),
    )
    session.set_current(tx=None)
    committed(session, made)


@click.command("discard")
@click.argument("name", required=False)
@json_option
@pass_session
def discard(session: Session, name: str | None) -> None:
    """End a working set without a trace."""
    tx = session.working_set(name)
    tx.discard()
    session.set_current(tx=None)
    session.emit({"discarded": tx.id}, f"discarded {tx.tx.name or tx.id}")


@click.group("tx")
def tx_group() -> None:
    """List, recover and discard working sets."""


@tx_group.command("list")
@json_option
@pass_session
def tx_list(session: Session) -> None:
    """Open working sets, with age, owner, phase, and what they wait for."""
    import time

    rows = []
    for tx in session.catalog.working_sets():
        participants = session.catalog.working_set(tx.id).participants()
        unsettled = sum(settled is None for _, settled in session.catalog.working_set(tx.id).conflicts())
        waits = {"open": "its user", "sealed": "its commit", "aborting": "its stores"}[tx.state.value]
        rows.append(
            {
                **_tx_row(tx),
                "age_s": int(time.time() - tx.created_at_us / 1_000_000),
                "by": tx.session.author or tx.session.principal,
                "owner": tx.owner,
                "stores": ", ".join(sorted({participant.key[0] for participant in participants})),
                "waits for": f"{unsettled} conflicts" if unsettled else waits,
            }
        )
    session.table(rows, ("id", "name", "ref", "state", "age_s", "by", "stores", "waits for"), "no working set is open")


@tx_group.command("recover")
@json_option
@pass_session
def tx_recover(session: Session) -> None:
    """Put right what died half-way. (Opening a catalog does it too.)"""
    done = session.catalog.recover()
    session.emit(done, "\n".join(done) or "nothing to recover")


@tx_group.command("discard")
@click.argument("names", nargs=-1, required=True)
@json_option
@pass_session
def tx_discard(session: Session, names: tuple[str, ...]) -> None:
    """Discard working sets by name or id."""
    for name in names:
        session.catalog.working_set(name).discard()
    session.emit({"discarded": list(names)}, f"discarded {', '.join(names)}")


# -- merging -----------------------------------------------------------------------------------------------------------


@click.command("merge")
@click.argument("source")
@click.option("--into", help="Default: the current branch.")
@click.option("-m", "--message", default="")
@click.option("--dry-run", is_flag=True, help="Say what would be merged and what conflicts; change nothing.")
@click.option("--squash", is_flag=True, help="One parent: the branch does not become part of the history.")
@click.option("--ours", multiple=True, metavar="KEY", help="Settle conflicts of KEY by our side.")
@click.option("--theirs", multiple=True, metavar="KEY", help="Settle conflicts of KEY by their side.")
@click.option("--drop", multiple=True, metavar="KEY", help="Leave KEY as we have it.")
@click.option(
    "--strategy", type=click.Choice(["normal", "ours", "theirs"]), default="normal", help="Of all other keys."
)
@json_option
@pass_session
def merge(
    session: Session,
    source: str,
    into: str | None,
    message: str,
    dry_run: bool,
    squash: bool,
    ours: tuple[str, ...],
    theirs: tuple[str, ...],
    drop: tuple[str, ...],
    strategy: str,
) -> None:
    """Merge SOURCE into a branch, natively in every store, as one commit."""
    from plait.refspec import parse_key
    from plait.types import Strategy

    chosen = {
        parse_key(key): each
        for each, keys in ((Strategy.OURS, ours), (Strategy.THEIRS, theirs), (Strategy.DROP, drop))
        for key in keys
    }
    branch, catalog = into or session.branch, session.catalog
    if dry_run:
        tx = catalog.begin_merge(source, branch, squash=squash, default=Strategy(strategy), strategies=chosen)
        try:
            preview = tx.preview()
        finally:
            tx.discard()
        rows = [change_row(change, whole=session.as_json) for change in preview.changes]
        conflicts = [conflict_row(conflict) for conflict in preview.conflicts]
        if session.as_json:
            session.emit({"changes": rows, "conflicts": conflicts})
            return
        session.table(rows, ("change", "key", "before", "after"), "nothing would change")
        if conflicts:
            session.table(conflicts, ("key", "item", "base", "ours", "theirs"), "")
        return
    try:
        made = catalog.merge(
            source, branch, message=message, squash=squash, default=Strategy(strategy), strategies=chosen
        )
    except CommitConflict as error:
        if "tx" in error.details:
            session.set_current(tx=error.details["tx"])
        raise
    committed(session, made)


@click.command("conflicts")
@click.argument("name", required=False)
@click.option("--limit", type=int, default=100, show_default=True)
@json_option
@pass_session
def conflicts(session: Session, name: str | None, limit: int) -> None:
    """List every conflict of the working set: key, item, base, ours, theirs."""
    tx = session.working_set(name)
    rows = []
    for conflict, settled in tx.conflicts():
        rows.append({**conflict_row(conflict), "settled": settled.choice.value if settled else None})
    if session.as_json:
        session.emit(rows)
        return
    session.table(rows[:limit], ("key", "item", "kind", "base", "ours", "theirs", "settled"), "no conflicts")
    if len(rows) > limit:
        click.echo(f"… and {len(rows) - limit} more")
    if any(row["settled"] is None for row in rows):
        click.echo(
            "→ plait resolve KEY::ITEM --ours | --theirs | --base | --value JSON   → plait commit   → plait discard"
        )


@click.command("resolve")
@click.argument("paths", nargs=-1)
@click.option("--ours", "choice", flag_value="ours")
@click.option("--theirs", "choice", flag_value="theirs")
@click.option("--base", "choice", flag_value="base")
@click.option("--value", help="The item itself, as JSON; null removes it.")
@click.option("--all", "everything", is_flag=True, help="Every listed conflict.")
@click.option("--in", "name", help="The working set; default: the current one.")
@json_option
@pass_session
def resolve(
    session: Session, paths: tuple[str, ...], choice: str | None, value: str | None, everything: bool, name: str | None
) -> None:
    """Settle conflicts by a side or by a value. (Or write to the key with its native client.)"""
    from plait.refspec import parse_path
    from plait.types import Choice

    if (choice is None) == (value is None):
        raise InvalidArgument("choose one of --ours, --theirs, --base and --value")
    if bool(paths) == everything:
        raise InvalidArgument("name the conflicts as KEY::ITEM, or give --all")
    tx = session.working_set(name)
    settled = 0
    if everything:
        if choice is None:
            raise InvalidArgument("--all goes with --ours, --theirs or --base")
        settled = tx.resolve_all(Choice(choice))
    for path in paths:
        key, item = parse_path(path)
        if item is None and choice is not None:
            settled += tx.resolve_all(Choice(choice), key)
            continue
        try:
            content = None if value is None else json.loads(value)
        except ValueError as error:
            raise InvalidArgument(f"--value {value!r} is no JSON: {error}") from error
        tx.resolve(key, Choice(choice) if choice else Choice.VALUE, item=item, value=content)
        settled += 1
    left = sum(kept is None for _, kept in tx.conflicts())
    session.emit(
        {"settled": settled, "left": left}, f"{settled} settled, {left} left" + ("" if left else "\n→ plait commit")
    )


@click.command("cherry-pick")
@click.argument("spec")
@click.option("-m", "--message", default="")
@click.option("--onto", help="Default: the current branch.")
@json_option
@pass_session
def cherry_pick(session: Session, spec: str, message: str, onto: str | None) -> None:
    """Apply what one commit changed to a branch."""
    committed(session, session.catalog.cherry_pick(spec, onto or session.branch, message=message))


@click.command("revert")
@click.argument("spec")
@click.argument("paths", nargs=-1, metavar="[KEY[::ITEM]]…")
@click.option("-m", "--message", default="")
@click.option("--on", "branch", help="Default: the current branch.")
@json_option
@pass_session
def revert(session: Session, spec: str, paths: tuple[str, ...], message: str, branch: str | None) -> None:
    """Undo what one commit changed: all of it, some keys, or some items."""
    keys, items = _keys_and_items(paths)
    committed(session, session.catalog.revert(spec, branch or session.branch, message=message, keys=keys, items=items))


@click.command("restore")
@click.argument("paths", nargs=-1, metavar="[KEY[::ITEM]]…")
@click.option("--from", "spec", required=True, help="The point to take it from.")
@click.option("-m", "--message", default="")
@click.option("--on", "branch", help="Default: the current branch.")
@json_option
@pass_session
def restore(session: Session, paths: tuple[str, ...], spec: str, message: str, branch: str | None) -> None:
    """Bring everything, some keys, or some items to what they were at a point, as a new commit."""
    keys, items = _keys_and_items(paths)
    made = session.catalog.restore(spec, branch or session.branch, keys=keys, items=items, message=message)
    committed(session, made)


def _keys_and_items(paths: tuple[str, ...]) -> tuple[list[Any], dict[Any, list[str]]]:
    from plait.refspec import parse_path

    keys: list[Any] = []
    items: dict[Any, list[str]] = {}
    for path in paths:
        key, item = parse_path(path)
        if item is None:
            keys.append(key)
        else:
            items.setdefault(key, []).append(item)
    if keys and items:
        raise InvalidArgument("give whole keys or items, not both in one commit")
    return keys, items


COMMANDS = (
    begin,
    status,
    commit,
    discard,
    tx_group,
    merge,
    conflicts,
    resolve,
    cherry_pick,
    revert,
    restore,
)

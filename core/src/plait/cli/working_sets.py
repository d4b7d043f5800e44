"""Working sets: begin, status, commit, discard, and tx, which lists them all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from plait.cli.plugin_commands import Group
from plait.cli.points import KEY, SPEC, TX
from plait.cli.printing import commit_row, conflict_row, counted, subject
from plait.cli.session import Session, json_option, pairs, pass_session
from plait.errors import NothingToCommit, PlaitError

if TYPE_CHECKING:
    from plait.types import Commit, Conflict, Tx
    from plait.working_set import WorkingSet

_WAITS_FOR = {"open": "its user", "sealed": "its commit", "aborting": "its stores"}
_DIVERGED_SHOWN_MAX = 3
_PUT = "plait put FILE KEY::ITEM, where KEY holds objects or files"
"""Said of every catalog: whether a store takes objects is known by its adapter, which takes a second to import."""


def committed(session: Session, commit: Commit) -> None:
    """Say what was committed."""
    session.emit(commit_row(commit), f"{commit.id[:12]} {subject(commit.message)}")


def _tx_row(tx: Tx) -> dict[str, Any]:
    return {"id": tx.id, "name": tx.name, "ref": tx.ref, "state": tx.state.value, "base": tx.base}


@click.command("begin")
@click.argument("name", default="")
@click.option("-m", "--message", default="", help="The commit's message, unless commit gives another.")
@click.option("--on", "branch", type=SPEC, help="The branch to commit to later; default: the current one.")
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="NAME=VALUE",
    help="Kept with the commit: a run id, a code version.",
)
@json_option
@pass_session
def begin(session: Session, name: str, message: str, branch: str | None, properties: tuple[str, ...]) -> None:
    """Begin a working set, and make it this directory's current one."""
    given, left = pairs(properties, "--property"), session.current_tx()
    tx = session.catalog.begin(branch or session.branch, name=name, message=message, properties=given)
    session.current.remember(tx=tx.id)
    lines = [f"working set {name or tx.id} on {tx.tx.ref}"]
    if left is not None:
        kept = left.tx.name or left.id
        lines.append(f"{kept} stays open\n→ plait tx use {kept}   goes back to it")
    lines.append(f"→ plait open KEY --write   → {_PUT}   → plait status   → plait commit -m '…'")
    session.emit(_tx_row(tx.tx), "\n".join(lines))


@click.command("status")
@click.argument("name", required=False, type=TX)
@json_option
@pass_session
def status(session: Session, name: str | None) -> None:
    """Show what the working set stages, drops, and conflicts with, and which native heads were found to have diverged.

    What a merge would bring: plait diff. Whether heads have diverged since: plait store check.
    """
    from plait.refspec import format_key

    diverged = _diverged(session)
    tx = session.working_set(name) if name else session.current_tx()
    if tx is None:
        head = session.catalog.resolve(session.branch)
        told = f"on {session.branch} at {head.id[:12]} {subject(head.message)}"
        session.emit(
            {"id": None, "ref": session.branch, "base": head.id, "assets": [], "conflicts": [], "diverged": diverged},
            "\n".join([told, "no working set is open here", *_told(diverged), "→ plait begin"]),
        )
        return
    rows = [
        {
            "state": participant.phase,
            "key": format_key(participant.key),
            "location": participant.staging.location if participant.staging else None,
        }
        for participant in tx.participants()
        if participant.is_own
    ]
    conflicts = [conflict_row(conflict) for conflict in unsettled(tx)]
    if session.as_json:
        session.emit({**_tx_row(tx.tx), "assets": rows, "conflicts": conflicts, "diverged": diverged})
        return
    session.emit(None, f"working set {tx.tx.name or tx.id} on {tx.tx.ref}, {tx.tx.state.value}, from {tx.tx.base[:12]}")
    is_joined = tx.tx.source is not None
    empty = f"nothing is staged yet\n→ plait open KEY --write, or write from Python   → {_PUT}"
    session.table(rows, ("state", "key", "location"), "nothing was written by hand" if is_joined else empty)
    if conflicts:
        session.emit(
            None,
            f"{counted(len(conflicts), 'conflict')} to settle\n→ plait conflicts   → plait resolve KEY::ITEM --theirs",
        )
    elif rows or is_joined:
        session.emit(None, "→ plait diff   → plait commit -m '…'   → plait discard")
    if diverged:
        session.emit(None, "\n".join(_told(diverged)))


def _diverged(session: Session) -> list[dict[str, str]]:
    """The native heads that somebody moved past plait, as far as that was seen."""
    from plait.refspec import format_key

    keys = [format_key(one.key) for one in session.catalog.unpublished() if one.state == "diverged"]
    return [{"key": key, "remedy": f"plait store adopt {key}"} for key in keys]


def _told(diverged: list[dict[str, str]]) -> list[str]:
    shown = [f"{one['key']} was written past plait\n→ {one['remedy']}" for one in diverged[:_DIVERGED_SHOWN_MAX]]
    more = len(diverged) - len(shown)
    return [*shown, f"… and {counted(more, 'other')}: plait store check"] if more else shown


@click.command("commit")
@click.argument("name", required=False, type=TX)
@click.option("-m", "--message", help="The commit's message; default: what begin was given.")
@click.option("--author", default="", help="Default: PLAIT_AUTHOR, else who is logged in.")
@click.option("--property", "properties", multiple=True, metavar="NAME=VALUE", help="As for begin, and added to those.")
@click.option(
    "--unchanged", multiple=True, metavar="KEY", type=KEY, help="Commit only if KEY still is what the working set read."
)
@click.option("--allow-empty", is_flag=True, help="Commit also when nothing changed.")
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
    """Make the working set one commit, in all stores or in none. What conflicts is kept."""
    from plait.refspec import parse_key
    from plait.types import TxState

    tx = session.working_set(name)
    try:
        made = tx.commit(
            message,
            author=author,
            properties=pairs(properties, "--property"),
            unchanged=[parse_key(key) for key in unchanged],
            allow_empty=allow_empty or bool(tx.tx.merged_parents),
        )
    except NothingToCommit:
        if tx.state is not TxState.ABORTED:
            raise
        # An adoption, settled by what the branch holds.
        session.forget(tx.id)
        session.emit({"commit": None}, f"settled: {tx.tx.ref} keeps what it holds, and the store is to follow it")
        return
    session.forget(tx.id)
    committed(session, made)


@click.command("discard")
@click.argument("name", required=False, type=TX)
@json_option
@pass_session
def discard(session: Session, name: str | None) -> None:
    """End a working set without a trace."""
    tx = session.working_set(name)
    tx.discard()
    session.forget(tx.id)
    session.emit({"discarded": [tx.id]}, f"discarded {tx.tx.name or tx.id}")


@click.group("tx", cls=Group)
def tx_group() -> None:
    """List, choose, recover and discard working sets."""


@tx_group.command("list")
@json_option
@pass_session
def tx_list(session: Session) -> None:
    """Open working sets: age, owner, how far each store is, and what they wait for."""
    current = session.current.tx
    rows = [
        {**_tx_row(tx), **_progress(session, tx), "current": tx.id == current} for tx in session.catalog.working_sets()
    ]
    if session.as_json:
        session.emit(rows)
        return
    shown = [
        {
            **row,
            "": "*" if row["current"] else "",
            "working set": row["name"] or row["id"],
            "on": row["ref"],
            "age": age(row["age_s"]),
            "stores": ", ".join(f"{store}: {phases}" for store, phases in row["stores"].items()),
            "waits for": row["waits_for"],
        }
        for row in rows
    ]
    session.table(
        shown, ("", "working set", "on", "state", "age", "by", "stores", "waits for"), "no working set is open"
    )


def _progress(session: Session, tx: Tx) -> dict[str, Any]:
    """Age, owner, phases by store, and what it waits for. One that ends meanwhile has none of the latter."""
    counts: dict[str, dict[str, int]] = {}
    unsettled = 0
    try:
        opened = session.catalog.working_set(tx.id)
        for participant in opened.participants():
            of_store = counts.setdefault(participant.key[0], {})
            of_store[participant.phase] = of_store.get(participant.phase, 0) + 1
        unsettled = sum(settled is None for _, settled in opened.conflicts())
    except PlaitError:
        counts = {}
    return {
        **begun(tx),
        "owner": tx.owner,
        "stores": {
            store: ", ".join(f"{count} {name}" for name, count in sorted(phases.items()))
            for store, phases in sorted(counts.items())
        },
        "waits_for": counted(unsettled, "conflict") if unsettled else _waits_for(tx),
    }


def _waits_for(tx: Tx) -> str:
    if tx.implicit and tx.state == "open":
        left_s = max(0, int(tx.lease_until_us / 1_000_000 - time.time()))
        return f"its 'with' block; discarded in {age(left_s)} if that died"
    return _WAITS_FOR.get(tx.state.value, "nothing")


def unsettled(tx: WorkingSet) -> list[Conflict]:
    """The conflicts to settle. Where a store cannot say what writing has settled, all that have no resolution."""
    try:
        return tx.open_conflicts()
    except PlaitError:
        return [conflict for conflict, settled in tx.conflicts() if settled is None]


def begun(tx: Tx) -> dict[str, Any]:
    """How long ago, and by whom."""
    age_s = max(0, int(time.time() - tx.created_at_us / 1_000_000))
    return {"age_s": age_s, "by": tx.session.author or tx.session.principal}


def age(seconds: int) -> str:
    """As people say it, in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


@tx_group.command("use")
@click.argument("name", type=TX)
@json_option
@pass_session
def tx_use(session: Session, name: str) -> None:
    """Make an open working set this directory's current one."""
    tx = session.catalog.working_set(name)
    session.current.remember(tx=tx.id)
    session.emit(_tx_row(tx.tx), f"working set {tx.tx.name or tx.id} on {tx.tx.ref}\n→ plait status")


@tx_group.command("recover")
@json_option
@pass_session
def tx_recover(session: Session) -> None:
    """Put right what died half-way. (Opening a catalog does it too.)"""
    done = session.catalog.recover()
    session.emit(done, "\n".join(done) or "nothing to recover")


@tx_group.command("discard")
@click.argument("names", nargs=-1, required=True, type=TX)
@json_option
@pass_session
def tx_discard(session: Session, names: tuple[str, ...]) -> None:
    """Discard working sets by name or id."""
    found = [session.catalog.working_set(name) for name in names]
    for tx in found:
        tx.discard()
        session.forget(tx.id)
    session.emit({"discarded": [tx.id for tx in found]}, f"discarded {', '.join(names)}")


COMMANDS = (begin, status, commit, discard, tx_group)

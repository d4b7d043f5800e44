"""Bare `plait`: where you are, and what you could do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plait.cli.printing import counted, subject
from plait.cli.working_sets import age, begun, unsettled
from plait.errors import NotFound

if TYPE_CHECKING:
    from plait.cli.session import Session

_OTHERS_SHOWN = 3


def where_now(session: Session) -> None:
    """Print the catalog, the branch, the working set with its changes, the others, and the next commands."""
    from plait.refspec import format_key

    try:
        catalog = session.catalog
    except NotFound as error:
        if session.where is not None:
            raise  # It was named, and is not there.
        session.emit(
            {"catalog": None},
            f"{error.message}\n→ plait init            make a catalog here\n"
            "→ plait init --example  make one to play with\n→ plait --help",
        )
        return
    stores = [store.name for store in catalog.stores()]
    where = session.shown
    value: dict[str, Any] = {"catalog": where, "branch": session.branch, "head": None, "stores": stores}
    lines = [f"catalog {where} · {', '.join(stores) or 'no store yet'}"]
    steps = ["plait log --graph", "plait ls", "plait begin"] if stores else ["plait store add NAME --kind KIND"]
    try:
        head = catalog.resolve(session.branch)
    except NotFound:
        lines.append(f"branch {session.branch} is gone")
        steps = ["plait switch main", f"plait branch {session.branch} --undelete"]
    else:
        value["head"] = head.id
        lines.append(f"on {session.branch} at {head.id[:12]} {subject(head.message)}")
    tx = session.current_tx()
    value["tx"] = None
    if tx is None:
        lines.append("no working set is open here")
    else:
        changed = [format_key(one.key) for one in tx.participants() if one.is_own]
        waiting = len(unsettled(tx))
        value["tx"] = {"id": tx.id, "name": tx.tx.name, "ref": tx.tx.ref, "assets": changed, "conflicts": waiting}
        lines.append(f"working set {tx.tx.name or tx.id} on {tx.tx.ref}: {counted(len(changed), 'asset')} staged")
        lines += [f"  {key}" for key in changed[:10]] + ([f"  … and {len(changed) - 10} more"] if changed[10:] else [])
        if waiting:
            lines.append(f"{counted(waiting, 'conflict')} to settle")
            steps = ["plait conflicts", "plait resolve KEY::ITEM --theirs", "plait discard"]
        else:
            steps = ["plait status", "plait diff", "plait commit -m '…'", "plait discard"]
    value["others"], told = _others(session, None if tx is None else tx.id)
    lines += told
    lines.append("   ".join(f"→ {step}" for step in [*steps, "plait --help"]))
    session.emit(value, "\n".join(lines))


def _others(session: Session, current: str | None) -> tuple[dict[str, Any], list[str]]:
    """The open working sets that somebody could take up here, but the current one: how many, and the newest.

    Those of a running `with catalog.transaction(…)` are nobody's but its own.
    """
    left = [
        tx
        for tx in reversed(session.catalog.working_sets())
        if tx.id != current and not tx.implicit and tx.state.value in ("open", "sealed")
    ]
    newest = [{"id": tx.id, "name": tx.name, "ref": tx.ref, **begun(tx)} for tx in left[:_OTHERS_SHOWN]]
    lines = []
    if left:
        lines.append(f"{counted(len(left), 'other working set')} {'is' if len(left) == 1 else 'are'} open:")
        for row in newest:
            lines.append(f"  {row['name'] or row['id']} on {row['ref']}, by {row['by']}, {age(row['age_s'])}")
        lines += [f"  … and {len(left) - len(newest)} more: plait tx list"] if len(left) > len(newest) else []
        lines.append(f"→ plait tx use {newest[0]['name'] or newest[0]['id']}   takes one up")
    return {"count": len(left), "newest": newest}, lines

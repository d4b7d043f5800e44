"""Native heads: one branch of each database, moved by fast-forward only, and put right after a torn move.

Dolt's fast-forward is a compare-and-swap of the branch, but not one write: a server that dies in it may leave the
branch at the new commit and its working set at the old tables, which the next plain commit there would bring back.
"""

from __future__ import annotations

from collections.abc import Callable

from plait.adapter import Context
from plait.errors import NotFound
from plait.types import Move, Published, PublishState, SnapshotRef

from plait_dolt.engine import Engine, Session, Standing
from plait_dolt.names import FOUND

Describe = Callable[[Session, str, str], SnapshotRef]
"""(session, commit, root of its tables) → the snapshot."""


def is_torn(standing: Standing, move: Move) -> bool:
    """Whether the working set is whole, but on the other side of this move than the branch."""
    if standing.is_clean or standing.staged != standing.working:
        return False
    sides = {side.version: side for side in (move.before, move.after) if side is not None}
    other = [side.digest.decode() for version, side in sides.items() if version != standing.commit]
    return standing.commit in sides and standing.working in other


def publish_one(engine: Engine, branch: str, move: Move, describe: Describe, context: Context) -> Published:
    """Move one head. Repeat: DONE, without a write. Cost: three statements.

    DIVERGED: the head is at neither side. BUSY: somebody has uncommitted rows on the public branch. A head is never
    taken away: where `after` is None, it stays where it is.
    """
    one = move.after or move.before
    if one is None:
        return Published(PublishState.DONE)
    try:
        with engine.session(one.asset, branch) as session:
            return _publish(session, one, move, describe, context)
    except NotFound:
        return Published(PublishState.DONE if move.after is None else PublishState.DIVERGED)


def _publish(session: Session, one: SnapshotRef, move: Move, describe: Describe, context: Context) -> Published:
    standing = session.standing()
    if is_torn(standing, move):
        context.log.warning("database %s: a torn publication is put right", one.asset)
        session.call("dolt_reset", "--hard")
        context.failpoint("dolt.publish.repaired")
        standing = session.standing()
    after = move.after
    if after is None:
        if move.before is not None and standing.commit == move.before.version:
            return Published(PublishState.DONE)
        return _diverged(session, standing, describe)
    if standing.commit == after.version:
        return Published(PublishState.DONE)
    if move.before is None:
        if not session.has_ancestor(after.version, standing.commit):
            return _diverged(session, standing, describe)
    elif standing.commit != move.before.version:
        return _diverged(session, standing, describe)
    if not standing.is_clean:
        context.log.warning("database %s: uncommitted rows on %s hold its publication up", one.asset, session.revision)
        return Published(PublishState.BUSY)
    context.failpoint("dolt.publish.before_move")
    moved = session.fast_forward(standing.commit, after.version)
    context.failpoint("dolt.publish.after_move")
    if not moved:
        found = session.standing()
        return Published(PublishState.BUSY) if found.commit == standing.commit else _diverged(session, found, describe)
    return Published(PublishState.DONE)


def _diverged(session: Session, standing: Standing, describe: Describe) -> Published:
    """What was found is pinned: its writer may let go of it before it is adopted."""
    session.pin(FOUND + standing.commit, standing.commit)
    return Published(PublishState.DIVERGED, describe(session, standing.commit, standing.head))

"""Branches and tags: make, list, delete, bring back, protect, switch."""

from __future__ import annotations

import click

from plait.cli.points import BRANCH, SPEC, TAG
from plait.cli.session import Session, json_option, pass_session
from plait.errors import InvalidArgument
from plait.types import RefKind


def _list(session: Session, kind: RefKind) -> None:
    rows = [
        {
            "name": ref.name,
            "head": ref.head if session.as_json else ref.head[:12],
            "protected": ref.protected if session.as_json else "protected" if ref.protected else "",
            "current": ref.name == session.branch if session.as_json else "*" if ref.name == session.branch else "",
        }
        for ref in session.catalog.refs(kind)
    ]
    columns = ("current", "name", "head", "protected") if kind is RefKind.BRANCH else ("name", "head")
    session.table(rows, columns, f"no {kind.value} yet")


def _check_kind(session: Session, name: str, kind: RefKind) -> None:
    """Raises: InvalidArgument, NotFound."""
    found = session.catalog.ref(name).kind
    if found is not kind:
        raise InvalidArgument(f"{name!r} is a {found.value}, not a {kind.value}", remedy=f"see 'plait {found.value}'")


def _check_unfollowed(session: Session, name: str) -> None:
    """Raises: InvalidArgument for a branch that native heads follow, as `main` usually is."""
    following = [store.name for store in session.catalog.stores() if store.bound_ref == name]
    if following:
        raise InvalidArgument(
            f"the native heads of {', '.join(following)} follow {name!r}",
            remedy="remove these stores first, or keep it",
        )


@click.command("branch")
@click.argument("name", required=False, type=BRANCH)
@click.option("--at", "spec", type=SPEC, help="Where it begins; default: the current branch.")
@click.option("-d", "--delete", is_flag=True, help="Delete it; its commits stay.")
@click.option("--undelete", is_flag=True, help="Bring a deleted branch back where it last stood.")
@click.option("--protect", "protect", flag_value="yes", help="Let it be neither deleted nor moved by hand.")
@click.option("--unprotect", "protect", flag_value="no", help="Take --protect back.")
@click.option("--reset", type=SPEC, metavar="SPEC", help="Move it to another commit; the reflog keeps where it was.")
@json_option
@pass_session
def branch(
    session: Session,
    name: str | None,
    spec: str | None,
    delete: bool,
    undelete: bool,
    protect: str | None,
    reset: str | None,
) -> None:
    """List branches, or make, delete, protect or move one."""
    catalog = session.catalog
    asked = sum((delete, undelete, protect is not None, reset is not None))
    if name is None and not asked and spec is None:
        _list(session, RefKind.BRANCH)
        return
    if name is None:
        raise InvalidArgument("which branch?", remedy="name it; 'plait branch' lists them")
    if asked > 1:
        raise InvalidArgument("choose one of --delete, --undelete, --protect, --unprotect and --reset")
    if delete:
        _check_kind(session, name, RefKind.BRANCH)
        _check_unfollowed(session, name)
        ref, done = catalog.delete_ref(name), f"deleted {name}\n→ plait branch {name} --undelete brings it back"
        if name == session.branch:
            session.current.remember(branch=None)
            done += f"\non {session.branch}"
    elif undelete:
        ref, done = catalog.undelete(name), f"{name} is back"
    elif protect is not None:
        ref, done = (
            catalog.protect_branch(name, protect=protect == "yes"),
            f"{name} is {'' if protect == 'yes' else 'un'}protected",
        )
    elif reset is not None:
        ref, done = catalog.reset_branch(name, reset), f"{name} is at {reset}"
    else:
        ref, done = catalog.create_branch(name, spec or session.branch), f"branch {name}\n→ plait switch {name}"
    session.emit({"name": ref.name, "head": ref.head, "protected": ref.protected}, done)


@click.command("tag")
@click.argument("name", required=False, type=TAG)
@click.option("--at", "spec", type=SPEC, help="What it names; default: the current branch.")
@click.option("-d", "--delete", is_flag=True, help="Delete it.")
@json_option
@pass_session
def tag(session: Session, name: str | None, spec: str | None, delete: bool) -> None:
    """List tags, or make or delete one. Tags never move."""
    if name is None and not delete and spec is None:
        _list(session, RefKind.TAG)
        return
    if name is None:
        raise InvalidArgument("which tag?", remedy="name it; 'plait tag' lists them")
    if delete:
        _check_kind(session, name, RefKind.TAG)
        ref = session.catalog.delete_ref(name)
    else:
        ref = session.catalog.create_tag(name, spec or session.branch)
    session.emit({"name": ref.name, "head": ref.head}, f"{'deleted' if delete else 'tag'} {name} at {ref.head[:12]}")


@click.command("switch")
@click.argument("name", type=BRANCH)
@click.option("-c", "--create", is_flag=True, help="Make it first.")
@json_option
@pass_session
def switch(session: Session, name: str, create: bool) -> None:
    """Make a branch this directory's current one."""
    if create:
        session.catalog.create_branch(name, session.branch)
    ref = session.catalog.ref(name)
    if ref.kind is not RefKind.BRANCH:
        raise InvalidArgument(f"{name!r} is a tag", remedy=f"read it with --at {name}")
    session.current.remember(branch=name)
    tx = session.current_tx()
    left = f"\nthe working set {tx.tx.name or tx.id} is still on {tx.tx.ref}" if tx and tx.tx.ref != name else ""
    session.emit({"branch": name, "head": ref.head}, f"on {name}{left}")


COMMANDS = (branch, tag, switch)

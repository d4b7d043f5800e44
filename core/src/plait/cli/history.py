"""Looking at one point of the history, and at how it came about: ls, show, blame, reflog, verify."""

from __future__ import annotations

from dataclasses import asdict

import click

from plait.cli.items import list_objects
from plait.cli.points import KEY, SPEC
from plait.cli.printing import change_row, commit_row, counted, printable, short
from plait.cli.session import COUNT, Session, json_option, pass_session
from plait.errors import Corrupt, NotFound, PermissionDenied, StoreDiverged, StoreUnavailable


@click.command("ls")
@click.argument("prefix", default="", type=KEY)
@click.option("--at", "spec", type=SPEC, help="A point in the history; default: the current branch.")
@click.option("-r", "--recursive", is_flag=True, help="Objects of all folders below.")
@json_option
@pass_session
def ls(session: Session, prefix: str, spec: str | None, recursive: bool) -> None:
    """List the assets under PREFIX, or the objects of an asset (KEY::) or in a folder of it (KEY::FOLDER)."""
    from plait.refspec import as_key, format_key, parse_path

    if "::" in prefix:
        key, folder = parse_path(prefix)
        if folder is not None:
            list_objects(session, key, folder, spec, recursive=recursive)
            return
    from plait.store_names import check_known

    point = session.catalog.at(spec or session.branch)
    rows = [
        {
            "key": format_key(entry.key),
            "kind": entry.snapshot.kind,
            "version": entry.snapshot.version if session.as_json else short(entry.snapshot.version),
            "content_id": entry.content_id,
        }
        for entry in point.entries(prefix)
    ]
    if not rows and (key := as_key(prefix)):
        check_known(session.catalog.stores(), key[0])
    session.table(rows, ("key", "kind", "version"), "nothing is there\n→ plait store list   → plait begin")


@click.command("show")
@click.argument("spec", required=False, type=SPEC)
@json_option
@pass_session
def show(session: Session, spec: str | None) -> None:
    """Show one commit and what it changed."""
    from plait.refspec import format_time

    catalog = session.catalog
    commit = catalog.resolve(spec or session.branch)
    changes = list(catalog.diff(f"@{commit.parents[0]}", f"@{commit.id}")) if commit.parents else []
    rows = [change_row(change, whole=session.as_json) for change in changes]
    if session.as_json:
        session.emit({**commit_row(commit), "changes": rows})
        return
    click.echo(click.style(f"commit {commit.id}", fg="yellow"))
    facts = [("parent", parent) for parent in commit.parents]
    facts += [("author", commit.author), ("client", commit.session.client), ("at", format_time(commit.committed_at_us))]
    facts += sorted(commit.described.items())
    for name, fact in facts:
        click.echo(f"{printable(name):<8} {printable(fact)}")
    click.echo("".join(f"\n    {printable(line)}" for line in commit.message.splitlines()) + "\n")
    session.table(rows, ("change", "key", "before", "after"), "it changed nothing")


@click.command("blame")
@click.argument("path", type=KEY)
@click.option("--at", "spec", type=SPEC, help="A point in the history; default: the current branch.")
@click.option("--limit", type=COUNT, default=100, show_default=True, help="At most so many items.")
@json_option
@pass_session
def blame(session: Session, path: str, spec: str | None, limit: int) -> None:
    """Say which commit last changed each item of KEY, or one KEY::ITEM: by whom, and with which process."""
    from itertools import islice

    from plait.refspec import format_key, format_time, parse_path

    key, item = parse_path(path)
    found = session.catalog.blame(key, spec or session.branch, items=None if item is None else [item])
    rows = [
        {
            "item": one.item,
            "commit": one.commit.id if session.as_json else one.commit.id[:12],
            "author": one.commit.author,
            "at": format_time(one.commit.committed_at_us),
            "principal": one.commit.session.principal,
            "client": one.commit.session.client,
            "message": one.commit.message,
            "properties": one.commit.described,
        }
        for one in islice(found, limit)
    ]
    if item is not None and not rows:
        raise NotFound(f"{path} does not exist there", remedy=f"see all items with 'plait blame {format_key(key)}'")
    session.table(rows, ("item", "commit", "author", "client", "at", "message"), "it holds no items")


@click.command("reflog")
@click.argument("name", required=False, type=SPEC)
@click.option("-n", "--limit", type=COUNT, help="At most so many moves.")
@json_option
@pass_session
def reflog(session: Session, name: str | None, limit: int | None) -> None:
    """Show where a branch or tag stood, over all of its lives, newest first."""
    from itertools import islice

    from plait.refspec import format_time

    rows = [
        {
            "seq": move.seq,
            "at": format_time(move.moved_at_us),
            "before": move.before if session.as_json else move.before and move.before[:12],
            "after": move.after if session.as_json else move.after and move.after[:12],
        }
        for move in islice(session.catalog.reflog(name or session.branch), limit)
    ]
    session.table(rows, ("seq", "at", "before", "after"), "it never moved")


@click.command("verify")
@click.option(
    "--depth",
    type=click.Choice(["exists", "metadata", "bytes"]),
    default="metadata",
    show_default=True,
    help="How deep to look into the stores.",
)
@json_option
@pass_session
def verify(session: Session, depth: str) -> None:
    """Prove the history's hash chain, and that the stores hold what it names.

    Ends with exit code 16 where something is damaged or lost, else with 7 or 11 where a store did not answer or refused
    to, else with 9 where a native head has diverged.
    """
    from plait.types import Depth

    session.recovers = False  # Recovery writes, and by what a damaged catalog says it might write wrongly.
    problems = [asdict(found) for found in session.catalog.verify(Depth(depth))]
    session.table(problems, ("where", "what", "remedy"), "all is well")
    codes = [found["code"] for found in problems]
    if damaged := codes.count(Corrupt.code):
        raise Corrupt(counted(damaged, "problem"), remedy="restore the named files from a backup")
    for kind in (StoreUnavailable, PermissionDenied, StoreDiverged):
        if kind.code in codes:
            raise click.exceptions.Exit(kind.exit_code)


COMMANDS = (ls, show, blame, reflog, verify)

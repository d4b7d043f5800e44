"""Looking at the history: log, show, diff, blame, reflog, verify, ls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from plait.cli.graph import graph_lines
from plait.cli.session import Session, json_option, pairs, pass_session
from plait.errors import Corrupt, InvalidArgument


def commit_row(commit: Any) -> dict[str, Any]:
    """A commit as JSON."""
    from plait.refspec import format_time

    return {
        "id": commit.id,
        "parents": list(commit.parents),
        "author": commit.author,
        "principal": commit.session.principal,
        "message": commit.message,
        "at": format_time(commit.committed_at_us),
        "properties": {**commit.session.properties, **commit.properties},
        "seq": commit.seq,
    }


def short(version: str) -> str:
    """A native version as people tell it from another: its last part, cut."""
    name = version.rstrip("/").rpartition("/")[2]
    return name if len(name) <= 24 else name[:23] + "…"


def change_row(change: Any, *, whole: bool = True) -> dict[str, Any]:
    """A change of a key; `whole` versions, or short ones to look at."""
    from plait.refspec import format_key

    def side(entry: Any) -> Any:
        if entry is None:
            return None
        return entry.snapshot.version if whole else short(entry.snapshot.version)

    kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    return {"key": format_key(change.key), "change": kind, "before": side(change.before), "after": side(change.after)}


@click.command("ls")
@click.argument("prefix", default="")
@click.option("--at", "spec", help="A point in the history; default: the current branch.")
@json_option
@pass_session
def ls(session: Session, prefix: str, spec: str | None) -> None:
    """List the assets under PREFIX."""
    from plait.refspec import format_key

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
    session.table(
        rows, ("key", "kind", "version"), "nothing there yet · add a store with 'plait store add', then 'plait begin'"
    )


@click.command("log")
@click.argument("spec", required=False)
@click.option("--graph", is_flag=True, help="Draw the graph.")
@click.option("--oneline", is_flag=True, help="One line for each commit.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the graph as one self-contained page.")
@click.option("--svg", type=click.Path(path_type=Path), help="Write the graph as a picture.")
@click.option("-n", "--limit", type=int, help="At most so many commits.")
@click.option("--author")
@click.option("--grep", "message", help="Text in the message.")
@click.option("--since", help="A time, as in ISO 8601.")
@click.option("--until", help="A time.")
@click.option("--key", help="Commits that changed this key or prefix.")
@click.option("--property", "properties", multiple=True, metavar="NAME=VALUE")
@click.option("--first-parent", is_flag=True)
@click.option("--all", "everything", is_flag=True, help="From every branch and tag, not from SPEC alone.")
@json_option
@pass_session
def log(
    session: Session,
    spec: str | None,
    graph: bool,
    oneline: bool,
    html: Path | None,
    svg: Path | None,
    limit: int | None,
    author: str | None,
    message: str | None,
    since: str | None,
    until: str | None,
    key: str | None,
    properties: tuple[str, ...],
    first_parent: bool,
    everything: bool,
) -> None:
    """Show the commits that lead to SPEC, newest first."""
    from itertools import islice

    from plait.graph import LogFilter
    from plait.refspec import format_time, parse_key, parse_time_us

    wanted = LogFilter(
        author=author,
        message=message,
        since_us=None if since is None else parse_time_us(since),
        until_us=None if until is None else parse_time_us(until),
        key=None if key is None else parse_key(key),
        properties=pairs(properties, "--property"),
        first_parent=first_parent,
    )
    catalog = session.catalog
    starts = [f"@{ref.head}" for ref in catalog.refs()] if everything else [spec or session.branch]
    found = {commit.id: commit for start in starts for commit in islice(catalog.log(start, wanted), limit)}
    commits = sorted(found.values(), key=lambda commit: -commit.seq)[:limit]
    names: dict[str, list[str]] = {}
    for ref in catalog.refs():
        names.setdefault(ref.head, []).append(ref.name)
    if html is not None or svg is not None:
        from plait.cli.graph_page import graph_page, graph_svg

        for path, draw in ((html, graph_page), (svg, graph_svg)):
            if path is not None:
                path.write_text(draw(commits, names), encoding="utf-8")
        session.emit(
            {"commits": len(commits), "html": html, "svg": svg}, f"wrote {html or svg} with {len(commits)} commits"
        )
        return
    if session.as_json:
        session.emit([{**commit_row(commit), "refs": names.get(commit.id, [])} for commit in commits])
        return
    lanes = graph_lines(commits) if graph else [""] * len(commits)
    for lane, commit in zip(lanes, commits, strict=True):
        label = f" ({', '.join(names[commit.id])})" if commit.id in names else ""
        head, *rest = commit.message.splitlines() or [""]
        lead = click.style(commit.id[:12], fg="yellow") + click.style(label, fg="green")
        click.echo(f"{lane}{lead} {head}")
        if not oneline:
            click.echo(f"{' ' * len(lane)}  {commit.author} · {format_time(commit.committed_at_us)}")
            for line in rest:
                click.echo(f"{' ' * len(lane)}  {line}")


@click.command("show")
@click.argument("spec", required=False)
@json_option
@pass_session
def show(session: Session, spec: str | None) -> None:
    """Show one commit and what it changed."""
    catalog = session.catalog
    commit = catalog.resolve(spec or session.branch)
    changes = list(catalog.diff(f"@{commit.parents[0]}", f"@{commit.id}")) if commit.parents else []
    rows = [change_row(change, whole=session.as_json) for change in changes]
    if session.as_json:
        session.emit({**commit_row(commit), "changes": rows})
        return
    described = commit_row(commit)
    for name in ("id", "parents", "author", "principal", "at", "message", "properties"):
        click.echo(f"{name:<10} {described[name] if name != 'parents' else ' '.join(described[name])}")
    session.table(rows, ("change", "key", "before", "after"), "it changed nothing")


@click.command("diff")
@click.argument("arguments", nargs=-1, metavar="[BEFORE [AFTER]] [KEY]")
@click.option("--items", is_flag=True, help="Rows, objects and schema parts, not only keys.")
@click.option("--limit", type=int, default=1000, show_default=True, help="At most so many items.")
@json_option
@pass_session
def diff(session: Session, arguments: tuple[str, ...], items: bool, limit: int) -> None:
    """Show what differs: the working set against its base, or BEFORE against AFTER (default: the branch).

    A KEY is an argument that holds a dot.
    """
    catalog = session.catalog
    points = [argument for argument in arguments if not _is_key(session, argument)]
    keys = [argument for argument in arguments if argument not in points]
    if len(points) > 2 or len(keys) > 1:
        raise InvalidArgument("give at most two points and one key", remedy="plait diff main~1 main lake.sales.orders")
    if not points:
        _diff_working_set(session, keys, items, limit)
        return
    before, after = points[0], points[1] if len(points) == 2 else session.branch
    changes = list(catalog.diff(before, after, prefix=keys[0] if keys else ()))
    rows = [change_row(change, whole=session.as_json) for change in changes]
    if items:
        rows = [
            row
            for change in changes
            for row in _item_rows(
                catalog.diff_items(change.key, before, after), change.key, limit, whole=session.as_json
            )
        ]
    session.table(
        rows[:limit] if items else rows,
        _ITEM_COLUMNS if items else ("change", "key", "before", "after"),
        "no difference",
    )


_ITEM_COLUMNS = ("change", "item", "before", "after")


def _is_key(session: Session, argument: str) -> bool:
    store = argument.partition(".")[0].strip('"')
    return any(known.name == store for known in session.catalog.stores())


def _item_rows(changes: Any, key: Any, limit: int, *, whole: bool) -> list[dict[str, Any]]:
    from itertools import islice

    from plait.refspec import format_path

    return [
        {
            "change": change.kind.value,
            "item": format_path(key, change.item),
            "aspect": change.aspect,
            "before": change.before if whole else _summary(change.before, change.aspect),
            "after": change.after if whole else _summary(change.after, change.aspect),
        }
        for change in islice(changes, limit)
    ]


def _summary(value: Any, aspect: str) -> Any:
    """What people want to read of it: of a snapshot, what it did."""
    return value.get("operation") if aspect == "snapshot" and isinstance(value, dict) else value


def _diff_working_set(session: Session, keys: list[str], items: bool, limit: int) -> None:
    from plait.refspec import parse_key

    tx = session.working_set()
    wanted = [parse_key(key) for key in keys]
    rows = []
    for participant in tx.participants():
        if wanted and participant.key[: len(wanted[0])] != wanted[0]:
            continue
        rows += _item_rows(tx.diff_items(participant.key), participant.key, limit, whole=session.as_json)
    session.table(rows, _ITEM_COLUMNS, "the working set changes nothing yet")


@click.command("blame")
@click.argument("path")
@click.option("--at", "spec")
@click.option("--limit", type=int, default=100, show_default=True)
@json_option
@pass_session
def blame(session: Session, path: str, spec: str | None, limit: int) -> None:
    """Say which commit last changed each item of KEY, or one KEY::ITEM."""
    from itertools import islice

    from plait.refspec import format_time, parse_path

    key, item = parse_path(path)
    found = session.catalog.blame(key, spec or session.branch, items=None if item is None else [item])
    rows = [
        {
            "item": one.item,
            "commit": one.commit.id[:12],
            "author": one.commit.author,
            "at": format_time(one.commit.committed_at_us),
            "message": one.commit.message,
            "properties": dict(one.commit.properties),
        }
        for one in islice(found, limit)
    ]
    session.table(rows, ("item", "commit", "author", "at", "message"), "it holds no items")


@click.command("reflog")
@click.argument("name", required=False)
@json_option
@pass_session
def reflog(session: Session, name: str | None) -> None:
    """Show where a branch or tag stood, over all of its lives."""
    from plait.refspec import format_time

    rows = [
        {
            "seq": move.seq,
            "at": format_time(move.moved_at_us),
            "before": move.before and move.before[:12],
            "after": move.after and move.after[:12],
        }
        for move in session.catalog.reflog(name or session.branch)
    ]
    session.table(rows, ("seq", "at", "before", "after"), "it never moved")


@click.command("verify")
@click.option("--depth", type=click.Choice(["exists", "metadata", "bytes"]), default="metadata", show_default=True)
@json_option
@pass_session
def verify(session: Session, depth: str) -> None:
    """Prove the history's hash chain, and that the stores hold what it names."""
    from plait.types import Depth

    rows = [{"where": found.where, "what": found.what} for found in session.catalog.verify(Depth(depth))]
    session.table(rows, ("where", "what"), "all is well")
    if rows:
        raise Corrupt(f"{len(rows)} problems", remedy="restore the named files from a backup")


COMMANDS = (ls, log, show, diff, blame, reflog, verify)

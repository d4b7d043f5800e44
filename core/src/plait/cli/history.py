"""Looking at the history: log, show, diff, blame, reflog, verify, ls."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plait.cli.destination import writing
from plait.cli.items import list_objects
from plait.cli.points import SPEC, must_be_there, points_and_key
from plait.cli.previewing import preview_rows, print_preview
from plait.cli.printing import change_row, commit_row, counted, printable, short, subject
from plait.cli.session import COUNT, Session, json_option, pairs, pass_session
from plait.errors import Corrupt, InvalidArgument, NotFound, PermissionDenied, StoreDiverged, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plait.graph import LogFilter
    from plait.types import Commit, ItemChange, Key, Ref


@click.command("ls")
@click.argument("prefix", default="")
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


@click.command("log")
@click.argument("arguments", nargs=-1, metavar="[SPEC] [KEY]", type=SPEC)
@click.option("--graph", is_flag=True, help="Draw the graph.")
@click.option("--oneline", is_flag=True, help="One line for each commit.")
@click.option(
    "--html", type=click.Path(path_type=Path), help="Write the graph as one self-contained page (-: to stdout)."
)
@click.option("--svg", type=click.Path(path_type=Path), help="Write the graph as a picture (-: to stdout).")
@click.option("-n", "--limit", type=COUNT, help="At most so many commits.")
@click.option("--author", help="Only commits whose author's name holds this text.")
@click.option("--principal", help="Only commits by this user, as authenticated.")
@click.option("--client", help="Only commits by clients whose name holds this text.")
@click.option("--grep", "message", help="Only commits whose message holds this text.")
@click.option("--since", help="Only commits from this time on, as in ISO 8601.")
@click.option("--until", help="Only commits up to this time.")
@click.option("--key", help="Only commits that changed this key or prefix; as KEY.")
@click.option(
    "--property", "properties", multiple=True, metavar="NAME=VALUE", help="Only commits that have this property."
)
@click.option("--first-parent", is_flag=True, help="Only what was committed to the branch itself.")
@click.option("--all", "everything", is_flag=True, help="From every branch and tag, not from SPEC alone.")
@json_option
@pass_session
def log(
    session: Session,
    arguments: tuple[str, ...],
    graph: bool,
    oneline: bool,
    html: Path | None,
    svg: Path | None,
    limit: int | None,
    author: str | None,
    principal: str | None,
    client: str | None,
    message: str | None,
    since: str | None,
    until: str | None,
    key: str | None,
    properties: tuple[str, ...],
    first_parent: bool,
    everything: bool,
) -> None:
    """Show the commits that lead to SPEC, newest first. The picture and the page take every branch without a SPEC.

    A KEY is what begins with a store's name, unless a branch or tag is named just so: the commits that changed it, or
    something below it. An asset that was renamed is followed to its former keys.
    """
    from plait.graph import LogFilter
    from plait.refspec import parse_key, parse_time_us

    _refuse_items(
        arguments, "log takes keys", "see 'plait blame {path}' for the item, or give the key: plait log … {key}"
    )
    points, named = points_and_key(session, arguments, 1, "plait log main lake.sales.orders") if arguments else ([], "")
    spec, key = points[0] if points else None, key or named or None
    wanted = LogFilter(
        author=author,
        principal=principal,
        client=client,
        message=message,
        since_us=None if since is None else parse_time_us(since),
        until_us=None if until is None else parse_time_us(until),
        key=None if key is None else parse_key(key),
        properties=pairs(properties, "--property"),
        first_parent=first_parent,
    )
    everything = everything or (spec is None and (html is not None or svg is not None))
    starts = [f"@{ref.head}" for ref in session.catalog.refs()] if everything else [spec or session.branch]
    commits = _commits(session, starts, wanted, limit)
    if html is not None or svg is not None:
        _draw(session, commits, html=html, svg=svg)
        return
    names = _names(session.catalog.refs())
    if session.as_json:
        session.emit([{**commit_row(commit), "refs": names.get(commit.id, [])} for commit in commits])
    elif not commits:
        session.emit(None, "no commit fits")
    else:
        _print_log(commits, names, graph=graph, oneline=oneline)


def _commits(session: Session, starts: Sequence[str], wanted: LogFilter, limit: int | None) -> list[Commit]:
    """The commits that any of the points reaches, newest first."""
    from itertools import islice

    found = {commit.id: commit for start in starts for commit in islice(session.catalog.log(start, wanted), limit)}
    return sorted(found.values(), key=lambda commit: -commit.seq)[:limit]


def _names(refs: Sequence[Ref]) -> dict[str, list[str]]:
    """The names of refs, by the commit that they stand on."""
    names: dict[str, list[str]] = {}
    for ref in refs:
        names.setdefault(ref.head, []).append(ref.name)
    return names


def _draw(session: Session, commits: Sequence[Commit], *, html: Path | None, svg: Path | None) -> None:
    """Write the graph as a page, as a picture, or as both."""
    from itertools import islice

    from plait.cli.graph_page import KEYS_SHOWN_MAX, graph_page, graph_svg
    from plait.refspec import format_key

    keys = {}
    for done, commit in enumerate(commits):
        session.progress("commits", done, len(commits))
        if commit.parents:
            changes = session.catalog.diff(f"@{commit.parents[0]}", f"@{commit.id}")
            keys[commit.id] = [format_key(change.key) for change in islice(changes, KEYS_SHOWN_MAX + 1)]
    refs = session.catalog.refs()
    if Path("-") in (html, svg):
        click.echo(graph_page(commits, refs, keys) if html == Path("-") else graph_svg(commits, refs, keys))
        return
    for path, draw in ((html, graph_page), (svg, graph_svg)):
        if path is not None:
            page = draw(commits, refs, keys)
            with writing(path):
                path.write_text(page, encoding="utf-8")
    written = {name: str(path) for name, path in (("html", html), ("svg", svg)) if path is not None}
    session.emit(
        {"commits": len(commits), **written}, f"wrote {' and '.join(written.values())} with {len(commits)} commits"
    )


def _print_log(commits: Sequence[Commit], names: dict[str, list[str]], *, graph: bool, oneline: bool) -> None:
    from itertools import chain, repeat

    from plait.cli.graph import graph_lines
    from plait.refspec import format_time

    lanes = graph_lines(commits) if graph else [[""]] * len(commits)
    for lane, commit in zip(lanes, commits, strict=True):
        label = f" ({', '.join(names[commit.id])})" if commit.id in names else ""
        lead = click.style(commit.id[:12], fg="yellow") + click.style(label, fg="green")
        lines = [f"{lead} {subject(commit.message)}"]
        if not oneline:
            lines.append(f"  {printable(commit.author)} · {format_time(commit.committed_at_us)}")
            lines += [f"  {printable(line)}" for line in commit.message.splitlines()[1:]]
        # A joint is drawn even where a commit has one line only; the last prefix stands before all lines that are left.
        lines += [""] * (len(lane) - 1 - len(lines))
        for prefix, line in zip(chain(lane, repeat(lane[-1])), lines, strict=False):
            click.echo(f"{prefix} {line}".rstrip() if graph else line)


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
    facts += [("author", commit.author), ("at", format_time(commit.committed_at_us))]
    facts += sorted({**commit.session.properties, **commit.properties}.items())
    for name, fact in facts:
        click.echo(f"{printable(name):<8} {printable(fact)}")
    click.echo("".join(f"\n    {printable(line)}" for line in commit.message.splitlines()) + "\n")
    session.table(rows, ("change", "key", "before", "after"), "it changed nothing")


def _refuse_items(arguments: Iterable[str], why: str, remedy: str) -> None:
    """`remedy` names the first one as {path}, and its {key}. Raises: InvalidArgument for KEY::ITEM."""
    for path in arguments:
        key, separator, _ = path.partition("::")
        if separator:
            raise InvalidArgument(f"{path!r} is one item, and {why}", remedy=remedy.format(path=path, key=key))


@click.command("diff")
@click.argument("arguments", nargs=-1, metavar="[BEFORE [AFTER]] [KEY]", type=SPEC)
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
    what was written in it. A KEY is what begins with a store's name, unless a branch or tag is named just so.
    """
    _refuse_items(arguments, "assets are compared whole", "give the key: plait diff --items … {key}")
    catalog = session.catalog
    points, key = points_and_key(session, arguments, 2, "plait diff main~1 main lake.sales.orders")
    if not points:
        _diff_working_set(session, key, limit, items=items)
        return
    before, after = points[0], points[1] if len(points) == 2 else session.branch
    changes = list(catalog.diff(before, after, prefix=key))
    if not changes:
        must_be_there(session, key, (before, after))
    if not items:
        rows = [change_row(change, whole=session.as_json) for change in changes]
        session.table(rows, ("change", "key", "before", "after"), "no difference")
        return
    found = (
        row
        for change in changes
        for row in _item_rows(catalog.diff_items(change.key, before, after), change.key, whole=session.as_json)
    )
    empty = f"no items differ, but assets do\n→ plait diff {before} {after}" if changes else "no difference"
    _print_items(session, found, limit, empty)


_ITEM_COLUMNS = ("change", "item", "before", "after")


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


def _diff_working_set(session: Session, key: str, limit: int, *, items: bool) -> None:
    from plait.refspec import parse_key

    tx = session.current_tx()
    if tx is None:
        raise NotFound(
            "no working set is open here", remedy="begin one, or compare two points: 'plait diff main~1 main'"
        )
    prefix = parse_key(key) if key else ()
    if tx.tx.source is not None and not items:
        print_preview(session, preview_rows(session, tx, prefix), tx.tx.ref, "see 'plait conflicts'")
        return
    staged = [one for one in tx.participants() if one.key[: len(prefix)] == prefix]
    found = (row for one in staged for row in _item_rows(tx.diff_items(one.key), one.key, whole=session.as_json))
    empty = f"the working set changes nothing {f'in {key}' if key else 'yet'}"
    if any(one.dropped or (one.staging is not None and one.base is None) for one in staged):
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


@click.command("blame")
@click.argument("path")
@click.option("--at", "spec", type=SPEC, help="A point in the history; default: the current branch.")
@click.option("--limit", type=COUNT, default=100, show_default=True, help="At most so many items.")
@json_option
@pass_session
def blame(session: Session, path: str, spec: str | None, limit: int) -> None:
    """Say which commit last changed each item of KEY, or one KEY::ITEM."""
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
            "message": one.commit.message,
            "properties": dict(one.commit.properties),
        }
        for one in islice(found, limit)
    ]
    if item is not None and not rows:
        raise NotFound(f"{path} does not exist there", remedy=f"see all items with 'plait blame {format_key(key)}'")
    session.table(rows, ("item", "commit", "author", "at", "message"), "it holds no items")


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


COMMANDS = (ls, log, show, diff, blame, reflog, verify)

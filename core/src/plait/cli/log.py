"""The log: the commits that lead to a point, as lines, as a drawn graph, or as a picture of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from plait.cli.destination import writing
from plait.cli.points import KEY, SPEC_OR_KEY, points_and_key, refuse_items
from plait.cli.printing import commit_row, printable, subject
from plait.cli.session import COUNT, Session, json_option, pairs, pass_session
from plait.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plait.graph import LogFilter
    from plait.types import Commit, Ref

_STDOUT = Path("-")


@click.command("log")
@click.argument("arguments", nargs=-1, metavar="[SPEC] [KEY]", type=SPEC_OR_KEY)
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
@click.option("--until", help="Only commits before this time.")
@click.option("--key", type=KEY, help="Only commits that changed this key or prefix; as KEY.")
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

    refuse_items(
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
        if html == svg:
            raise InvalidArgument(
                f"the page and the picture cannot both go to {html}", remedy="write them to two files"
            )
        if session.as_json and _STDOUT in (html, svg):
            raise InvalidArgument("a drawing is no JSON document", remedy="leave --json out, or draw into a file")
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
    for path, draw in ((html, graph_page), (svg, graph_svg)):
        if path is None:
            continue
        drawn = draw(commits, refs, keys)
        if path == _STDOUT:
            click.echo(drawn)
            continue
        with writing(path):
            path.write_text(drawn, encoding="utf-8")
    if _STDOUT in (html, svg):
        return  # Nothing else may stand there.
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


COMMANDS = (log,)

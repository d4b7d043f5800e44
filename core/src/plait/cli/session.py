"""What one run of `plait` shares: the catalog it found, where the user is, and how it prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plait.errors import CommitConflict, InvalidArgument, NotFound, PlaitError

if TYPE_CHECKING:
    from rich.console import Console

    from plait.catalog import Catalog
    from plait.types import Conflict
    from plait.working_set import WorkingSet

_CURRENT = "current.json"


class Session:
    """One run of the command line."""

    def __init__(self) -> None:
        self.where: str | None = None
        self.no_color = False
        self.as_json = False
        self._catalog: Catalog | None = None

    # -- the catalog -------------------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """The catalog, opened on first use. Raises: NotFound saying how to make or name one."""
        if self._catalog is None:
            from plait.connecting import find, reach

            self.where = find(self.where)
            self._catalog = reach(self.where, progress=self._progress)
        return self._catalog

    def close(self) -> None:
        if self._catalog is not None:
            self._catalog.close()

    def _progress(self, what: str, done: int, total: int | None) -> None:
        if not self.as_json and sys.stderr.isatty():
            shown = f"{done}/{total}" if total else str(done)
            click.echo(f"\r{what}: {shown}\x1b[K", nl=False, err=True)

    # -- where the user is -------------------------------------------------------------------------------------------

    @cached_property
    def _current_file(self) -> Path:
        _ = self.catalog
        assert self.where is not None
        if "://" in self.where:
            name = "".join(character if character.isalnum() else "_" for character in self.where)
            return Path.home() / ".config" / "plait" / f"{name}.json"
        folder = Path(self.where)
        return (folder if folder.name == ".plait" else folder / ".plait") / _CURRENT

    def _read_current(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(self._current_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def set_current(self, **changes: str | None) -> None:
        """Remember the branch and the working set of this directory."""
        now = {**self._read_current(), **changes}
        self._current_file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._current_file.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({name: value for name, value in now.items() if value is not None}))
        fresh.replace(self._current_file)

    @property
    def branch(self) -> str:
        return self._read_current().get("branch", "main")

    def working_set(self, named: str | None = None) -> WorkingSet:
        """The named working set, or this directory's current one. Raises: NotFound."""
        chosen = named or self._read_current().get("tx")
        if chosen is None:
            raise NotFound("no working set is open here", remedy="begin one with 'plait begin', or name it")
        return self.catalog.working_set(chosen)

    def current_tx(self) -> WorkingSet | None:
        """This directory's working set, or None when there is none, or it has ended."""
        chosen = self._read_current().get("tx")
        if chosen is None:
            return None
        try:
            tx = self.catalog.working_set(chosen)
        except NotFound:
            return None
        return tx if tx.tx.state.value in ("open", "sealed") else None

    # -- printing ----------------------------------------------------------------------------------------------------

    @cached_property
    def console(self) -> Console:
        from rich.console import Console

        # Into a pipe a row is a line, however long: programs and people cut it themselves.
        width = None if sys.stdout.isatty() else 10_000
        return Console(no_color=self.no_color or None, highlight=False, soft_wrap=True, width=width)

    def emit(self, value: Any, text: str = "") -> None:
        """One JSON document under --json, else the text."""
        if self.as_json:
            click.echo(json.dumps(value, default=str, ensure_ascii=False))
        elif text:
            self.console.print(text, markup=False)

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str) -> None:
        """Rows as JSON, or as aligned columns."""
        if self.as_json:
            self.emit(list(rows))
            return
        if not rows:
            self.console.print(empty, markup=False)
            return
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(cell(row.get(column)) for column in columns))
        self.console.print(table)

    def print_error(self, error: PlaitError) -> None:
        """The error on stderr: what, which, and what to do next."""
        conflicts = (
            [conflict_row(conflict) for conflict in error.conflicts] if isinstance(error, CommitConflict) else []
        )
        if self.as_json:
            body = {"code": error.code, "message": error.message, "remedy": error.remedy, "details": error.details}
            click.echo(json.dumps({**body, "conflicts": conflicts}, default=str), err=True)
            return
        click.echo(f"{click.style('error', fg='red')}: {error.message}", err=True)
        for row in conflicts[:20]:
            place = row["key"] + (f"::{row['item']}" if row["item"] is not None else "")
            sides = f"base={cell(row['base'])}  ours={cell(row['ours'])}  theirs={cell(row['theirs'])}"
            click.echo(f"  {place}  {row['kind']}  {sides}", err=True)
        if error.remedy:
            click.echo(f"→ {error.remedy}", err=True)


pass_session = click.make_pass_decorator(Session)


def json_option(command: Any) -> Any:
    """--json, on every command."""

    def remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(Session).as_json = True

    return click.option("--json", is_flag=True, expose_value=False, callback=remember, help="Print one JSON document.")(
        command
    )


def cell(value: Any) -> str:
    """A value in a table: text as it is, everything else as short JSON."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def conflict_row(conflict: Conflict) -> dict[str, Any]:
    from plait.refspec import format_key

    return {
        "key": format_key(conflict.key) if conflict.key else "",
        "item": conflict.item,
        "kind": conflict.kind.value,
        "base": conflict.base,
        "ours": conflict.ours,
        "theirs": conflict.theirs,
        "detail": conflict.detail,
    }


def pairs(values: Sequence[str], what: str) -> dict[str, str]:
    """name=value arguments as a map. Raises: InvalidArgument."""
    found = {}
    for value in values:
        name, equals, content = value.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"{what} {value!r} is not NAME=VALUE")
        found[name] = content
    return found


def where_now(session: Session) -> None:
    """Bare `plait`: where you are, and what you could do next."""
    try:
        catalog = session.catalog
    except NotFound as error:
        session.emit(
            {"catalog": None},
            f"{error.message}\n→ plait init            make a catalog here\n"
            "→ plait init --example  make one to play with",
        )
        return
    head, tx = catalog.resolve(session.branch), session.current_tx()
    value = {"catalog": session.where, "branch": session.branch, "head": head.id, "tx": tx.id if tx else None}
    subject = (head.message.splitlines() or [""])[0]
    lines = [f"catalog {session.where} · on {session.branch} at {head.id[:12]} {subject}"]
    if tx is None:
        lines += ["no working set is open", "→ plait begin   → plait log --graph   → plait ls   → plait --help"]
    else:
        staged = [participant for participant in tx.participants() if participant.staging or participant.dropped]
        lines += [f"working set {tx.tx.name or tx.id} on {tx.tx.ref}, {len(staged)} assets staged"]
        lines += ["→ plait status   → plait diff   → plait commit -m '…'   → plait discard"]
    session.emit(value, "\n".join(lines))

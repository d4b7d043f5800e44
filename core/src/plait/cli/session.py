"""What one run of `plait` shares: the catalog it found, where the user is, and how it prints."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from plait import limits
from plait.cli.current import Current
from plait.cli.printing import conflict_columns, conflict_row, make_console, print_table, printable, to_json
from plait.cli.progress import Bars
from plait.errors import CommitConflict, InvalidArgument, NotFound, PlaitError, ProposalRejected

if TYPE_CHECKING:
    from rich.console import Console

    from plait.catalog import Catalog
    from plait.types import Key
    from plait.working_set import WorkingSet

    _Number = click.ParamType[int]
else:
    _Number = click.ParamType  # Generic from click 8.4 on.


class UpTo(_Number):
    """A whole number from 1 to a limit, which only those who exceed it are told."""

    name = "integer"

    def __init__(self, most: int) -> None:
        self._range = click.IntRange(1, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return int(self._range.convert(value, param, ctx))


COUNT = UpTo(1_000_000_000)
"""How many rows to print: what every database, every server and every iterator can count to."""
SEQ = UpTo(limits.SEQ_MAX)
_CONFLICTS_SHOWN_MAX = 20
_Command = TypeVar("_Command", bound=Callable[..., Any])


class Warnings(logging.Handler):
    """What is logged as a warning, kept: under --json, stderr is one document."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.untold: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.untold.append(record.getMessage())

    def tell(self) -> list[str]:
        """Those that nobody was told yet."""
        told, self.untold = self.untold, []
        return told


class Session:
    """One run of the command line. Commands, those of plugins too, get it as `click`'s context object."""

    def __init__(self) -> None:
        self.where: str | None = None
        self.no_color = False
        self.as_json = False
        self.recovers = True
        """Whether opening the catalog puts right what died half-way: not when it may be damaged."""
        self._catalog: Catalog | None = None
        self._bars = Bars()
        self._warnings = Warnings()

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Where what is logged goes while the run lasts: as text to stderr; under --json, into its one document."""
        if not self.as_json:
            yield
            return
        logger = logging.getLogger()
        logger.addHandler(self._warnings)
        try:
            yield
        finally:
            logger.removeHandler(self._warnings)
            if told := self._warnings.tell():
                click.echo(to_json({"warnings": told}), err=True)

    # -- the catalog -------------------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """The catalog, opened on first use. Raises: NotFound saying how to make or name one."""
        if self._catalog is None:
            from plait.connecting import find, is_served, reach

            self.where = find(self.where)
            if is_served(self.where):
                # Lines of gRPC's own beside the error would leave no one document on stderr.
                os.environ.setdefault("GRPC_VERBOSITY", "NONE")
            self._bars.is_silent = self.as_json
            self._catalog = reach(self.where, progress=self._bars, recover=self.recovers)
        return self._catalog

    @property
    def shown(self) -> str:
        """Where the opened catalog is, without a password."""
        from plait.connecting import is_url, shown

        assert self.where is not None
        return shown(self.where) if is_url(self.where) else self.where

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Draw how far long work is, for people who watch. `emit` and `table` take it away again."""
        self._bars(what, done, total)

    def close(self) -> None:
        self._bars.stop()
        if self._catalog is not None:
            self._catalog.close()

    # -- where the user is -------------------------------------------------------------------------------------------

    @cached_property
    def current(self) -> Current:
        """What was last switched to and begun. Raises: as `catalog`."""
        _ = self.catalog
        return Current(self.shown)

    @property
    def branch(self) -> str:
        return self.current.branch

    def working_set(self, named: str | None = None) -> WorkingSet:
        """The named working set, or this directory's current one. Raises: NotFound."""
        found = self.catalog.working_set(named) if named else self.current_tx()
        if found is None:
            remedy = "begin one with 'plait begin', or name one that 'plait tx list' shows"
            raise NotFound("no working set is open here", remedy=remedy)
        return found

    def current_tx(self) -> WorkingSet | None:
        """This directory's working set, or None when there is none, or it has ended."""
        chosen = self.current.tx
        if chosen is None:
            return None
        try:
            tx = self.catalog.working_set(chosen)
        except NotFound:
            return None
        return tx if tx.tx.state.value in ("open", "sealed") else None

    def tx_with(self, key: Key) -> WorkingSet | None:
        """This directory's working set, where something is staged for a key in it."""
        tx = self.current_tx()
        held = tx is not None and any(found.key == key and found.staging for found in tx.participants())
        return tx if held else None

    def forget(self, tx: str) -> None:
        """It has ended: if it was this directory's current working set, there is none now."""
        if self.current.tx == tx:
            self.current.remember(tx=None)

    @contextmanager
    def keeping_refused(self) -> Iterator[None]:
        """A working set that a conflict, or a gate, left behind becomes this directory's current one."""
        try:
            yield
        except (CommitConflict, ProposalRejected) as error:
            if "tx" in error.details:
                self.current.remember(tx=error.details["tx"])
            raise

    # -- printing ----------------------------------------------------------------------------------------------------

    @cached_property
    def console(self) -> Console:
        return make_console(stderr=False, no_color=self.no_color)

    def emit(self, value: Any, text: str = "") -> None:
        """One JSON document under --json, else the text."""
        self._bars.stop()
        if self.as_json:
            click.echo(to_json(value))
        elif text:
            click.echo(printable(text))

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str) -> None:
        """Rows as JSON, or as aligned columns."""
        if self.as_json:
            self.emit(list(rows))
        elif not rows:
            self.emit(None, empty)
        else:
            self._bars.stop()
            print_table(self.console, rows, columns)

    def print_error(self, error: PlaitError) -> None:
        """The error on stderr: what, which, and what to do next."""
        self._bars.stop()
        rows = [conflict_row(conflict) for conflict in error.conflicts] if isinstance(error, CommitConflict) else []
        if self.as_json:
            body = {"code": error.code, "message": error.message, "remedy": error.remedy, "details": error.details}
            click.echo(to_json({**body, "conflicts": rows, "warnings": self._warnings.tell()}), err=True)
            return
        click.echo(click.style("error", fg="red") + f": {printable(error.message)}", err=True, color=self._color)
        if rows:
            console = make_console(stderr=True, no_color=self.no_color)
            shown = rows[:_CONFLICTS_SHOWN_MAX]
            print_table(console, shown, conflict_columns(shown))
            if len(rows) > _CONFLICTS_SHOWN_MAX:
                click.echo(f"… and {len(rows) - _CONFLICTS_SHOWN_MAX} more", err=True)
            if "tx" in error.details:
                click.echo(NEXT_AFTER_CONFLICTS, err=True)
                return
        if error.remedy:
            click.echo(f"→ {printable(error.remedy)}", err=True)

    @property
    def _color(self) -> bool | None:
        return False if self.no_color else None


NEXT_AFTER_CONFLICTS = (
    "→ plait conflicts   → plait resolve KEY::ITEM --ours | --theirs | --base | --value JSON\n"
    "→ plait resolve --all --theirs   then → plait commit   or → plait discard"
)

_give_session = click.make_pass_decorator(Session)


def pass_session(command: _Command) -> _Command:
    """The run's session as a command's first argument; the others are text, but for a `Path`, whose bytes may be any.

    Raises: InvalidArgument for bytes that are no text: no database, and no server, takes them.
    """

    @wraps(command)
    def checked(*given: Any, **arguments: Any) -> Any:
        texts = {
            name: tuple(map(_as_utf8, v)) if isinstance(v, tuple) else _as_utf8(v) for name, v in arguments.items()
        }
        for name, value in texts.items():
            for word in value if isinstance(value, tuple) else (value,):
                if isinstance(word, str):
                    _check_word(name, word)
        return command(*given, **texts)

    return cast("_Command", _give_session(checked))


def _check_word(name: str, word: str) -> None:
    """Raises: InvalidArgument for one that is no text, naming the encoding of this locale, which may be why."""
    from plait.codec import check_text

    try:
        check_text(f"the argument {name.upper()}", word)
    except InvalidArgument as error:
        remedy = f"give it as plain text, in UTF-8; this locale (LC_ALL, LANG) has {sys.getfilesystemencoding()}"
        raise InvalidArgument(error.message, remedy=remedy) from error


def _as_utf8(word: Any) -> Any:
    """A word whose bytes this locale could not read, where they are UTF-8 all the same; else as it is."""
    if not isinstance(word, str) or word.isascii():
        return word
    try:
        return os.fsencode(word).decode()
    except UnicodeError:  # It is text already, and this locale has not all of its characters; or it is none.
        return word


def json_option(command: _Command) -> _Command:
    """--json, on every command."""

    def remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(Session).as_json = True

    return click.option("--json", is_flag=True, expose_value=False, callback=remember, help="Print one JSON document.")(
        command
    )


def pairs(values: Sequence[str], what: str) -> dict[str, str]:
    """name=value arguments as a map. Raises: InvalidArgument."""
    found = {}
    for value in values:
        name, equals, content = value.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"{what} {value!r} is not NAME=VALUE", remedy="write a name, '=' and its value")
        found[name] = content
    return found


def located(text: str) -> str:
    """A path that says it is one, made absolute: a store does not know from which directory it was written."""
    if text in (".", "..", "~") or text.startswith(("./", "../", "~/")):
        return os.path.abspath(os.path.expanduser(text))
    return text

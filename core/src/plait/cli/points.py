"""What people type: points in the history, where HEAD is the current branch, and names that completion offers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

import click

from plait.cli.session import Session
from plait.errors import InvalidArgument, PlaitError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    _Text = click.ParamType[str]
else:
    _Text = click.ParamType  # Generic from click 8.4 on.

_HEAD = re.compile(r"HEAD(?=[~^*]|\Z)")
_OFFERED_MAX = 1000


class _Named(_Text):
    """A text for which completion offers what `find` finds, given what is typed so far."""

    name = "text"

    def __init__(self, find: Callable[[Session, str], Iterable[str]]) -> None:
        self._find = find

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        session = ctx.ensure_object(Session)
        session.recovers = False  # Nobody expects a key press to write.
        try:
            fitting = (name for name in self._find(session, incomplete) if name.startswith(incomplete))
            return [CompletionItem(name) for name in islice(fitting, _OFFERED_MAX)]
        except PlaitError:
            return []


class _Spec(_Named):
    """A spec, or a branch. HEAD in front becomes the current branch's name, so that `HEAD~1` is what it is in Git."""

    name = "spec"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if ctx is None or ctx.resilient_parsing or not _HEAD.match(value):
            return value
        return ctx.ensure_object(Session).branch + value[len("HEAD") :]


def _refs(session: Session, kind: str = "") -> list[str]:
    return [ref.name for ref in session.catalog.refs() if kind in ("", ref.kind.value)]


def _keys(session: Session, incomplete: str) -> Iterator[str]:
    """The keys of the current branch that share all parts but the last, which is being typed."""
    from plait.refspec import format_key

    above = incomplete.rpartition(".")[0]
    return (format_key(entry.key) for entry in session.catalog.at(session.branch).entries(above))


def _working_sets(session: Session) -> list[str]:
    return [tx.name or tx.id for tx in session.catalog.working_sets()]


SPEC = _Spec(lambda session, typed: ["HEAD", *_refs(session)])
SPEC_OR_KEY = _Spec(lambda session, typed: chain(["HEAD", *_refs(session)], _keys(session, typed)))
BRANCH = _Named(lambda session, typed: _refs(session, "branch"))
TAG = _Named(lambda session, typed: _refs(session, "tag"))
KEY = _Named(_keys)
STORE = _Named(lambda session, typed: [store.name for store in session.catalog.stores()])
TX = _Named(lambda session, typed: _working_sets(session))
TOKEN = _Named(lambda session, typed: [name for name, _ in session.catalog.backend.tokens()])


def points_and_key(session: Session, words: Sequence[str], points_max: int, example: str) -> tuple[list[str], str]:
    """Which of the words are points, and the one that is a key ("" when none is): what begins with a store's name,
    unless a branch or tag is named just so. Raises: InvalidArgument for more."""
    names = {ref.name for ref in session.catalog.refs()}
    stores = {store.name for store in session.catalog.stores()}
    keys = [word for word in words if word not in names and _first_part(word) in stores]
    points = [word for word in words if word not in keys]
    if len(points) > points_max or len(keys) > 1:
        how_many = "one point" if points_max == 1 else f"{points_max} points"
        raise InvalidArgument(f"give at most {how_many} and one key", remedy=example)
    return points, "".join(keys)


def refuse_items(arguments: Iterable[str], why: str, remedy: str) -> None:
    """`remedy` names the first one as {path}, and its {key}. Raises: InvalidArgument for KEY::ITEM."""
    for path in arguments:
        key, separator, _ = path.partition("::")
        if separator:
            raise InvalidArgument(f"{path!r} is one item, and {why}", remedy=remedy.format(path=path, key=key))


def must_be_there(session: Session, key: str, points: Sequence[str]) -> None:
    """Raises: NotFound where none of the points has the key, or anything below it."""
    from plait.presence import check_keys
    from plait.refspec import parse_key

    if key:
        check_keys(session.catalog.backend, [parse_key(key)], {point: point for point in points})


def _first_part(word: str) -> str:
    """The store of what may be a key."""
    from plait.refspec import parse_key

    try:
        return parse_key(word)[0]
    except InvalidArgument:
        return ""

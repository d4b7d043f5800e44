"""Points in the history as people type them: HEAD is the current branch, and completion offers branches and tags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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


class _Spec(_Text):
    """A spec, or a branch. HEAD in front becomes the current branch's name, so that `HEAD~1` is what it is in Git."""

    name = "spec"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if ctx is None or ctx.resilient_parsing or not _HEAD.match(value):
            return value
        return ctx.ensure_object(Session).branch + value[len("HEAD") :]

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        try:
            names = [ref.name for ref in ctx.ensure_object(Session).catalog.refs()]
        except PlaitError:
            names = []
        return [CompletionItem(name) for name in ("HEAD", *names) if name.startswith(incomplete)]


SPEC = _Spec()


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

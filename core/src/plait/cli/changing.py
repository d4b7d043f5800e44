"""Commands that change what a working set holds without a native client, or that commit the change at once: rm, mv."""

from __future__ import annotations

from collections.abc import Callable
from glob import has_magic
from typing import TYPE_CHECKING, Any

import click

from plait.cli.folders import check_files, filesystem, holds_files
from plait.cli.points import KEY
from plait.cli.session import Session, json_option, pass_session
from plait.cli.working_sets import committed
from plait.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from plait.types import Key
    from plait.working_set import WorkingSet


def change(
    session: Session, message: str | None, work: Callable[[WorkingSet], None], staged: Callable[[], tuple[Any, str]]
) -> None:
    """Do it in the current working set, and tell what `staged` says then; or with a message as a commit of its own.

    Raises: NotFound without a working set; then nothing was done.
    """
    if message is None:
        tx = session.current_tx()
        if tx is None:
            raise NotFound("no working set is open here", remedy="begin one with 'plait begin', or commit with -m '…'")
        work(tx)
        value, told = staged()
        session.emit(value, f"{told}\n→ plait status   → plait commit -m '…'")
        return
    with session.catalog.transaction(session.branch, message=message) as tx:
        work(tx)
    if tx.committed is None:
        session.emit(None, "nothing changed")
    else:
        committed(session, tx.committed)


@click.command("rm")
@click.argument("paths", nargs=-1, required=True, type=KEY)
@click.option("-r", "recursive", is_flag=True, help="All assets under a prefix, or all objects of a folder.")
@click.option("-m", "--message", help="Commit at once, without a working set.")
@json_option
@pass_session
def rm(session: Session, paths: tuple[str, ...], recursive: bool, message: str | None) -> None:
    """Drop assets (KEY), or remove objects (KEY::ITEM, -r KEY::FOLDER/). Every commit keeps what it holds."""
    from plait.refspec import format_path, parse_path

    wanted = [parse_path(path) for path in paths]
    for key, item in wanted:
        if item is not None:
            check_files(session, key)
    removed: list[str] = []

    def work(tx: WorkingSet) -> None:
        assets = [one for key, item in wanted if item is None for one in _assets(tx, key, recursive)]
        objects: dict[Key, dict[str, None]] = {}  # Each once, in the order in which they were named.
        for key, item in wanted:
            if item is not None:
                objects.setdefault(key, {}).update(dict.fromkeys(_objects(session, tx, key, item, recursive)))
        for key, names in objects.items():  # All of them are there: only now is something changed.
            with filesystem(session, key, tx.open(key), write=True) as files:
                for name in sorted(filter(has_magic, names), reverse=True):  # `rm` takes patterns, these are names.
                    files.rm_file(name)
                plain = [name for name in names if not has_magic(name)]
                if plain:
                    files.rm(plain)
            removed.extend(format_path(key, name) for name in names)
        for key in assets:
            tx.drop(key)
            removed.append(format_path(key, None))

    change(session, message, work, lambda: ({"removed": removed}, f"removed {_counted(removed)}"))


@click.command("mv")
@click.argument("before", type=KEY)
@click.argument("after", type=KEY)
@click.option("-m", "--message", help="Commit at once, without a working set.")
@json_option
@pass_session
def mv(session: Session, before: str, after: str, message: str | None) -> None:
    """Rename the asset BEFORE to AFTER, in the same store.

    Nothing is copied. The log, blame and merges follow it.
    """
    from plait.refspec import parse_key

    old, new = parse_key(before), parse_key(after)
    value = {"before": before, "after": after}
    change(session, message, lambda tx: tx.rename(old, new), lambda: (value, f"{before} is {after}"))


def _assets(tx: WorkingSet, key: Key, recursive: bool) -> list[Key]:
    """What a key names in a working set. Raises: NotFound, InvalidArgument for a prefix without -r."""
    from plait.refspec import format_key

    found = tx.keys(key)
    if not found:
        raise NotFound(f"{format_key(key)} does not exist", remedy="see 'plait ls' for what is there")
    if found != [key] and not recursive:
        raise InvalidArgument(f"{len(found)} assets are under {format_key(key)}", remedy="drop all of them with -r")
    return found


def _objects(session: Session, tx: WorkingSet, key: Key, item: str, recursive: bool) -> list[str]:
    """The objects that an item names. Raises: NotFound, InvalidArgument for a folder without -r."""
    from plait.refspec import format_key, format_path

    name = item.strip("/")
    with filesystem(session, key, tx.open(key)) as files:
        if name and name == item and files.exists(name) and files.info(name)["type"] != "directory":
            return [name]
        found: list[str] = files.find(name, withdirs=holds_files(session, key))
    if not found:
        raise NotFound(f"{format_path(key, item)} does not exist", remedy=f"see 'plait ls {format_key(key)}::'")
    if not recursive:
        raise InvalidArgument(
            f"{len(found)} objects are under {format_path(key, item)}", remedy="remove all of them with -r"
        )
    return found


def _counted(removed: list[str]) -> str:
    return removed[0] if len(removed) == 1 else f"{len(removed)} assets and objects"


COMMANDS = (rm, mv)

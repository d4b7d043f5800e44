"""Data itself: cat, get, put, open."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from plait.cli.changing import change
from plait.cli.destination import writing
from plait.cli.folders import (
    check_files,
    counting,
    files_to_put,
    filesystem,
    holds_files,
    holds_objects,
    objects_to_get,
)
from plait.cli.points import KEY, SPEC
from plait.cli.session import COUNT, Session, UpTo, json_option, pass_session
from plait.errors import Corrupt, InvalidArgument, NotFound, PermissionDenied, PlaitError, StoreUnavailable, Unsupported

if TYPE_CHECKING:
    from plait.types import Key, Location
    from plait.working_set import WorkingSet

_CHUNK_BYTES = 1 << 20
_LINK_SECONDS_MAX = 7 * 24 * 3600
"""What a signature of S3 can say."""
_AT = "A point in the history; default: the working set, where it holds KEY, else the current branch."


def _handle(session: Session, key: Key, spec: str | None) -> Any:
    """The native handle to read: of a point, or of the current working set when it has one and no point is named."""
    tx = session.tx_with(key) if spec is None else None
    if tx is not None:
        return tx.open(key)
    return session.catalog.at(spec or session.branch).open(key)


@click.command("cat")
@click.argument("path", type=KEY)
@click.option("--at", "spec", type=SPEC, help=_AT)
@click.option("--limit", type=COUNT, default=20, show_default=True, help="Rows of a table.")
@json_option
@pass_session
def cat(session: Session, path: str, spec: str | None, limit: int) -> None:
    """Print an object or a file of a volume (KEY::ITEM), or rows of a table, names of objects, or other items (KEY, or
    KEY::ITEM for one)."""
    from plait.refspec import parse_path

    key, item = parse_path(path)
    has_objects = holds_objects(session, key)
    with _scanning(key):
        handle = _handle(session, key, spec)
    if item is not None and has_objects:
        _print_content(session, handle, path, item)
    elif item is not None and holds_files(session, key):
        if not _print_file(session, handle, path, item):
            _print_items(session, key, item, spec, limit)
    elif has_objects:
        names = sorted(handle.find(""))
        session.table([{"object": name} for name in names], ("object",), "no objects")
    elif item is None and hasattr(handle, "snapshots"):
        # A pyiceberg table reads the first rows for less than its whole content, which is what the rest below asks for.
        from plait.rows.items import to_json  # As diffs show values, and `resolve --value` takes them.

        with _scanning(key):
            batches = handle.scan(limit=limit).to_arrow_batch_reader()
            found = (row for batch in islice(batches, limit) for row in batch.to_pylist())
            rows = [{name: to_json(value) for name, value in row.items()} for row in islice(found, limit)]
        session.table(rows, tuple(rows[0]) if rows else (), "no rows")
    else:
        _print_items(session, key, item, spec, limit)


def _print_content(session: Session, files: Any, path: str, item: str) -> None:
    with _reading(files, path, item) as source:
        if session.as_json:
            session.emit({"item": path, **_as_text(source.read())})
        else:
            _copy(session, source, sys.stdout.buffer, path)


def _print_file(session: Session, handle: Any, path: str, item: str) -> bool:
    """Print a file's content. Returns: False for what has none, such as a folder, a link or an extent."""
    try:
        with handle.filesystem() as files:
            is_file: bool = files.isfile(item)
            if is_file:
                _print_content(session, files, path, item)
            return is_file
    except Unsupported:
        return False  # No filesystem is in it.


@contextmanager
def _scanning(key: Key) -> Iterator[None]:
    """A native client reads the asset in the block, and every one has errors of its own for lost and broken files.

    Raises: Corrupt, PermissionDenied, StoreUnavailable.
    """
    from plait.refspec import format_key

    try:
        yield
    except PlaitError:
        raise
    except Exception as error:
        told = f"{format_key(key)} cannot be read: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if isinstance(error, PermissionError):
            raise PermissionDenied(told, remedy="check the store's credentials, and who owns its files") from error
        # pyarrow tells of an S3 that does not answer in an OSError of no type of its own.
        if isinstance(error, ConnectionError | TimeoutError) or "AWS Error" in told:
            raise StoreUnavailable(told, remedy="check the store's options and its network") from error
        raise Corrupt(told, remedy="'plait verify --depth bytes' names the files") from error


def _print_items(session: Session, key: Key, item: str | None, spec: str | None, limit: int) -> None:
    """What an asset holds, item by item: what differs from nothing. Raises: NotFound for one item that is not there."""
    from plait.backend import Side
    from plait.refspec import format_path

    tx = session.tx_with(key) if spec is None else None
    side = Side(tx=tx.id) if tx is not None else Side(spec=spec or session.branch)
    items = None if item is None else [item]
    with _scanning(key):
        changes = session.catalog.backend.diff_items(key, Side(), side, items)
        wanted = (change for change in changes if items or change.aspect not in _DESCRIPTIONS)
        found = list(islice(wanted, limit))
    if item is not None and not found:
        raise NotFound(f"{format_path(key, item)} does not exist", remedy="see all items with 'plait cat KEY'")
    rows = [
        {"item": one.item, **(one.after if isinstance(one.after, dict) else {"content": one.after})} for one in found
    ]
    session.table(rows, tuple(dict.fromkeys(column for row in rows for column in row)), "no items")


_DESCRIPTIONS = frozenset({"schema", "property", "partition", "sort", "protocol", "snapshot", "transaction", "view"})
"""Aspects that say how an asset is made, not what it holds: shown where they are asked for by name."""


def _as_text(content: bytes) -> dict[str, Any]:
    """Bytes in a JSON document: as text where they are that, else as base64."""
    try:
        return {"bytes": len(content), "content": content.decode()}
    except UnicodeDecodeError:
        return {"bytes": len(content), "base64": base64.b64encode(content).decode()}


def list_objects(session: Session, key: Key, folder: str, spec: str | None, *, recursive: bool) -> None:
    """Print what is in a folder of an asset. Raises: NotFound, Unsupported."""
    from plait.refspec import format_key, format_path

    check_files(session, key, "see its rows with 'plait cat'")
    folder = folder.strip("/")
    try:
        with filesystem(session, key, _handle(session, key, spec)) as files:
            if recursive and not files.exists(folder):
                raise FileNotFoundError(folder)
            found = files.find(folder, detail=True).values() if recursive else files.ls(folder)
    except FileNotFoundError as error:
        raise NotFound(
            f"{format_path(key, folder)} does not exist", remedy=f"see 'plait ls {format_key(key)}::'"
        ) from error
    rows = [
        {"item": one["name"] + "/", "bytes": None}
        if one["type"] == "directory"
        else {"item": one["name"], "bytes": one["size"]}
        for one in found
    ]
    session.table(rows, ("item", "bytes"), "no objects")


@contextmanager
def _reading(handle: Any, path: str, item: str) -> Iterator[IO[bytes]]:
    """An object's bytes. Raises: NotFound."""
    try:
        source = handle.open(item, "rb")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"{path} does not exist", remedy=f"see 'plait cat {path.partition('::')[0]}'") from error
    with source:
        yield source


def _copy(session: Session, source: IO[bytes], target: IO[bytes], what: str) -> int:
    """How many bytes that were."""
    done = 0
    while chunk := source.read(_CHUNK_BYTES):
        target.write(chunk)
        done += len(chunk)
        if done > _CHUNK_BYTES:
            session.progress(what, done, None)
    return done


@click.command("get")
@click.argument("path", type=KEY)
@click.argument("target", type=click.Path(path_type=Path), required=False)
@click.option("--at", "spec", type=SPEC, help=_AT)
@json_option
@pass_session
def get(session: Session, path: str, target: Path | None, spec: str | None) -> None:
    """Write an object (KEY::ITEM) into the file TARGET, or a folder (KEY::FOLDER, KEY) into the directory TARGET.

    Without TARGET: here. TARGET - is the standard output, for one object. Files of a volume are got like objects.
    """
    from plait.refspec import parse_path

    key, item = parse_path(path)
    check_files(session, key)
    with filesystem(session, key, _handle(session, key, spec)) as files:
        if target == Path("-"):
            _get_to_stdout(session, files, path, item)
        else:
            _get(session, files, path, item, target)


def _get_to_stdout(session: Session, files: Any, path: str, item: str | None) -> None:
    if not item or files.isdir(item):
        raise InvalidArgument(
            f"{path} is a folder of objects, and the standard output takes one",
            remedy="name the object as KEY::ITEM, or a directory to write them into",
        )
    with _reading(files, path, item) as source, writing("the standard output"):
        _copy(session, source, sys.stdout.buffer, path)
        sys.stdout.buffer.flush()


def _get(session: Session, files: Any, path: str, item: str | None, target: Path | None) -> None:
    folder = target or Path()
    with writing(folder):
        wanted = objects_to_get(files, path, item, target)
    if list(wanted) == [(item or "").strip("/")]:
        ((name, file),) = wanted.items()
        try:
            with _reading(files, path, name) as source, writing(file), file.open("wb") as written:
                done = _copy(session, source, written, path)
        except Corrupt:
            if file.is_file():  # Not a device, nor a pipe.
                file.unlink()
            raise
        session.emit({"file": str(file), "bytes": done}, f"{file}: {done} bytes")
        return
    with writing(folder):
        files.get(list(wanted), [str(file) for file in wanted.values()], callback=counting(session, path))
    session.emit({"folder": str(folder), "objects": len(wanted)}, f"{folder}: {len(wanted)} objects")


@click.command("put")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.argument("path", type=KEY)
@click.option("-m", "--message", help="Commit at once, without a working set.")
@json_option
@pass_session
def put(session: Session, file: Path, path: str, message: str | None) -> None:
    """Write FILE as an object (KEY::ITEM, KEY::FOLDER/), or all files of the directory FILE below KEY::FOLDER or KEY.
    In a volume they are files of its filesystem.

    They go into the working set, or with -m into a commit of their own.
    """
    from plait.refspec import parse_path

    key, item = parse_path(path)
    files = files_to_put(file, item)
    check_files(session, key)  # Before `create` stages an asset that could not be written.

    def write(tx: WorkingSet) -> None:
        # A volume is not begun by its files: it needs a size, and a filesystem.
        with filesystem(session, key, tx.open(key, create=holds_objects(session, key)), write=True) as target:
            if file.is_dir():
                target.put([str(found) for found in files.values()], list(files), callback=counting(session, path))
                return
            ((name, found),) = files.items()
            with target.open(name, "wb") as written, found.open("rb") as source:
                _copy(session, source, written, path)

    def staged() -> tuple[dict[str, Any], str]:
        size = sum(found.stat().st_size for found in files.values())
        many = f" ({len(files)} objects)" if file.is_dir() else ""
        return {"put": path, "bytes": size, "objects": len(files)}, f"put {path}{many}"

    change(session, message, write, staged)


@click.command("open")
@click.argument("path", type=KEY)
@click.option("--at", "spec", type=SPEC, help="A point in the history; default: the current branch.")
@click.option("--write", "is_written", is_flag=True, help="Where to write it, as part of the current working set.")
@click.option("--create", is_flag=True, help="With --write: begin a new asset where there is none.")
@click.option(
    "--seconds",
    type=UpTo(_LINK_SECONDS_MAX),
    default=3600,
    show_default=True,
    help="How long the link to an object holds, up to seven days.",
)
@json_option
@pass_session
def open_(session: Session, path: str, spec: str | None, is_written: bool, create: bool, seconds: int) -> None:
    """Say how an engine reads exactly this version of KEY: location, options, and a snippet to paste.

    With --write: stage KEY in the current working set, and say where clients that know nothing of plait write it.

    For an object of a bucket (KEY::ITEM): a link to it that needs no credentials. Who has the link can read the object.
    """
    from plait.refspec import parse_path

    key, item = parse_path(path)
    if create and not is_written:
        raise click.UsageError("--create goes with --write")
    if is_written:
        if spec is not None or item is not None:
            raise click.UsageError("--write takes a KEY, and neither an object nor a point in the history")
        _print_location(
            session, session.working_set().locate(key, create=create), "→ plait status   → plait commit -m '…'"
        )
        return
    point = session.catalog.at(spec or session.branch)
    if item is not None:
        if not holds_objects(session, key):
            raise Unsupported(f"{path} is no object of a bucket", remedy=f"see 'plait open {path.partition('::')[0]}'")
        _print_link(session, point.open(key), path, item, seconds)
        return
    _print_location(session, point.locate(key))


def _print_location(session: Session, found: Location, then: str = "") -> None:
    from plait.adapter import OPENING
    from plait.connecting import is_served

    opening = f"plait.{'connect' if is_served(session.shown) else 'open'}({session.shown!r})"
    snippet = found.snippet.replace(OPENING, opening)
    value = {"uri": found.uri, "options": dict(found.options), "snippet": snippet}
    options = "".join(f"\n  {name}={option}" for name, option in sorted(found.options.items()))
    session.emit(value, f"{found.uri}{options}\n\n{snippet}{then}".rstrip())


def _print_link(session: Session, handle: Any, path: str, item: str, seconds: int) -> None:
    """The link alone on stdout, for programs; until when, on stderr. Raises: NotFound."""
    from plait.refspec import format_time

    # From before it is signed, so that it never holds shorter than is said.
    until = format_time((int(time.time()) + seconds) * 1_000_000)
    try:
        url = handle.sign(item, expiration=seconds)
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist", remedy=f"see 'plait ls {path.partition('::')[0]}::'") from error
    session.emit({"url": url, "seconds": seconds, "until": until}, url)
    if not session.as_json:
        click.echo(f"holds until {until}, or until the credentials that signed it end", err=True)


COMMANDS = (cat, get, put, open_)

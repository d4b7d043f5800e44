"""Data itself: cat, get, put, open."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from plait.cli.session import Session, json_option, pass_session
from plait.cli.working_sets import committed
from plait.errors import InvalidArgument, NotFound, Unsupported

if TYPE_CHECKING:
    from plait.types import Key
    from plait.working_set import WorkingSet

_CHUNK_BYTES = 1 << 20
_AT = "A point in the history; default: the working set, where it holds KEY, else the current branch."


def _handle(session: Session, key: Key, spec: str | None) -> Any:
    """The native handle to read: of a point, or of the current working set when it has one and no point is named."""
    tx = session.current_tx() if spec is None else None
    if tx is not None and any(found.key == key and found.staging for found in tx.participants()):
        return tx.open(key)
    return session.catalog.at(spec or session.branch).open(key)


@click.command("cat")
@click.argument("path")
@click.option("--at", "spec", help=_AT)
@click.option("--limit", type=int, default=20, show_default=True, help="Rows of a table.")
@json_option
@pass_session
def cat(session: Session, path: str, spec: str | None, limit: int) -> None:
    """Print an object (KEY::ITEM), or rows of a table, or names of objects (KEY)."""
    from plait.refspec import parse_path

    key, item = parse_path(path)
    handle = _handle(session, key, spec)
    if hasattr(handle, "scan"):
        rows = [
            dict(row)
            for batch in islice(handle.scan(limit=limit).to_arrow_batch_reader(), limit)
            for row in batch.to_pylist()
        ][:limit]
        session.table(rows, tuple(rows[0]) if rows else (), "no rows")
    elif item is None:
        names = sorted(handle.find(""))
        session.table([{"object": name} for name in names], ("object",), "no objects")
    elif session.as_json:
        with _reading(handle, path, item) as source:
            session.emit({"item": path, **_as_text(source.read())})
    else:
        with _reading(handle, path, item) as source:
            _copy(session, source, sys.stdout.buffer, path)


def _as_text(content: bytes) -> dict[str, Any]:
    """Bytes in a JSON document: as text where they are that, else as base64."""
    try:
        return {"bytes": len(content), "content": content.decode()}
    except UnicodeDecodeError:
        return {"bytes": len(content), "base64": base64.b64encode(content).decode()}


@contextmanager
def _reading(handle: Any, path: str, item: str) -> Iterator[IO[bytes]]:
    """An object's bytes. Raises: NotFound, Unsupported for an asset that holds no objects."""
    if not hasattr(handle, "cat_file"):
        raise Unsupported(f"{path} is not an object", remedy="read the whole asset, or use its native client")
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
@click.argument("path")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--at", "spec", help=_AT)
@json_option
@pass_session
def get(session: Session, path: str, file: Path, spec: str | None) -> None:
    """Write an object (KEY::ITEM) into FILE."""
    from plait.refspec import parse_path

    key, item = parse_path(path)
    if item is None:
        raise InvalidArgument(f"{path!r} names no object", remedy="write KEY::ITEM")
    with _reading(_handle(session, key, spec), path, item) as source, file.open("wb") as target:
        done = _copy(session, source, target, path)
    session.emit({"file": str(file), "bytes": done}, f"{file}: {done} bytes")


@click.command("put")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("path")
@click.option("-m", "--message", help="Commit at once, without a working set.")
@json_option
@pass_session
def put(session: Session, file: Path, path: str, message: str | None) -> None:
    """Write FILE as an object (KEY::ITEM) into the working set, or with -m as a commit of its own."""
    from plait.refspec import parse_path

    key, item = parse_path(path)
    if not item:
        raise InvalidArgument(f"{path!r} names no object", remedy="write KEY::ITEM")

    def write(tx: WorkingSet) -> None:
        handle: Any = tx.open(key, create=True)
        if not hasattr(handle, "pipe_file"):
            raise Unsupported(f"{path} is not in a store of objects", remedy="use the asset's native client")
        with handle.open(item, "wb") as target, file.open("rb") as source:
            _copy(session, source, target, path)

    if message is None:
        write(session.working_set())
        session.emit({"put": path, "bytes": file.stat().st_size}, f"put {path}\n→ plait status   → plait commit -m '…'")
        return
    with session.catalog.transaction(session.branch, message=message) as tx:
        write(tx)
    if tx.committed is None:
        session.emit(None, "nothing changed")
    else:
        committed(session, tx.committed)


@click.command("open")
@click.argument("key")
@click.option("--at", "spec", help="A point in the history; default: the current branch.")
@json_option
@pass_session
def open_(session: Session, key: str, spec: str | None) -> None:
    """Say how an engine reads exactly this version: location, options, and a snippet to paste."""
    found = session.catalog.at(spec or session.branch).locate(key)
    value = {"uri": found.uri, "options": dict(found.options), "snippet": found.snippet}
    options = "".join(f"\n  {name}={option}" for name, option in sorted(found.options.items()))
    session.emit(value, f"{found.uri}{options}\n\n{found.snippet}".rstrip())


COMMANDS = (cat, get, put, open_)

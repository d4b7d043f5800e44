"""`plait import iceberg` and `plait export iceberg`: the tables of another pyiceberg catalog, in place."""

from __future__ import annotations

import re
from pathlib import Path

import click
from plait.cli.importing import Asked, import_found, shown_place, store_of_kind
from plait.cli.session import Session, json_option, pairs, pass_session
from plait.errors import InvalidArgument, NotFound
from plait.refspec import format_key
from pyiceberg.catalog import Catalog, list_catalogs

from plait_iceberg.catalogs import opened
from plait_iceberg.transfer import discover, export

_NAME = "The catalog's own name, under which a SQL catalog keeps its tables; default: default."
_WHERE = "A catalog's URI, or its name in pyiceberg's configuration; default: the only one there."
_OPTION = "A property of that catalog, as pyiceberg names it."


@click.command("iceberg")
@click.option("--from", "origin", metavar="URI|NAME", help=_WHERE)
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help=_OPTION)
@click.option("--name", help=_NAME)
@click.option("--match", default="*", show_default=True, help="A glob on the table's name with its namespace: sales.*")
@click.option("--store", help="Default: the only store of kind iceberg.")
@click.option("--into", help="The branch to commit to; default: the current one.")
@click.option("-m", "--message", default="", help="The commit's message; default: how many came, and from where.")
@click.option("--dry-run", is_flag=True, help="Only list what would be taken.")
@json_option
@pass_session
def import_iceberg(
    session: Session,
    origin: str | None,
    options: tuple[str, ...],
    name: str | None,
    match: str,
    store: str | None,
    into: str | None,
    message: str,
    dry_run: bool,
) -> int:
    """Bring the tables of an Iceberg catalog into the history, in place: no file is copied or moved."""
    target = store_of_kind(session, "iceberg", store)
    origin = origin or name or _only_configured("--from")
    _check_file(origin)
    (mode,) = (one.mode for one in session.catalog.stores() if one.name == target)
    # pyiceberg would make a catalog's tables in a database that has none; an import only looks.
    source = _load(origin, name, ("init_catalog_tables=false", *options))
    found = discover(source, match, mode)
    named = name or ("default" if "://" in origin else origin)
    look = f"SQL catalogs keep tables under the catalog's name, and {named!r} has none there: give another --name"
    asked = Asked(shown_place(origin), match, into, message, dry_run=dry_run, look=look)
    return import_found(session, found, (target,), asked)


@click.command("iceberg")
@click.argument("prefix", default="")
@click.option("--to", "target", metavar="URI|NAME", help=_WHERE)
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help=_OPTION)
@click.option("--name", help=_NAME)
@click.option("--at", "spec", help="A point in the history; default: the current branch.")
@click.option("--replace", is_flag=True, help="Move tables that the catalog has at another version.")
@json_option
@pass_session
def export_iceberg(
    session: Session,
    prefix: str,
    target: str | None,
    options: tuple[str, ...],
    name: str | None,
    spec: str | None,
    replace: bool,
) -> None:
    """Register the tables under PREFIX in another Iceberg catalog, for reading; no file is copied."""
    target = target or name or _only_configured("--to")
    point = session.catalog.at(spec or session.branch)
    entries = [entry for entry in point.entries(prefix) if entry.snapshot.kind == "iceberg"]
    rows = [
        {"key": format_key(one.key), "state": one.state.value, "reason": one.reason or None}
        for one in export(_load(target, name, options), entries, replace=replace)
    ]
    session.table(rows, ("key", "state", "reason"), "no table is there")


def _only_configured(option: str) -> str:
    """The one catalog of pyiceberg's configuration, its file and the environment. Raises: InvalidArgument."""
    try:
        known = sorted(list_catalogs())
    except ValueError as error:
        raise InvalidArgument(f"pyiceberg's configuration cannot be read: {error}", remedy=f"give {option}") from error
    if len(known) == 1:
        return known[0]
    if known:
        raise InvalidArgument(
            f"which Iceberg catalog? pyiceberg's configuration has {', '.join(known)}", remedy=f"give one as {option}"
        )
    raise InvalidArgument(
        "which Iceberg catalog? pyiceberg's configuration has none",
        remedy=f"give its URI as {option}, or name it in .pyiceberg.yaml",
    )


def _check_file(origin: str) -> None:
    """SQLite makes a file that it is asked to open. Raises: NotFound for one that is not there."""
    found = re.match(r"sqlite[^:]*:///(?!:memory:|file:)([^?]+)", origin)
    if found and not Path(found[1]).exists():
        raise NotFound(
            f"{shown_place(origin)} does not exist",
            remedy="an absolute path has four slashes: sqlite:////data/tables.db",
        )


def _load(origin: str, name: str | None, options: tuple[str, ...]) -> Catalog:
    """A catalog by its URI and name, or by its name alone. Raises: InvalidArgument, StoreUnavailable."""
    given = pairs(options, "--option")
    if "://" in origin:
        return opened(name or "default", {"uri": origin, **given}, shown_place(origin))
    return opened(origin, given, shown_place(origin))

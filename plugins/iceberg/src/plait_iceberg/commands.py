"""`plait import iceberg` and `plait export iceberg`: the tables of another pyiceberg catalog, in place."""

from __future__ import annotations

import re
from typing import Any

import click
from plait.cli.session import Session, json_option, pairs, pass_session
from plait.errors import InvalidArgument, NotFound, StoreUnavailable
from plait.refspec import format_key
from pyiceberg.catalog import Catalog, load_catalog

from plait_iceberg.transfer import discover, export, importable

_NAME = "Its name, which SQL catalogs keep with each table. (With a URI.)"
_WHERE = "A catalog's URI, or its name in .pyiceberg.yaml."
_OPTION = "Of that catalog, as pyiceberg names it."


@click.command("iceberg")
@click.option("--from", "origin", required=True, metavar="URI|NAME", help=_WHERE)
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help=_OPTION)
@click.option("--name", default="default", show_default=True, help=_NAME)
@click.option("--match", default="*", show_default=True, help="A glob on the table's name with its namespace: sales.*")
@click.option("--store", help="Default: the only store of kind iceberg.")
@click.option("--into", help="Default: the current branch.")
@click.option("-m", "--message", default="")
@click.option("--dry-run", is_flag=True, help="Only list what would be taken.")
@json_option
@pass_session
def import_iceberg(
    session: Session,
    origin: str,
    options: tuple[str, ...],
    name: str,
    match: str,
    store: str | None,
    into: str | None,
    message: str,
    dry_run: bool,
) -> None:
    """Bring the tables of an Iceberg catalog into the history, in place: no file is copied or moved."""
    from plait.cli.working_sets import committed

    branch, target = into or session.branch, _store(session, store)
    there = {entry.key for entry in session.catalog.at(branch).entries((target,))}
    found = list(discover(_load(origin, name, options), match))
    taken = {key: location for key, location in importable(found, target).items() if key not in there}
    if dry_run:
        rows = [
            {
                "key": ".".join((target, *one.identifier)),
                "take": one.key(target) in taken,
                "why not": one.refusal or (None if one.key(target) in taken else "it is in the history already"),
                "risks": "; ".join(f"{risk.rule}: {risk.remedy}" for risk in one.risks) or None,
            }
            for one in found
        ]
        session.table(rows, ("key", "take", "why not", "risks"), "no table matches")
        return
    for one in found:
        if one.refusal:
            click.echo(f"{'.'.join(one.identifier)} is left out: {one.refusal}", err=True)
    if not found:
        raise NotFound(f"no table of {_shown(origin)} matches {match!r}", remedy="list them with --dry-run")
    if not taken:
        session.emit(None, "nothing is new: see --dry-run")
        return
    message = message or f"Import {len(taken)} Iceberg tables from {_shown(origin)}"
    committed(session, session.catalog.import_assets(taken, branch, message=message))


@click.command("iceberg")
@click.argument("prefix", default="")
@click.option("--to", "target", required=True, metavar="URI|NAME", help=_WHERE)
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help=_OPTION)
@click.option("--name", default="default", show_default=True, help=_NAME)
@click.option("--at", "spec", help="A point in the history; default: the current branch.")
@click.option("--replace", is_flag=True, help="Move tables that the catalog has at another version.")
@json_option
@pass_session
def export_iceberg(
    session: Session,
    prefix: str,
    target: str,
    options: tuple[str, ...],
    name: str,
    spec: str | None,
    replace: bool,
) -> None:
    """Register the tables under PREFIX in another Iceberg catalog, for reading; no file is copied."""
    point = session.catalog.at(spec or session.branch)
    entries = [entry for entry in point.entries(prefix) if entry.snapshot.kind == "iceberg"]
    rows = [
        {"key": format_key(one.key), "state": one.state.value, "reason": one.reason or None}
        for one in export(_load(target, name, options), entries, replace=replace)
    ]
    session.table(rows, ("key", "state", "reason"), "no table is there")


def _store(session: Session, named: str | None) -> str:
    """Raises: InvalidArgument, NotFound."""
    known = [one.name for one in session.catalog.stores() if one.kind == "iceberg"]
    if named is not None and named not in known:
        raise NotFound(f"no store of kind iceberg is named {named!r}", remedy="see 'plait store list'")
    if named is None and len(known) != 1:
        listed = ", ".join(known) or "none"
        raise InvalidArgument(
            f"which store takes the tables? There is {listed}", remedy="give --store, or 'plait store add' one"
        )
    return named or known[0]


def _load(origin: str, name: str, options: tuple[str, ...]) -> Catalog:
    """A catalog by its URI and name, or by its name alone. Raises: InvalidArgument, StoreUnavailable."""
    given: dict[str, Any] = dict(pairs(options, "--option"))
    try:
        return load_catalog(name, uri=origin, **given) if "://" in origin else load_catalog(origin, **given)
    except (ValueError, ImportError) as error:
        raise InvalidArgument(
            f"{_shown(origin)} is no Iceberg catalog: {_told(error, origin)}",
            remedy="give its URI, or a name of .pyiceberg.yaml",
        ) from error
    except Exception as error:  # Every driver that pyiceberg brings has errors of its own.
        raise StoreUnavailable(f"Iceberg catalog {_shown(origin)} does not answer: {_told(error, origin)}") from error


def _shown(origin: str) -> str:
    """The origin without what may be a secret: a message stays in the history."""
    return re.sub(r"(://)[^/@]*@|\?.*", r"\1", origin)


def _told(error: Exception, origin: str) -> str:
    return f"{type(error).__name__}: {error}".replace(origin, _shown(origin))

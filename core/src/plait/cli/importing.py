"""`plait import KIND`: what is found at a place of a store's kind, taken into the history as one commit."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from plait.cli.plugin_commands import OpenGroup
from plait.cli.session import Session, json_option, pairs, pass_session
from plait.cli.working_sets import committed
from plait.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from plait.types import Found, Key


class ImportGroup(OpenGroup):
    """Beside the commands that plugins bring, one for each kind of store that can be searched."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *_searchable()})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        found = super().get_command(context, name)
        return _command(name) if found is None and name in _searchable() else found


def _searchable() -> list[str]:
    from plait.adapter import Capability
    from plait.plugins import Plugins

    plugins = Plugins()
    return [kind for kind in plugins.kinds if Capability.DISCOVER in plugins.adapter_class(kind).capabilities]


@click.group("import", cls=ImportGroup)
def import_() -> None:
    """Bring existing data into the history, in place: named assets, or all that is found in a place."""


@import_.command("assets")
@click.argument("assets", nargs=-1, required=True, metavar="KEY=LOCATION…")
@click.option("-m", "--message", default="", help="The commit's message; default: how many assets.")
@click.option("--into", help="Default: the current branch.")
@json_option
@pass_session
def import_assets(session: Session, assets: tuple[str, ...], message: str, into: str | None) -> None:
    """Bring existing native assets into the history as one commit, in place where the store keeps versions.

    A LOCATION that begins with ./, ../ or ~/ is a path on this machine; any other is the store's own to read.
    """
    from plait.refspec import parse_key

    wanted = {parse_key(key): _located(location) for key, location in pairs(assets, "asset").items()}
    committed(session, session.catalog.import_assets(wanted, into or session.branch, message=message))


def _command(kind: str) -> click.Command:
    @click.command(kind, help=f"Bring what is found at a place into a store of kind {kind}, as one commit.")
    @click.option(
        "--from", "place", required=True, metavar="PLACE", help="./, ../ or ~/: a path; else the store's own."
    )
    @click.option("--match", default="*", show_default=True, help="A glob on the dotted names that are found.")
    @click.option("--store", "named", help=f"Default: the only store of kind {kind}.")
    @click.option("--prefix", default="", help="Names in front of those that are found: archive.old")
    @click.option("--into", help="Default: the current branch.")
    @click.option("-m", "--message", default="")
    @click.option("--dry-run", is_flag=True, help="Only list what would be taken.")
    @json_option
    @pass_session
    def command(
        session: Session,
        place: str,
        match: str,
        named: str | None,
        prefix: str,
        into: str | None,
        message: str,
        dry_run: bool,
    ) -> None:
        from plait.refspec import parse_key

        store = store_of_kind(session, kind, named)
        under = (store, *(parse_key(prefix) if prefix else ()))
        found = session.catalog.discover(store, _located(place))
        import_found(session, place, found, under, match=match, into=into, message=message, dry_run=dry_run)

    return command


def import_found(
    session: Session,
    origin: str,
    found: Iterable[Found],
    under: Key,
    *,
    match: str,
    into: str | None,
    message: str,
    dry_run: bool,
) -> None:
    """Take in what fits a glob and is new, as one commit; print what, and what stayed behind and why."""
    branch = into or session.branch
    there = {entry.key for entry in session.catalog.at(branch).entries(under[:1])}
    fitting = [one for one in found if fnmatchcase(".".join(one.name), match)]
    if not fitting:
        raise NotFound(f"nothing at {origin} matches {match!r}", remedy="look elsewhere, or list it with --dry-run")
    rows, taken = [], {}
    for one in fitting:
        key, why_not = (*under, *one.name), one.refusal
        if not why_not and (key in there or key in taken):
            why_not = "its key is in the history already" if key in there else "another has this key"
        if not why_not:
            taken[key] = one.location
        risks = "; ".join(f"{risk.rule}: {risk.remedy}" for risk in one.risks)
        rows.append({"key": ".".join(key), "take": not why_not, "why not": why_not or None, "risks": risks or None})
    if dry_run:
        session.table(rows, ("key", "take", "why not", "risks"), "nothing is there")
        return
    for row in rows:
        if row["why not"]:
            click.echo(f"{row['key']} stays out: {row['why not']}", err=True)
    if not taken:
        session.emit(None, "nothing is new: see --dry-run")
        return
    message = message or f"Import {len(taken)} of {origin}"
    committed(session, session.catalog.import_assets(taken, branch, message=message))


def store_of_kind(session: Session, kind: str, named: str | None) -> str:
    """The store that is named, or the only one of a kind. Raises: InvalidArgument, NotFound."""
    known = [one.name for one in session.catalog.stores() if one.kind == kind]
    if named is not None and named not in known:
        raise NotFound(f"no store of kind {kind} is named {named!r}", remedy="see 'plait store list'")
    if named is None and len(known) != 1:
        listed = ", ".join(known) or "none"
        raise InvalidArgument(
            f"which store takes it? There is {listed}", remedy="give --store, or 'plait store add' one"
        )
    return named or known[0]


def _located(location: str) -> str:
    """A path that says it is one, made absolute: the store does not know from which directory it was written."""
    if location in (".", "..", "~") or location.startswith(("./", "../", "~/")):
        return os.path.abspath(os.path.expanduser(location))
    return location

"""`plait import KIND`: what is found at a place of a store's kind, taken into the history as one commit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from plait.cli.plugin_commands import OpenGroup
from plait.cli.points import SPEC
from plait.cli.printing import commit_row, subject
from plait.cli.session import Session, json_option, located, pairs, pass_session
from plait.cli.working_sets import committed
from plait.errors import InvalidArgument, NotFound
from plait.refspec import format_key, parse_key

if TYPE_CHECKING:
    from plait.importing import Imported
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
@click.option("--into", type=SPEC, help="The branch to commit to; default: the current one.")
@json_option
@pass_session
def import_assets(session: Session, assets: tuple[str, ...], message: str, into: str | None) -> None:
    """Bring existing native assets into the history as one commit, in place where the store keeps versions.

    A LOCATION that begins with ./, ../ or ~/ is a path on this machine; any other is the store's own to read.
    """
    wanted = {parse_key(key): located(location) for key, location in pairs(assets, "asset").items()}
    committed(session, session.catalog.import_assets(wanted, into or session.branch, message=message))


def _command(kind: str) -> click.Command:
    @click.command(kind, help=f"Bring what is found at a place into a store of kind {kind}, as one commit.")
    @click.option(
        "--from",
        "place",
        default="",
        metavar="PLACE",
        help="A path that begins with ./, ../ or ~/; any other place is the store's own to read. Default: all of it.",
    )
    @click.option("--match", default="*", show_default=True, help="A glob on the dotted names that are found.")
    @click.option("--store", "named", help=f"Default: the only store of kind {kind}.")
    @click.option("--prefix", default="", help="What the new keys begin with, after the store's name: archive.old")
    @click.option("--into", type=SPEC, help="The branch to commit to; default: the current one.")
    @click.option("-m", "--message", default="", help="The commit's message; default: how many came, and from where.")
    @click.option("--history/--no-history", default=True, help="Whether a store's own history comes too.")
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
        history: bool,
        dry_run: bool,
    ) -> int:
        store = store_of_kind(session, kind, named)
        under = (store, *(parse_key(prefix) if prefix else ()))
        found = session.catalog.discover(store, located(place))
        fitting = (one for one in found if fnmatchcase(".".join(one.name), match))
        how = Asked(shown_place(place) or f"store {store}", match, into, message, dry_run=dry_run, history=history)
        return import_found(session, fitting, under, how)

    return command


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command was given, beside where it looks. `origin` is for messages, and shows no secret; `look` says what
    to look at where nothing is found."""

    origin: str
    match: str
    into: str | None
    message: str
    dry_run: bool
    history: bool = False
    look: str = "see that it is the right place, and for what it holds the right kind of import"


def import_found(session: Session, found: Iterable[Found], under: Key, asked: Asked) -> int:
    """Take in what is new, as one commit; print what came, and what stayed behind and why. Returns: the exit code.

    Raises: NotFound where nothing was found.
    """
    report = session.catalog.import_found(
        under,
        found,
        asked.into or session.branch,
        origin=asked.origin,
        message=asked.message,
        history=asked.history,
        dry_run=asked.dry_run,
        progress=session.progress,
    )
    if not report.assets:
        if asked.match == "*":
            raise NotFound(
                f"{asked.origin} holds nothing that a store of this kind could take",
                remedy=asked.look,
            )
        raise NotFound(
            f"nothing at {asked.origin} matches {asked.match!r}",
            remedy="see with --dry-run, without --match, what is there",
        )
    rows = [asset_row(one) for one in report.assets]
    if asked.dry_run:
        session.table(rows, ("key", "take", "location", "why not", "versions", "risks"), "nothing is there")
        return 0
    stay = [one for one in report.assets if one.refusal]
    for one in stay:
        if not session.as_json and not one.is_there:
            click.echo(f"{format_key(one.key)} stays out: {one.refusal}", err=True)
    if report.commit is None:
        session.emit({"commit": None, "assets": rows}, "nothing is new: see --dry-run")
        return 0 if any(one.is_there for one in stay) else InvalidArgument.exit_code
    told = f"{report.commit.id[:12]} {subject(report.commit.message)}"
    there = sum(one.is_there for one in stay)
    counted = f"{len(rows) - len(stay)} came"
    counted += f", {there} there already" if there else ""
    counted += f", {len(stay) - there} did not: see --dry-run" if len(stay) > there else ""
    session.emit({"commit": commit_row(report.commit), "assets": rows}, f"{told}\n{counted}")
    return 0


def asset_row(one: Imported) -> dict[str, object]:
    """What became of an asset, as a row and as JSON; its location without what may be a secret."""
    return {
        "key": format_key(one.key),
        "take": not one.refusal,
        "location": shown_place(one.location) or None,
        "why not": one.refusal or None,
        "versions": one.versions or None,
        "risks": "; ".join(f"{risk.rule}: {risk.remedy}" for risk in one.risks) or None,
    }


def shown_place(place: str) -> str:
    """A place without what may be a secret in its address: a message stays in the history."""
    return re.sub(r"(://)[^/@]*@|\?.*", r"\1", place) if "://" in place else place


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

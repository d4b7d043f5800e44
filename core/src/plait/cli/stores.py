"""Catalogs and stores: init, serve, store, export, token, migrate."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from plait.cli.importing import import_
from plait.cli.plugin_commands import Group, OpenGroup
from plait.cli.points import KEY, STORE, TOKEN
from plait.cli.session import Session, json_option, located, pairs, pass_session
from plait.cli.working_sets import committed
from plait.errors import InvalidArgument, NotFound, StoreDiverged, StoreUnavailable, Unsupported


@click.command("init")
@click.argument("where", default=".")
@click.option("--example", is_flag=True, help="Put a small table and some objects into it, to play with.")
@json_option
@pass_session
def init(session: Session, where: str, example: bool) -> None:
    """Make an embedded catalog: in the folder WHERE/.plait, or in the database of a URL, postgresql://… say."""
    import plait
    from plait.connecting import is_url, shown

    with plait.init(where, example=example) as catalog:
        steps = _AFTER_EXAMPLE if example else [_first_store()]
        stores = [one.name for one in catalog.stores()]
    if is_url(where):
        url = where if shown(where) == where else "'THE URL THAT YOU GAVE'"  # Its password is not repeated.
        steps = [f"export PLAIT_CATALOG={url}", *steps]
    holding = f" with {' and '.join(stores)}" if stores else ""
    lines = [f"made a catalog in {shown(where)}{holding}", *(f"→ {step}" for step in steps)]
    session.emit({"catalog": shown(where), "stores": stores, "next": steps}, "\n".join(lines))


_AFTER_EXAMPLE = [
    "plait log --graph --all",
    "plait ls",
    "plait diff main more-orders --items",
    "plait merge more-orders",
]
_FIRST_STORES = {
    "iceberg": "lake --kind iceberg --option warehouse=$PWD/warehouse",
    "delta": "lake --kind delta --option path=$PWD/tables",
    "files": "raw --kind files --option path=$PWD/objects",
    "dolt": "crm --kind dolt --option path=$PWD/databases",
    "block": "vm --kind block --option path=$PWD/volumes",
}


def _first_store() -> str:
    """The next step, with what is installed."""
    from plait.plugins import Plugins

    kinds = Plugins().kinds
    first = next((words for kind, words in _FIRST_STORES.items() if kind in kinds), None)
    return f"plait store add {first}" if first else "pip install plait-iceberg"


@click.command("serve", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@json_option
@pass_session
def serve(session: Session, arguments: tuple[str, ...]) -> None:
    """Serve the catalog over gRPC and HTTP, until stopped.

    \b
    ARGUMENTS go to the server as they are:
      --config FILE      settings; plait.toml here, if there is one
      --grpc HOST:PORT   where to listen; default 127.0.0.1:7450
      --http HOST:PORT   health, metrics, gateways; default 127.0.0.1:7451
      --auth HOW         none (this machine only), token or mtls
      --database URL     another catalog than the one that is found here
      --repository NAME  the one for gateways, and what --init makes; default: default
      --init             make the catalog, if it is not there
    """
    from importlib.util import find_spec

    try:
        installed = find_spec("plait_server.__main__") is not None
    except (ModuleNotFoundError, ValueError):
        installed = False
    if not installed:
        raise Unsupported("the server is not installed", remedy="pip install plait-server")
    environment = {**_served(session, arguments), **os.environ}
    as_json = ["--json"] if session.as_json else []
    os.execve(sys.executable, [sys.executable, "-m", "plait_server", *as_json, *arguments], environment)


def _served(session: Session, arguments: tuple[str, ...]) -> dict[str, str]:
    """The setting that names the catalog, unless the server's own settings do. In the environment: a database's
    password is nobody's to read in a list of processes.

    Raises: NotFound when there is none, InvalidArgument for one that a server serves.
    """
    from plait.connecting import database_url, find, is_served

    given = {word.partition("=")[0] for word in arguments}
    if given & {"--database", "--config"} or (session.where is None and Path("plait.toml").exists()):
        return {}
    try:
        where = database_url(find(session.where))
    except NotFound:
        if "--init" in given and session.where is None:
            return {}
        raise
    if is_served(where):
        raise InvalidArgument(f"{where} is served already", remedy="name a folder or a database with --catalog")
    return {"PLAIT_DATABASE_URL": where}


@click.group("store", cls=Group)
def store() -> None:
    """Add, move, list, check and remove stores; adopt what was written past plait."""


@store.command("add")
@click.argument("name")
@click.option("--kind", required=True, help="iceberg, s3, files …: what the installed plugins bring.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Secrets only as env:NAME or file:PATH.")
@click.option(
    "--mode",
    type=click.Choice(["managed", "observed", "pointer"]),
    default="managed",
    show_default=True,
    help="pointer: plait only records snapshots, and stages and publishes nothing. observed: as managed, so far.",
)
@click.option("--bound-ref", default="main", show_default=True, help="The branch that native heads follow.")
@json_option
@pass_session
def store_add(session: Session, name: str, kind: str, options: tuple[str, ...], mode: str, bound_ref: str) -> None:
    """Configure a store, and check it.

    A value that begins with ./, ../ or ~/ is a path on this machine, and kept as an absolute one.
    """
    from plait.types import Mode

    given = {option: located(value) for option, value in pairs(options, "--option").items()}
    missing = session.catalog.add_store(name, kind, given, mode=Mode(mode), bound_ref=bound_ref)
    told = "".join(f"\n  it lacks: {one.problem}{one.remedy and f' · {one.remedy}'}" for one in missing)
    step = f"plait store check {name}" if missing else "plait begin"
    session.emit({"store": name, "missing": list(map(asdict, missing))}, f"store {name} of kind {kind}{told}\n→ {step}")


@store.command("set")
@click.argument("name", type=STORE)
@click.option("--option", "options", multiple=True, required=True, metavar="NAME=VALUE", help="As for store add.")
@json_option
@pass_session
def store_set(session: Session, name: str, options: tuple[str, ...]) -> None:
    """Say where a store is now: options that are given are set (NAME= takes one away), the others stay.

    Refused unless the new place holds all snapshots of the store that the history names. Nothing is copied.
    """
    given = {option: located(value) for option, value in pairs(options, "--option").items()}
    if missing := session.catalog.set_store(name, given):
        raise StoreUnavailable(
            f"store {name!r} stays as it is, for it cannot be used there: {'; '.join(one.problem for one in missing)}",
            remedy="; ".join(one.remedy for one in missing if one.remedy) or "correct the options, or what is told",
        )
    session.emit({"store": name, "set": given}, f"store {name} is set\n→ plait store check {name}")


@store.command("list")
@json_option
@pass_session
def store_list(session: Session) -> None:
    """The configured stores."""
    rows = [
        {
            "name": one.name,
            "kind": one.kind,
            "mode": one.mode.value,
            "bound_ref": one.bound_ref,
            "options": dict(one.options)
            if session.as_json
            else " ".join(f"{name}={value}" for name, value in sorted(one.options.items())),
        }
        for one in session.catalog.stores()
    ]
    session.table(rows, ("name", "kind", "mode", "bound_ref", "options"), "no store yet · see 'plait store add --help'")


@store.command("check")
@click.argument("names", nargs=-1, type=STORE)
@json_option
@pass_session
def store_check(session: Session, names: tuple[str, ...]) -> None:
    """Say what stores lack, which of their own rules are dangerous, and where they diverged.

    Ends with exit code 7 where one is away, has lost something or lacks something, else with 9 where one has diverged.
    """
    from plait.refspec import format_key

    catalog = session.catalog
    rows, is_lacking = [], False
    for name in names or [one.name for one in catalog.stores() if one.mode.value != "pointer"]:
        missing, risks = catalog.check_store(name)
        is_lacking |= bool(missing)
        rows += [{"store": name, "found": one.problem, "remedy": one.remedy} for one in missing]
        rows += [{"store": name, "found": f"{risk.affects}: {risk.rule}", "remedy": risk.remedy} for risk in risks]
    has_diverged = False
    for publication in catalog.publish(names or None):
        key, remedy = format_key(publication.key), "wait, or look at the store"
        if publication.state == "diverged":
            has_diverged, remedy = True, f"plait store adopt {key}"
        rows.append({"store": publication.store, "found": f"{key} is {publication.state}", "remedy": remedy})
    session.table(rows, ("store", "found", "remedy"), "all is well")
    if is_lacking:
        raise click.exceptions.Exit(StoreUnavailable.exit_code)
    if has_diverged:
        raise click.exceptions.Exit(StoreDiverged.exit_code)


@store.command("adopt")
@click.argument("key", type=KEY)
@json_option
@pass_session
def store_adopt(session: Session, key: str) -> None:
    """Take over what somebody wrote to KEY past plait, merged with what was committed meanwhile."""
    with session.keeping_refused():
        made = session.catalog.adopt(key)
    if made is None:
        session.emit(None, "nothing was new")
    else:
        committed(session, made)


@store.command("remove")
@click.argument("name", type=STORE)
@json_option
@pass_session
def store_remove(session: Session, name: str) -> None:
    """Forget a store that nothing uses. Its data stays where it is."""
    session.catalog.remove_store(name)
    session.emit({"removed": name}, f"removed {name}; its data stays where it is")


@click.group("export", cls=OpenGroup)
def export() -> None:
    """Put data of a commit where others read it: into a folder, a bucket, another Iceberg catalog."""


@click.group("token", cls=Group)
def token() -> None:
    """Make, list and delete tokens for clients of a server."""


@token.command("create")
@click.argument("name")
@json_option
@pass_session
def token_create(session: Session, name: str) -> None:
    """Make a token and print it, once."""
    made = session.catalog.backend.create_token(name)
    session.emit({"name": name, "token": made}, made)
    if sys.stdout.isatty() and not session.as_json:
        click.echo("It is not shown again. Clients read it from PLAIT_TOKEN.")


@token.command("list")
@json_option
@pass_session
def token_list(session: Session) -> None:
    """The names of tokens."""
    from plait.refspec import format_time

    rows = [{"name": name, "created": format_time(at_us)} for name, at_us in session.catalog.backend.tokens()]
    session.table(rows, ("name", "created"), "no token yet")


@token.command("delete")
@click.argument("name", type=TOKEN)
@json_option
@pass_session
def token_delete(session: Session, name: str) -> None:
    """Delete a token: who has it is locked out."""
    session.catalog.backend.delete_token(name)
    session.emit({"deleted": name}, f"deleted {name}")


@click.command("migrate")
@click.option("--no-copy", is_flag=True, help="Make no copy first: you have a backup.")
@json_option
@pass_session
def migrate(session: Session, no_copy: bool) -> None:
    """Bring the catalog's database to this release's schema, a copy first. Stop its servers before."""
    from plait.connecting import find
    from plait.connecting import migrate as migrate_catalog

    session.where = find(session.where)
    done = migrate_catalog(session.where, copy=not no_copy)
    told = f"up to date: the catalog has schema {done.after}, as this plait writes it"
    if done.before != done.after:
        told = f"migrated from schema {done.before} to {done.after}"
        told += f"\nas it was: {done.copy}" if done.copy else ""
    session.emit({"before": done.before, "revision": done.after, "copy": done.copy}, told)


COMMANDS = (init, serve, store, import_, export, token, migrate)

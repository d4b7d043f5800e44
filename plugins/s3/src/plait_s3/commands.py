"""`plait export files` and `plait export s3`: objects of any commit, for readers that know nothing of plait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from plait.cli.importing import store_of_kind
from plait.cli.points import SPEC
from plait.cli.printing import print_table
from plait.cli.session import Session, json_option, pairs, pass_session
from plait.errors import InvalidArgument, Unsupported
from plait.plugins import Plugins
from plait.refspec import format_key, parse_path
from plait.stores import check_store
from plait.types import Key, Store

from plait_s3.export_plan import Action
from plait_s3.exporting import ExportReport, export, shown
from plait_s3.filesystem import AssetFileSystem

_STEPS_SHOWN_MAX = 20
_AT = "A point in the history; default: the working set, where it holds KEY, else the current branch."


def _common(command: Any) -> Any:
    """What both commands take."""
    for option in (
        pass_session,
        json_option,
        click.option("--dry-run", is_flag=True, help="Only list what would be done."),
        click.option("--check", is_flag=True, help="Compare everything, not only what changed since the last export."),
        click.option("--force", is_flag=True, help="Write over, and delete, also what somebody else wrote there."),
        click.option("--delete", is_flag=True, help="Remove what is there of earlier exports, and not in this one."),
        click.option("--match", default="*", show_default=True, help="A glob on names; * passes over slashes."),
        click.option("--at", "spec", type=SPEC, help=_AT),
        click.argument("path", metavar="KEY[::FOLDER]"),
    ):
        command = option(command)
    return command


@click.command("files")
@_common
@click.option("--to", "target", required=True, metavar="FOLDER", help="Made, if it is not there.")
def export_files(session: Session, target: str, **asked: Any) -> None:
    """Make a folder hold the objects of KEY, or those below FOLDER of it, as plain files.

    Again, or after a kill: only what differs is written. Blocks are shared where the disk can. A file that somebody
    else wrote is never written over without --force.
    """
    if "://" in target:
        raise InvalidArgument(f"{target!r} is no folder", remedy="name a folder, or use 'plait export s3'")
    _export(session, target, None, **asked)


@click.command("s3")
@_common
@click.option("--to", "target", required=True, metavar="S3://BUCKET/PREFIX")
@click.option("--store", "named", help="A store of kind s3 whose endpoint and credentials reach the bucket.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="How the bucket is reached, as a store takes it: endpoint, region, access_key, secret_key. Secrets only as "
    "env:NAME or file:PATH. Default: as KEY's own bucket.",
)
def export_s3(session: Session, target: str, named: str | None, options: tuple[str, ...], **asked: Any) -> None:
    """Make a prefix of a bucket hold the objects of KEY, or those below FOLDER of it, as plain objects.

    Again, or after a kill: only what differs is written. Where KEY is in a bucket that is reached the same way, the
    server copies. An object that somebody else wrote is never written over without --force.
    """
    if not target.startswith("s3://"):
        raise InvalidArgument(f"{target!r} is no bucket", remedy="write s3://bucket/prefix, or 'plait export files'")
    _export(session, target, _reached(session, named, pairs(options, "--option")), **asked)


def _reached(session: Session, named: str | None, given: Mapping[str, str]) -> Mapping[str, str]:
    """How the bucket is reached. Raises: InvalidArgument for a secret in clear."""
    options: dict[str, str] = {}
    if named is not None:
        name = store_of_kind(session, "s3", named)
        (store,) = [one for one in session.catalog.stores() if one.name == name]
        options = {option: value for option, value in store.options.items() if option in _REACHED}
    for option in given:
        if option not in _REACHED:
            raise InvalidArgument(f"exports have no option {option!r}", remedy=f"known are {', '.join(_REACHED)}")
    options |= given
    check_store(Store("export", "s3", options=options), Plugins())
    return options


_REACHED = ("access_key", "endpoint", "region", "secret_key")


def _export(
    session: Session,
    target: str,
    options: Mapping[str, str] | None,
    *,
    path: str,
    spec: str | None,
    match: str,
    **rules: bool,
) -> None:
    key, folder = parse_path(path)
    objects, at = _opened(session, key, spec)
    report = export(
        objects, target, folder=folder or "", match=match, options=options, at=at, progress=session.progress, **rules
    )
    _print(session, report, at)


def _opened(session: Session, key: Key, spec: str | None) -> tuple[AssetFileSystem, dict[str, str]]:
    """The objects, and where they are from. Raises: NotFound, Unsupported."""
    tx = session.tx_with(key) if spec is None else None
    at = {"key": format_key(key)}
    if tx is not None:
        objects: object = tx.open(key)
        at["working_set"] = tx.id
    else:
        point = session.catalog.at(spec or session.branch)
        objects = point.open(key)
        at["commit"] = point.commit.id
    if not isinstance(objects, AssetFileSystem):
        raise Unsupported(f"{format_key(key)} is not in a store of objects", remedy="see 'plait export --help'")
    return objects, at


def _print(session: Session, report: ExportReport, at: Mapping[str, str]) -> None:
    counted = {action.value: {"count": len(report.of(action)), "bytes": report.size_bytes(action)} for action in Action}
    rows = [{"item": shown(step.name), "action": step.action.value, "bytes": step.size_bytes} for step in report.steps]
    if session.as_json:
        listed = {"items": rows} if report.is_dry_run else {}
        session.emit({**at, "to": report.to, "dry_run": report.is_dry_run, **counted, **listed})
        return
    if report.is_dry_run and rows:
        print_table(session.console, rows[:_STEPS_SHOWN_MAX], ("item", "action", "bytes"))
        if len(rows) > _STEPS_SHOWN_MAX:
            click.echo(f"… and {len(rows) - _STEPS_SHOWN_MAX} more: --json lists all")
    session.emit(None, "\n".join(_told(report, at)))


def _told(report: ExportReport, at: Mapping[str, str]) -> list[str]:
    would = "would be " if report.is_dry_run else ""
    said = [
        f"{len(report.of(action))} {would}{done} ({report.size_bytes(action):,} bytes)"
        for action, done in ((Action.WRITE, "written"), (Action.DELETE, "deleted"))
        if report.of(action)
    ]
    source = f"{at['key']} at {at['commit'][:12]}" if "commit" in at else f"{at['key']} in the working set"
    lines = [f"{source} → {report.to}: {', '.join(said) or 'nothing differs'}"]
    if left := report.of(Action.LEAVE):
        lines.append(f"{len(left)} that are not in it any more are left: --delete removes them")
    if edited := report.of(Action.EDITED):
        lines.append(f"{len(edited)} are not as plait wrote them: the export is refused without --force")
    return lines

"""What happened, record by record: events, from the start or as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from plait.cli.printing import change_row, commit_row, printable, subject, to_json
from plait.cli.session import COUNT, SEQ, Session, json_option, pass_session

if TYPE_CHECKING:
    from plait.types import Event


@click.command("events")
@click.option("--from", "from_seq", type=SEQ, help="The first seq. Default: 1; of --follow: the next.")
@click.option("--limit", type=COUNT, default=100, show_default=True, help="At most so many.")
@click.option("-f", "--follow", is_flag=True, help="Then wait for each new one, until stopped. --json: one a line.")
@json_option
@pass_session
def events(session: Session, from_seq: int | None, limit: int, follow: bool) -> None:
    """List every durable change in order: commits, refs made, moved and deleted, stores changed, and so on."""
    if follow:
        for event in session.catalog.watch(from_seq):
            row = _row(event, whole=session.as_json)
            click.echo(
                to_json(row)
                if session.as_json
                else f"{row['seq']:>6}  {row['kind']:<20} {row['who']:<12} {row['what']}"
            )
        return
    found = session.catalog.events((from_seq or 1) - 1, limit + 1)
    session.table(
        [_row(event, whole=session.as_json) for event in found[:limit]], ("seq", "kind", "who", "what"), "nothing yet"
    )
    if len(found) > limit:
        click.echo(f"… there are more: plait events --from {found[limit].seq}", err=True)


def _row(event: Event, *, whole: bool) -> dict[str, Any]:
    record = event.payload.get("record")
    named = [part for part in record if isinstance(part, str)] if isinstance(record, list) else []
    what = subject(event.commit.message) if event.commit is not None else " ".join(map(printable, named))
    session: Any = event.payload.get("session") or {}
    who = event.commit.author if event.commit is not None else session.get("author") or session.get("principal") or ""
    row: dict[str, Any] = {"seq": event.seq, "kind": event.kind.value, "who": printable(who), "what": what}
    if whole:
        row["record_hash"] = event.record_hash.hex()
        row["record"] = record
        row["commit"] = None if event.commit is None else commit_row(event.commit)
        row["changes"] = [change_row(change, whole=True) for change in event.changes]
    return row


COMMANDS = (events,)

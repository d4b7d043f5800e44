"""Write core/tests/schemas/REVISION.*.sql: a catalog of this release with a row in every table, as databases dump it.

Run it when a schema that was not released yet changes. A released revision's files are never written again: they are
what migrations are tested on.
"""

from __future__ import annotations

import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import plait
import sqlalchemy as sa
from plait.clock import ManualClock
from plait.codec import encode_conflict, encode_key, encode_resolution
from plait.local import create
from plait.persist import Database, schema
from plait.persist.store_rows import Publication
from plait.persist.tx_rows import conflict_item
from plait.types import Choice, Conflict, ConflictKind, Mode, Participant, Proposal, Resolution, Session, Staging
from plait_conformance.samples import put
from plait_conformance.servers import postgresql_folder, postgresql_server

FOLDER = Path(__file__).parent.parent / "core/tests/schemas"


def fill(url: str) -> None:
    """The same history in every database: tests know what it holds."""
    clock = ManualClock()
    database = Database(url)
    create(database, author="Ada", clock=clock)
    database.close()
    with plait.open(url, clock=clock, session=Session("ada", "Ada", "tests", {"run": "7"}), recover=False) as catalog:
        catalog.add_store("p", "pointer", {"path": "env:NOWHERE"}, mode=Mode.POINTER)
        catalog.commit(
            Proposal("main", (put("a", 1), put("b", 1)), message="Two assets", properties={"job": "nightly"})
        )
        catalog.create_branch("dev")
        catalog.create_tag("v1")
        catalog.commit(Proposal("dev", (put("c", 1),), message="A third"))
        catalog.commit(Proposal("main", (put("a", 2, 1),), message="A change", idempotency_key="the-key"))
        catalog.merge("dev")
        catalog.delete_ref("dev")
        catalog.begin(name="discarded").discard()
        tx = catalog.begin(name="load", message="A load")
        catalog.backend.create_token("ci")
        local = catalog.backend
        key = ("p", "a")
        entry = catalog.at("main").entry(key)
        staging = Staging(tx.id, key, entry.snapshot, "somewhere", {"attribute": "value"})
        participant = Participant(tx.id, key, entry, staging, content_id=entry.content_id, intent=clock.new_id())
        conflict = Conflict(key, ConflictKind.ITEM_CHANGED, "7")
        resolution = encode_resolution(Resolution(key, "7", Choice.OURS))
        row = {"key": encode_key(key), "item": conflict_item("7"), "position": 0, "body": encode_conflict(conflict)}
        with local._repository.write() as rows:  # type: ignore[attr-defined]  # rows that only a native store would make
            rows.put_participants([participant])
            rows.put_conflicts(tx.id, [{**row, "resolution": resolution}])
            rows.set_targets([Publication("p", "a", key, None, None, 3)])
            rows.set_publish_cursors({"p": (catalog.resolve("main").id, 3)})
            rows.swap_state("p", "n", None, b"state")
            rows.set_subscription("webhook", 3)
        _check_every_table(url)


def _check_every_table(url: str) -> None:
    database = Database(url)
    with database.read() as connection:
        for table in schema.metadata.sorted_tables:
            assert connection.execute(sa.select(table).limit(1)).first() is not None, table.name
    database.close()


def sqlite_dump(folder: Path) -> str:
    url = f"sqlite:///{folder / 'catalog.db'}"
    fill(url)
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        return "\n".join(connection.iterdump()) + "\n"


def postgresql_dump(folder: Path) -> str:
    programs = postgresql_folder()
    assert programs is not None
    with postgresql_server(folder) as server:
        fill(f"{server}/postgres")
        command = [
            programs / "pg_dump",
            "--inserts",
            "--no-owner",
            "--no-privileges",
            "--no-comments",
            "-d",
            server + "/postgres",
        ]
        dumped = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # What psql alone understands, what other versions do not know, and remarks.
    skipped = ("\\", "SET ", "SELECT pg_catalog.set_config", "--")
    return "\n".join(line for line in dumped.splitlines() if line and not line.startswith(skipped)) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for dialect, dump in (("sqlite", sqlite_dump), ("postgresql", postgresql_dump)):
        with tempfile.TemporaryDirectory() as folder:
            (FOLDER / f"{schema.REVISION}.{dialect}.sql").write_text(dump(Path(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()

"""`make bench-peer`: plait and Nessie in one sitting, under the same load of this machine's same cores.

Each client puts one new key a commit on one branch; each pair runs the same threads for the same time, turn by turn.
Nessie's REST v2 asks for the branch's hash, which a client takes from its last answer, as its own clients do. Embedded
means SQLite with a flush a batch here, and RocksDB there, which flushes nothing; on PostgreSQL both are durable.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import sqlite3
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plait
import psycopg
from load import Row, clients, has_postgresql, proposal, scratch, serving, show, timed
from plait.errors import CommitConflict, PlaitError
from plait.types import Mode
from plait_conformance.servers import free_port, postgresql_server

_START_SECONDS = 120
_RETRIES_MAX = 200
_WARM_SECONDS = 2.0
_FILL_KEYS = 500
_MEMORY = "-Xmx1g"


@dataclass(slots=True)
class Peer:
    """A running server under load: `commit` makes one commit of one new key, `stored_bytes` is what it keeps."""

    name: str
    pid: int
    fill: Callable[[int], None]
    commit: Callable[[int], None]
    stored_bytes: Callable[[], int]


class NessieClient:
    """One connection a thread; a commit that lost the branch to another asks for the hash again and repeats."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()
        self.retries = 0

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Raises: CommitConflict for 409, PlaitError for any other answer that is none."""
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        connection: http.client.HTTPConnection = self._local.connection
        sent = None if body is None else json.dumps(body)
        try:
            connection.request(method, f"/api/v2/{path}", sent, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
        except BaseException:
            del self._local.connection
            raise
        if answer.status == 409:
            raise CommitConflict(data[:300].decode(), conflicts=())
        if answer.status >= 300:
            raise PlaitError(f"{method} {path} answers {answer.status}: {data[:300]!r}")
        decoded: dict[str, Any] = json.loads(data) if data else {}
        return decoded

    def head(self) -> str:
        return str(self.ask("GET", "trees/main")["reference"]["hash"])

    def put(self, contents: dict[str, dict[str, object]]) -> None:
        """One commit of these keys."""
        for _ in range(_RETRIES_MAX):
            head = getattr(self._local, "head", None) or self.head()
            operations = [
                {"type": "PUT", "key": {"elements": key.split(".")}, "content": content}
                for key, content in contents.items()
            ]
            body = {"commitMeta": {"message": "bench"}, "operations": operations}
            try:
                answer = self.ask("POST", f"trees/main@{head}/history/commit", body)
            except CommitConflict:
                self.retries += 1
                self._local.head = None
            else:
                self._local.head = str(answer["targetBranch"]["hash"])
                return
        raise PlaitError(f"{_RETRIES_MAX} attempts lost the branch")

    def commit(self, number: int) -> None:
        self.put({f"bench.k{number}": _table(number)})

    def fill(self, keys: int) -> None:
        for start in range(0, keys, _FILL_KEYS):
            self.put({f"bench.f{number}": _table(number) for number in range(start, start + _FILL_KEYS)})


def _table(number: int) -> dict[str, object]:
    location = f"s3://bucket/bench/k{number}/metadata/{uuid.uuid4()}.metadata.json"
    table = {"type": "ICEBERG_TABLE", "metadataLocation": location, "snapshotId": number}
    return {**table, "schemaId": 0, "specId": 0, "sortOrderId": 0}


@contextmanager
def nessie(jar: Path, database: str | None) -> Iterator[Peer]:
    """Nessie on loopback: over RocksDB, or over a PostgreSQL database."""
    port, management = free_port(), free_port()
    with scratch() as folder:
        settings = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": port,
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": management,
            "quarkus.otel.sdk.disabled": "true",
            "quarkus.log.level": "WARN",
        }
        if database is None:
            settings["nessie.version.store.type"] = "ROCKSDB"
            settings["nessie.version.store.persist.rocks.database-path"] = folder / "rocks"
        else:
            settings["nessie.version.store.type"] = "JDBC"
            settings["nessie.version.store.persist.jdbc.datasource"] = "postgresql"
            settings["quarkus.datasource.postgresql.jdbc.url"] = "jdbc:" + database.replace("plait@", "")
            settings["quarkus.datasource.postgresql.username"] = "plait"
            settings["quarkus.datasource.postgresql.password"] = "unused"
        command = [_java(), _MEMORY, *(f"-D{name}={value}" for name, value in settings.items()), "-jar", str(jar)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        client = NessieClient(port)
        try:
            _wait(process, client, folder / "log")
            client.put({"bench": {"type": "NAMESPACE", "elements": ["bench"], "properties": {}}})
            stored = (lambda: _folder_bytes(folder / "rocks")) if database is None else (lambda: _rows_bytes(database))
            yield Peer("Nessie", process.pid, client.fill, client.commit, stored)
        finally:
            process.terminate()
            process.wait()


def _java() -> str:
    """Nessie's runner needs Java 21. The newest of this machine, unless JAVA_HOME says which."""
    homes = [Path(os.environ["JAVA_HOME"])] if "JAVA_HOME" in os.environ else []
    homes += sorted(Path("/usr/lib/jvm").glob("temurin-2*"), reverse=True)
    for home in homes:
        if (home / "bin/java").exists():
            return str(home / "bin/java")
    return shutil.which("java") or "java"


def _wait(process: subprocess.Popen[bytes], client: NessieClient, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            client.head()
            return
        except (OSError, http.client.HTTPException) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Nessie does not start: {log.read_text()[-3000:]}") from error
            time.sleep(0.5)


@contextmanager
def ours(database: str | None) -> Iterator[Peer]:
    with scratch() as folder, serving(folder, database=database) as server, plait.connect(server.url) as catalog:
        catalog.add_store("p", "pointer", mode=Mode.POINTER)
        path = folder / "catalog.db"
        stored = (lambda: _sqlite_bytes(path)) if database is None else (lambda: _rows_bytes(database))

        def fill(keys: int) -> None:
            for start in range(0, keys, _FILL_KEYS):
                catalog.commit(proposal(10**12 + start, _FILL_KEYS))

        yield Peer("plait", server.pid, fill, lambda number: _commit(catalog, number), stored)


def _commit(catalog: plait.Catalog, number: int) -> None:
    catalog.commit(proposal(number))


def _sqlite_bytes(path: Path) -> int:
    """The database without its log, which is written back first."""
    with sqlite3.connect(path, timeout=60) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def _rows_bytes(database: str) -> int:
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert found is not None
        return int(found[0])


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def compare(jar: Path, where: str, keys: int, counts: tuple[int, ...], seconds: float) -> Iterator[Row]:
    """The same load on both, turn by turn; then their ratio."""
    with ExitStack() as stack:
        databases: list[str | None] = [None, None]
        if where == "postgresql":
            folder = stack.enter_context(scratch())
            url = stack.enter_context(postgresql_server(folder))
            with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
                for name in ("ours", "theirs"):
                    connection.execute(f"CREATE DATABASE {name}")
            databases = [f"{url}/ours", f"{url}/theirs"]
        peers = [stack.enter_context(ours(databases[0])), stack.enter_context(nessie(jar, databases[1]))]
        for peer in peers:
            took = timed(lambda peer=peer: peer.fill(keys))
            rate = round(keys / took)
            yield {
                "what": f"{peer.name}, {where}, fill by {_FILL_KEYS}",
                "keys_per_second": rate,
                "limit": "processors",
            }
        before, done = [peer.stored_bytes() for peer in peers], [0, 0]
        for place, count in enumerate(counts):
            rates = []
            for turn, peer in enumerate(peers):
                # Java compiles what is hot.
                warm = clients(peer.commit, count, _WARM_SECONDS, place * 10**9 + 5 * 10**8)
                row = clients(peer.commit, count, seconds, place * 10**9, server_pid=peer.pid)
                done[turn] += int(str(warm["commits"])) + int(str(row["commits"]))
                rates.append(int(str(row["commits_per_second"])))
                limit = "flushes to disk" if where == "postgresql" else "processors"
                yield {"what": f"{peer.name}, {where}, clients: {count}", **row, "limit": limit}
            ratio = round(rates[0] / max(rates[1], 1), 1)
            yield {"what": f"plait / Nessie, {where}, clients: {count}", "ratio": ratio, "limit": "the same machine"}
        for peer, size, commits in zip(peers, before, done, strict=True):
            kept = round((peer.stored_bytes() - size) / max(commits, 1))
            yield {"what": f"{peer.name}, {where}", "bytes_a_commit": kept, "limit": "the size of a tree's nodes"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jar", type=Path, required=True, help="Nessie's runner")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    parser.add_argument("--keys", type=int, default=10_000, help="that are there before")
    parser.add_argument("--clients", default="1,8,32")
    chosen = parser.parse_args()
    rows: list[Row] = []
    counts = tuple(map(int, chosen.clients.split(",")))
    for where in ("embedded", "postgresql") if has_postgresql() else ("embedded",):
        for row in compare(chosen.jar, where, chosen.keys, counts, chosen.seconds):
            rows.append(row)
            show(row)
    if chosen.json:
        machine = {"processors": os.cpu_count(), "load": os.getloadavg()[0]}
        chosen.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

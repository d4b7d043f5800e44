"""A server's life: start, graceful stop, sudden death, and what the client makes of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import plait
import pytest
from plait.errors import OutcomeUnknown, StoreUnavailable
from plait.local import LocalBackend, create
from plait.persist import Database
from plait.plugins import Plugins
from plait.types import Commit, Mode, Proposal, Put, SnapshotRef
from plait_conformance.forking import Forked
from plait_conformance.serving import ServerProcess, database_url, serving, start_server
from plait_server.repositories import Repositories


def proposal(name: str, key: str | None = None) -> Proposal:
    put = Put(("p", name), SnapshotRef("p", "table", name, "v1", b"1" * 32))
    return Proposal("main", (put,), idempotency_key=key)


def prepared(folder: Path) -> None:
    """A database with the pointer store `p`."""
    with serving(folder) as server, plait.connect(server.url) as catalog:
        catalog.add_store("p", "pointer", mode=Mode.POINTER)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A server that is to end by itself."""
    command = [sys.executable, "-m", "plait_server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120, check=False)


def test_a_server_makes_a_catalog_only_when_told_to(tmp_path: Path) -> None:
    ended = run(tmp_path, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--database", database_url(tmp_path))
    assert ended.returncode == 3
    assert "plait init" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []
    for wrong in (("--auth", "none", "--grpc", "0.0.0.0:0"), ("--port", "7450"), ("--grpc",)):
        told = run(tmp_path, "--json", *wrong)
        assert (told.returncode, json.loads(told.stderr)["code"]) == (2, "INVALID_ARGUMENT")


@pytest.mark.parametrize("as_json", [False, True])
def test_plait_serve_serves_the_catalog_that_is_found(tmp_path: Path, as_json: bool) -> None:
    plait.init(tmp_path / "shop").close()
    (tmp_path / "shop" / "deep").mkdir()
    command = [sys.executable, "-m", "plait", "serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    command += ["--json"] if as_json else []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PLAIT_")}
    process = subprocess.Popen(
        command, cwd=tmp_path / "shop" / "deep", stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = json.loads(line)["catalog"] if as_json else line.split()[1]
        with plait.connect(url) as served:
            served.create_tag("from-the-client")
    finally:
        process.terminate()
        assert process.wait(60) == 0
        assert process.stdout is not None
        process.stdout.close()
    with plait.open(tmp_path / "shop") as catalog:
        assert [ref.name for ref in catalog.refs()] == ["from-the-client", "main"]


def test_a_bad_configuration_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "plait.toml").write_text('[server]\ngrpc = "0.0.0.0:7450"\n')
    ended = run(tmp_path, "--config", "plait.toml")
    assert ended.returncode == 2
    assert re.fullmatch(r"error: plait\.toml:2: server\.grpc .* other machines.*\n", ended.stderr)


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        taken = f"127.0.0.1:{server.ports[0]}"
        ended = run(tmp_path, "--grpc", taken, "--http", "", "--database", database_url(tmp_path))
    assert ended.returncode == StoreUnavailable.exit_code
    assert re.fullmatch(rf"error: cannot listen on {taken} .*\n", ended.stderr)  # And no line of gRPC's own.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_stop_answers_what_it_took(tmp_path: Path, number: signal.Signals) -> None:
    prepared(tmp_path)
    server = start_server(tmp_path)
    started = threading.Barrier(5)
    acknowledged: list[str] = []

    def commit(thread: int) -> None:
        with plait.connect(server.url) as catalog:
            started.wait()
            for count in range(10_000):
                try:
                    acknowledged.append(catalog.commit(proposal(f"{thread}-{count}")).id)
                except (StoreUnavailable, OutcomeUnknown):
                    return

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(commit, thread) for thread in range(4)]
        started.wait()
        server.process.send_signal(number)
        assert server.wait() == 0
        for one in running:
            one.result()
    assert '"level": "error"' not in server.log
    with plait.open(database_url(tmp_path)) as catalog:
        assert set(acknowledged) <= {commit.id for commit in catalog.log()}


def test_a_killed_server_keeps_every_acknowledged_commit(tmp_path: Path) -> None:
    prepared(tmp_path)
    server = start_server(tmp_path)
    acknowledged: list[Commit] = []
    enough = threading.Event()

    def commit(thread: int) -> None:
        with plait.connect(server.url) as catalog:
            for count in range(10_000):
                try:
                    acknowledged.append(catalog.commit(proposal(f"{thread}-{count}")))
                except (StoreUnavailable, OutcomeUnknown):
                    return
                if len(acknowledged) >= 40:
                    enough.set()

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(commit, thread) for thread in range(4)]
        assert enough.wait(60)
        server.kill()
        for one in running:
            one.result()
    with serving(tmp_path) as again, plait.connect(again.url) as catalog:
        assert {commit.id for commit in acknowledged} <= {commit.id for commit in catalog.log()}
        assert list(catalog.verify()) == []


def test_a_stop_that_another_thread_was_told_of_is_heard(tmp_path: Path) -> None:
    """The system gives a signal to any thread: the main one may be in a system call, which then goes on."""
    script = tmp_path / "serve.py"
    script.write_text(
        "import signal, threading, time\n"
        "threading.Thread(target=time.sleep, args=(120,), daemon=True).start()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "from plait_server.__main__ import main\n"
        "raise SystemExit(main(['--init', '--grpc', '127.0.0.1:0', '--http', '127.0.0.1:0']))\n"
    )
    output, errors = tmp_path / "output", tmp_path / "errors"
    process = Forked([str(script)], environment=os.environ, folder=tmp_path, output=output, errors=errors)
    while not (output.exists() and "serving" in output.read_text()):
        assert process.poll() is None, errors.read_text()
        time.sleep(0.01)
    process.terminate()
    assert process.wait(60) == 0


def restart_when_dead(server: ServerProcess) -> ServerProcess:
    """Wait until it has killed itself, and put a healthy server in its place."""
    assert server.wait() == -signal.SIGKILL
    return start_server(server.folder, ports=server.ports)


@pytest.mark.parametrize("place", ["sequencer.before_commit", "sequencer.after_commit"])
def test_a_commit_whose_answer_was_lost_is_asked_for_again_and_is_one_commit(tmp_path: Path, place: str) -> None:
    prepared(tmp_path)
    server = start_server(tmp_path, environment={"PLAIT_FAILPOINT": f"{place}@2"})
    with plait.connect(server.url) as catalog, ThreadPoolExecutor(1) as pool:
        first = catalog.commit(proposal("first"))
        restarted = pool.submit(restart_when_dead, server)
        found: Commit | None = None
        # The new server may be slower than the client's patience: then it is asked again, as the remedy says.
        with suppress(OutcomeUnknown):
            found = catalog.commit(proposal("second", "the-key"))
        again = restarted.result()
        try:
            commit = catalog.commit(proposal("second", "the-key"))
            assert found in (None, commit)
            assert catalog.commit(proposal("second", "the-key")) == commit
            assert commit.parents == (first.id,)
            assert catalog.resolve("main") == commit
        finally:
            again.stop()


def test_a_working_set_whose_answer_was_lost_is_one_commit(tmp_path: Path) -> None:
    with serving(tmp_path) as server, plait.connect(server.url) as catalog:
        catalog.add_store("fake", "fake", {"path": str(tmp_path / "fake")})
        tx = catalog.begin("main", message="kept")
        tx.create("fake.t")
    server = start_server(tmp_path, environment={"PLAIT_FAILPOINT": "sequencer.after_commit@1"}, ports=server.ports)
    with plait.connect(server.url) as catalog, ThreadPoolExecutor(1) as pool:
        restarted = pool.submit(restart_when_dead, server)
        tx = catalog.working_set(tx.id)
        found: Commit | None = None
        with suppress(OutcomeUnknown):
            found = tx.commit()
        again = restarted.result()
        try:
            commit = tx.commit()
            assert found in (None, commit)
            assert [one.message for one in catalog.log()] == ["kept", "Empty repository"]
        finally:
            again.stop()


def test_without_an_answer_a_commit_is_unknown_and_a_read_unavailable(tmp_path: Path) -> None:
    prepared(tmp_path)
    server = start_server(tmp_path, environment={"PLAIT_FAILPOINT": "sequencer.after_commit@1"})
    with plait.connect(server.url) as catalog:
        with pytest.raises(OutcomeUnknown, match="does not answer"):
            catalog.commit(proposal("lost"))
        assert server.wait() == -signal.SIGKILL
        with pytest.raises(StoreUnavailable, match="does not answer"):
            catalog.refs()
        # It never reached a server, so it is known not to have happened.
        with pytest.raises(StoreUnavailable):
            catalog.commit(proposal("never"))


def test_what_died_half_way_is_put_right_at_the_start(tmp_path: Path) -> None:
    with serving(tmp_path) as server, plait.connect(server.url) as catalog:
        catalog.add_store("fake", "fake", {"path": str(tmp_path / "fake")})
        tx = catalog.begin("main", name="kept", message="kept")
        tx.create("fake.t")
    server = start_server(tmp_path, environment={"PLAIT_FAILPOINT": "sequencer.before_commit@1"})
    with plait.connect(server.url) as catalog:
        with pytest.raises(OutcomeUnknown):
            catalog.working_set("kept").commit()
    assert server.wait() == -signal.SIGKILL
    with serving(tmp_path) as again:
        lines = [json.loads(line) for line in again.log.splitlines()]
        assert [line["repository"] for line in lines if line["message"] == "recovered"] == ["default"]
        with plait.connect(again.url) as catalog:
            assert catalog.working_set("kept").commit().message == "kept"


def test_opening_a_repository_waits_for_the_recovery_of_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, recovering, go_on = Database(database_url(tmp_path)), threading.Event(), threading.Event()
    recovered: list[str] = []

    def recover(backend: LocalBackend) -> list[str]:
        if backend.repository == "slow":
            recovering.set()
            assert go_on.wait(60)
        recovered.append(backend.repository)
        return []

    monkeypatch.setattr(LocalBackend, "recover", recover)
    with closing(database), ThreadPoolExecutor(4) as threads:
        for name in ("slow", "quick"):
            create(database, name)
        repositories = Repositories(database, Plugins())
        try:
            slow = threads.submit(repositories.get, "slow")
            assert recovering.wait(60)
            assert threads.submit(repositories.get, "quick").result(30).repository == "quick"
            assert repositories.all() == [repositories.get("quick")]
            closed = threads.submit(repositories.close)
            with pytest.raises(TimeoutError):
                closed.result(0.01)
        finally:
            go_on.set()
        assert slow.result(60).repository == "slow"
        closed.result(60)
        assert (recovered, repositories.all()) == (["quick", "slow"], [])


def test_one_server_serves_several_repositories(tmp_path: Path) -> None:
    start_server(tmp_path, "--repository", "other").stop()
    with serving(tmp_path) as server:
        other = server.url.replace("/default", "/other")
        with plait.connect(server.url) as one, plait.connect(other) as two:
            one.add_store("p", "pointer", mode=Mode.POINTER)
            one.commit(proposal("a"))
            assert two.stores() == []
            assert len(list(two.log())) == 1
            assert two.backend.repository == "other"


@pytest.mark.parametrize("cores", ["one", "all"])
def test_threads_that_wait_for_the_commit_point_share_a_core(tmp_path: Path, cores: str) -> None:
    with serving(tmp_path, environment={"PLAIT_SERVER_CORES": cores}) as server, plait.connect(server.url) as catalog:
        catalog.add_store("p", "pointer", mode=Mode.POINTER)
        catalog.commit(proposal("a"))
        tasks = list(Path(f"/proc/{server.process.pid}/task").iterdir())
        allowed = {int(task.name): os.sched_getaffinity(int(task.name)) for task in tasks}
    alone = [one for one in allowed.values() if len(one) == 1]
    every = os.sched_getaffinity(0)
    assert allowed[server.process.pid] == every
    if cores == "one":
        assert len(alone) >= 3  # Of gRPC, of calls, and the sequencer.
        assert all(one == alone[0] for one in alone)
    else:
        assert all(one == every for one in allowed.values())


def test_plugins_and_stores_may_use_every_core(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import os, threading
import plait
from plait import cores
from plait.codec import ref_digest
from plait.hookspecs import hookimpl
from plait.plugins import Plugins
from plait.types import Proposal, Put
from plait_conformance.fake_kinds import FakeBlockAdapter
from plait_server.config import load_config
from plait_server.serving import Server

every, seen, told = os.sched_getaffinity(0), {}, threading.Event()

class Adapter(FakeBlockAdapter):
    def publish(self, moves):
        seen["publish"] = os.sched_getaffinity(0)
        return super().publish(moves)

class Plugin:
    @hookimpl
    def plait_register_adapters(self):
        return [Adapter]
    @hookimpl
    def plait_check_proposal(self, proposal):
        seen["gate"] = os.sched_getaffinity(0)
    @hookimpl
    def plait_on_event(self, event):
        seen["event"] = os.sched_getaffinity(0)
        told.set()

cores.keep_together()
config = load_config(None, {}, {"server.grpc": "127.0.0.1:0", "server.http": "", "database.url": "sqlite:///c.db"})
server = Server(config, init=True, plugins=Plugins([Plugin()], installed=False))
with plait.connect(f"plait://127.0.0.1:{server.grpc_port}/default") as catalog:
    catalog.add_store("s", "fake-block", {"path": "store"})
    for value in "12":
        with catalog.transaction() as tx:
            tx.open(("s", "a"), create=True).update({"x": value})
    seen.clear()
    told.clear()
    key = ("s", "a")
    first, last = (catalog.backend.get(spec, [key])[key] for spec in ("main~1", "main"))
    catalog.commit(Proposal("main", (Put(key, first.snapshot, ref_digest(last.snapshot)),)))
assert told.wait(60)
server.stop()
assert seen == {"gate": every, "publish": every, "event": every}, seen
assert os.sched_getaffinity(0) == every
print("seen")
"""
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "seen\n"), ended.stderr

"""A Ceph cluster of one monitor and one store, in a folder, for tests: real, small, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plait_conformance.servers import free_port

CEPH_REMEDY = "apt-get install ceph-mon ceph-osd ceph-common python3-rbd qemu-block-extra"
_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "rbd")
_SECONDS_MAX = 120
_POOL, _USER = "volumes", "plait"
_RIGHTS = {
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    f"client.{_USER}": {"mon": "profile rbd", "osd": f"profile rbd pool={_POOL}"},
}
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{port}/0]
keyring = {folder}/keyring
run_dir = {folder}
log_file = {folder}/$name.log
admin_socket = {folder}/$name.$pid.asok
pid_file =
mon_data = {folder}/mon
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
paxos_propose_interval = 0.01
paxos_min_wait = 0.01
osd_data = {folder}/osd
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_client_watch_timeout = 20
bluestore_block_size = 21474836480
osd_memory_target = 939524096
"""


@contextmanager
def ceph_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """A running cluster: yields the options of a pool for images: `pool`, `conf` and `user`. Root is not needed.

    Its disk is a sparse file of 20 GiB. It asks for keys (cephx); the user has Ceph's profile for RBD.

    Raises: FileNotFoundError when programs are missing, RuntimeError with what one said.
    """
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        raise FileNotFoundError(f"without {', '.join(missing)}: {CEPH_REMEDY}")
    port, fsid, store = free_port(), str(uuid.uuid4()), str(uuid.uuid4())
    configuration = folder / "ceph.conf"
    configuration.write_text(_CONFIGURATION.format(fsid=fsid, port=port, folder=folder))
    keyring, monitors = str(folder / "keyring"), str(folder / "monitors")
    processes: list[subprocess.Popen[bytes]] = []

    def run(*command: str) -> None:
        _run(configuration, *command)

    def start(*command: str) -> None:
        processes.append(_start(folder, [*command, "--conf", str(configuration), "-f"]))

    try:
        run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name, rights in _RIGHTS.items():
            caps = [part for daemon, right in rights.items() for part in ("--cap", daemon, right)]
            run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
        run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{port}/0]", "--fsid", fsid, monitors)
        run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monitors, "--keyring", keyring)
        start("ceph-mon", "-i", "a")
        (folder / "osd").mkdir()
        run("ceph", "osd", "new", store)
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
        start("ceph-osd", "-i", "0")
        run("ceph", "osd", "pool", "create", _POOL, "8")
        run("rbd", "pool", "init", _POOL)
        yield {"pool": _POOL, "conf": str(configuration), "user": _USER}
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
        shutil.rmtree(folder / "osd", ignore_errors=True)


def _run(configuration: Path, *command: str) -> None:
    environment = {**os.environ, "CEPH_CONF": str(configuration), "CEPH_ARGS": ""}
    try:
        done = subprocess.run(
            list(command), env=environment, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"since {command[0]} did not end in {_SECONDS_MAX} s") from error
    if done.returncode:
        raise RuntimeError(f"since {' '.join(command)} failed: {done.stderr.strip()[-2000:]}")


def _start(folder: Path, command: list[str]) -> subprocess.Popen[bytes]:
    setpriv = shutil.which("setpriv")
    dying = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    with (folder / f"{command[0]}.out").open("wb") as output:
        return subprocess.Popen([*dying, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output)

"""The qemu-storage-daemon of one store's folder: started on first need, shared by every process, replaced when dead.

Whoever uses it holds a shared lock; the last one to close stops it, unless the URI of a working volume was given to
clients that know nothing of plait: then whoever ends that transaction does. It outlives a killed client, so that
volumes in use stay so, and is found again by its socket. One process at a time talks to its monitor, for a few
milliseconds. It keeps nothing: which layers there are is on disk, and what it served before a crash is served again on
the next use.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

from plait.errors import StoreUnavailable

from plait_block import images
from plait_block.folder import Folder, translated
from plait_block.images import Image
from plait_block.qmp import CommandFailed, Qmp

_START_SECONDS: Final = 10
_STOP_SECONDS: Final = 10
STAYS: Final = "stays"
"""The file in a working volume's folder that says so."""
_NODES_KEPT_MAX: Final = 64
"""Images that stay open in case that they are wanted again, each with up to some MiB of its tables."""
_SOCKET_PATH_MAX: Final = 100
"""The system takes 107 bytes."""


class Refused(StoreUnavailable):
    """The daemon answered with an error."""


class Monitor:
    """One conversation with the daemon. Nodes are images, exports are what clients connect to."""

    def __init__(self, qmp: Qmp, nbd: Path) -> None:
        self._qmp = qmp
        self.nbd = nbd

    def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Raises: Refused with the daemon's words; StoreUnavailable when it is gone."""
        try:
            return self._qmp.execute(command, arguments)
        except CommandFailed as error:
            remedy = images.remedy_for(str(error))
            raise Refused(f"the storage daemon refused {command}: {error}", remedy=remedy) from error
        except OSError as error:
            raise StoreUnavailable(f"the storage daemon went away during {command}", remedy="try again") from error

    def nodes(self) -> dict[str, Mapping[str, Any]]:
        return {node["node-name"]: node for node in self.execute("query-named-block-nodes", {"flat": True})}

    def exports(self) -> dict[str, str]:
        """Export id → node's name, of those that are served."""
        return {one["id"]: one["node-name"] for one in self.execute("query-block-exports") if not one["shutting-down"]}

    def add_chain(self, chain: Sequence[Image], *, writable: bool = False) -> str:
        """The top image's node, over the rest of its chain; `writable` counts for the top. Repeat: no-op."""
        try:
            self._add_missing(chain, writable)
        except Refused:
            # Somebody else's working set ended meanwhile, and took along a node that was to be used.
            self._add_missing(chain, writable)
        return chain[0].node

    def _add_missing(self, chain: Sequence[Image], writable: bool) -> None:
        known = self.nodes()
        below: str | None = None
        for image in reversed(chain):
            if image.node not in known:
                node = _options(image, writable=writable and image is chain[0])
                if image.format == "qcow2":
                    node["backing"] = below
                try:
                    self.execute("blockdev-add", node)
                except Refused as error:
                    raise Refused(
                        f"the storage daemon cannot open image {image}: {error.__cause__}",
                        remedy=error.remedy or "'plait verify --depth bytes' tells whether it is whole",
                    ) from error
            below = image.node

    def add_alone(self, image: Image) -> None:
        """A writable overlay's node without what is below it, to be put on top of a node. Repeat: no-op."""
        if image.node not in self.nodes():
            self.execute("blockdev-add", {**_options(image, writable=True), "backing": None})

    def rebase(self, image: Image, backing: str) -> None:
        """Put a writable overlay onto another node of the same content, under connected clients."""
        self.execute("blockdev-reopen", {"options": [{**_options(image, writable=True), "backing": backing}]})

    def serve(self, export: str, node: str, *, writable: bool) -> None:
        """Serve a node over NBD under a name. Repeat: no-op."""
        if export not in self.exports():
            served = {"type": "nbd", "id": export, "node-name": node, "name": export, "allocation-depth": True}
            self.execute("block-export-add", {**served, "writable": writable})

    def serve_file(self, export: str, node: str, file: Path, *, writable: bool) -> None:
        """Show a node as a file, for programs that know no NBD. Needs /dev/fuse."""
        shown = {"type": "fuse", "id": export, "node-name": node, "mountpoint": str(file), "writable": writable}
        self.execute("block-export-add", shown)

    def withdraw(self, export: str, *, force: bool) -> bool:
        """End an export; False when clients are connected and it is not forced."""
        if export not in self.exports():
            return True
        try:
            self.execute("block-export-del", {"id": export, "mode": "hard" if force else "safe"})
        except Refused:
            return False
        deadline = time.monotonic() + _STOP_SECONDS
        while any(one["id"] == export for one in self.execute("query-block-exports")):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def remove_chain(self, chain: Sequence[Image]) -> None:
        """Forget the images that nobody uses any more, from the top down to the first that is in use."""

        with suppress(Refused):
            for image in chain:
                self.execute("blockdev-del", {"node-name": image.node})

    def remove_idle(self, names: Iterable[str]) -> None:
        """Forget those of these images that nobody uses, once they are many: each costs memory."""
        nodes = [name for name in names if name[0] in "lk"]
        if len(nodes) <= _NODES_KEPT_MAX:
            return

        def is_kept(name: str) -> bool:
            try:
                self.execute("blockdev-del", {"node-name": name})
            except Refused:
                return True  # In use, or below one that is.
            return False

        while len(kept := [name for name in nodes if is_kept(name)]) < len(nodes):
            nodes = kept

    def written(self) -> dict[str, int]:
        """Each node, and where the highest write to it ended since it was added; 0: nobody wrote."""
        found = self.execute("query-blockstats", {"query-nodes": True})
        return {one["node-name"]: one["stats"]["wr_highest_offset"] for one in found if "node-name" in one}


class Daemon:
    """Reaches the daemon of a folder. Thread-safe."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._using: IO[bytes] | None = None

    @contextmanager
    def monitor(self) -> Iterator[Monitor]:
        """A conversation; the daemon is started when it does not run. Raises: StoreUnavailable, Unsupported."""
        with self._conversation(starts=True) as found:
            assert found is not None
            yield found

    @contextmanager
    def monitor_if_running(self) -> Iterator[Monitor | None]:
        """A conversation, or None: then nobody has an image of this folder open through it."""
        with self._conversation(starts=False) as found:
            yield found

    def nbd_socket(self) -> Path:
        return self._sockets() / "nbd"

    def uri(self, export: str) -> str:
        return f"nbd+unix:///{quote(export)}?socket={quote(str(self.nbd_socket()))}"

    def close(self) -> None:
        """Let go; the last user stops the daemon, and waits for its end. Repeat: no-op."""
        with self._lock:
            using, self._using = self._using, None
            if using is not None:
                using.close()
                self._stop_if_unused()

    # -- parts -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _conversation(self, *, starts: bool) -> Iterator[Monitor | None]:
        if not starts and not self._folder.run.exists():
            yield None
            return
        with self._folder.locked(self._folder.run / "monitor.lock"):
            qmp = self._reach_if_running()
            if qmp is None and starts:
                self._use()
                qmp = self._started()
            if qmp is None:
                yield None
                return
            with qmp:
                self._use()
                yield Monitor(qmp, self.nbd_socket())

    def _reach_if_running(self) -> Qmp | None:
        try:
            return self._reach()
        except OSError:
            return None

    def _reach(self) -> Qmp:
        """Raises: OSError where no daemon answers."""
        return Qmp(self._sockets() / "qmp")

    def _started(self) -> Qmp:
        """Start it, and reach it. On a machine short of memory or time it may die, or refuse, right after its start:
        it holds nothing yet, so another attempt costs nothing."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            self._start()
            while True:
                try:
                    return self._reach()
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise StoreUnavailable(
                            f"the storage daemon of {self._folder.root} was started, but does not answer: {error}",
                            remedy="see whether the machine is short of memory or files, then try again",
                        ) from error
                time.sleep(0.02)
                if not images.is_locked(self._folder.run / "pid"):
                    break  # It ended.

    def _use(self) -> None:
        """Say that this process uses the daemon, for as long as it lives or until `close`."""
        with self._lock:
            if self._using is None:
                self._using = (self._folder.run / "users.lock").open("ab")
                fcntl.flock(self._using, fcntl.LOCK_SH)

    def _sockets(self) -> Path:
        """Where the sockets are: beside the layers, or, where that name is too long for a socket, in a folder that
        a record there names. The same after a restart, so that clients may connect again."""
        if len(os.fsencode(self._folder.run / "nbd")) <= _SOCKET_PATH_MAX:
            return self._folder.run
        record = self._folder.run / "sockets.json"
        known = self._folder.read(record)
        if known is not None and Path(known["path"]).is_dir():
            return Path(known["path"])
        made = tempfile.mkdtemp(prefix="plait-block-")
        self._folder.write(record, {"path": made})
        return Path(made)

    def _remove_sockets(self) -> None:
        for name in ("qmp", "nbd"):
            (self._sockets() / name).unlink(missing_ok=True)

    def _start(self) -> None:
        sockets = self._sockets()
        with translated(f"folder {sockets}"):
            sockets.chmod(0o700)
            self._remove_sockets()
        pid = self._folder.run / "pid"
        try:
            images.run(*self._command(sockets, pid))
        except StoreUnavailable as error:
            if "lock pid file" not in error.message:
                raise
            raise StoreUnavailable(
                f"the storage daemon of {self._folder.root} still runs, but its sockets in {sockets} are gone",
                remedy=f"disconnect its clients, end process {pid.read_text().strip()}, then try again",
            ) from error

    @staticmethod
    def _command(sockets: Path, pid: Path) -> Sequence[str]:
        return (
            "sh", "-c", 'ulimit -n "$(ulimit -H -n)"; exec "$0" "$@"',  # Each layer that is served is an open file.
            images.find("qemu-storage-daemon"),
            "--daemonize",
            "--chardev", f"socket,id=qmp,path={_escaped(sockets / 'qmp')},server=on,wait=off",
            "--monitor", "chardev=qmp",
            "--nbd-server", f"addr.type=unix,addr.path={_escaped(sockets / 'nbd')},max-connections=0",
            "--pidfile", str(pid),
        )  # fmt: skip

    def _stop_if_unused(self) -> None:
        # Nobody begins to use it meanwhile: that takes a conversation.
        with self._folder.locked(self._folder.run / "monitor.lock"):
            with (self._folder.run / "users.lock").open("ab") as users:
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
                if any(self._folder.root.glob(f"places/*/*/{STAYS}")):
                    return
                if any((self._folder.run / name).exists() for name in ("pid", "qmp")):
                    self._quit()
                self._clear()

    def _clear(self) -> None:
        """Drop what processes that were killed left of the filesystems that they looked into."""
        for scratch in (self._folder.run / "files").glob("*"):
            for name in ("root", "volume"):
                subprocess.run(["fusermount3", "-u", "-z", scratch / name], capture_output=True, check=False)
            shutil.rmtree(scratch, ignore_errors=True)

    def _quit(self) -> None:
        """Ask it to end, and wait for that. By its own socket, since a process id may be another's by now."""
        socket, pid = self._sockets() / "qmp", self._folder.run / "pid"
        qmp = self._reach_if_running()
        if qmp is not None:
            with qmp, suppress(OSError):
                qmp.execute("quit")
        elif images.is_locked(pid):
            return  # It lives, without sockets: nothing else names it.
        else:
            pid.unlink(missing_ok=True)  # It was killed, and left that.
            self._remove_sockets()
        deadline = time.monotonic() + _STOP_SECONDS
        # Both are what it removes at its very end, be it from under the next one.
        while (pid.exists() or socket.exists()) and time.monotonic() < deadline:
            time.sleep(0.005)
        if not pid.exists():  # It leaves the socket of its exports, which cannot be copied.
            self._remove_sockets()
            if socket.parent != self._folder.run:
                socket.parent.rmdir()


def _options(image: Image, *, writable: bool) -> dict[str, object]:
    return {
        "driver": image.format,
        "node-name": image.node,
        "read-only": not writable,
        "discard": "unmap",
        "file": image.protocol(),
    }


def _escaped(path: Path) -> str:
    """For qemu's option syntax, in which a comma ends a value."""
    return str(path).replace(",", ",,")

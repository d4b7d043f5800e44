"""A pool of a Ceph cluster, through the cluster's own Python binding: images, their snapshots, and clones of these.

The binding comes from the system's packages, not from PyPI: it is looked for where the system keeps it, after all else.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from plait.errors import NotFound, PermissionDenied, StoreUnavailable, Unsupported

from plait_block.extents import Reader
from plait_block.ranges import Range, union

_PACKAGES: Final = "/usr/lib/python3/dist-packages"
REMEDY: Final = "apt-get install python3-rbd qemu-block-extra, and run plait with the system's Python version"
_SETTINGS: Final = {
    "rbd_default_clone_format": "2",  # Clones of snapshots that are not protected, and that may go before the clone.
    "client_mount_timeout": "10",
    "rados_mon_op_timeout": "20",
    "rados_osd_op_timeout": "60",
}


def _binding(name: str) -> Any:
    """Raises: Unsupported when it is not installed for this Python."""
    sys.path.append(_PACKAGES)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unsupported(f"Ceph's Python module {name!r} cannot be imported: {error}", remedy=REMEDY) from error
    finally:
        sys.path.remove(_PACKAGES)


class Pool:
    """One pool, or one namespace of it. Thread-safe; connects on first need."""

    def __init__(self, pool: str, namespace: str = "", conf: str = "/etc/ceph/ceph.conf", user: str = "admin") -> None:
        self.pool = pool
        self.namespace = namespace
        self.conf = conf
        self.user = user

    def __str__(self) -> str:
        return f"{self.pool}/{self.namespace}" if self.namespace else self.pool

    def sibling(self, pool: str, namespace: str) -> Pool:
        """Another pool of the same cluster."""
        return Pool(pool, namespace, self.conf, self.user)

    # -- images ------------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        with self._at(str(self)) as (rbd, at):
            return sorted(rbd.RBD().list(at))

    def create(self, image: str, size_bytes: int) -> None:
        """An image of zeroes. Repeat: no-op."""
        with self._at(image) as (rbd, at), suppress(rbd.ImageExists):
            rbd.RBD().create(at, image, size_bytes, old_format=False)

    def clone(self, source: Pool, parent: str, snapshot: str, image: str, size_bytes: int) -> None:
        """An image that holds what a snapshot does, up to a size, and shares its objects. Repeat: no-op."""
        if not self._has(image):
            with source._opened(parent, snapshot):
                pass
            with source._at(f"{parent}@{snapshot}") as (rbd, source_at), self._at(image) as (_, at):
                with suppress(rbd.ImageExists):
                    rbd.RBD().clone(source_at, parent, snapshot, at, image)
        with self._opened(image, None, writable=True) as opened:
            if opened.size() != size_bytes:
                opened.resize(size_bytes)

    def write(self, image: str, offset: int, content: bytes) -> None:
        """Past everybody who has it open; durable when this returns."""
        with self._opened(image, None, writable=True) as opened:
            opened.write(content, offset)
            opened.flush()

    def copy(self, parent: str, snapshot: str, image: str) -> None:
        """An image of its own that holds what a snapshot does. Repeat: makes it anew. Cost: O(allocated)."""
        self.discard(image)
        with self._opened(parent, snapshot) as opened, self._at(image) as (_, at):
            opened.copy(at, image)

    def size(self, image: str, snapshot: str | None = None) -> int | None:
        """In bytes; None where there is none."""
        try:
            with self._opened(image, snapshot) as opened:
                return int(opened.size())
        except NotFound:
            return None

    def created(self, image: str) -> float:
        """When it was made, in seconds since 1970."""
        with self._opened(image, None) as opened:
            return float(opened.create_timestamp().timestamp())

    def discard(self, image: str) -> None:
        """Drop an image; one that clones hang on goes with the last of them, one that is in use is left as it is.
        Repeat: no-op."""
        if not self._has(image):
            return
        with self._at(image) as (rbd, at):
            try:
                rbd.RBD().remove(at, image)
            except rbd.ImageHasSnapshots:
                with suppress(rbd.ImageBusy):
                    rbd.RBD().trash_move(at, image, 0)
            except (rbd.ImageNotFound, rbd.ImageBusy):
                pass

    def empty_trash(self, prefix: str) -> None:
        """Drop the discarded images on which no clone hangs any more."""
        with self._at(str(self)) as (rbd, at):
            for one in rbd.RBD().trash_list(at):
                if one["name"].startswith(prefix):
                    with suppress(rbd.ImageHasSnapshots, rbd.ImageNotFound, rbd.ImageBusy):
                        rbd.RBD().trash_remove(at, one["id"], False)

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def snapshots(self, image: str) -> list[str]:
        """By name, in order of their making; none of an image that is gone."""
        try:
            with self._opened(image, None) as opened:
                return [one["name"] for one in opened.list_snaps() if one["namespace"] == 0]
        except NotFound:
            return []

    def snapshot(self, image: str, name: str) -> None:
        """What an image holds at this moment, also under a client that writes: one atomic step. Repeat: no-op."""
        with self._opened(image, None, writable=True) as opened, self._at(image) as (rbd, _):
            with suppress(rbd.ImageExists):
                opened.create_snap(name)

    def drop_snapshot(self, image: str, name: str) -> None:
        """What clones share with it stays until they go. Repeat: no-op."""
        with suppress(NotFound):
            with self._opened(image, None, writable=True) as opened:
                opened.remove_snap(name)

    def reading(self, image: str, snapshot: str | None) -> Any:
        """A context whose value reads the bytes."""
        return self._reading(image, snapshot)

    @contextmanager
    def _reading(self, image: str, snapshot: str | None) -> Iterator[Reader]:
        with self._opened(image, snapshot) as opened:
            yield _Opened(opened)

    def extents(
        self, image: str, snapshot: str | None, *, since: str | None = None, below: bool = False
    ) -> list[Range]:
        """Ranges that an image itself holds, or was written to since an earlier snapshot of it; `below`: and what it
        has from the snapshot that it is a clone of. Cost: O(objects), and no data is read."""
        found: list[Range] = []
        with self._opened(image, snapshot) as opened:

            def take(offset: int, length: int, _: bool) -> None:
                found.append((offset, offset + length))

            opened.diff_iterate(0, opened.size(), since, take, include_parent=below)
        return union(found)

    # -- parts -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, image: str, snapshot: str | None, *, writable: bool = False) -> Iterator[Any]:
        what = image if snapshot is None else f"{image}@{snapshot}"
        with self._at(what) as (rbd, at):
            # An opening that fails ends the whole process in librbd 16.2 (std::system_error): none may.
            at.stat(f"rbd_id.{image}")
            with rbd.Image(at, image, read_only=not writable) as opened:
                if snapshot is not None:
                    if all(one["name"] != snapshot for one in opened.list_snaps()):
                        raise NotFound(f"{what} in Ceph's pool {self} does not exist", remedy="see 'rbd snap ls'")
                    opened.set_snap(snapshot)
                yield opened

    def _has(self, image: str) -> bool:
        try:
            with self._at(image) as (_, at):
                at.stat(f"rbd_id.{image}")
        except NotFound:
            return False
        return True

    @contextmanager
    def _at(self, what: str) -> Iterator[tuple[Any, Any]]:
        """The binding, and the pool, opened. The cluster's errors become plait's, naming `what` was asked for."""
        rados, rbd = _binding("rados"), _binding("rbd")
        with _translated(rados, rbd, f"{what} in Ceph's pool {self}"):
            at = _connected(rados, self.conf, self.user).open_ioctx(self.pool)
            try:
                if self.namespace:
                    at.set_namespace(self.namespace)
                yield rbd, at
            finally:
                at.close()


_clusters: dict[tuple[int, str, str], Any] = {}
_connecting: Final = threading.Lock()


def _connected(rados: Any, conf: str, user: str) -> Any:
    """The process's connection to a cluster, of some 15 threads: one for all stores, until the process ends, and
    another one in a process forked from it."""
    key = (os.getpid(), conf, user)
    with _connecting:
        if key not in _clusters:
            if not os.access(conf, os.R_OK):
                raise NotFound(f"Ceph's configuration {conf} cannot be read", remedy="give --option conf=PATH")
            cluster = rados.Rados(conffile=conf, rados_id=user, conf=_SETTINGS)
            try:
                cluster.connect()
            except rados.ObjectNotFound as error:
                raise PermissionDenied(
                    f"Ceph's user client.{user} has no keyring that {conf} names",
                    remedy="give --option user=NAME, or the configuration a readable keyring",
                ) from error
            _clusters[key] = cluster
        return _clusters[key]


class _Opened:
    def __init__(self, image: Any) -> None:
        self._read: Callable[[int, int], bytes] = image.read
        self.size_bytes = int(image.size())

    def read_many(self, ranges: Iterable[Range]) -> Iterator[bytes]:
        return (self._read(start, end - start) if end > start else b"" for start, end in ranges)


@contextmanager
def _translated(rados: Any, rbd: Any, what: str) -> Iterator[None]:
    try:
        yield
    except (rados.ObjectNotFound, rbd.ImageNotFound) as error:
        raise NotFound(f"{what} does not exist", remedy="see 'ceph osd pool ls' and 'rbd ls'") from error
    except (rados.PermissionError, rados.PermissionDeniedError, rbd.PermissionError) as error:
        raise PermissionDenied(
            f"{what} may not be reached or changed", remedy="check the option user, its keyring and its capabilities"
        ) from error
    except (rados.Error, rbd.Error) as error:
        raise StoreUnavailable(f"{what} cannot be reached: {error}", remedy="see 'ceph status'") from error

"""What `open` gives: a volume's URI for every NBD client, and small conveniences for Python."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from plait.adapter import StagingPort
from plait.errors import AlreadyExists, NotFound, StoreDiverged, StoreUnavailable
from plait.refspec import format_key, parse_key
from plait.types import Key, SnapshotRef, Staging

from plait_block.daemon import Daemon, Monitor
from plait_block.ext4 import Filesystems
from plait_block.filesystem import VolumeFileSystem
from plait_block.layers import Layer, Layers
from plait_block.nbd import NbdClient
from plait_block.place import Place, check_size, check_sized

PlaceOf: TypeAlias = Callable[[Staging], Place]


_SERVED_MAX: Final = 128
"""Versions that are served at once beside those with clients; who wants an older one asks for its URI again."""


class Version:
    """A frozen layer as clients see it: read-only."""

    def __init__(self, layers: Layers, daemon: Daemon, layer: Layer) -> None:
        self._layers = layers
        self._chain = layers.chain(layer)
        self._daemon = daemon
        self.layer = layer
        self.export = f"v-{layer.id}"

    def serve(self) -> str:
        """Its URI. Repeat: the same."""
        with self._daemon.monitor() as monitor:
            known = monitor.exports()
            if self.export not in known:
                monitor.serve(self.export, monitor.add_chain(self._chain), writable=False)
                served = [export for export in known if export.startswith("v-")]
                for export in served[_SERVED_MAX:]:
                    self._retire(monitor, export)
        return self._daemon.uri(self.export)

    def connect(self) -> NbdClient:
        self.serve()
        return NbdClient(self._daemon.nbd_socket(), self.export)

    def _retire(self, monitor: Monitor, export: str) -> None:
        """Stop serving what was asked for longest ago, unless clients are connected."""
        layer = self._layers.find(export.removeprefix("v-"))
        if monitor.withdraw(export, force=False) and layer is not None:
            monitor.remove_chain(self._layers.chain(layer))


class Volume:
    """A block volume over NBD: writable in a working set, read-only at a commit.

    `uri` is for clients of every kind (`nbdcopy`, `qemu-img`, virtual machines); they may stay connected while the
    working set is committed, but what they write later is in no commit. Offsets and lengths are in bytes.
    """

    def __init__(self, source: Place | Version, filesystems: Filesystems) -> None:
        self._source = source
        self._filesystems = filesystems

    def __repr__(self) -> str:
        return f"<plait_block.Volume {self._source.export}>"

    @property
    def uri(self) -> str:
        """Where NBD clients connect: served from now until the store is closed. Raises: InvalidArgument without a
        size, StoreUnavailable. Repeat: the same; after a crash of the daemon, served again."""
        return self._source.serve()

    @property
    def size_bytes(self) -> int:
        """How large it is; 0 for a new volume that nobody has created yet."""
        if isinstance(self._source, Version):
            return self._source.layer.size_bytes
        state = self._source.read()
        return 0 if state is None else state.size_bytes or 0

    def create(self, *, size_bytes: int) -> Volume:
        """Say how large a new volume is. Repeat: no-op. Raises: AlreadyExists when it has another size."""
        if isinstance(self._source, Version):
            raise AlreadyExists("a committed volume has its size")
        self._source.set_size(size_bytes)
        return self

    def connect(self) -> NbdClient:
        """A connection for many reads and writes; use it in a `with` block."""
        return self._source.connect()

    def read(self, offset: int, length: int) -> bytes:
        """Bytes as they are now. Cost: a connection of its own."""
        with self.connect() as client:
            return client.read(offset, length)

    def write(self, offset: int, content: bytes) -> None:
        """Write, durable when this returns. Cost: a connection of its own."""
        with self.connect() as client:
            client.write(offset, content)
            client.flush()

    @contextmanager
    def files(self) -> Iterator[Path]:
        """The files of the ext4 filesystem inside, as a folder, for the length of a block. In a working set they may
        be changed: the volume holds the result once the block has ended well and e2fsck has found nothing wrong.

        Raises: StoreUnavailable while clients are connected to a working volume; Unsupported without an ext4
        filesystem, or without /dev/fuse.
        """
        if isinstance(self._source, Version):
            with self._filesystems.shown(self._source.layer) as root:
                yield root
        else:
            with self._source.edited() as layer, self._filesystems.changed(layer) as root:
                yield root

    @contextmanager
    def filesystem(self, *, write: bool = False) -> Iterator[VolumeFileSystem]:
        """The same files for tools that speak fsspec, for the length of a block. To be read, a working set is frozen
        first, as a diff does, and clients may stay connected; what is written is taken in as `files` says.

        Raises: Unsupported for a volume without an ext4 filesystem; Corrupt where e2fsck finds damage in what is read;
        StoreUnavailable where what is written has no room, and then nothing changed.
        """
        if write:
            with _told_when_full(), self.files() as root:
                yield VolumeFileSystem(root, is_writable=True)
            return
        check_sized(self.size_bytes)
        layer = self._source.layer if isinstance(self._source, Version) else self._source.freeze()
        assert layer is not None
        with self._filesystems.shown(layer, judged=True) as root:
            yield VolumeFileSystem(root, is_writable=False)


@contextmanager
def _told_when_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreUnavailable(
            "the filesystem in the volume is full; nothing was changed",
            remedy="remove files from it, or put what is new into a larger volume",
        ) from error


class Opener(Protocol):
    """What the adapter does for `Volumes`."""

    def volume(self, source: Place | Version) -> Volume: ...

    def live(self, asset: str) -> Volume: ...

    def freeze(self, asset: str) -> SnapshotRef: ...


class Volumes:
    """The volumes of one store inside a transaction: create, drop and rename."""

    def __init__(self, store: str, port: StagingPort, layers: Layers, place_of: PlaceOf, adapter: Opener) -> None:
        self._store = store
        self._port = port
        self._layers = layers
        self._place_of = place_of
        self._adapter = adapter

    def names(self) -> list[str]:
        """What the transaction sees, in order."""
        return [format_key(key[1:]) for key in self._port.keys((self._store,))]

    def create(self, name: str, *, size_bytes: int) -> Volume:
        """A new volume of zeroes. Raises: AlreadyExists, InvalidArgument."""
        check_size(size_bytes)
        place = self._place_of(self._port.add(self._key(name), new=True))
        place.set_size(size_bytes)
        return self._adapter.volume(place)

    def create_from(self, name: str, image: str | Path) -> Volume:
        """A new volume that begins as an existing raw or qcow2 image; the image stays where it is, and is not copied.

        It must not be written to any more. Cost: the image is read once, but for its holes. Raises: NotFound,
        AlreadyExists, Unsupported for an image that needs other images.
        """
        source = self._layers.source(str(image), is_typed=True)
        self._layers.check_source(source)  # First: a refused image leaves the name free.
        staging = self._port.add(self._key(name), new=True)
        place = self._place_of(staging)
        place.rest_on(self._layers.adopt(source, staging.attrs["asset"]))
        return self._adapter.volume(place)

    def open(self, name: str) -> Volume:
        """A volume to write to. Raises: NotFound."""
        return self._adapter.volume(self._place_of(self._port.add(self._key(name))))

    def live(self, name: str) -> Volume:
        """The published volume that machines run on, outside of every transaction. Raises: NotFound."""
        return self._adapter.live(self._base(name).asset)

    def freeze(self, name: str) -> Volume:
        """Take in what the live volume holds now, a crash-consistent cut under its machine; commit it as one's own.

        Raises: StoreDiverged when the branch holds commits that are not published, which it would undo.
        """
        base = self._base(name)
        staging = self._port.add(self._key(name))
        layer = self._layers.get(self._adapter.freeze(base.asset).version)
        if not self._layers.stands_on(layer.id, base.version):
            raise StoreDiverged(
                f"the live volume {name!r} does not stand on what this working set began from",
                remedy="publish first ('plait store check'), or adopt what was written to it ('plait store adopt')",
            )
        place = self._place_of(staging)
        place.rest_on(layer)
        return self._adapter.volume(place)

    def _base(self, name: str) -> SnapshotRef:
        base = self._port.base(self._key(name))
        if base is None:
            raise NotFound(f"volume {name!r} is not in the working set's base")
        return base

    def drop(self, name: str) -> None:
        """It is absent once this transaction commits. No data is deleted."""
        self._port.drop(self._key(name))

    def rename(self, before: str, after: str) -> None:
        """It goes on under another name."""
        self._port.move(self._key(before), self._key(after))

    def _key(self, name: str) -> Key:
        return (self._store, *parse_key(name))

"""A writable volume: a working set's, or the live one on a published head.

Its record names the layer below (`parent`) and the one that is written to (`top`; none before the first need). Freezing
puts a new overlay on top, while clients go on writing, and seals what was the top. The overlay's id is recorded before
it is put there (`next`), so that whoever finds the record after a crash finishes that step, and no write is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from plait.errors import AlreadyExists, Corrupt, InvalidArgument, NotFound, StoreUnavailable

from plait_block import images
from plait_block.daemon import STAYS, Daemon, Monitor
from plait_block.folder import Folder
from plait_block.layers import Layer, Layers
from plait_block.nbd import NbdClient

SECTOR: Final = 512
SIZE_MAX: Final = 1 << 50


@dataclass(frozen=True, slots=True)
class State:
    """A place's record. `size_bytes` None: a new volume whose size nobody has said yet."""

    asset: str
    parent: str | None = None
    size_bytes: int | None = None
    top: str | None = None
    next: str | None = None


def check_size(size_bytes: int) -> int:
    """Raises: InvalidArgument unless a volume can have this size."""
    if not 0 < size_bytes <= SIZE_MAX or size_bytes % SECTOR:
        raise InvalidArgument(
            f"a volume cannot have {size_bytes} bytes", remedy=f"give a multiple of {SECTOR}, at most {SIZE_MAX}"
        )
    return size_bytes


def check_sized(size_bytes: int | None) -> None:
    """Raises: InvalidArgument for a new volume that nobody has created yet."""
    if not size_bytes:
        raise InvalidArgument(
            "the volume has no size yet",
            remedy="create it in Python with size_bytes=…; or make an image, with qemu-img create, "
            "and take it in: plait import assets KEY=IMAGE",
        )


class Place:
    """One writable volume in its folder, shared by processes: every call holds its lock, so none may call another."""

    def __init__(
        self,
        folder: Folder,
        layers: Layers,
        daemon: Daemon,
        path: Path,
        *,
        export: str,
        failpoint: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._layers = layers
        self._daemon = daemon
        self._failpoint = failpoint
        self._record = path / "place.json"
        self.path = path
        self.export = export

    # -- its record --------------------------------------------------------------------------------------------------

    def make(self, asset: str, parent: Layer | None) -> None:
        """The place, on a layer or (None) of a size to be said. Repeat: as it is, never reset."""
        with self._folder.locked(self.path / "lock"):
            if self._folder.read(self._record) is None:
                self._write(State(asset) if parent is None else State(asset, parent.id, parent.size_bytes))

    def read(self) -> State | None:
        """Its record as it is, or None when there is no such place."""
        record = self._folder.read(self._record)
        if record is None:
            return None
        try:
            return State(**record)
        except TypeError as error:
            raise Corrupt(f"record {self._record} cannot be read: {error}") from error

    def stands_on(self) -> list[str]:
        """The layers that it is made of, from the top: those below them it needs as well."""
        state = self.read()
        return [] if state is None else [name for name in (state.next, state.top, state.parent) if name is not None]

    def set_size(self, size_bytes: int) -> None:
        """Say how large a new volume is. Repeat: no-op. Raises: AlreadyExists when it has another size."""
        with self._locked() as state:
            if state.size_bytes == check_size(size_bytes):
                return
            if state.size_bytes is not None:
                raise AlreadyExists(f"the volume has {state.size_bytes} bytes already, asked for {size_bytes}")
            self._write(replace(state, size_bytes=size_bytes))

    def rest_on(self, layer: Layer, *, unless_written: bool = False) -> None:
        """Drop what was written here and hold what a layer holds. Repeat: no-op.

        Raises: StoreUnavailable while clients are connected: under them, a volume cannot turn into another; and, where
        asked for, if any wrote since the last freeze.
        """
        with self._locked() as state:
            if state.top is None and state.parent == layer.id:
                return
            self._withdraw(state, force=False)
            self._check_unused(state)
            if unless_written:
                self._check_unwritten(state)
            self._write(replace(state, parent=layer.id, size_bytes=layer.size_bytes, top=None, next=None))
            self._failpoint("block.place.rebased")
            if state.top is not None:
                self._layers.remove(state.top)

    # -- serving -----------------------------------------------------------------------------------------------------

    def serve(self, *, stays: bool = False) -> str:
        """Its URI; what the daemon needs for it is there when this returns. `stays`: also when the last process has
        closed the store, until the place is removed. Repeat: the same URI."""
        with self._locked() as state:
            if stays:
                (self.path / STAYS).touch()
            self._serve(self._with_top(state))
        return self._daemon.uri(self.export)

    def connect(self) -> NbdClient:
        """A connection to it."""
        self.serve()
        return NbdClient(self._daemon.nbd_socket(), self.export)

    def withdraw(self) -> None:
        """End its export. Raises: StoreUnavailable while clients are connected, and if any wrote since the last
        freeze."""
        with self._locked() as state:
            self._withdraw(state, force=False)
            self._check_unwritten(state)

    # -- freezing ----------------------------------------------------------------------------------------------------

    def freeze(
        self, frozen: Callable[[], AbstractContextManager[None]] = nullcontext, *, ends: bool = False
    ) -> Layer | None:
        """Seal what it holds now, as one layer; None for a volume without a size. Clients go on writing, above it.

        What they were told is flushed is in it: a crash-consistent cut. `frozen` surrounds the cut itself, where
        clients are served. `ends`: while nobody is connected, nobody is served from now on, until it is asked for
        again: what is written after a vote is in no commit. Untouched since the last freeze: the same layer.
        Cost: O(written since).
        """
        with self._locked() as state:
            if state.size_bytes is None:
                return None
            is_ended = was_written = False
            if ends:
                with suppress(StoreUnavailable):
                    was_written = self._withdraw(state, force=False)
                    is_ended = True
            if state.top is None and state.parent is None:
                state = self._with_top(state)
            elif state.top is None or (state.parent and not was_written and not self._top_extents(state)):
                assert state.parent is not None
                return self._layers.seal(state.parent)
            if not is_ended and self._is_served(state.top):
                with frozen():
                    state = self._advance(self._intend(state))
            else:
                self._check_unused(state)
                state = replace(state, parent=state.top, top=None)
                self._failpoint("block.freeze.before_record")
                self._write(state)
            self._failpoint("block.freeze.before_seal")
            assert state.parent is not None
            sealed = self._layers.seal(state.parent)
            self._shorten(state)
            return sealed

    @contextmanager
    def edited(self) -> Iterator[Layer]:
        """A layer above everything, to be written to in a block; it is taken in only when the block ends well.

        Raises: StoreUnavailable while clients are connected; what the block raises, and then nothing changed.
        """
        with self._locked() as state:
            check_sized(state.size_bytes)
            self._withdraw(state, force=False)
            under = state.top or state.parent
            layer = self._create(Layers.new_id(), state, under)
            try:
                yield layer
            except BaseException:
                self._layers.remove(layer.id)
                raise
            self._failpoint("block.edit.before_record")
            self._write(replace(state, parent=under, top=layer.id))

    def remove(self, *, force: bool) -> None:
        """Drop the place. Its layers are the caller's to drop. Repeat: no-op.

        Raises: StoreUnavailable while clients are connected, unless they are to be cut off.
        """
        if self.path.is_dir():
            with self._folder.locked(self.path / "lock"):
                state = self.read()
                if state is not None:  # As it is: what it stands on may be damaged, and is not asked for.
                    self._withdraw(state, force=force)
        self._folder.remove_tree(self.path)

    # -- parts, under the lock ---------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[State]:
        if not self.path.is_dir():
            raise NotFound(f"no volume is staged at {self.path}", remedy="its transaction has ended: begin another")
        with self._folder.locked(self.path / "lock"):
            state = self.read()
            if state is None:
                raise NotFound(f"no volume is staged at {self.path}", remedy="its transaction has ended: begin another")
            yield self._advance(state) if state.next is not None else state

    def _write(self, state: State) -> None:
        self._folder.write(self._record, asdict(state))

    def _with_top(self, state: State) -> State:
        return state if state.top is not None else self._advance(self._intend(state))

    def _intend(self, state: State) -> State:
        check_sized(state.size_bytes)
        state = replace(state, next=Layers.new_id())
        self._write(state)
        self._failpoint("block.place.intended")
        return state

    def _advance(self, state: State) -> State:
        """Put the intended overlay on top, also under connected clients. Repeat: goes on where it stopped."""
        assert state.next is not None
        if state.top is not None and not self._layers.flips:
            return self._cut_beside(state, state.next, self._layers.get(state.top))
        layer = self._create(state.next, state, state.top or state.parent)
        self._failpoint("block.place.before_flip")
        if state.top is not None:
            with self._daemon.monitor_if_running() as monitor:
                if monitor is not None:
                    self._flip(monitor, f"l{state.top}", layer)
        self._failpoint("block.place.after_flip")
        state = replace(state, parent=state.top or state.parent, top=state.next, next=None)
        self._write(state)
        return state

    def _cut_beside(self, state: State, name: str, top: Layer) -> State:
        """The intended layer becomes what the top holds at this moment, below it. Repeat: as `_advance`."""
        self._create(name, state, state.parent, content=top)
        self._failpoint("block.place.after_cut")
        self._layers.put_on(top.id, name)
        self._failpoint("block.place.after_put_on")
        state = replace(state, parent=name, next=None)
        self._write(state)
        return state

    def _flip(self, monitor: Monitor, old: str, layer: Layer) -> None:
        """One atomic step: the old top turns read-only, and whoever wrote to it writes to the layer."""
        new = self._layers.image(layer)
        if monitor.exports().get(self.export) != old:
            return
        monitor.add_alone(new)
        monitor.execute("blockdev-snapshot", {"node": old, "overlay": new.node})

    def _create(self, layer: str, state: State, under: str | None, *, content: Layer | None = None) -> Layer:
        """A layer of this place."""
        self._folder.note_made(self.path.parent, layer)
        assert state.size_bytes is not None
        below = None if under is None else self._layers.get(under)
        if below is not None and below.is_sealed:
            self._layers.base_for(below)
        return self._layers.create(layer, state.asset, below, state.size_bytes, content=content)

    def _serve(self, state: State) -> None:
        assert state.top is not None
        with self._daemon.monitor() as monitor:
            is_served = self.export in monitor.exports()
            if is_served and self._layers.is_fenced_at_times and not self._answers():
                monitor.withdraw(self.export, force=True)
                monitor.remove_chain([self._layers.image(self._layers.get(state.top))])
                is_served = False
            if not is_served:
                node = monitor.add_chain(self._layers.chain(self._layers.get(state.top)), writable=True)
                monitor.serve(self.export, node, writable=True)

    def _answers(self) -> bool:
        """Whether what is served can be read."""
        try:
            with NbdClient(self._daemon.nbd_socket(), self.export) as client:
                client.read(0, SECTOR)
        except StoreUnavailable:
            return False
        return True

    def _withdraw(self, state: State, *, force: bool) -> bool:
        """Serve it no longer. Returns: whether clients were seen to write; False says nothing.

        What is below the top stays with the daemon: the next working set will want it.
        """
        if state.top is None and state.next is None:
            return False  # Only a top is served, and is withdrawn before its record is.
        with self._daemon.monitor_if_running() as monitor:
            if monitor is None:
                return False
            written = {} if state.top is None else monitor.written()
            if not monitor.withdraw(self.export, force=force):
                raise StoreUnavailable(
                    f"clients are connected to the volume at {self._daemon.uri(self.export)}",
                    remedy="disconnect them, then try again",
                )
            for name in (state.next, state.top):
                layer = None if name is None else self._layers.find(name)
                if layer is not None:
                    monitor.remove_chain([self._layers.image(layer)])
            if state.top is not None:
                monitor.remove_idle(written)
            return written.get(f"l{state.top}", 0) > 0

    def _check_unused(self, state: State) -> None:
        """Raises: StoreUnavailable while a daemon that cannot be reached may write to the top, for its clients."""
        if state.top is not None:
            for path in self._layers.own_files(self._layers.get(state.top))[1:]:
                images.check_unused(path)

    def _check_unwritten(self, state: State) -> None:
        """Raises: StoreUnavailable where clients, who are gone by now, wrote since the last freeze."""
        if self._top_extents(state):
            raise StoreUnavailable(
                f"somebody wrote to the volume at {self._daemon.uri(self.export)} in this moment", remedy="try again"
            )

    def _top_extents(self, state: State) -> list[tuple[int, int]]:
        """What was written since the last freeze, as ranges. Cost: O(extents)."""
        if state.top is None:
            return []
        if self._layers.flips and self._is_served(state.top):
            self._serve(state)
            with NbdClient(self._daemon.nbd_socket(), self.export) as client:
                return list(client.allocated(1))
        if self._layers.flips:
            self._check_unused(state)
        return self._layers.written(self._layers.get(state.top))

    def _is_served(self, layer: str | None) -> bool:
        with self._daemon.monitor_if_running() as monitor:
            return monitor is not None and f"l{layer}" in monitor.nodes()

    def _shorten(self, state: State) -> None:
        """Where freezing under clients made the chain long: put the top onto a key frame, while they are connected."""
        assert state.parent is not None
        parent = self._layers.get(state.parent)
        frame = self._layers.base_for(parent) if state.top is not None and self._layers.flips else None
        if state.top is None or frame is None:
            return
        self._failpoint("block.shorten.before_reopen")
        with self._daemon.monitor_if_running() as monitor:
            if monitor is not None and f"l{state.top}" in monitor.nodes():
                monitor.add_chain([frame])
                top = self._layers.image(self._layers.get(state.top))
                monitor.rebase(top, frame.node)
                monitor.remove_chain(self._layers.chain(parent))

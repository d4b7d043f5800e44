"""Three-way merge of volumes by extent: what both sides changed differently is a conflict, the rest is joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from plait.errors import InvalidArgument
from plait.types import Choice, Conflict, ConflictKind, Json, Resolution

from plait_block import extents
from plait_block.extents import Reader
from plait_block.layers import Layer, Layers
from plait_block.nbd import NbdClient
from plait_block.ranges import Range, intersection, without


@dataclass(frozen=True, slots=True)
class Sides:
    """The three volumes' layers; a base may be absent."""

    base: Layer | None
    ours: Layer
    theirs: Layer

    def layer(self, choice: Choice) -> Layer | None:
        return {Choice.BASE: self.base, Choice.OURS: self.ours, Choice.THEIRS: self.theirs}[choice]

    def size(self, choice: Choice) -> int:
        layer = self.layer(choice)
        return 0 if layer is None else layer.size_bytes


Readers = Mapping[Choice, Reader]


@dataclass(slots=True)
class Plan:
    """What makes ours the merge: ranges to take from a side, bytes that a person gave, and a size."""

    size_bytes: int
    take: dict[Choice, list[Range]] = field(default_factory=dict)
    values: list[tuple[int, bytes]] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)

    def changes_ours(self, sides: Sides) -> bool:
        return any(self.take.values()) or bool(self.values) or self.size_bytes != sides.size(Choice.OURS)


def plan(layers: Layers, sides: Sides, readers: Readers, resolutions: Sequence[Resolution]) -> Plan:
    """Cost: the extents that either side changed are read from both ends; nothing else is."""
    settled = {one.item or "": one for one in resolutions}
    made = Plan(sides.size(Choice.OURS))
    _plan_size(made, sides, settled)
    base, ours, theirs = (readers[choice] for choice in ORDER)
    of_ours = layers.changed(sides.base, sides.ours)
    of_theirs = layers.changed(sides.base, sides.theirs)
    changed, by_ours = (
        [one.extent for one in extents.differing(ranges, base, side)]
        for ranges, side in ((of_theirs, theirs), (of_ours, ours))
    )
    both = intersection(changed, by_ours)
    made.take[Choice.THEIRS] = without(changed, both)
    # Between two ranges that both sides changed lie pages that only one did: those are no conflict.
    differing = [one.extent for one in extents.differing(both, ours, theirs)]
    for extent in intersection(both, differing):
        item = extents.item_of(extent)
        resolution = settled.get(item)
        if resolution is None:
            before, left, right = (extents.describe(readers[choice], extent) for choice in ORDER)
            made.conflicts.append(
                Conflict((), ConflictKind.ITEM_CHANGED, item, before, left, right, "both sides wrote to this extent")
            )
        elif resolution.choice is Choice.VALUE:
            made.values.append((extent[0], _bytes(item, extent, resolution.value)))
        elif resolution.choice is not Choice.OURS:
            made.take.setdefault(resolution.choice, []).append(extent)
    return made


ORDER: Final = (Choice.BASE, Choice.OURS, Choice.THEIRS)


def _bytes(item: str, extent: Range, value: Json) -> bytes:
    """What a resolution by value gives an extent: hexadecimal digits of all its bytes; None: zeroes."""
    length = extent[1] - extent[0]
    if value is None:
        return bytes(length)
    try:
        content = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        content = b""
    if len(content) != length:
        raise InvalidArgument(
            f"the value for extent {item} is not {length} bytes in hexadecimal digits",
            remedy="give all of its bytes, or choose base, ours or theirs",
        )
    return content


def _plan_size(made: Plan, sides: Sides, settled: Mapping[str, Resolution]) -> None:
    base, ours, theirs = (sides.size(choice) for choice in ORDER)
    if theirs in (base, ours):
        return
    if ours == base:
        made.size_bytes = theirs
        return
    resolution = settled.get("size")
    if resolution is None or resolution.choice is Choice.VALUE:
        made.conflicts.append(
            Conflict((), ConflictKind.ITEM_CHANGED, "size", base, ours, theirs, "both sides changed the volume's size")
        )
    else:
        made.size_bytes = sides.size(resolution.choice)


def write(plan: Plan, readers: Readers, target: NbdClient, check_cancelled: Callable[[], None]) -> None:
    """Copy what the plan takes onto a layer on ours, durable when this returns."""
    for choice, ranges in plan.take.items():
        parts = [part for extent in ranges if extent[0] < target.size_bytes for part in extents.chunks_of(extent)]
        parts = [(start, min(end, target.size_bytes)) for start, end in parts]
        contents = extents.read_many(readers[choice], parts)
        target.write_many((start, content) for (start, _), content in zip(parts, contents, strict=True))
        check_cancelled()
    target.write_many(plan.values)
    target.flush()

"""What an export remembers at its destination, in one text file: a line for each time it began or ended, and for a
folder a line for each file that it put there. The last line about something is what holds; half a line at the end is
what a killed process left.

    {"format": 1, "asset": …, "at": {"key": …, "commit": …}, "done": selection, "toward": [selection, …]}
    [name, what it holds, whether the selection no longer has it, how its file looked]      or [name]: it is gone
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from plait.errors import Corrupt

from plait_s3.blobs import EXPORTED
from plait_s3.manifest import Root
from plait_s3.selection import Selection

OWN_FOLDER: Final = EXPORTED.strip("/")
STATE: Final = f"{OWN_FOLDER}/state.jsonl"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Record:
    """What exports put under a name. `is_left`: what they export now does not have it, and it was not removed."""

    content: str
    is_left: bool = False
    identity: tuple[int, ...] = ()


@dataclass(slots=True)
class State:
    """`done` is the last selection that was exported whole; `toward` are those that were begun after it, so each name
    holds what one of them has. `records`: of a folder all names, of a bucket those that are left over."""

    asset: str
    at: Mapping[str, str]
    done: Selection | None = None
    toward: tuple[Selection, ...] = ()
    records: dict[str, Record] = field(default_factory=dict)

    @property
    def known(self) -> tuple[Selection, ...]:
        return (*(() if self.done is None else (self.done,)), *self.toward)


def head_line(state: State) -> bytes:
    return _line(
        {
            "format": _FORMAT,
            "asset": state.asset,
            "at": dict(state.at),
            "done": None if state.done is None else _told(state.done),
            "toward": [_told(one) for one in state.toward],
        }
    )


def record_lines(records: Iterable[tuple[str, Record | None]]) -> bytes:
    return b"".join(
        _line([name] if one is None else [name, one.content, one.is_left, *one.identity]) for name, one in records
    )


def read_state(data: bytes, where: str) -> State | None:
    """What all whole lines say together; None where no export has begun. Raises: Corrupt."""
    state: State | None = None
    records: dict[str, Record] = {}
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        try:
            said: Any = json.loads(line)
            match said:
                case {"format": version} if version == _FORMAT:
                    done = None if said["done"] is None else _selection(said["done"])
                    state = State(said["asset"], said["at"], done, tuple(map(_selection, said["toward"])))
                case [str(name)]:
                    records.pop(name, None)
                case [str(name), str(content), bool(is_left), *identity]:
                    records[name] = Record(content, is_left, tuple(map(int, identity)))
                case _:
                    raise ValueError("no line of this release")
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(
                f"{where} cannot be read: {error}",
                remedy="remove it: the next export then compares the content of everything that is there",
            ) from error
    if state is not None:
        state.records = records
    return state


def _line(said: object) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _told(one: Selection) -> dict[str, Any]:
    edits = [[key.decode(), None if value is None else base64.b64encode(value).decode()] for key, value in one.edits]
    return {
        "pack": one.root.pack, "root": one.root.node.hex(), "edits": edits, "folder": one.folder, "match": one.match,
    }  # fmt: skip


def _selection(said: Mapping[str, Any]) -> Selection:
    edits = tuple((key.encode(), None if value is None else base64.b64decode(value)) for key, value in said["edits"])
    return Selection(Root(said["pack"], bytes.fromhex(said["root"])), edits, said["folder"], said["match"])

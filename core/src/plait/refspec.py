"""The text form of keys, items and points in the history: one parser each, one round-trip property.

    key      lake.sales.orders        parts joined by dots; a part with other than [A-Za-z0-9_-] stands in double
                                      quotes, "" inside them is one quote: raw."2013 q1"
    item     lake.sales.orders::id=7  what follows the first :: outside quotes belongs to the store
    spec     main    main~3    main^2    main*2026-11-01T00:00:00Z    @0a1b2c    main@0a1b2c    main~2^2    0a1b2c3d~1

A commit's id, or enough of its beginning, stands after `@`; alone it takes 8 digits, and a ref of that name wins.
`~n` goes n first parents back, `^n` is the n-th parent, `*t` is where the ref stood at a time (UTC without a zone).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal, TypeVar

from plait import limits
from plait.errors import InvalidArgument, NotFound
from plait.types import Key

E = TypeVar("E", bound=StrEnum)

_PLAIN = re.compile(r"[A-Za-z0-9_-]+\Z")
_QUOTING = 'join parts by dots, and quote a part with other characters: raw."2013 q1"'
_PART = re.compile(r'"((?:[^"]|"")*)"|([A-Za-z0-9_-]+)')
_COMMIT = re.compile(r"[0-9a-f]{4,64}\Z")
_BARE_COMMIT = re.compile(r"[0-9a-f]{8,64}\Z")
_STEP = re.compile(r"([~^])([0-9]*)")
_SPEC = re.compile(r"([^@*~^]*)(?:@([^*~^]*))?(?:\*([^~^@]+))?((?:[~^][0-9]{0,9})*)")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REF_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\ud800-\udfff~^:?*@\[\\]|\.\.|//|/\.|\.lock(?:/|\Z)|\.\Z|/\Z|\A/|\A\.|\A-")


def check_key(key: Key) -> Key:
    """Return the key, or raise InvalidArgument saying which part breaks which limit."""
    if not isinstance(key, tuple):
        raise InvalidArgument(f"a key is its text or a tuple of its parts, not {key!r}")
    if not key:
        raise InvalidArgument("a key needs at least one part")
    if len(key) > limits.KEY_PARTS_MAX:
        raise InvalidArgument(f"key has {len(key)} parts, the limit is {limits.KEY_PARTS_MAX}")
    for part in key:
        check_is_text(f"a part of key {key!r}", part)
        if not part:
            raise InvalidArgument(f"key {key!r} has an empty part")
        if "\0" in part:
            raise InvalidArgument(f"key part {part!r} holds a NUL character")
        try:
            size = len(part.encode())
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"key part {part!r} is not valid Unicode") from error
        if size > limits.KEY_PART_BYTES_MAX:
            raise InvalidArgument(f"key part {part[:40]!r}… has {size} bytes, the limit is {limits.KEY_PART_BYTES_MAX}")
    return key


def check_is_text(what: str, value: object) -> None:
    """Raises: InvalidArgument."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} is a text, not {value!r}")


def check_flag(what: str, value: object) -> None:
    """Raises: InvalidArgument unless it is True or False: a database would keep what else passes for one."""
    if not isinstance(value, bool):
        raise InvalidArgument(f"{what} is True or False, not {value!r}")


def as_key(key: str | Key) -> Key:
    """A key given as its text or as its parts; empty text is the empty prefix. Raises: InvalidArgument."""
    if isinstance(key, str):
        return parse_key(key) if key else ()
    return check_key(key) if key != () else key


def as_keys(keys: Sequence[str | Key]) -> tuple[Key, ...]:
    """Several keys, each as `as_key` takes it. Raises: InvalidArgument, also for one text in the place of a list."""
    if isinstance(keys, str) or not isinstance(keys, Iterable):
        raise InvalidArgument(f"keys are a list, not {keys!r}", remedy='write ["lake.sales.orders"]')
    return tuple(map(as_key, keys))


def as_choice(kind: type[E], value: E | str) -> E:
    """One of an enumeration, given as itself or as its text. Raises: InvalidArgument naming those that there are."""
    try:
        return kind(value)
    except ValueError as error:
        raise InvalidArgument(f"{value!r} is none of {', '.join(kind)}") from error


def format_key(key: Key) -> str:
    """The key's text; `parse_key` gives back the same key."""
    return ".".join(part if _PLAIN.match(part) else '"' + part.replace('"', '""') + '"' for part in key)


def parse_key(text: str) -> Key:
    """Read a key; anything after ``::`` is an error here. Raises: InvalidArgument with the position."""
    key, item = parse_path(text)
    if item is not None:
        raise InvalidArgument(f"{text!r} names an item, a key is expected", remedy="leave out what follows '::'")
    return key


def parse_path(text: str) -> tuple[Key, str | None]:
    """Read a key and, after ``::``, an item of it (None: the asset as a whole)."""
    parts: list[str] = []
    position = 0
    while True:
        match = _PART.match(text, position)
        if not match:
            raise InvalidArgument(
                f"key {text!r} cannot be read at position {position}",
                remedy=_QUOTING,
            )
        quoted, plain = match.groups()
        parts.append(plain if quoted is None else quoted.replace('""', '"'))
        position = match.end()
        if position == len(text):
            return check_key(tuple(parts)), None
        if text.startswith("::", position):
            return check_key(tuple(parts)), text[position + 2 :]
        if text[position] != ".":
            item = f"an item of an asset follows two colons: {text[:position]}::{text[position + 1 :]}"
            raise InvalidArgument(
                f"key {text!r} has {text[position]!r} at position {position}, a dot is expected",
                remedy=item if text[position] == "/" else _QUOTING,
            )
        position += 1


def format_path(key: Key, item: str | None) -> str:
    """The text of a key and an item; `parse_path` gives back both."""
    return format_key(key) if item is None else f"{format_key(key)}::{item}"


def check_ref_name(name: str) -> str:
    """Return a name that follows Git's rules (git-check-ref-format), and holds neither ``*`` nor ``@``."""
    check_is_text("a ref name", name)
    if not name or len(name.encode(errors="replace")) > limits.REF_NAME_BYTES_MAX:
        raise InvalidArgument(f"a ref name has 1 to {limits.REF_NAME_BYTES_MAX} bytes, not {len(name)}")
    if name == "HEAD":
        raise InvalidArgument("HEAD is what commands call the current branch", remedy="choose another name")
    found = _REF_FORBIDDEN.search(name)
    if found:
        raise InvalidArgument(
            f"ref name {name!r} may not hold {found.group()!r} there",
            remedy="use letters, digits, '-', '_', '.' and '/', as in Git",
        )
    return name


def check_repository_name(name: str) -> str:
    """Return a name that can be the path of an address. Raises: InvalidArgument."""
    check_is_text("a repository's name", name)
    if not _REPOSITORY.match(name) or len(name) > limits.NAME_BYTES_MAX:
        raise InvalidArgument(
            f"{name[:80]!r} is no name of a repository",
            remedy=f"use up to {limits.NAME_BYTES_MAX} letters, digits, '-', '_' and '.', a letter or a digit first",
        )
    return name


def no_ref(name: str) -> NotFound:
    """The error for a ref that does not exist."""
    return NotFound(f"ref {name!r} does not exist", remedy="see 'plait branch' and 'plait tag' for those that do")


@dataclass(frozen=True, slots=True)
class Step:
    """One relative step: `parent` the n-th parent, `back` n first parents."""

    kind: Literal["parent", "back"]
    count: int


@dataclass(frozen=True, slots=True)
class Spec:
    """A parsed point in the history. At least one of `ref` and `commit` is set; `commit` may be a prefix."""

    ref: str | None
    commit: str | None = None
    at_us: int | None = None
    steps: tuple[Step, ...] = ()

    @property
    def is_relative(self) -> bool:
        """Whether it names a point relative to a ref, and so may resolve to another commit later: writes refuse it."""
        return self.at_us is not None or bool(self.steps)


def may_be_commit(name: str) -> bool:
    """Whether a name in the place of a ref may be a commit's id, or the beginning of one."""
    return _BARE_COMMIT.match(name) is not None


def parse_spec(text: str) -> Spec:
    """Read a point in the history. Raises: InvalidArgument saying what is expected where."""
    check_is_text("a point in the history", text)
    match = _SPEC.fullmatch(text)
    if not match or not text:
        raise InvalidArgument(
            f"{text!r} is no point in the history",
            remedy="write a branch, a tag, main~3, main^2, main*2026-11-01 or a commit's id",
        )
    ref, commit, at, tail = match.groups()
    if commit is not None and commit.startswith("{"):
        raise InvalidArgument(
            f"{text!r}: where a ref stood is not counted in moves",
            remedy="name a time, as main*2026-11-01, or a commit that 'plait reflog' shows",
        )
    if commit is not None and not _COMMIT.match(commit):
        raise InvalidArgument(f"{commit!r} is no commit id", remedy="give at least 4 of its 64 hexadecimal digits")
    if ref:
        check_ref_name(ref)
    elif commit is None:
        raise InvalidArgument(f"{text!r} names neither a ref nor a commit")
    if at is not None and (commit is not None or not ref):
        raise InvalidArgument(f"{text!r}: a time belongs to a ref, not to a commit", remedy="write main*2026-11-01")
    steps = tuple(Step("back" if sign == "~" else "parent", int(count or "1")) for sign, count in _STEP.findall(tail))
    return Spec(ref or None, commit, None if at is None else parse_time_us(at), steps)


def parse_time_us(text: str) -> int:
    """ISO 8601, a date alone being its midnight; without a zone it is UTC. Microseconds since 1970."""
    try:
        moment = datetime.fromisoformat(text)
        # A time in the year 1 or 9999 may fall outside of Python's range in UTC: an error.
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(
            f"{text!r} is no time", remedy="write 2026-11-01 or 2026-11-01T06:30:00Z (ISO 8601)"
        ) from error
    return (moment - _EPOCH) // timedelta(microseconds=1)


def format_time(us: int) -> str:
    """ISO 8601 in UTC, without the fraction when it is zero; `parse_time_us` gives back the same."""
    return (
        datetime.fromtimestamp(us // 1_000_000, UTC)
        .replace(microsecond=us % 1_000_000)
        .isoformat()
        .replace("+00:00", "Z")
    )

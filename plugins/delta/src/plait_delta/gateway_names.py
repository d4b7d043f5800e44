"""How a bucket's names look to deltalake, where a branch reaches its table's files.

A branch's log names files of the table by `../../../`, which every reader follows on S3. deltalake reads them and
appends to them too, but updates, deletes and merges only files inside a table's own folder. So it is shown

    `_outside/x` for `../../../x`       in the logs of roots, and stored the other way round (as long: sizes stay)
    `T/_branches/tx/name/_outside/x`    for `T/x`
    no checkpoints of roots             which are not stored: they would name files by `_outside/`
"""

from __future__ import annotations

import re
from typing import Final

from plait_delta.bucket import INSIDE, OUTSIDE
from plait_delta.files import BRANCHES, LOG

_ROOT: Final = re.compile(rf"(?P<table>.*?)/{BRANCHES}/[^/]+/[^/]+/(?P<rest>({INSIDE}|{LOG}/).*)\Z")
_COMMIT: Final = re.compile(r"/\d{20}\.json\Z")
_PATH: Final = rb'^(\{"(?:add|remove|cdc)":\{"path":")%s'
_VECTOR: Final = rb'("deletionVector":\{"storageType":"u","pathOrInlineDv":")%s'
_TO_READ: Final = (
    (re.compile(_PATH % re.escape(OUTSIDE.encode()), re.M), rb"\g<1>" + INSIDE.encode()),
    (re.compile(_VECTOR % re.escape(OUTSIDE[:-1].encode()), re.M), rb"\g<1>" + INSIDE[:-1].encode()),
)
_TO_STORE: Final = (
    (re.compile(_PATH % INSIDE.encode(), re.M), rb"\g<1>" + OUTSIDE.encode()),
    (re.compile(_VECTOR % INSIDE[:-1].encode(), re.M), rb"\g<1>" + OUTSIDE[:-1].encode()),
)


def to_read(data: bytes) -> bytes:
    """A commit of a root as deltalake is to see it."""
    return _rewritten(data, _TO_READ)


def to_store(data: bytes) -> bytes:
    """A commit of a root that deltalake wrote, as it is stored."""
    return _rewritten(data, _TO_STORE)


def stored(key: str) -> tuple[str, bool]:
    """The key in the bucket, and whether it is a file in the log of a root."""
    match = _ROOT.match(key)
    if match is None:
        return key, False
    if match["rest"].startswith(INSIDE):
        return f"{match['table']}/{match['rest'].removeprefix(INSIDE)}", False
    return key, match["rest"].startswith(f"{LOG}/")


def is_hidden(key: str, in_log: bool) -> bool:
    """Whether it is no commit, but a checkpoint, say, in the log of a root."""
    return in_log and _COMMIT.search(key) is None


def _rewritten(data: bytes, rules: tuple[tuple[re.Pattern[bytes], bytes], ...]) -> bytes:
    for pattern, into in rules:
        data = pattern.sub(into, data)
    return data

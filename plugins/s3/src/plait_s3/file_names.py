"""Names of objects as names of files: which would leave the folder, or not be one file each."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterator

from plait.errors import InvalidArgument

from plait_s3.blobs import OWN, check_object_key
from plait_s3.export_state import OWN_FOLDER

_PATH_BYTES_MAX = 4095
_OWN_NAMES = {OWN.rstrip("/"), ".plait"}


def folders_above(name: str) -> Iterator[str]:
    """The folders that lead to a name, the innermost first."""
    while name := name.rpartition("/")[0]:
        yield name


def is_plaits(name: str) -> bool:
    """Whether a name is the export's own, or of a store or a catalog that is there: never written, never deleted."""
    return name.startswith(OWN_FOLDER + "/") or not _OWN_NAMES.isdisjoint(name.split("/"))


def unsafe(name: str, folder: str, name_bytes_max: int) -> str:
    """Why an object of this name cannot be a file below a folder; "" where it can."""
    try:
        check_object_key(name)
    except InvalidArgument as error:
        return error.message
    if is_plaits(name):
        return f"{name!r} is a name of plait's own"
    if len(os.fsencode(os.path.join(folder, name))) > _PATH_BYTES_MAX:
        return f"{name[:40]!r}… makes a path of more than {_PATH_BYTES_MAX} bytes"
    long = next((part for part in name.split("/") if len(os.fsencode(part)) > name_bytes_max), None)
    return f"{long[:40]!r}… has more than {name_bytes_max} bytes, as many as a file's name may have" if long else ""


def collisions(
    written: Collection[str], files: Collection[str], folders: Collection[str], *, folds_case: bool
) -> Iterator[str]:
    """Names to be written that cannot be beside each other, or beside the files and folders that are there."""
    names = set(written)
    above = {folder for name in names for folder in folders_above(name)}
    for name in sorted(names & above):
        yield f"{name!r} is an object and a folder too"
    for name in sorted(names & set(folders)):
        yield f"{name!r} is a folder there"
    for folder in sorted((above & set(files)) - names):
        yield f"{folder!r} has objects below it, and is a file or a link there"
    if folds_case:
        yield from _alike([*files, *folders], [*names, *above])


def _alike(there: Collection[str], new: Collection[str]) -> Iterator[str]:
    spelled = {_folded(one): one for one in there}
    for one in sorted(new):
        other = spelled.setdefault(_folded(one), one)
        if other != one:
            yield f"{one!r} and {other!r} are one name on this disk"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())

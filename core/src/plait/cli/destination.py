"""Files that commands write for the user: what the system refuses is told with the path and the reason."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plait.errors import InvalidArgument, PermissionDenied, StoreUnavailable

_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_MAY_PASS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@contextmanager
def writing(target: Path | str) -> Iterator[None]:
    """What is written in the block goes to the target, or to files below it. A pipe that nobody reads is none of it.

    Raises: PermissionDenied; StoreUnavailable for a full or failing disk; InvalidArgument for where no file can be.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        told = f"{error.filename or target} cannot be written: {error.strerror or error}"
        if error.errno in _FORBIDDEN:
            raise PermissionDenied(told, remedy="name another, or have its owner allow it") from error
        if error.errno in _MAY_PASS:
            raise StoreUnavailable(told, remedy="make room, or name another: what is there is incomplete") from error
        raise InvalidArgument(told, remedy="name another, in a folder that is there") from error

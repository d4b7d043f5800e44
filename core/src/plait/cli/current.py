"""Where the user is: the branch and the working set that this directory, or this machine for a server, remembers."""

from __future__ import annotations

import json
import os
from pathlib import Path

from plait.errors import PermissionDenied

_FOLDER, _FILE = ".plait", "current.json"


class Current:
    """What one catalog's user last switched to and began. Kept in `.plait/current.json`; for a catalog that is named
    by a URL in `~/.config/plait/current.json`, under that URL."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._is_url = "://" in where
        if self._is_url:
            home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
            self._file = Path(home) / "plait" / _FILE
        else:
            folder = Path(where)
            self._file = (folder if folder.name == _FOLDER else folder / _FOLDER) / _FILE

    @property
    def branch(self) -> str:
        return self._read().get("branch", "main")

    @property
    def tx(self) -> str | None:
        return self._read().get("tx")

    def remember(self, **changes: str | None) -> None:
        """Set `branch` or `tx`; None forgets it. The file is replaced whole, so a reader never sees half of it.

        Raises: PermissionDenied where it cannot be written: the command did all else.
        """
        now = {name: value for name, value in {**self._read(), **changes}.items() if value is not None}
        content = {**self._whole(), self._where: now} if self._is_url else now
        fresh = self._file.with_suffix(f".{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(content), encoding="utf-8")
            fresh.replace(self._file)
        except OSError as error:
            raise PermissionDenied(
                f"which branch and working set are current cannot be kept in {self._file}: {error.strerror}",
                remedy="make it writable, and choose again; all else was done: see 'plait tx list'",
            ) from error

    def _read(self) -> dict[str, str]:
        whole = self._whole()
        found = whole.get(self._where) if self._is_url else whole
        if not isinstance(found, dict):
            return {}
        return {name: value for name, value in found.items() if isinstance(value, str)}

    def _whole(self) -> dict[str, object]:
        """The file; one that is not there or cannot be read remembers nothing."""
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

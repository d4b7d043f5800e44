"""The commands that quiet a guest around a freeze of a volume that is in use."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from plait.errors import StoreUnavailable
from plait.types import Store

_SECONDS_MAX: Final = 60


@contextmanager
def quieted(store: Store, asset: str, uri: str) -> Iterator[None]:
    """Run the store's `pre_freeze` before a block and `post_freeze` after it, also when the block fails. Both are told
    the URI of the volume: that by which its machine has it.

    Raises: StoreUnavailable when one fails; after the first, the block is not run.
    """
    facts = {"PLAIT_STORE": store.name, "PLAIT_ASSET": asset, "PLAIT_URI": uri}
    _run("pre_freeze", store, facts)
    try:
        yield
    finally:
        _run("post_freeze", store, facts)


def _run(name: str, store: Store, facts: Mapping[str, str]) -> None:
    command = store.options.get(name)
    if command is None:
        return
    try:
        subprocess.run(
            shlex.split(command), env={**os.environ, **facts}, check=True, capture_output=True, timeout=_SECONDS_MAX
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise StoreUnavailable(
            f"{name} of store {store.name!r} failed: {error}", remedy="mend the command, then try again"
        ) from error

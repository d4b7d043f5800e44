"""What a store's options say: where its records are, and which driver keeps its layers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from plait.errors import InvalidArgument, Unsupported
from plait.types import Store

from plait_block.folder import Folder
from plait_block.layers import Layers
from plait_block.qcow2 import Qcow2Layers
from plait_block.raw import RawLayers

_OPTIONS: Final = frozenset({"path", "driver", "pre_freeze", "post_freeze"})
_DRIVERS: Final[Mapping[str, type[Layers]]] = {one.driver: one for one in (Qcow2Layers, RawLayers)}


def folder_of(store: Store) -> Folder:
    """Where a store keeps its records, by its options. Raises: InvalidArgument for options that are none."""
    unknown = sorted(set(store.options) - _OPTIONS)
    if unknown:
        raise InvalidArgument(
            f"stores of kind 'block' have no option {unknown[0]!r}", remedy=f"known are {', '.join(sorted(_OPTIONS))}"
        )
    path = store.options.get("path", "")
    if not os.path.isabs(path):
        raise InvalidArgument(
            f"store {store.name!r} needs an absolute path, got {path!r}", remedy="write --option path=/data/volumes"
        )
    return Folder(Path(os.path.normpath(path)))


def layers_of(options: Mapping[str, str], folder: Folder, failpoint: Callable[[str], None]) -> Layers:
    """The layers of a store, by its options. Raises: InvalidArgument, Unsupported."""
    name = options.get("driver", Qcow2Layers.driver)
    if name == "rbd":
        raise Unsupported("the driver 'rbd' (Ceph) is not there yet", remedy="use --option driver=qcow2")
    if name not in _DRIVERS:
        raise InvalidArgument(f"there is no driver {name!r}", remedy=f"use one of {', '.join(sorted(_DRIVERS))}")
    return _DRIVERS[name](folder, failpoint)

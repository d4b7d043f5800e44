"""What a store's options say: where its records are, and which driver keeps its layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from plait.adapter import folder_option
from plait.errors import InvalidArgument
from plait.types import Store

from plait_block.ceph import Pool
from plait_block.folder import Folder
from plait_block.layers import Layers
from plait_block.qcow2 import Qcow2Layers
from plait_block.raw import RawLayers
from plait_block.rbd import RbdLayers

_OPTIONS: Final = frozenset({"path", "driver", "pre_freeze", "post_freeze"})
_RBD_OPTIONS: Final = frozenset({"pool", "namespace", "conf", "user"})
_DRIVERS: Final = ("qcow2", "raw", "rbd")


def folder_of(store: Store) -> Folder:
    """Where a store keeps its records, by its options. Raises: InvalidArgument for options that are none."""
    known = _OPTIONS | _RBD_OPTIONS if store.options.get("driver") == "rbd" else _OPTIONS
    unknown = sorted(set(store.options) - known)
    if unknown:
        raise InvalidArgument(
            f"stores of kind 'block' have no option {unknown[0]!r}", remedy=f"known are {', '.join(sorted(known))}"
        )
    return Folder(Path(folder_option(store, "path")))


def layers_of(store: Store, folder: Folder, failpoint: Callable[[str], None]) -> Layers:
    """The layers of a store, by its options. Raises: InvalidArgument."""
    name = store.options.get("driver", "qcow2")
    if name == "rbd":
        options = {key: store.options[key] for key in _RBD_OPTIONS & set(store.options)}
        if not options.get("pool"):
            raise InvalidArgument(f"store {store.name!r} needs a pool", remedy="write --option pool=NAME")
        return RbdLayers(folder, failpoint, Pool(**options))
    if name not in _DRIVERS:
        raise InvalidArgument(f"there is no driver {name!r}", remedy=f"use one of {', '.join(_DRIVERS)}")
    return (RawLayers if name == "raw" else Qcow2Layers)(folder, failpoint)

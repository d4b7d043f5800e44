"""Finds plugins: the entry points of the group ``plait``, and modules that the environment names. A broken plugin fails
here, and the error names it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module, metadata
from inspect import isabstract
from typing import Any, Final

import pluggy

from plait import hookspecs
from plait.adapter import Adapter, Merger
from plait.errors import InvalidArgument, NotFound

ENTRY_POINT_GROUP = "plait"
MODULES: Final = "PLAIT_PLUGINS"
"""The variable of the environment that names modules, with commas between them: plugins that no package registers."""

PACKAGES: Final = {
    "block": "plait-block",
    "delta": "plait-delta",
    "demo": "plait-demo",
    "dolt": "plait-dolt",
    "files": "plait-s3",
    "iceberg": "plait-iceberg",
    "s3": "plait-s3",
}
"""What to install for the kinds of stores, and for the command, that come from plait itself. No other name is guessed:
whoever followed a guess would run what a stranger published under it."""


def remedy_for(kind: str) -> str:
    """How to get the adapter of a kind of store that no installed plugin brings."""
    package = PACKAGES.get(kind)
    return f"pip install {package}" if package else "install the plugin that brings it, or correct the kind"


def _origin(plugin: object) -> str:
    if isinstance(plugin, metadata.EntryPoint):
        return plugin.value
    return str(getattr(plugin, "__name__", type(plugin).__name__))


class Plugins:
    """Registered plugins, and what they offer. Immutable in use; make another for another set."""

    def __init__(self, plugins: Iterable[object] = (), *, installed: bool = True) -> None:
        """Register these plugins, and the installed ones unless told not to.

        Raises: InvalidArgument naming the plugin that cannot be imported, or whose hooks do not fit.
        """
        self.manager = pluggy.PluginManager("plait")
        self.manager.add_hookspecs(hookspecs)
        if installed:
            for entry_point in _entry_points(_places()):
                self._register(entry_point.name, entry_point)
            for module in filter(None, os.environ.get(MODULES, "").split(",")):
                self._register(module, metadata.EntryPoint(module, module, ENTRY_POINT_GROUP))
        for plugin in plugins:
            self._register(_origin(plugin), plugin)
        self._adapters = self._collect_adapters()

    def adapter_class(self, kind: str) -> type[Adapter]:
        """The adapter class of a kind of store, imported on first use. Raises: NotFound naming the kinds that exist;
        InvalidArgument naming the plugin whose class cannot be imported, or is no adapter."""
        registered = self._adapters.get(kind)
        if registered is None:
            known = ", ".join(sorted(self._adapters)) or "none"
            raise NotFound(
                f"no installed adapter handles stores of kind {kind!r}; there are: {known}",
                remedy=remedy_for(kind),
            )
        if isinstance(registered.adapter, str):
            registered = replace(registered, adapter=_import(registered.plugin, kind, registered.adapter))
            self._adapters[kind] = registered
        assert not isinstance(registered.adapter, str)
        return registered.adapter

    @property
    def kinds(self) -> Sequence[str]:
        """Kinds of stores that can be added, sorted."""
        return sorted(self._adapters)

    def mergers(self) -> Sequence[Merger]:
        """All registered mergers of content, those of later plugins first."""
        gathered: list[list[Merger]] = self.manager.hook.plait_register_mergers()
        return [merger for mergers in gathered for merger in mergers]

    def has(self, hook: str) -> bool:
        """Whether any plugin implements this hook."""
        return bool(getattr(self.manager.hook, hook).get_hookimpls())

    def _register(self, name: str, plugin: object) -> None:
        if (known := self.manager.get_plugin(name)) is not None:
            both = f"{_origin(known)} and {_origin(plugin)}"
            raise InvalidArgument(f"two plugins have the name {name!r}: {both}", remedy="uninstall one of the two")
        try:
            loaded = plugin.load() if isinstance(plugin, metadata.EntryPoint) else plugin
            if not self.manager.is_registered(loaded):
                self.manager.register(loaded, name=name)
            self.manager.check_pending()  # Fails for a hook that has no specification: its name is misspelt.
        except Exception as error:
            raise InvalidArgument(
                f"plugin {name!r} cannot be loaded: {error}", remedy=f"repair or uninstall the plugin {name!r}"
            ) from error

    def _collect_adapters(self) -> dict[str, _Registered]:
        found: dict[str, _Registered] = {}
        for implementation in self.manager.hook.plait_register_adapters.get_hookimpls():
            plugin = implementation.plugin_name
            for kind, adapter in _adapters_of(implementation):
                if kind in found:
                    raise InvalidArgument(
                        f"plugin {plugin!r} registers kind {kind!r}, which {found[kind].plugin} registers already",
                        remedy="uninstall one of the two",
                    )
                found[kind] = _Registered(plugin, adapter)
        return found


def _places() -> tuple[tuple[str, int], ...]:
    """Where packages are looked for, and when each place last changed: installing one changes it."""
    found = []
    for folder in sys.path:
        with suppress(OSError):
            found.append((folder, os.stat(folder or os.curdir).st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=1)
def _entry_points(places: tuple[tuple[str, int], ...]) -> metadata.EntryPoints:
    """The group's, of every package in these places. Kept until one changes: it reads a file of each package."""
    return metadata.entry_points(group=ENTRY_POINT_GROUP)


@dataclass(frozen=True, slots=True)
class _Registered:
    """An adapter's class, or its `module:Class` to import, and the plugin that registered it."""

    plugin: str
    adapter: type[Adapter] | str


def _adapters_of(implementation: pluggy.HookImpl) -> list[tuple[str, type[Adapter] | str]]:
    """The (kind, adapter class) pairs that one plugin registers. Checks that each class can be instantiated."""
    plugin = implementation.plugin_name
    try:
        registered: Any = implementation.function()
        if isinstance(registered, Mapping):
            return list(registered.items())
        adapters = list(registered)
    except Exception as error:
        raise InvalidArgument(
            f"plugin {plugin!r} cannot register its adapters: {error}", remedy=_remedy(plugin)
        ) from error
    return [(_checked(plugin, adapter).kind, adapter) for adapter in adapters]


def _import(plugin: str, kind: str, place: str) -> type[Adapter]:
    module, _, name = place.partition(":")
    try:
        adapter = getattr(import_module(module), name)
    except Exception as error:
        raise InvalidArgument(
            f"plugin {plugin!r}: the adapter {place} cannot be imported: {error}", remedy=_remedy(plugin)
        ) from error
    if _checked(plugin, adapter).kind != kind:
        raise InvalidArgument(
            f"plugin {plugin!r} registers {place} for kind {kind!r}, but it is for {adapter.kind!r}",
            remedy=_remedy(plugin),
        )
    return _checked(plugin, adapter)


def _checked(plugin: str, adapter: object) -> type[Adapter]:
    if not (isinstance(adapter, type) and issubclass(adapter, Adapter) and hasattr(adapter, "kind")):
        raise InvalidArgument(
            f"plugin {plugin!r} registers {adapter!r}, which is no adapter with a kind", remedy=_remedy(plugin)
        )
    if isabstract(adapter):
        missing = ", ".join(sorted(adapter.__abstractmethods__))
        raise InvalidArgument(
            f"plugin {plugin!r}: {adapter.__name__} does not implement {missing}", remedy=_remedy(plugin)
        )
    return adapter


def _remedy(plugin: str) -> str:
    return f"repair or uninstall the plugin {plugin!r}"

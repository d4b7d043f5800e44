"""Finding plugins: the entry points of the group ``plait``. A broken one fails here, and the error names it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from inspect import isabstract

import pluggy

from plait import hookspecs
from plait.adapter import Adapter, Merger
from plait.errors import InvalidArgument, NotFound

ENTRY_POINT_GROUP = "plait"


class Plugins:
    """Registered plugins, and what they offer. Immutable in use; make another for another set."""

    def __init__(self, plugins: Iterable[object] = (), *, installed: bool = True) -> None:
        """Register these plugins, and the installed ones unless told not to.

        Raises: InvalidArgument naming the plugin that cannot be imported, or whose hooks do not fit.
        """
        self.manager = pluggy.PluginManager("plait")
        self.manager.add_hookspecs(hookspecs)
        if installed:
            for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP):
                self._register(entry_point.name, entry_point)
        for plugin in plugins:
            self._register(getattr(plugin, "__name__", type(plugin).__name__), plugin)
        self._adapters = self._collect_adapters()

    def adapter_class(self, kind: str) -> type[Adapter]:
        """Raises: NotFound, with the kinds there are."""
        try:
            return self._adapters[kind]
        except KeyError:
            known = ", ".join(sorted(self._adapters)) or "none"
            raise NotFound(
                f"no installed adapter handles stores of kind {kind!r}; there are: {known}",
                remedy=f"pip install plait-{kind}",
            ) from None

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
        try:
            loaded = plugin.load() if isinstance(plugin, metadata.EntryPoint) else plugin
            self.manager.register(loaded, name=name)
            self.manager.check_pending()  # A hook that nobody calls is a misspelt one.
        except Exception as error:
            raise InvalidArgument(
                f"plugin {name!r} cannot be loaded: {error}", remedy=f"repair or uninstall the plugin {name!r}"
            ) from error

    def _collect_adapters(self) -> Mapping[str, type[Adapter]]:
        found: dict[str, type[Adapter]] = {}
        for implementation in self.manager.hook.plait_register_adapters.get_hookimpls():
            for adapter in _adapters_of(implementation):
                if adapter.kind in found:
                    raise InvalidArgument(
                        f"plugin {implementation.plugin_name!r} registers kind {adapter.kind!r}, which"
                        f" {found[adapter.kind].__module__} registers already",
                        remedy="uninstall one of the two",
                    )
                found[adapter.kind] = adapter
        return found


def _adapters_of(implementation: pluggy.HookImpl) -> Sequence[type[Adapter]]:
    """What one plugin registers, each a class that can be instantiated."""
    remedy = f"repair or uninstall the plugin {implementation.plugin_name!r}"
    try:
        adapters: Sequence[type[Adapter]] = list(implementation.function())  # type: ignore[call-overload]
    except Exception as error:
        raise InvalidArgument(
            f"plugin {implementation.plugin_name!r} cannot register its adapters: {error}", remedy=remedy
        ) from error
    for adapter in adapters:
        if not (isinstance(adapter, type) and issubclass(adapter, Adapter) and hasattr(adapter, "kind")):
            raise InvalidArgument(
                f"plugin {implementation.plugin_name!r} registers {adapter!r}, which is no adapter with a kind",
                remedy=remedy,
            )
        if isabstract(adapter):
            missing = ", ".join(sorted(adapter.__abstractmethods__))
            raise InvalidArgument(
                f"plugin {implementation.plugin_name!r}: {adapter.__name__} does not implement {missing}",
                remedy=remedy,
            )
    return adapters

"""Plugins: found, gathered, and refused by name when they are broken."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from plait.adapter import Adapter, Merger
from plait.errors import InvalidArgument, NotFound
from plait.hookspecs import hookimpl
from plait.plugins import ENTRY_POINT_GROUP, Plugins
from plait_conformance import fake_plugin
from plait_conformance.fake_kinds import KINDS


class Another(KINDS[0]):  # type: ignore[misc,valid-type]
    kind: ClassVar[str] = "another"


class Abstract(Adapter):
    kind: ClassVar[str] = "abstract"


def plugin(adapters: Any) -> object:
    """A plugin that registers what the function returns."""

    class Registering:
        @hookimpl
        def plait_register_adapters(self) -> Any:
            return adapters()

    return Registering()


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLAIT_PLUGINS", raising=False)


def install(folder: Path, name: str, target: str, source: str | None, *, package: str = "") -> None:
    """As pip leaves a distribution: its module, and its entry point in its metadata."""
    package = package or name
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{name} = {target}\n")
    if source is not None:
        (folder / f"{target}.py").write_text(source)


def test_adapters_are_found_by_kind() -> None:
    plugins = Plugins([fake_plugin, plugin(lambda: [Another])], installed=False)
    assert plugins.adapter_class("another") is Another
    assert plugins.kinds == sorted({*(kind.kind for kind in KINDS), "another"})


def test_a_kind_that_nobody_handles_is_named_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="'nope'; there are: another") as caught:
        Plugins([plugin(lambda: [Another])], installed=False).adapter_class("nope")
    assert caught.value.remedy == "install the plugin that brings it, or correct the kind"
    with pytest.raises(NotFound, match="there are: none"):
        Plugins(installed=False).adapter_class("nope")


@pytest.mark.parametrize(("kind", "package"), [("files", "plait-s3"), ("dolt", "plait-dolt")])
def test_a_kind_of_plaits_own_plugins_is_answered_with_the_package_that_brings_it(kind: str, package: str) -> None:
    with pytest.raises(NotFound) as caught:
        Plugins(installed=False).adapter_class(kind)
    assert caught.value.remedy == f"pip install {package}"


def test_installed_plugins_come_through_their_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        tmp_path,
        "plait-gadget",
        "gadget_plugin",
        "from plait.hookspecs import hookimpl\nfrom plait_conformance.fake_kinds import KINDS\n"
        "class Gadget(KINDS[0]):\n    kind = 'gadget'\n"
        "@hookimpl\ndef plait_register_adapters():\n    return [Gadget]\n",
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path)])  # Nothing else is installed.
    assert Plugins().adapter_class("gadget").__name__ == "Gadget"
    assert Plugins().kinds == ["gadget"]
    assert Plugins(installed=False).kinds == []


def test_a_plugin_that_is_installed_while_the_process_runs_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    os.utime(tmp_path, (1, 1))  # Long ago: clocks of file systems have ticks of some milliseconds.
    assert Plugins().kinds == []
    install(
        tmp_path,
        "plait-late",
        "late_plugin",
        "from plait.hookspecs import hookimpl\n"
        "@hookimpl\ndef plait_register_adapters():\n    return {'late': 'late_plugin:Late'}\n",
    )
    assert Plugins().kinds == ["late"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "No module named 'broken_plugin'"),
        ("import a_module_that_is_not_there", "a_module_that_is_not_there"),
        ("1 / 0", "division by zero"),
    ],
)
def test_an_installed_plugin_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, reason: str
) -> None:
    install(tmp_path, "plait-broken", "broken_plugin", source)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(InvalidArgument, match=f"plugin 'plait-broken' cannot be loaded: .*{reason}") as caught:
        Plugins()
    assert caught.value.remedy == "repair or uninstall the plugin 'plait-broken'"


def test_modules_that_the_environment_names_are_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "at_hand.py").write_text(
        "from plait.hookspecs import hookimpl\n"
        "@hookimpl\ndef plait_register_adapters(): return {'at-hand': 'at_hand:Late'}\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PLAIT_PLUGINS", "at_hand")
    assert "at-hand" in Plugins().kinds
    monkeypatch.setenv("PLAIT_PLUGINS", "at_hand,not_at_hand")
    with pytest.raises(InvalidArgument, match="plugin 'not_at_hand' cannot be loaded: No module"):
        Plugins()


def test_two_installed_plugins_of_one_name_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for target in ("one_plugin", "other_plugin"):
        install(tmp_path, "twice", target, "", package=f"plait_{target}")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(InvalidArgument, match=r"two plugins have the name 'twice': .*_plugin and .*_plugin"):
        Plugins()


def test_a_hook_with_unknown_arguments_is_refused() -> None:
    class Wrong:
        @hookimpl
        def plait_check_proposal(self, proposal: object, colour: str) -> None: ...

    with pytest.raises(InvalidArgument, match=r"'Wrong' cannot be loaded(.|\n)*colour"):
        Plugins([Wrong()], installed=False)


def test_a_hook_that_does_not_exist_is_refused() -> None:
    class Misspelt:
        @hookimpl
        def plait_register_adaptors(self) -> None: ...

    with pytest.raises(InvalidArgument, match=r"'Misspelt' cannot be loaded(.|\n)*plait_register_adaptors"):
        Plugins([Misspelt()], installed=False)


def _raise() -> None:
    raise RuntimeError("no licence")


@pytest.mark.parametrize(
    ("adapters", "reason"),
    [
        (_raise, "cannot register its adapters: no licence"),
        (lambda: None, "cannot register its adapters"),
        (lambda: [object], "which is no adapter with a kind"),
        (lambda: ["iceberg"], "which is no adapter with a kind"),
        (lambda: [Adapter], "which is no adapter with a kind"),
        (lambda: [Abstract], "Abstract does not implement abort, diff"),
        (lambda: [Another, Another], "registers kind 'another'"),
    ],
)
def test_a_plugin_whose_adapters_do_not_fit_is_named(adapters: Any, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"plugin 'Registering'.*{reason}"):
        Plugins([plugin(adapters)], installed=False)


def test_an_adapter_named_by_its_place_is_imported_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "another_plugin", ModuleType("another_plugin"))
    plugins = Plugins([plugin(lambda: {"another": "another_plugin:Another"})], installed=False)
    assert plugins.kinds == ["another"]
    with pytest.raises(InvalidArgument, match=r"'Registering': the adapter another_plugin:Another cannot be imported"):
        plugins.adapter_class("another")
    monkeypatch.setattr(sys.modules["another_plugin"], "Another", Another, raising=False)
    assert plugins.adapter_class("another") is Another
    wrong = Plugins([plugin(lambda: {"other": "another_plugin:Another"})], installed=False)
    with pytest.raises(InvalidArgument, match="for kind 'other', but it is for 'another'"):
        wrong.adapter_class("other")


def test_two_plugins_of_one_kind_are_refused() -> None:
    class Second:
        @hookimpl
        def plait_register_adapters(self) -> Sequence[type[Adapter]]:
            return [Another]

    with pytest.raises(InvalidArgument, match=r"plugin 'Second' registers kind 'another', which .* already"):
        Plugins([plugin(lambda: [Another]), Second()], installed=False)


def test_mergers_of_all_plugins_are_gathered_the_latest_first() -> None:
    def merging(name: str) -> object:
        class Merging:
            @hookimpl
            def plait_register_mergers(self) -> Sequence[Merger]:
                return [Merger(name, "*.json", lambda base, ours, theirs: None)]

        return Merging()

    plugins = Plugins(installed=False)
    for name in ("first", "second"):
        plugins.manager.register(merging(name), name=name)
    assert [merger.name for merger in plugins.mergers()] == ["second", "first"]
    assert plugins.has("plait_register_mergers")
    assert not plugins.has("plait_check_proposal")

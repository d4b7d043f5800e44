"""Configured stores: one adapter each, kept while its row is the same; credentials; adapters' durable state."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from plait.adapter import Capability, Context, silent
from plait.clock import ManualClock, SystemClock
from plait.errors import InvalidArgument, NotFound, StoreUnavailable
from plait.persist import Repository
from plait.plugins import Plugins
from plait.store_folder import check_folder, make_folder
from plait.stores import (
    Adapters,
    NoState,
    RowState,
    check_store,
    client_context,
    probe,
    resolve_credential,
    row_context,
)
from plait.types import Lack, Mode, Store
from plait_conformance import fake_plugin
from plait_conformance.fake_kinds import KINDS
from plait_conformance.testing import MemoryState

KIND = next(kind for kind in KINDS if Capability.MERGE in kind.capabilities)


class Stores:
    """What rows of stores would be, and the adapters over them."""

    def __init__(self, folder: Path) -> None:
        self.rows = {
            "lake": Store("lake", KIND.kind, options={"path": str(folder)}),
            "p": Store("p", KIND.kind, Mode.POINTER),
            "odd": Store("odd", "unheard-of"),
        }
        self.reads = 0
        plugins = Plugins([fake_plugin], installed=False)
        self.adapters = Adapters(plugins, self.find, lambda store: Context(MemoryState()))

    def find(self, name: str) -> Store:
        self.reads += 1
        try:
            return self.rows[name]
        except KeyError:
            raise NotFound(f"store {name!r} does not exist") from None


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    make_folder(str(tmp_path))
    return Stores(tmp_path)


class TestAdapters:
    def test_a_store_has_one_adapter(self, stores: Stores) -> None:
        made = stores.adapters.get("lake")
        assert isinstance(made, KIND)
        assert made.store == stores.rows["lake"]
        assert stores.adapters.get("lake") is made

    def test_another_configuration_is_another_adapter(self, stores: Stores, tmp_path: Path) -> None:
        made = stores.adapters.get("lake")
        make_folder(str(tmp_path / "moved"))
        stores.rows["lake"] = Store("lake", KIND.kind, options={"path": str(tmp_path / "moved")})
        again = stores.adapters.get("lake")
        assert again is not made
        assert again.store == stores.rows["lake"]
        assert stores.adapters.get("lake") is again

    def test_what_is_replaced_stays_open_for_those_who_use_it_and_is_closed_with_the_rest(
        self, stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed: list[str] = []
        monkeypatch.setattr(KIND, "close", lambda self: closed.append(self.store.options["path"]))
        stores.adapters.get("lake")
        make_folder(str(tmp_path / "moved"))
        stores.rows["lake"] = Store("lake", KIND.kind, options={"path": str(tmp_path / "moved")})
        stores.adapters.get("lake")
        assert closed == []
        stores.adapters.close()
        stores.adapters.close()
        assert sorted(closed) == [str(tmp_path), str(tmp_path / "moved")]

    def test_missing_stores_and_kinds_are_named(self, stores: Stores) -> None:
        with pytest.raises(NotFound, match="'none'"):
            stores.adapters.get("none")
        with pytest.raises(NotFound, match="'unheard-of'"):
            stores.adapters.get("odd")

    def test_what_is_asked_on_every_commit_is_read_once_a_second(
        self, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 100.0
        monkeypatch.setattr("plait.stores.time.monotonic", lambda: now)
        assert [stores.adapters.known("lake") for _ in range(3)] == [stores.rows["lake"]] * 3
        assert [stores.adapters.known("none") for _ in range(3)] == [None] * 3
        assert stores.reads == 2
        now += 1.1
        stores.rows["lake"] = Store("lake", KIND.kind, options={"path": "moved"})
        assert stores.adapters.known("lake") == stores.rows["lake"]

    def test_in_a_pointer_store_plait_can_do_nothing(self, stores: Stores) -> None:
        assert stores.adapters.capabilities(stores.rows["lake"]) == KIND.capabilities
        assert stores.adapters.capabilities(stores.rows["p"]) == frozenset()

    def test_an_adapter_made_to_be_checked_is_not_kept(self, stores: Stores) -> None:
        made = stores.adapters.make(stores.rows["lake"])
        assert stores.adapters.get("lake") is not made


class TestFolders:
    STORE = Store("lake", KIND.kind, options={"path": "/…"})

    def test_a_folder_that_was_made_is_there_however_empty(self, tmp_path: Path) -> None:
        folder = tmp_path / "a" / "b"
        assert make_folder(str(folder)) == make_folder(str(folder)) == ""
        check_folder(self.STORE, str(folder))

    def test_a_folder_that_holds_something_needs_no_mark(self, tmp_path: Path) -> None:
        (tmp_path / "versions").mkdir()
        check_folder(self.STORE, str(tmp_path))

    @pytest.mark.parametrize(
        ("held", "told"), [(None, "is not there"), ((), "is empty"), (("lost+found",), "is empty")]
    )
    def test_a_folder_that_is_gone_or_empty_is_told_and_left_alone(
        self, held: tuple[str, ...] | None, told: str, tmp_path: Path
    ) -> None:
        folder = tmp_path / "lake"
        if held is not None:
            for name in ("", *held):
                (folder / name).mkdir()
        with pytest.raises(StoreUnavailable, match=f"'lake': its folder {folder} {told}") as refused:
            check_folder(Store("lake", KIND.kind, options={"warehouse": str(folder)}), str(folder))
        assert "plait store set lake --option warehouse=" in refused.value.remedy
        assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(() if held is None else ("lake", *held))

    def test_a_folder_that_cannot_be_made_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert "cannot be made, or written" in make_folder(str(tmp_path / "file" / "lake"))


class TestCredentials:
    def test_plain_text_is_itself(self) -> None:
        for text in ("us-east-1", "env:", "file:", "s3://bucket", "", "http://h:80"):
            assert resolve_credential(text) == text

    def test_the_environment_and_files_are_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("A_SECRET", "hunter2")
        (tmp_path / "secret").write_text("hunter3\n")
        assert resolve_credential("env:A_SECRET") == "hunter2"
        assert resolve_credential(f"file:{tmp_path / 'secret'}") == "hunter3"

    def test_what_is_missing_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("A_SECRET", raising=False)
        with pytest.raises(StoreUnavailable, match="A_SECRET"):
            resolve_credential("env:A_SECRET")
        with pytest.raises(StoreUnavailable, match=r"secret cannot be read: No such file"):
            resolve_credential(f"file:{tmp_path / 'secret'}")
        (tmp_path / "secret").write_bytes(b"\xff")
        with pytest.raises(StoreUnavailable, match="secret cannot be read: it is no text"):
            resolve_credential(f"file:{tmp_path / 'secret'}")

    def test_what_is_missing_is_told_with_the_store_and_the_option_to_set(self, tmp_path: Path) -> None:
        options = {"bucket": "b", "access_key": f"file:{tmp_path / 'gone'}", "secret_key": "env:PLAIT_NOT_SET"}
        far = Store("far", "s3", options=options)
        for context in (
            client_context(Plugins(installed=False), SystemClock(), silent)(far),
            row_context(cast(Any, None), Plugins(installed=False), SystemClock(), silent)(far),
        ):
            for option, said in (("access_key", "gone"), ("secret_key", "PLAIT_NOT_SET")):
                with pytest.raises(StoreUnavailable, match=f"store 'far', option '{option}': .*{said}") as caught:
                    context.credential(options[option])
                assert f"plait store set far --option {option}=" in caught.value.remedy
            assert context.credential("b") == "b"


class TestCheckStore:
    PLUGINS: ClassVar[Plugins] = Plugins([fake_plugin], installed=False)

    @pytest.mark.parametrize(
        "store",
        [
            Store("lake", KIND.kind, options={"path": "x", "secret_access_key": "env:KEY", "token": "file:/run/t"}),
            Store("p", "anything", Mode.POINTER, options={"endpoint": "https://user@h:80/a:b@c?key=v"}),
            Store("2013 q1", KIND.kind),
        ],
    )
    def test_what_fits_passes(self, store: Store) -> None:
        assert check_store(store, self.PLUGINS) is store

    @pytest.mark.parametrize(
        ("store", "reason"),
        [
            (Store("", KIND.kind), "empty part"),
            (Store("a\0b", KIND.kind), "NUL"),
            (Store("lake", "unheard-of"), "'unheard-of'"),
            (Store("lake", KIND.kind, options={"Secret-Key": "hunter2"}), "'Secret-Key' of store 'lake'"),
            (Store("p", "any", Mode.POINTER, options={"password": "hunter2"}), "secret in clear"),
            (Store("p", "any", Mode.POINTER, options={"password": "env:"}), "secret in clear"),
            (Store("p", "any", Mode.POINTER, options={"endpoint": "https://k:hunter2@h/x"}), "'endpoint' of store 'p'"),
            (Store("p", "any", Mode.POINTER, options={"account-key": "hunter2"}), "secret in clear"),
            (Store("p", "any", Mode.POINTER, options={"key.passphrase": "hunter2"}), "secret in clear"),
            (Store("p", "any", Mode.POINTER, options={"url": "pg://u@h/d?a=b&Password=hunter2"}), "'url' of store 'p'"),
            (Store("p", "any", Mode.POINTER, options={"at": "https://h/b?X-Signature=hunter2"}), "'at' of store 'p'"),
            (Store("lake", KIND.kind, bound_ref="a b"), "ref name 'a b'"),
            (Store("lake", KIND.kind, bound_ref=""), "a ref name has 1"),
        ],
    )
    def test_what_does_not_is_refused_and_the_secret_not_shown(self, store: Store, reason: str) -> None:
        with pytest.raises(InvalidArgument, match=reason) as caught:
            check_store(store, self.PLUGINS)
        assert "hunter2" not in str(caught.value)


class TestState:
    def test_an_adapters_state_is_durable_and_its_own(self, repository: Repository) -> None:
        lake, other = RowState(repository, "lake"), RowState(repository, "other")
        assert lake.compare_and_set("n", None, b"1")
        assert not lake.compare_and_set("n", None, b"2")
        assert lake.compare_and_set("n", b"1", b"2")
        assert (RowState(repository, "lake").get("n"), other.get("n")) == (b"2", None)
        assert lake.compare_and_set("n", b"2", None)
        assert lake.get("n") is None

    def test_a_clients_adapter_keeps_nothing(self) -> None:
        state = NoState()
        assert not state.compare_and_set("n", None, b"1")
        assert state.get("n") is None

    def test_contexts_carry_what_adapters_need(self, repository: Repository, clock: ManualClock) -> None:
        plugins = Plugins(installed=False)
        said: list[tuple[str, int, int | None]] = []
        row = row_context(repository, plugins, clock, lambda *step: said.append(step))(Store("lake", "k"))
        assert row.state.compare_and_set("n", None, b"1")
        assert RowState(repository, "lake").get("n") == b"1"
        client = client_context(plugins, clock, lambda *step: said.append(step))(Store("lake", "k"))
        assert isinstance(client.state, NoState)
        for context in (row, client):
            assert context.clock is clock
            assert context.mergers() == []
            context.progress("copying", 1, 2)
        assert said == [("copying", 1, 2)] * 2


def test_what_a_probe_says_to_do_is_apart_from_what_is_wrong(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KIND, "check", lambda self: ["the bucket is read-only · grant it", "it is slow"])
    assert probe(stores.adapters.get("lake")) == [Lack("the bucket is read-only", "grant it"), Lack("it is slow")]

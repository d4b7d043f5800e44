"""A whole catalog against a plain model, its process killed at any failpoint of any call, and of the recovery after it.

Stores with native heads, Dolt-like and Delta-like; working sets, merges, reverts, conflicts, drops, branches, foreign
writes. Whatever died is asked for again under the same id, or given up: then it is whole or absent.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from plait.types import Key
from plait_conformance.driven import Driven, Failed
from plait_conformance.fake_storage import Folder, head_items, write_behind
from plait_conformance.model import Asset, ModelCommit, ModelTx, join, merge_base
from plait_conformance.scenes import make_scene

SOAK = bool(os.environ.get("PLAIT_SOAK"))
KINDS = {"one": "fake-dolt", "two": "fake-delta"}
KEYS: list[Key] = [(store, name) for store in KINDS for name in ("a", "b")]
BRANCHES = ["main", "dev", "side"]

keys = st.sampled_from(KEYS)
branches = st.sampled_from(BRANCHES)
items = st.sampled_from(["x", "y", "z"])
writes = st.lists(st.tuples(keys, items, st.one_of(st.none(), st.integers(1, 3))), min_size=1, max_size=3)
places = st.one_of(st.integers(1, 12), st.integers(1, 60))
deaths = st.one_of(st.tuples(places), st.tuples(places, st.integers(1, 12)), st.just(()))


class WholeCatalog(RuleBasedStateMachine):
    """Rules are calls; after each, every branch holds what the model's does."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory(prefix="plait-model-")
        self.folder = Path(self.temporary.name)
        scene = make_scene(self.folder)
        with scene.open() as catalog:
            for store, kind in KINDS.items():
                catalog.add_store(store, kind, {"path": str(self.folder / store)})
        self.catalog = Driven(scene)
        self.made = 0
        first = ModelCommit(self.number(), (), {})
        self.heads = {"main": first}
        self.ids = {first.number: self.ask("head", "main").id}
        self.txs: dict[str, ModelTx] = {}

    # -- parts -------------------------------------------------------------------------------------------------------

    def number(self) -> int:
        self.made += 1
        return self.made

    def ask(self, name: str, *arguments: object) -> Any:
        return self.catalog.call(name, "", *arguments)

    def land(self, tx: ModelTx, state: Any, made: str) -> None:
        """The commit is there: the model has it too."""
        head = self.heads[tx.branch]
        parents = (head,) if tx.theirs is None else (head, tx.theirs)
        commit = ModelCommit(self.number(), parents, state)
        self.heads[tx.branch], self.ids[commit.number] = commit, made

    def pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.txs, key=list(self.txs).index)))

    # -- rules -------------------------------------------------------------------------------------------------------

    @initialize()
    def fill(self) -> None:
        self.change("main", [(key, "x", 1) for key in KEYS[::2]], ())
        self.create_branch("dev", "main", ())

    @precondition(lambda self: len(self.txs) < 4)
    @rule(branch=branches, writes=writes, deaths=deaths)
    def begin(self, branch: str, writes: list[tuple[Key, str, int | None]], deaths: tuple[int, ...]) -> None:
        id = str(uuid.UUID(int=self.number()))
        answer = self.catalog.call("begin", id, branch, deaths=deaths)
        if branch not in self.heads:
            assert isinstance(answer, Failed)
            return
        assert answer is None
        self.txs[id] = ModelTx(branch, self.heads[branch].state)
        for key, item, value in writes:
            self.write_to(id, key, item, value, deaths)

    @precondition(lambda self: len(self.txs) < 4)
    @rule(branch=branches, writes=writes, deaths=deaths)
    def change(self, branch: str, writes: list[tuple[Key, str, int | None]], deaths: tuple[int, ...]) -> None:
        if branch in self.heads:
            self.begin(branch, writes, ())
            *_, id = self.txs
            self.commit_whole(id, deaths)

    @precondition(lambda self: self.txs)
    @rule(data=st.data(), key=keys, item=items, value=st.one_of(st.none(), st.integers(1, 3)), deaths=deaths)
    def write(self, data: st.DataObject, key: Key, item: str, value: int | None, deaths: tuple[int, ...]) -> None:
        self.write_to(self.pick(data), key, item, value, deaths)

    def write_to(self, id: str, key: Key, item: str, value: int | None, deaths: tuple[int, ...]) -> None:
        tx = self.txs[id]
        assert self.catalog.call("write", id, key, item, value, deaths=deaths) is None
        before = tx.held(key) or Asset(self.number(), {})
        changed = {**before.items, item: value}
        tx.own[key] = Asset(before.identity, {name: held for name, held in changed.items() if held is not None})

    @precondition(lambda self: self.txs)
    @rule(data=st.data(), key=keys, deaths=deaths)
    def drop(self, data: st.DataObject, key: Key, deaths: tuple[int, ...]) -> None:
        id = self.pick(data)
        tx = self.txs[id]
        if tx.held(key) is None:
            return
        answer = self.catalog.call("drop", id, key, deaths=deaths)
        assert answer is None or (deaths and answer.code == "NOT_FOUND")
        tx.own[key] = None

    @precondition(lambda self: self.txs)
    @rule(data=st.data(), deaths=deaths)
    def commit(self, data: st.DataObject, deaths: tuple[int, ...]) -> None:
        self.commit_whole(self.pick(data), deaths)

    def commit_whole(self, id: str, deaths: tuple[int, ...]) -> None:
        """Commit, settling conflicts by theirs, or find that there is nothing to commit, or no branch."""
        tx = self.txs.pop(id)
        head = self.heads.get(tx.branch)
        answer = self.catalog.call("commit", id, tx.theirs is not None, deaths=deaths)
        if head is None:
            assert answer.code == "NOT_FOUND"
            assert self.catalog.call("discard", id) is None
            return
        joined = join(head.state, tx.candidates())
        if joined.conflicts:
            assert isinstance(answer, Failed), f"{joined.conflicts} conflicts were not found"
            assert answer.code == "COMMIT_CONFLICT"
            assert self.catalog.call("take_theirs", id, deaths=deaths) == joined.conflicts
            answer = self.catalog.call("commit", id, tx.theirs is not None, deaths=deaths)
        if joined.state == head.state and tx.theirs is None:
            assert answer.code == "NOTHING_TO_COMMIT"
            assert self.catalog.call("discard", id, deaths=deaths) is None
            return
        assert isinstance(answer, str), answer
        assert self.catalog.call("commit", id, False) == answer, "the same working set has two commits"
        self.land(tx, joined.state, answer)

    @precondition(lambda self: self.txs)
    @rule(data=st.data(), death=st.integers(1, 80))
    def commit_and_never_ask_again(self, data: st.DataObject, death: int) -> None:
        id = self.pick(data)
        tx = self.txs[id]
        if tx.branch not in self.heads:
            return
        joined = join(self.heads[tx.branch].state, tx.candidates())
        self.catalog.attempt("commit", id, tx.theirs is not None, death=death)
        if self.catalog.call("state", id) != "committed":
            return  # Absent, and the working set is as it was.
        assert joined.conflicts == 0
        del self.txs[id]
        self.land(tx, joined.state, self.catalog.call("commit", id, False))

    @precondition(lambda self: self.txs)
    @rule(data=st.data(), deaths=deaths)
    def discard(self, data: st.DataObject, deaths: tuple[int, ...]) -> None:
        id = self.pick(data)
        del self.txs[id]
        assert self.catalog.call("discard", id, deaths=deaths) is None

    @rule(source=branches, into=branches, deaths=deaths)
    def merge(self, source: str, into: str, deaths: tuple[int, ...]) -> None:
        if source == into or source not in self.heads or into not in self.heads:
            return
        ours, theirs = self.heads[into], self.heads[source]
        base = merge_base(ours, theirs)
        id = str(uuid.UUID(int=self.number()))
        answer = self.catalog.call("begin_merge", id, source, into, deaths=deaths)
        if base is theirs:
            assert answer.code == "NOTHING_TO_COMMIT"
            return
        assert answer is None
        self.txs[id] = ModelTx(into, ours.state, theirs=theirs, merge_base=base.state)
        self.commit_whole(id, deaths)

    @rule(branch=branches, back=st.integers(0, 2), deaths=deaths)
    def revert(self, branch: str, back: int, deaths: tuple[int, ...]) -> None:
        if branch not in self.heads:
            return
        undone = self.heads[branch]
        for _ in range(back):
            undone = undone.parents[0] if undone.parents else undone
        if not undone.parents:
            return
        head, before = self.heads[branch], undone.parents[0]
        id = str(uuid.UUID(int=self.number()))
        tx = ModelTx(branch, head.state)
        changed = ((key, undone.state.get(key), before.state.get(key)) for key in KEYS)
        joined = join(head.state, changed)
        answer = self.catalog.call("revert", id, self.ids[undone.number], branch, deaths=deaths)
        if joined.conflicts:
            assert answer.code == "COMMIT_CONFLICT"
            assert self.catalog.call("discard", id, deaths=deaths) is None
        elif joined.state == head.state:
            assert answer.code in ("NOTHING_TO_COMMIT", "TRANSACTION_CLOSED")
        else:
            assert isinstance(answer, str), answer
            self.land(tx, joined.state, answer)

    @rule(name=branches, at=branches, deaths=deaths)
    def create_branch(self, name: str, at: str, deaths: tuple[int, ...]) -> None:
        if name in self.heads or at not in self.heads:
            return
        assert self.catalog.call("create_branch", str(uuid.uuid4()), name, at, deaths=deaths) is None
        self.heads[name] = self.heads[at]

    @rule(name=st.sampled_from(BRANCHES[1:]), deaths=deaths)
    def delete_branch(self, name: str, deaths: tuple[int, ...]) -> None:
        if name not in self.heads:
            return
        answer = self.catalog.call("delete_branch", str(uuid.uuid4()), name, deaths=deaths)
        assert answer is None or (deaths and answer.code == "NOT_FOUND")
        del self.heads[name]
        for id in [id for id, tx in self.txs.items() if tx.branch == name]:
            del self.txs[id]  # Of a branch that may be made anew, but is another one then.
            assert self.catalog.call("discard", id) is None

    @precondition(lambda self: len(self.txs) < 4)
    @rule(key=keys, item=items, value=st.integers(4, 6), deaths=deaths)
    def write_past_plait_and_adopt(self, key: Key, item: str, value: int, deaths: tuple[int, ...]) -> None:
        held = self.heads["main"].state.get(key)
        if held is None or held.items.get(item) == value:
            return
        native = {**held.items, item: value}
        write_behind(self.folder / key[0], self.ask("assets")[key], {name: str(one) for name, one in native.items()})
        self.change("main", [(key, "ours", self.number())], deaths)
        assert self.ask("unpublished") == [(key, "diverged")]
        answer = self.catalog.call("adopt", str(uuid.uuid4()), key, deaths=deaths)
        # Asked again after it was done, it has not diverged any more.
        assert isinstance(answer, str) or (deaths and answer.code == "NOT_FOUND"), answer
        now = self.heads["main"].state
        adopted = {**now, key: Asset(held.identity, {**now[key].items, item: value})}
        self.land(ModelTx("main", now), adopted, self.ask("head", "main").id)

    # -- what holds after each ---------------------------------------------------------------------------------------

    @invariant()
    def every_branch_holds_what_the_models_does(self) -> None:
        for name, head in self.heads.items():
            assert self.ask("contents", name) == {key: dict(asset.items) for key, asset in head.state.items()}
            assert self.ask("head", name).id == self.ids[head.number]

    @invariant()
    def native_heads_follow(self) -> None:
        assert self.ask("unpublished") == []
        assets = self.ask("assets")
        for key, asset in self.heads["main"].state.items():
            found = head_items(self.folder / key[0], assets[key])
            assert found is not None
            assert {item: int(text) for item, text in found.items()} == asset.items
        for store in KINDS:
            folder = Folder(self.folder / store)
            for native in folder.heads():
                moved = [head.seq for head in folder.log(native) if head.seq]
                assert moved == sorted(set(moved)), f"heads moved out of order: {moved}"

    def teardown(self) -> None:
        try:
            assert self.ask("problems") == []
        finally:
            self.catalog.close()
            self.temporary.cleanup()


TestWholeCatalog = WholeCatalog.TestCase
TestWholeCatalog.settings = settings(
    max_examples=500 if SOAK else 8,
    stateful_step_count=60 if SOAK else 20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

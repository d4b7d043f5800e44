"""The crash matrix: one scenario over two fake stores, killed at any failpoint, and what must hold after a recovery.

Run as a script, it is the child that dies (`PLAIT_FAILPOINT`, `PLAIT_FAILPOINT_RECORD`):

    python crash.py FOLDER DATABASE [SABOTAGE | recover]     `recover` only reopens, as the next process does

With `PLAIT_SYNC_JOURNAL` it notes there what it makes durable, for `power.lose` and `power.lose_end`.

`prepare` makes what exists before; the scenario prints a line for each thing that was acknowledged; `check` reopens,
recovers and asserts the invariants I1 to I5, I7 and I8. A sabotage breaks one rule on purpose in the child.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import plait
from plait.adapter import Capability
from plait.catalog import Catalog
from plait.errors import NotFound
from plait.failpoint import arm_from_environment
from plait.types import Commit, Depth, EventKind, Key, Proposal, TxState

from plait_conformance import fake_plugin, power
from plait_conformance.fake_handles import FakeAsset
from plait_conformance.fake_storage import FOUND, Folder, head_items, hold, release, write_behind
from plait_conformance.scenes import Scene

STORES = ("one", "two")
FOREIGN = "foreign"
ONCE = Proposal("main", (), message="once", idempotency_key="once", allow_empty=True)
HELD: Mapping[str, set[str]] = {
    "create": {"0"},
    "add 1": {"0", "1"},
    "add 2": {"0", "2"},
    "add 2 by merging": {"0", "1", "2"},
    "remove 1": {"0", "2"},
    "add 3": {"0", "2", "3"},
}
"""What both stores hold at the commit of that message, but for what somebody else wrote."""


def prepare(scene: Scene, kinds: Sequence[str]) -> None:
    """Two stores of these kinds, with one asset in each, and a branch."""
    with scene.open() as catalog:
        for store, kind in zip(STORES, kinds, strict=True):
            catalog.add_store(store, kind, {"path": str(scene.folder / store)})
        write(catalog, "main", "create", "0")
        catalog.create_branch("dev")


def run(catalog: Catalog, folder: Path) -> None:
    """Commits, a merge, a revert, busy heads, a foreign write and its adoption, a repeatable commit, a discard."""
    busy = [store.name for store in catalog.stores() if store.kind == "fake-block"]
    for store in busy:
        hold(folder / store, asset(catalog, store))
    write(catalog, "main", "add 1", "1")
    write(catalog, "dev", "add 2", "2")
    catalog.merge("dev", message="add 2 by merging")
    _say("committed add 2 by merging")
    catalog.revert("main~1", message="remove 1")
    _say("committed remove 1")
    for store in busy:
        release(folder / store, asset(catalog, store))
    catalog.publish()
    store = headed(catalog)[0]
    write_behind(folder / store, asset(catalog, store), {**_native(folder, catalog, store), FOREIGN: "1"})
    _say(FOREIGN)
    write(catalog, "main", "add 3", "3")
    _say(f"committed {_adopt(catalog, (store, 't')).message}")
    catalog.commit(ONCE)
    _say("committed once")
    dropped = catalog.begin(name="dropped")
    for name in STORES:
        handle(dropped, name)["lost"] = "1"
    dropped.discard()
    _say("discarded")


def _adopt(catalog: Catalog, key: Key) -> Commit:
    try:
        adopted = catalog.adopt(key)
    except NotFound:
        # Asked again because the answer was lost: the key had diverged, and it has not any more.
        return catalog.resolve("main")
    assert adopted is not None
    return adopted


def check(scene: Scene, printed: str) -> None:
    """Reopen, recover, and assert what must hold. Raises: AssertionError naming the invariant."""
    folder = scene.folder
    lines = printed.splitlines()
    with scene.open() as catalog:
        for store in catalog.stores():
            release(folder / store.name, asset(catalog, store.name))
        _notice_foreign(catalog, lines)
        left = catalog.publish()
        assert catalog.recover() == [], "recovery is done once"
        _check_history(catalog, lines)
        _check_contents(catalog)
        _check_answers(catalog, lines)
        assert all(one.state == "diverged" for one in left), f"heads that are not published: {left}"
        assert not left or FOREIGN in lines, f"diverged, but nobody else wrote: {left}"
        check_heads(folder, catalog, {one.store for one in left})
        for one in left:
            catalog.adopt(one.key)
        check_heads(folder, catalog, set())
        if FOREIGN in lines:
            assert FOREIGN in items(catalog, "main", headed(catalog)[0]), "I4: what somebody else wrote is lost"
        _check_ended(folder, catalog)
        problems = list(catalog.verify(Depth.BYTES))
        assert problems == [], f"I1: {problems}"
        before = _bytes(folder), catalog.events()
        assert catalog.recover() == []
        assert (_bytes(folder), catalog.events()) == before, "recovery once more changes nothing"


# -- invariants --------------------------------------------------------------------------------------------------------


def _check_history(catalog: Catalog, lines: Sequence[str]) -> None:
    events = catalog.events(limit=10_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1)), "I3: seq has gaps"
    commits = {commit.id: commit for ref in catalog.refs() for commit in catalog.log(ref.name)}
    announced = [event.commit.id for event in events if event.kind is EventKind.COMMIT and event.commit is not None]
    assert len(announced) == len(set(announced)), "I7: a commit has two events"
    first = {commit.id for commit in commits.values() if not commit.parents}
    assert set(commits) - first == set(announced), "I7: commits and their events differ"
    messages = [commit.message for commit in commits.values()]
    assert len(messages) == len(set(messages)), f"I5: twice in the history: {messages}"
    for line in lines:
        if line.startswith("committed "):
            assert line.removeprefix("committed ") in messages, f"I4: {line!r} was acknowledged: {messages}"


def _check_contents(catalog: Catalog) -> None:
    """I2, I5: each commit is whole in both stores, and holds what its predecessors and it wrote."""
    for ref in catalog.refs():
        for commit in catalog.log(ref.name):
            if not commit.parents:
                continue
            spec = f"@{commit.id}"
            one, two = (items(catalog, spec, store) - {FOREIGN} for store in STORES)
            assert one == two, f"I2: {commit.message!r} is torn: {one} {two}"
            if commit.message in HELD:
                assert one == HELD[commit.message], f"I5: {commit.message!r} holds {one}"


def _check_answers(catalog: Catalog, lines: Sequence[str]) -> None:
    """I8: asked again, each transaction and each idempotency key has the answer that it had."""
    for line in lines:
        word, _, tx_id = line.partition(" ")
        if word != "begun":
            continue
        tx = catalog.working_set(tx_id) if _exists(catalog, tx_id) else None
        made = {commit.id: commit for ref in catalog.refs() for commit in catalog.log(ref.name) if commit.tx == tx_id}
        if tx is not None and tx.state is TxState.COMMITTED:
            assert {tx.commit().id} == set(made), f"I8: {tx_id} has another answer"
        else:
            assert made == {}, f"I5: {tx_id} is in the history and not committed"
    again = catalog.commit(ONCE)
    assert catalog.commit(ONCE) == again, "I8: the same key has two answers"
    assert [commit.message for commit in catalog.log("main")].count("once") == 1, "I8: committed twice"


def _notice_foreign(catalog: Catalog, lines: Sequence[str]) -> None:
    """Nobody looks at a head that plait does not move: where it died before its next commit, that commit is made."""
    store = headed(catalog)[0]
    unseen = FOREIGN in lines and FOREIGN not in items(catalog, "main", store) and not catalog.publish([store])
    if unseen:
        write(catalog, "main", "add 4", "4")


def check_heads(folder: Path, catalog: Catalog, diverged: set[str]) -> None:
    """Native heads are where main is; what somebody else wrote is never overwritten."""
    for store in headed(catalog):
        native = set(_native(folder, catalog, store))
        if store in diverged:
            assert FOREIGN in native, f"{store}: what somebody else wrote was overwritten: {native}"
        else:
            assert native == items(catalog, "main", store), f"{store}: the native head holds {native}"
        seqs = [head.seq for head in Folder(folder / store).log(asset(catalog, store)) if head.seq]
        assert seqs == sorted(set(seqs)), f"I3: heads moved out of order: {seqs}"


def _check_ended(folder: Path, catalog: Catalog) -> None:
    """Discarding what is open leaves nothing: each pin and staging belongs to a commit, or to nobody's transaction."""
    for tx in catalog.working_sets():
        assert tx.state is TxState.OPEN, f"{tx.id} is still {tx.state}"
        catalog.working_set(tx.id).discard()
    committed = {commit.tx for ref in catalog.refs() for commit in catalog.log(ref.name)} | {FOUND}
    for store in STORES:
        for what in ("pins", "stagings", "names"):
            owners = {path.name for path in (folder / store / what).glob("*")}
            assert owners <= committed, f"{store}/{what} of ended transactions stay: {owners - committed}"


# -- parts -------------------------------------------------------------------------------------------------------------


def asset(catalog: Catalog, store: str) -> str:
    key: Key = (store, "t")
    return catalog.backend.get("main", [key])[key].snapshot.asset


def items(catalog: Catalog, spec: str, store: str) -> set[str]:
    """The names of what the store's asset holds at a point."""
    return set(cast("Mapping[str, str]", catalog.at(spec).open((store, "t"))))


def headed(catalog: Catalog) -> list[str]:
    """The stores with native heads."""
    kinds = {kind.kind: kind for kind in fake_plugin.plait_register_adapters()}
    return [
        store.name for store in catalog.stores() if Capability.NATIVE_HEAD in kinds[store.kind].capabilities_of(store)
    ]


def handle(tx: plait.WorkingSet, store: str) -> FakeAsset:
    """The asset of a store, to be written."""
    return cast(FakeAsset, tx.open((store, "t"), create=True))


def write(catalog: Catalog, branch: str, message: str, item: str) -> Commit:
    """Commit one more item in both stores."""
    with catalog.transaction(branch, message=message) as tx:
        _say(f"begun {tx.id}")
        for store in STORES:
            handle(tx, store)[item] = "1"
    _say(f"committed {message}")
    assert tx.committed is not None
    return tx.committed


def _native(folder: Path, catalog: Catalog, store: str) -> dict[str, str]:
    found = head_items(folder / store, asset(catalog, store))
    assert found is not None, f"{store} has no native head"
    return found


def _exists(catalog: Catalog, tx: str) -> bool:
    try:
        catalog.working_set(tx)
    except NotFound:
        return False
    return True


def _bytes(folder: Path) -> dict[str, bytes]:
    """Every byte of the stores."""
    paths = (path for store in STORES for path in (folder / store).rglob("*"))
    return {str(path): path.read_bytes() for path in sorted(paths) if path.is_file()}


def _say(line: str) -> None:
    print(line, flush=True)


def main(folder: str, database: str, how: str = "") -> None:
    arm_from_environment()
    if journal := os.environ.get("PLAIT_SYNC_JOURNAL"):
        power.note_syncs(Path(journal))
        if database.startswith("sqlite"):
            power.note_flushes(Path(journal))
    if how not in ("", "recover"):
        from plait_conformance import sabotage

        getattr(sabotage, how)()
    scene = Scene(Path(folder), database)
    with scene.open() as catalog:
        if how != "recover":
            run(catalog, scene.folder)


if __name__ == "__main__":
    main(*sys.argv[1:])

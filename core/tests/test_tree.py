"""The prolly tree against a dict, its independence of history, and what it costs in nodes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.codec import digest, pack
from plait.errors import Corrupt
from plait.tree import DEFAULT_SHAPE, MemoryNodes, NodeCache, Tree, TreeChange, TreeJoin
from plait_conformance.samples import SMALL

SALT = b"salt of the tests"
MANY = 1_000_000

keys = st.integers(0, 60).map(lambda number: b"k%02d" % number) | st.binary(max_size=3)
values = st.integers(0, 3).map(lambda number: b"v%d" % number)
models = st.dictionaries(keys, values, max_size=60)
edits = st.dictionaries(keys, st.none() | values, max_size=20)
Model = dict[bytes, bytes]
Edits = Mapping[bytes, bytes | None]


def small_tree(nodes: MemoryNodes | None = None) -> Tree:
    return Tree(nodes or MemoryNodes(), salt=SALT, shape=SMALL)


def build(tree: Tree, model: Model) -> bytes:
    return tree.build(sorted(model.items()))


def edited(model: Model, changes: Edits) -> Model:
    after = dict(model)
    for key, value in changes.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = value
    return after


class TestModel:
    @given(models)
    def test_a_tree_holds_what_it_was_built_of(self, model: Model) -> None:
        tree = small_tree()
        assert list(tree.scan(build(tree, model))) == sorted(model.items())

    @given(models, st.lists(edits, max_size=4))
    def test_any_edits_give_the_tree_of_the_edited_set(self, model: Model, steps: Sequence[Edits]) -> None:
        tree = small_tree()
        root = build(tree, model)
        for changes in steps:
            root, model = tree.apply(root, changes), edited(model, changes)
            assert root == build(small_tree(), model)
            assert dict(tree.scan(root)) == model

    @given(models, st.randoms(use_true_random=False))
    def test_the_same_set_has_the_same_root_whatever_the_order(self, model: Model, random: Random) -> None:
        tree = small_tree()
        order = list(model.items())
        random.shuffle(order)
        root = build(tree, {b"gone": b"x"})
        for key, value in order:
            root = tree.apply(root, {key: b"other", b"gone": b"y"})
            root = tree.apply(root, {key: value})
        if b"gone" not in model:
            root = tree.apply(root, {b"gone": None})
        assert root == build(small_tree(), model)

    @given(models, models)
    def test_different_sets_have_different_roots(self, one: Model, other: Model) -> None:
        tree = small_tree()
        assert (build(tree, one) == build(tree, other)) == (one == other)

    @given(models, edits)
    def test_old_roots_stay_readable_and_whole(self, model: Model, changes: Edits) -> None:
        nodes = MemoryNodes()
        tree = small_tree(nodes)
        before = build(tree, model)
        after = tree.apply(before, changes)
        cold = small_tree(nodes)  # Without the cache of the writer: everything must have been put.
        assert dict(cold.scan(before)) == model
        assert dict(cold.scan(after)) == edited(model, changes)

    @given(models)
    def test_edits_that_change_nothing_write_nothing(self, model: Model) -> None:
        nodes = MemoryNodes()
        root = build(small_tree(nodes), model)
        nodes.written = 0
        absent = b"absent key"
        assert small_tree(nodes).apply(root, {**model, absent: None}) == root
        assert nodes.written == 0

    @given(models)
    def test_removing_everything_leaves_the_empty_tree(self, model: Model) -> None:
        tree = small_tree()
        assert tree.apply(build(tree, model), dict.fromkeys(model)) == tree.empty == tree.build(())

    @given(models, st.lists(keys, max_size=10))
    def test_get_many_finds_what_is_there(self, model: Model, wanted: list[bytes]) -> None:
        tree = small_tree()
        root = build(tree, model)
        assert tree.get_many(root, wanted) == {key: model[key] for key in wanted if key in model}
        assert [tree.get(root, key) for key in wanted] == [model.get(key) for key in wanted]

    @given(models, st.binary(max_size=2), st.binary(max_size=3), st.none() | st.binary(max_size=3))
    def test_scan_keeps_to_its_range(self, model: Model, prefix: bytes, start: bytes, stop: bytes | None) -> None:
        tree = small_tree()
        found = list(tree.scan(build(tree, model), prefix=prefix, start=start, stop=stop))
        assert found == [
            (key, value)
            for key, value in sorted(model.items())
            if key.startswith(prefix) and key >= start and (stop is None or key < stop)
        ]

    def test_a_prefix_of_the_highest_bytes_is_a_range_too(self) -> None:
        tree = small_tree()
        model = dict.fromkeys((b"a", b"\xff", b"\xff\xfe", b"\xff\xff", b"\xff\xff\xff"), b"v")
        assert [key for key, _ in tree.scan(build(tree, model), prefix=b"\xff\xff")] == [b"\xff\xff", b"\xff\xff\xff"]

    def test_entries_out_of_order_are_a_mistake_of_the_caller(self) -> None:
        with pytest.raises(ValueError, match="ascending"):
            small_tree().build([(b"b", b""), (b"a", b"")])


class TestComparing:
    @given(models, edits)
    def test_diff_is_exactly_what_differs(self, model: Model, changes: Edits) -> None:
        tree = small_tree()
        before, after = build(tree, model), tree.apply(build(tree, model), changes)
        assert list(tree.diff(before, after)) == _diff(model, edited(model, changes))

    @given(models, models, st.binary(max_size=2))
    def test_diff_of_unrelated_trees_and_of_a_prefix(self, one: Model, other: Model, prefix: bytes) -> None:
        tree = small_tree()
        found = list(tree.diff(build(tree, one), build(tree, other), prefix=prefix))
        assert found == [change for change in _diff(one, other) if change.key.startswith(prefix)]

    @given(models, edits, edits)
    def test_join_lists_what_either_side_changed(self, model: Model, ours: Edits, theirs: Edits) -> None:
        tree = small_tree()
        base = build(tree, model)
        left, right = edited(model, ours), edited(model, theirs)
        found = list(tree.join(base, tree.apply(base, ours), tree.apply(base, theirs)))
        assert found == [
            TreeJoin(key, model.get(key), left.get(key), right.get(key))
            for key in sorted({*model, *left, *right})
            if model.get(key) != left.get(key) or model.get(key) != right.get(key)
        ]

    @given(models, edits)
    def test_walk_visits_each_node_of_a_tree_and_none_below_what_is_skipped(self, model: Model, changes: Edits) -> None:
        nodes = MemoryNodes()
        tree = small_tree(nodes)
        before = build(tree, model)
        old = dict(tree.walk(before))
        after = tree.apply(before, changes)
        new = dict(tree.walk(after, skip=old.__contains__))
        assert not set(new) & set(old)
        assert set(dict(tree.walk(after))) <= set(new) | set(old)
        # What the two hold is the whole tree.
        assert dict(Tree(MemoryNodes({**old, **new}), salt=SALT, shape=SMALL).scan(after)) == edited(model, changes)


class TestShape:
    @given(models)
    def test_no_chunk_is_larger_than_allowed_and_only_the_last_of_a_level_smaller(self, model: Model) -> None:
        tree = small_tree()
        root = build(tree, model)
        level = [tree.node(root)]
        while level[0].level:
            below = [tree.node(child) for node in level for child in node.values]
            assert all(SMALL.entries_min <= len(node.keys) for node in below[:-1])
            assert all(len(node.keys) <= SMALL.entries_max for node in below)
            assert [node.keys[-1] for node in below] == [key for node in level for key in node.keys]
            level = below

    def test_the_root_is_a_golden_value(self) -> None:
        """Shape, salt and boundary hash are part of the stored format: a change needs a migration."""
        tree = Tree(MemoryNodes(), salt=bytes(16))
        root = tree.build((b"%04d" % number, b"v%d" % number) for number in range(1000))
        assert tree.empty.hex() == "f72a7edd9510326a5b72013d0685ae557a67553847f9db7d58bd8920182f4d47"
        assert root.hex() == "45a5bb37d15a39501bdcf9e14fad6b30d796ccd4f002c8450a9a5a2681157bcf"

    def test_the_salt_moves_the_boundaries(self) -> None:
        model = {b"%03d" % number: b"v" for number in range(200)}
        one, other = (Tree(MemoryNodes(), salt=salt, shape=SMALL) for salt in (b"one", b"other"))
        assert build(one, model) != build(other, model)

    def test_values_do_not_move_the_boundaries(self) -> None:
        tree = small_tree()
        one = tree.build((b"%03d" % number, b"v") for number in range(200))
        other = tree.build((b"%03d" % number, b"w%d" % number) for number in range(200))
        assert tree.node(one).keys == tree.node(other).keys


class Counted:
    """A tree over nodes that are counted, read cold: no cache helps."""

    def __init__(self, nodes: MemoryNodes, root: bytes) -> None:
        self.nodes, self.root = nodes, root
        self.height = self.tree().node(root).level + 1

    def tree(self) -> Tree:
        return Tree(self.nodes, salt=SALT, shape=DEFAULT_SHAPE, cache=NodeCache())

    def cost(self, act: Callable[[Tree], object]) -> tuple[int, int]:
        """(nodes read, nodes written) by one act."""
        self.nodes.read = self.nodes.written = 0
        act(self.tree())
        return self.nodes.read, self.nodes.written


def _key(number: int) -> bytes:
    return b"lake\0table-%08d\0" % (number * 2)


@pytest.fixture(scope="module")
def counted() -> Counted:
    nodes = MemoryNodes()
    tree = Tree(nodes, salt=SALT, shape=DEFAULT_SHAPE, cache=NodeCache(16))
    gc.disable()  # Nothing here is garbage, and looking through it takes as long as building.
    try:
        root = tree.build((_key(number), b"value of 48 byte" * 3) for number in range(MANY))
    finally:
        gc.enable()
    return Counted(nodes, root)


# One group, so that one worker builds the large tree once.
@pytest.mark.slow
@pytest.mark.xdist_group("large_tree")
class TestCostsAmongAMillionKeys:
    @pytest.mark.parametrize("number", [0, 1, 499_999, 777_777, MANY - 1])
    @pytest.mark.parametrize("kind", ["replace", "insert", "remove"])
    def test_a_commit_of_one_key_costs_its_path(self, counted: Counted, number: int, kind: str) -> None:
        key = {"replace": _key(number), "insert": _key(number) + b"x", "remove": _key(number)}[kind]
        edit = {key: None if kind == "remove" else b"new"}
        roots: list[bytes] = []
        read, written = counted.cost(lambda tree: roots.append(tree.apply(counted.root, edit)))
        assert 1 <= written <= 2 * counted.height
        assert read <= 4 * counted.height
        changes: list[TreeChange] = []
        read, written = counted.cost(lambda tree: changes.extend(tree.diff(counted.root, roots[0])))
        assert [change.key for change in changes] == [key]
        assert read <= 4 * counted.height
        assert written == 0

    def test_one_key_is_read_along_its_path(self, counted: Counted) -> None:
        assert counted.cost(lambda tree: tree.get(counted.root, _key(123_456))) == (counted.height, 0)

    def test_keys_side_by_side_share_their_path(self, counted: Counted) -> None:
        wanted = [_key(number) for number in range(5_000, 5_010)]
        read, _ = counted.cost(lambda tree: tree.get_many(counted.root, wanted))
        assert read <= 2 * counted.height

    def test_a_scan_reads_what_it_yields(self, counted: Counted) -> None:
        prefix = _key(6_000)[:-3]  # 50 keys
        read, _ = counted.cost(lambda tree: list(tree.scan(counted.root, prefix=prefix)))
        assert read <= counted.height + 50 // DEFAULT_SHAPE.entries_min + 1

    def test_a_long_scan_asks_for_many_nodes_at_once_and_a_short_one_for_few(self, counted: Counted) -> None:
        read, _ = counted.cost(lambda tree: next(tree.scan(counted.root)))
        assert read == counted.height
        asked = counted.nodes.asked
        read, _ = counted.cost(lambda tree: list(islice(tree.scan(counted.root), MANY // 2)))
        assert counted.nodes.asked - asked <= read / 20

    def test_equal_trees_are_compared_by_their_roots(self, counted: Counted) -> None:
        read, _ = counted.cost(lambda tree: list(tree.diff(counted.root, counted.root)))
        assert read <= 1

    def test_a_diff_costs_its_changes_not_the_tree(self, counted: Counted) -> None:
        numbers = range(0, MANY, 10_000)
        after = counted.tree().apply(counted.root, {_key(number): b"new" for number in numbers})
        read, _ = counted.cost(lambda tree: list(tree.diff(counted.root, after)))
        assert read <= 4 * counted.height * len(numbers)


class TestCorruption:
    def test_a_node_with_other_bytes_is_named(self) -> None:
        nodes = MemoryNodes()
        root = build(small_tree(nodes), {b"%02d" % number: b"v" for number in range(40)})
        leaf = small_tree(nodes).node(root).values[0]
        nodes.nodes[leaf] = nodes.nodes[leaf][:-1] + b"w"
        with pytest.raises(Corrupt, match=leaf.hex()):
            list(small_tree(nodes).scan(root))
        with pytest.raises(Corrupt, match=leaf.hex()):
            list(small_tree(nodes).walk(root))

    def test_a_missing_node_is_named(self) -> None:
        nodes = MemoryNodes()
        root = build(small_tree(nodes), {b"%02d" % number: b"v" for number in range(40)})
        leaf = small_tree(nodes).node(root).values[-1]
        del nodes.nodes[leaf]
        with pytest.raises(Corrupt, match=leaf.hex()):
            list(small_tree(nodes).scan(root))

    def test_a_node_of_another_format_is_named(self) -> None:
        data = pack([2, 0, [], []])
        node_id = digest(b"node", data)
        with pytest.raises(Corrupt, match="format 2"):
            small_tree(MemoryNodes({node_id: data})).node(node_id)


class TestCache:
    def test_a_full_cache_forgets_the_oldest_and_reads_stay_right(self) -> None:
        nodes = MemoryNodes()
        model = {b"%03d" % number: b"v" for number in range(300)}
        tree = Tree(nodes, salt=SALT, shape=SMALL, cache=NodeCache(8))
        root = build(tree, model)
        assert dict(tree.scan(root)) == model
        after = tree.apply(root, dict.fromkeys(list(model)[1:]))
        assert dict(tree.scan(after)) == {b"000": b"v"}


def _diff(before: Model, after: Model) -> list[TreeChange]:
    return [
        TreeChange(key, before.get(key), after.get(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]

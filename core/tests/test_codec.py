"""Canonical bytes: golden ones, which must never change, and the round trips."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from plait import codec
from plait.errors import Corrupt, InvalidArgument
from plait.types import (
    Choice,
    Conflict,
    ConflictKind,
    Json,
    Resolution,
    SnapshotRef,
    Source,
    SourceKind,
    Strategy,
)

REPOSITORY = "018bcfe5-6800-7000-8000-000000000001"
TX = "018bcfe5-6800-7000-8000-000000000002"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
parts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
keys = st.lists(parts, min_size=1, max_size=4).map(tuple)
attributes = st.dictionaries(texts, texts, max_size=4)
snapshots = st.builds(SnapshotRef, texts, texts, texts, texts, st.binary(max_size=40), attributes)
json_values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


class TestGoldenBytes:
    """Stored bytes are frozen: a change here needs a new FORMAT and a migration."""

    def test_key(self) -> None:
        assert codec.encode_key(("lake", "sales", "orders")).hex() == "6c616b650073616c6573006f726465727300"
        assert codec.encode_key(("raw", "2013 q1", "é")).hex() == "726177003230313320713100c3a900"

    def test_snapshot(self) -> None:
        found = codec.encode_snapshot(
            SnapshotRef("lake", "iceberg", "7f1c", "s3://b/m/00001.json", bytes(range(32)), {"b": "2", "a": "é"})
        )
        assert found.hex() == (
            "9701a46c616b65a769636562657267a437663163b373333a2f2f622f6d2f30303030312e6a736f6ec420"
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f9292a161a2c3a992a162a132"
        )

    def test_ref_digest(self) -> None:
        full = SnapshotRef("lake", "iceberg", "7f1c", "s3://b/m/00001.json", bytes(range(32)), {"b": "2", "a": "é"})
        bare = SnapshotRef("p", "pointer", "a", "v1", b"")
        assert codec.ref_digest(full).hex() == "7fca7d9e076ece288ceb6e542bc20d909088f1aa5aed29eff9e32d39ea932496"
        assert codec.ref_digest(bare).hex() == "8fa4003c65fb343dcb60f8feead3e558881ec333b63189417d450ccb02845863"

    def test_text_digest(self) -> None:
        assert codec.text_digest(bytes(16), "Ada <ada@example.org>", "first", {"run": "7"}).hex() == (
            "801078e22ca2bb303da15e62407cfa5ea7d25998bd958558e7b6be4a90847830"
        )

    def test_commit_id(self) -> None:
        first = codec.commit_id(repository="r", parents=(), root=bytes(32), tx="t", committed_at_us=0, text=bytes(32))
        merge = codec.commit_id(
            repository=REPOSITORY,
            parents=("aa" * 32, "bb" * 32),
            root=bytes(32),
            tx=TX,
            committed_at_us=1_700_000_000_000_001,
            text=bytes.fromhex("801078e22ca2bb303da15e62407cfa5ea7d25998bd958558e7b6be4a90847830"),
        )
        assert first == "541c3a21789565715c44285daf984fc71410e4bf1c653f69abe2751e9ca3fcc7"
        assert merge == "fff10606bc10c75013cb7e0fa2e79e23e08ccfd447f345f92eed2a7f2cb0157a"

    def test_record_hash(self) -> None:
        found = codec.record_hash(repository=REPOSITORY, previous=bytes(32), seq=1, kind="commit", payload=b"payload")
        assert found.hex() == "92c358423e4486895070675e552bfeba22e7e6373d9df2c5d961a37f86e1d5b7"

    def test_two_jobs_never_share_a_digest(self) -> None:
        assert codec.digest(b"node", b"").hex() == "19687a48a6b68d103e2084c5f1a03afdaf09128136847c4d1cc1c9546edaaf1d"
        assert codec.digest(b"node", b"x") != codec.digest(b"snapshot", b"x")


class TestKeys:
    @given(keys)
    def test_a_key_survives_the_round_trip(self, key: tuple[str, ...]) -> None:
        assert codec.decode_key(codec.encode_key(key)) == key

    @given(keys, keys)
    def test_keys_sort_as_their_bytes_do(self, one: tuple[str, ...], other: tuple[str, ...]) -> None:
        assert (one < other) == (codec.encode_key(one) < codec.encode_key(other))

    @given(keys, keys)
    def test_a_prefix_of_parts_is_a_prefix_of_bytes_and_nothing_else_is(
        self, one: tuple[str, ...], other: tuple[str, ...]
    ) -> None:
        assert codec.encode_key(other).startswith(codec.encode_key(one)) == (other[: len(one)] == one)

    @pytest.mark.parametrize("data", [b"", b"a", b"\xff\0"])
    def test_bytes_that_are_no_key_are_corrupt(self, data: bytes) -> None:
        with pytest.raises(Corrupt):
            codec.decode_key(data)


class TestSnapshots:
    @given(snapshots)
    def test_a_snapshot_survives_the_round_trip(self, snapshot: SnapshotRef) -> None:
        assert codec.decode_snapshot(codec.encode_snapshot(snapshot)) == snapshot

    @given(snapshots)
    def test_the_order_of_attributes_is_no_part_of_a_snapshot(self, snapshot: SnapshotRef) -> None:
        turned = dict(reversed(list(snapshot.attrs.items())))
        other = SnapshotRef(snapshot.store, snapshot.kind, snapshot.asset, snapshot.version, snapshot.digest, turned)
        assert codec.ref_digest(other) == codec.ref_digest(snapshot)

    @given(snapshots, snapshots)
    def test_different_snapshots_have_different_digests(self, one: SnapshotRef, other: SnapshotRef) -> None:
        assume(one != other)
        assert codec.ref_digest(one) != codec.ref_digest(other)

    @pytest.mark.parametrize(
        "value",
        [
            7,
            [1, "p"],
            [2, "p", "k", "a", "v", b"", []],
            [True, "p", "k", "a", "v", b"", []],
            [1, "p", "k", "a", "v", "text", []],
            [1, "p", "k", "a", "v", b"", [1]],
            [1, "p", "k", "a", "v", b"", [["a", 1]]],
            [1, "p", "k", "a", "v", b"", [["a"]]],
            [1, "p", "k", "a", "v", b"", [["b", "1"], ["a", "1"]]],
            [1, "p", "k", "a", "v", b"", [["a", "1"], ["a", "1"]]],
        ],
    )
    def test_bytes_that_are_not_canonical_are_corrupt(self, value: object) -> None:
        with pytest.raises(Corrupt):
            codec.decode_snapshot(codec.pack(value))

    @given(snapshots, st.integers(min_value=1))
    def test_bytes_cut_short_are_corrupt(self, snapshot: SnapshotRef, cut: int) -> None:
        data = codec.encode_snapshot(snapshot)
        with pytest.raises(Corrupt, match="a snapshot"):
            codec.decode_snapshot(data[: -(cut % len(data)) or -1])

    def test_an_absent_snapshot_has_no_digest(self) -> None:
        assert codec.optional_digest(None) is None


class TestTransactionParts:
    @given(
        st.builds(
            Source,
            st.sampled_from(SourceKind),
            st.none() | st.just("aa" * 32),
            st.just("bb" * 32),
            st.lists(keys, max_size=3).map(tuple),
            st.sampled_from(Strategy),
            st.lists(st.tuples(keys, st.sampled_from(Strategy)), max_size=3).map(tuple),
        )
    )
    def test_a_source_survives_the_round_trip(self, source: Source) -> None:
        assert codec.decode_source(codec.encode_source(source)) == source

    @given(
        st.builds(
            Conflict,
            keys,
            st.sampled_from(ConflictKind),
            st.none() | texts,
            json_values,
            json_values,
            json_values,
            texts,
        )
    )
    def test_a_conflict_survives_the_round_trip(self, conflict: Conflict) -> None:
        assert codec.decode_conflict(codec.encode_conflict(conflict)) == conflict

    @given(st.builds(Resolution, keys, st.none() | texts, st.sampled_from(Choice), json_values))
    def test_a_resolution_survives_the_round_trip(self, resolution: Resolution) -> None:
        assert codec.decode_resolution(codec.encode_resolution(resolution)) == resolution

    @pytest.mark.parametrize("decode", [codec.decode_source, codec.decode_conflict, codec.decode_resolution])
    @pytest.mark.parametrize("data", [b"", b"\xc1", codec.pack(1), codec.pack(["nonsense"] * 7), codec.pack([])])
    def test_other_bytes_are_corrupt(self, decode: Any, data: bytes) -> None:
        with pytest.raises(Corrupt):
            decode(data)


class TestCommitIdentity:
    BASE: dict[str, Any] = {  # noqa: RUF012
        "repository": REPOSITORY,
        "parents": ("aa" * 32,),
        "root": bytes(32),
        "tx": TX,
        "committed_at_us": 1,
        "text": bytes(32),
    }

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("repository", "another"),
            ("parents", ("ab" * 32,)),
            ("parents", ()),
            ("root", bytes(31) + b"\1"),
            ("tx", "another"),
            ("committed_at_us", 2),
            ("text", bytes(31) + b"\1"),
        ],
    )
    def test_every_part_of_a_commit_is_in_its_id(self, name: str, value: object) -> None:
        assert codec.commit_id(**{**self.BASE, name: value}) != codec.commit_id(**self.BASE)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("repository", "x"), ("previous", bytes(31) + b"\1"), ("seq", 2), ("kind", "x"), ("payload", b"x")],
    )
    def test_every_part_of_a_record_is_in_its_hash(self, name: str, value: object) -> None:
        base: dict[str, Any] = {
            "repository": REPOSITORY, "previous": bytes(32), "seq": 1, "kind": "commit", "payload": b""
        }  # fmt: skip
        assert codec.record_hash(**{**base, name: value}) != codec.record_hash(**base)

    def test_without_its_salt_a_text_digest_says_nothing(self) -> None:
        assert codec.text_digest(bytes(16), "a", "m", {}) != codec.text_digest(b"\1" * 16, "a", "m", {})


class TestProperties:
    def test_within_the_limit_they_pass(self) -> None:
        codec.check_properties({"a": "1234"}, 5)

    @pytest.mark.parametrize("properties", [{"a": "12345"}, {"": "1"}, {"a": 1}, {1: "a"}, {"é": "1234"}])
    def test_too_large_or_no_text_is_refused(self, properties: Any) -> None:
        with pytest.raises(InvalidArgument):
            codec.check_properties(properties, 5)


@pytest.mark.parametrize("fields", [["s", None], ["s", "files", "managed", "main", [["path", "/x"]]]])
def test_a_stores_record_is_read_with_a_session_and_as_it_was_before_it_had_one(fields: list[object]) -> None:
    assert codec.split_store_record([*fields, b"session"]) == (fields, b"session")
    assert codec.split_store_record(fields) == (fields, None)

"""The text of keys, items, ref names, specs and times: what is read, what is refused, and the round trips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait import limits
from plait.errors import InvalidArgument
from plait.refspec import (
    Spec,
    Step,
    check_key,
    check_ref_name,
    format_key,
    format_path,
    format_time,
    parse_key,
    parse_path,
    parse_spec,
    parse_time_us,
)
from plait.types import Key

parts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
keys = st.lists(parts, min_size=1, max_size=limits.KEY_PARTS_MAX).map(tuple)
COMMIT = "0a1b2c3d" * 8


class TestKeys:
    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ("lake", ("lake",)),
            ("lake.sales.orders", ("lake", "sales", "orders")),
            ('raw."2013 q1"', ("raw", "2013 q1")),
            ('raw."a""b"', ("raw", 'a"b')),
            ('"a.b"."::"', ("a.b", "::")),
            ('""""', ('"',)),
            ("a-b_C9", ("a-b_C9",)),
        ],
    )
    def test_reading(self, text: str, key: Key) -> None:
        assert parse_key(text) == key
        assert format_key(key) == text

    @given(keys)
    def test_a_key_survives_the_round_trip(self, key: Key) -> None:
        assert parse_key(format_key(key)) == key

    @given(keys, st.none() | st.text(max_size=12))
    def test_a_path_survives_the_round_trip(self, key: Key, item: str | None) -> None:
        assert parse_path(format_path(key, item)) == (key, item)

    def test_an_item_begins_at_the_first_colons_outside_quotes(self) -> None:
        assert parse_path('a."b::c"::d::e') == (("a", "b::c"), "d::e")
        assert parse_path("a::") == (("a",), "")

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "position 0"),
            (".a", "position 0"),
            ("a.", "position 2"),
            ("a..b", "position 2"),
            ("a b", "position 1"),
            ('"a', "position 0"),
            ('"a"b', "position 3"),
            ("a:b", "position 1"),
            ("é", "position 0"),
            ('""', "empty part"),
            ('"a\0"', "NUL"),
            ("a\n", "position 1"),
        ],
    )
    def test_what_is_no_key_is_refused_with_the_place(self, text: str, reason: str) -> None:
        with pytest.raises(InvalidArgument, match=reason):
            parse_key(text)

    def test_a_slash_after_a_key_is_answered_with_how_an_item_is_named(self) -> None:
        with pytest.raises(InvalidArgument) as caught:
            parse_path("raw.landing/2013/01.csv")
        assert caught.value.remedy.endswith("raw.landing::2013/01.csv")

    def test_an_item_where_a_key_is_expected_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="names an item"):
            parse_key("a::b")

    @pytest.mark.parametrize(
        ("key", "reason"),
        [
            ((), "at least one part"),
            (("a",) * (limits.KEY_PARTS_MAX + 1), "the limit is 16"),
            (("a", ""), "empty part"),
            (("a\0b",), "NUL"),
            (("\ud800",), "not valid Unicode"),
            (("é" * 128,), "256 bytes"),
        ],
    )
    def test_what_breaks_a_limit_is_refused(self, key: Key, reason: str) -> None:
        with pytest.raises(InvalidArgument, match=reason):
            check_key(key)

    def test_a_key_at_the_limits_passes(self) -> None:
        key = ("a" * limits.KEY_PART_BYTES_MAX,) * limits.KEY_PARTS_MAX
        assert check_key(key) == key


class TestRefNames:
    @pytest.mark.parametrize("name", ["main", "feature/a.b", "v1.0", "a-b_c", "ü", "x" * limits.REF_NAME_BYTES_MAX])
    def test_what_git_takes_passes(self, name: str) -> None:
        assert check_ref_name(name) == name

    @pytest.mark.parametrize(
        "name",
        [
            "", "a b", "a~b", "a^b", "a:b", "a?b", "a*b", "a[b", "a\\b", "a@b", "@", "a..b", "a//b", "a/.b", "a.lock",
            "a.lock/b", "a.", "a/", "/a", ".a", "-a", "a\tb", "a\x7f", "a\n", "\ud800",
            "x" * (limits.REF_NAME_BYTES_MAX + 1),
        ],
    )  # fmt: skip
    def test_what_git_refuses_is_refused(self, name: str) -> None:
        with pytest.raises(InvalidArgument):
            check_ref_name(name)


class TestSpecs:
    @pytest.mark.parametrize(
        ("text", "spec"),
        [
            ("main", Spec("main")),
            ("main~3", Spec("main", steps=(Step("back", 3),))),
            ("main~", Spec("main", steps=(Step("back", 1),))),
            ("main^", Spec("main", steps=(Step("parent", 1),))),
            ("main~2^2~", Spec("main", steps=(Step("back", 2), Step("parent", 2), Step("back", 1)))),
            (f"@{COMMIT}", Spec(None, COMMIT)),
            ("@0a1b", Spec(None, "0a1b")),
            ("main@0a1b2c", Spec("main", "0a1b2c")),
            ("@0a1b~2", Spec(None, "0a1b", steps=(Step("back", 2),))),
            ("main*2026-11-01T00:00:00Z", Spec("main", at_us=1_793_491_200_000_000)),
            ("main*2026-11-01~2", Spec("main", at_us=1_793_491_200_000_000, steps=(Step("back", 2),))),
        ],
    )
    def test_reading(self, text: str, spec: Spec) -> None:
        assert parse_spec(text) == spec

    @pytest.mark.parametrize(("text", "relative"), [("main", False), ("@0a1b", False), ("main~0", True)])
    def test_steps_and_times_are_relative(self, text: str, relative: bool) -> None:
        assert parse_spec(text).is_relative is relative
        assert parse_spec("main*2026-11-01").is_relative

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "no point in the history"),
            ("main*", "no point in the history"),
            ("~1", "neither a ref nor a commit"),
            ("@", "no commit id"),
            ("@0a1", "no commit id"),
            ("@0A1B", "no commit id"),
            ("@xyzw", "no commit id"),
            (f"@{COMMIT}0", "no commit id"),
            ("main~x", "no point in the history"),
            ("main^2x", "no point in the history"),
            ("main@0a1b@0a1b", "no commit id"),
            ("main@{1}", "not counted in moves"),
            ("@{yesterday}", "not counted in moves"),
            ("main*0001-01-01T00:00:00+23:59", "is no time"),
            ("main*9999-12-31T23:59:59-01:00", "is no time"),
            ("main*yesterday", "no time"),
            ("main*2026-13-01", "no time"),
            ("*2026-11-01", "neither a ref nor a commit"),
            ("main@0a1b*2026-11-01", "a time belongs to a ref"),
            ("a..b", "may not hold"),
            ("a b", "may not hold"),
            ("main~" + "9" * 5000, "no point in the history"),
            ("main~٣", "no point in the history"),
        ],
    )
    def test_what_is_no_spec_is_refused(self, text: str, reason: str) -> None:
        with pytest.raises(InvalidArgument, match=reason):
            parse_spec(text)


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "us"),
        [
            ("1970-01-01", 0),
            ("1970-01-01T00:00:01", 1_000_000),
            ("1970-01-01T00:00:00.000001Z", 1),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1969-12-31T23:59:59.999999", -1),
        ],
    )
    def test_reading(self, text: str, us: int) -> None:
        assert parse_time_us(text) == us

    @given(st.integers(0, 200_000_000_000_000_000))
    def test_a_time_survives_the_round_trip(self, us: int) -> None:
        assert parse_time_us(format_time(us)) == us

    def test_whole_seconds_are_shown_without_a_fraction(self) -> None:
        assert format_time(1_793_491_200_000_000) == "2026-11-01T00:00:00Z"

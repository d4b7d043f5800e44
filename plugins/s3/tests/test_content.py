"""Merges of content: what each side changed is kept, what both changed differently is a conflict."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import plait_s3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plait.adapter import MergeConflict, Merger
from plait.errors import InvalidArgument, StoreUnavailable
from plait.hookspecs import hookimpl
from plait.mergers import merged_by, mergers_for
from plait.plugins import Plugins
from plait_s3.content import BUILT_IN, command_merger, merge_json
from plait_s3.csv_merge import merge_csv, mergers_by_keys
from plait_s3.text_merge import merge_text

LINES = st.lists(st.sampled_from(["one\n", "two\n", "é\n", "\n", "four\r\n"]), max_size=12).map(
    lambda lines: "".join(lines).encode()
)
JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
    max_leaves=10,
)


CELLS = st.sampled_from(["", '""', "a", '"a"', '"x,y"', '"l\nm"', '"say ""hi"""', ' "b', "é"])
ENDS = st.sampled_from(["\n", "\r\n", "\n\n", "\r\n\n"])
RECORDS = st.lists(st.tuples(CELLS, CELLS, ENDS), max_size=8)


def written(records: list[tuple[str, str, str]], *, ends: bool) -> bytes:
    """As CSV with the columns id, x and y."""
    text = "id,x,y\n" + "".join(f"{number},{x},{y}{end}" for number, (x, y, end) in enumerate(records))
    return (text if ends else text.rstrip("\r\n")).encode()


class TestText:
    def test_changes_in_different_places_are_joined(self) -> None:
        base = b"1\n2\n3\n4\n5\n"
        assert merge_text(base, b"one\n2\n3\n4\n5\n", b"1\n2\n3\n4\nfive") == b"one\n2\n3\n4\nfive"

    def test_the_same_place_is_a_conflict(self) -> None:
        assert merge_text(b"1\n", b"one\n", b"eins\n") is None

    @pytest.mark.parametrize("binary", [b"\0", b"\xff\xfe"])
    def test_binary_content_is_no_text(self, binary: bytes) -> None:
        assert merge_text(b"a\n", b"a\n" + binary, b"b\n") is None

    @given(LINES, LINES)
    def test_one_side_alone_is_the_answer(self, base: bytes, changed: bytes) -> None:
        assert merge_text(base, changed, base) == changed
        assert merge_text(base, base, changed) == changed
        assert merge_text(base, changed, changed) == changed

    @given(LINES, LINES, LINES)
    def test_it_is_symmetric(self, base: bytes, ours: bytes, theirs: bytes) -> None:
        assert merge_text(base, ours, theirs) == merge_text(base, theirs, ours)


class TestJson:
    def test_members_are_joined_by_path(self) -> None:
        merged = merge_json(
            b'{"a": {"x": 1, "y": 2}, "b": [1], "gone": 0}',
            b'{"a": {"x": 9, "y": 2}, "b": [1], "gone": 0, "new": 1}',
            b'{"a": {"x": 1, "y": 2, "z": 3}, "b": [1, 2]}',
        )
        assert merged is not None
        assert json.loads(merged) == {"a": {"x": 9, "y": 2, "z": 3}, "b": [1, 2], "new": 1}

    @pytest.mark.parametrize(
        ("base", "ours", "theirs", "places"),
        [
            (b'{"a": 1}', b'{"a": 2}', b'{"a": 3}', ("/a",)),
            (b'{"a": 1}', b"{}", b'{"a": 3}', ("/a",)),
            (b"{}", b'{"a": 1}', b'{"a": true}', ("/a",)),
            (b"[1]", b"[1, 2]", b"[1, 3]", ("the document as a whole",)),
            (b'{"a": {"b": [1], "c": 1}, "x/~": 1, "d": 1}', b'{"a": {"b": [2], "c": 1}, "x/~": 2, "d": 2}',
             b'{"a": {"b": [3], "c": 2}, "x/~": 3, "d": 1}', ("/a/b", "/x~1~0")),
        ],
    )  # fmt: skip
    def test_one_path_changed_twice_is_a_conflict_there(
        self, base: bytes, ours: bytes, theirs: bytes, places: tuple[str, ...]
    ) -> None:
        with pytest.raises(MergeConflict) as caught:
            merge_json(base, ours, theirs)
        assert caught.value.places == places

    def test_the_layout_of_ours_is_kept(self) -> None:
        ours = '{\n  "b": "é",\n  "a": 1\n}\n'
        merged = merge_json(b'{"b": 0, "a": 1}', ours.encode(), b'{"b": 0, "a": 2}')
        assert merged is not None
        assert merged.decode() == ours.replace('"a": 1', '"a": 2')

    def test_the_ends_of_its_lines_are_those_of_ours(self) -> None:
        base = b'{\r\n  "a": 1,\r\n  "b": "\\r\\n"\r\n}\r\n'
        merged = merge_json(base, base.replace(b"1", b"2"), b'{"a": 1, "b": "\\r\\n", "c": 3}')
        assert merged == b'{\r\n  "a": 2,\r\n  "b": "\\r\\n",\r\n  "c": 3\r\n}\r\n'

    def test_values_are_kept_and_not_how_they_were_written(self) -> None:
        base = b'{"a": 1.10, "b":  1, "c": 1e2, "d": "\\u00e9", "e": "\xc3\xa9"}'
        merged = merge_json(base, base.replace(b"  1,", b"  2,"), base.replace(b"1e2", b"1e3"))
        assert merged == b'{"a": 1.1, "b": 2, "c": 1000.0, "d": "\xc3\xa9", "e": "\xc3\xa9"}'

    def test_numbers_lose_no_digits(self) -> None:
        big = b"12345678901234567890.12345678901234567890"
        base = b'{\n"n": %s,\n"m": 1,\n"k": 1,\n"j": 1,\n"i": 1\n}' % big
        merged = merge_json(base, base.replace(b'"m": 1', b'"m": 2'), base.replace(b'"i": 1', b'"i": 2'))
        assert merged is not None
        assert big in merged

    @pytest.mark.parametrize("depth", [300, 600, 900, 5000])
    @pytest.mark.parametrize("level", ['{"b": %s}', "[%s]"])
    def test_deep_nesting_is_merged_as_text_where_it_cannot_be_by_path(self, depth: int, level: str) -> None:
        start, end = level.split("%s")
        base = '{\n"a": 1,\n"c": ' + start * depth + "1" + end * depth + ',\n"d": 1\n}'
        ours, theirs = base.replace('"a": 1', '"a": 2'), base.replace('"d": 1', '"d": 2')
        merged = merge_json(base.encode(), ours.encode(), theirs.encode())
        assert merged is not None
        assert merged.decode().replace("\n", "") == ours.replace('"d": 1', '"d": 2').replace("\n", "")

    def test_half_a_character_is_merged_as_text(self) -> None:
        base = '{\n"a": "é",\n"b": "\\ud800",\n"c": 1\n}'
        ours, theirs = base.replace("é", "ö"), base.replace('"c": 1', '"c": 2')
        merged = merge_json(base.encode(), ours.encode(), theirs.encode())
        assert merged == ours.replace('"c": 1', '"c": 2').encode()

    @given(JSONS, JSONS)
    def test_one_side_alone_is_the_answer(self, base: object, changed: object) -> None:
        old, new = json.dumps(base).encode(), json.dumps(changed).encode()
        for merged in (merge_json(old, new, old), merge_json(old, old, new), merge_json(old, new, new)):
            assert merged is not None
            assert json.loads(merged) == changed

    @given(JSONS, JSONS, JSONS)
    def test_it_is_symmetric_but_for_the_layout(self, base: object, ours: object, theirs: object) -> None:
        old, mine, others = (json.dumps(side).encode() for side in (base, ours, theirs))

        def outcome(one: bytes, other: bytes) -> object:
            try:
                merged = merge_json(old, one, other)
            except MergeConflict as conflict:
                return set(conflict.places)
            assert merged is not None
            return json.loads(merged)

        assert outcome(mine, others) == outcome(others, mine)


class TestCsv:
    def test_cells_are_joined_by_key(self) -> None:
        base = b"id,name,n\n1,a,1\n2,b,2\n3,c,3\n"
        ours = b"id,name,n\n1,A,1\n2,b,2\n3,c,3\n4,d,4\n"
        theirs = b"id,name,n\n1,a,10\n3,c,3\n5,e,5\n"
        assert merge_csv(base, ours, theirs) == b"id,name,n\n1,A,10\n3,c,3\n5,e,5\n4,d,4\n"

    def test_one_cell_changed_twice_is_a_conflict(self) -> None:
        for ours, place in ((b"id,n\n1,2\n2,5\n", "id=1 (n)"), (b"id,n\n2,5\n", "id=1")):
            with pytest.raises(MergeConflict) as caught:
                merge_csv(b"id,n\n1,1\n2,2\n", ours, b"id,n\n1,3\n2,2\n")
            assert caught.value.places == (place,)

    def test_the_key_may_stand_in_any_column(self) -> None:
        merged = merge_csv(b"n,Key\n1,a\n1,b\n", b"n,Key\n2,a\n1,b\n", b"n,Key\n1,a\n3,b\n")
        assert merged == b"n,Key\n2,a\n3,b\n"

    def test_several_columns_may_be_the_key_together(self) -> None:
        (merger,) = mergers_by_keys(" weather/*.csv = day, hour ")
        assert [one.pattern for one in mergers_by_keys("a=b.csv=x;*.csv=id")] == ["a=b.csv", "*.csv"]
        base = b"origin,day,hour,t\nX,1,1,5\nX,1,2,6\nX,2,1,7\n"
        ours, theirs = base.replace(b"X,1,2,6", b"X,1,2,60"), base.replace(b"X,2,1,7\n", b"Y,2,1,7\nX,2,2,8\n")
        merged = merger.merge(base, ours, theirs)
        assert merged == b"origin,day,hour,t\nX,1,1,5\nX,1,2,60\nY,2,1,7\nX,2,2,8\n"
        with pytest.raises(MergeConflict) as caught:
            merger.merge(base, ours, base.replace(b"X,1,2,6", b"X,1,2,9"))
        assert caught.value.places == ("day=1,hour=2 (t)",)
        for other in (b"X,1,2,0\n" + base, base + b"Y,1,2,8\n", base.replace(b"hour", b"h")):
            assert merger.merge(base, ours, other) is None
        for bad in ("*.csv", "=id", "*.csv=", "*.csv=id,,n"):
            with pytest.raises(InvalidArgument, match="csv_keys"):
                mergers_by_keys(bad)

    def test_without_a_key_lines_are_merged(self) -> None:
        base = b"x,y\n1,1\n1,2\n1,3\n1,4\n"
        merged = merge_csv(base, base.replace(b"1,1", b"9,9"), base.replace(b"1,4", b"8,8"))
        assert merged == b"x,y\n9,9\n1,2\n1,3\n8,8\n"

    @pytest.mark.parametrize("separator", [b";", b"\t"])
    def test_of_a_single_column_lines_are_merged(self, separator: bytes) -> None:
        base = b"id;n\n1;a\n2;b\n3;c\n".replace(b";", separator)
        ours, theirs = base.replace(b"a", b"A"), base.replace(b"c", b"C")
        assert merge_csv(base, ours, theirs) == ours.replace(b"c", b"C")
        assert merge_csv(base, ours, base.replace(b"a", b"B")) is None

    def test_quotes_and_newlines_inside_cells_survive(self) -> None:
        base = b'id,t\r\n1,"a\r\nb"\r\n2,"say ""hi"""\r\n3,c\r\n'
        merged = merge_csv(base, base.replace(b"3,c", b"3,d"), base.replace(b"hi", b"ho"))
        assert merged == b'id,t\r\n1,"a\r\nb"\r\n2,"say ""ho"""\r\n3,d\r\n'

    def test_records_that_one_side_changed_or_none_are_as_they_were(self) -> None:
        base = b'id,a,b\n1,"x",\n\n2,"",y\r\n3,p,q\n4,,\n\n'
        ours = base.replace(b"3,p,q", b'3,"P",q')
        theirs = base.replace(b"3,p,q", b"3,p,Q").replace(b"4,,", b'4,"",')
        assert merge_csv(base, ours, theirs) == b'id,a,b\n1,"x",\n\n2,"",y\r\n3,"P",Q\n4,"",\n\n'

    def test_an_empty_cell_and_an_empty_text_are_two_values(self) -> None:
        base = b"id,a,b\n1,,x\n"
        assert merge_csv(base, b'id,a,b\n1,"",x\n', b"id,a,b\n1,,y\n") == b'id,a,b\n1,"",y\n'
        with pytest.raises(MergeConflict):
            merge_csv(base, b'id,a,b\n1,"",x\n', b"id,a,b\n1,z,x\n")

    def test_how_a_cell_is_quoted_is_no_conflict(self) -> None:
        base = b"id,a\n1,x\n"
        assert merge_csv(base, b'"id","a"\n"1","x"\n', b"id,a\n1,y\n") == b'"id","a"\n"1",y\n'
        assert merge_csv(base, b"id,a\n1,y\n", b'"id","a"\n"1","x"\n') == b'"id","a"\n"1",y\n'
        assert merge_csv(base, b"id,a\n1,x\n2,n\n", b'id,a\n1,x\n2,"n"\n3,m\n') == b"id,a\n1,x\n2,n\n3,m\n"

    def test_the_ends_of_lines_are_merged_too(self) -> None:
        base, ours = b"id,n\n1,1\n2,2\n", b"id,n\n1,1\n2,3\n"
        assert merge_csv(base, ours, base.replace(b"\n", b"\r\n")) == ours.replace(b"\n", b"\r\n")
        assert merge_csv(base, ours, base.rstrip()) == ours.rstrip()
        bare = base.rstrip()
        assert merge_csv(bare, bare + b"\n3,3", b"id,n\n1,1\n2,2\n4,4") == b"id,n\n1,1\n2,2\n4,4\n3,3"
        crlf = bare.replace(b"\n", b"\r\n")
        assert merge_csv(crlf, crlf + b"\r\n3,3", crlf + b"\r\n4,4") == crlf + b"\r\n4,4\r\n3,3"

    @given(RECORDS, RECORDS, st.booleans(), st.booleans())
    def test_one_side_alone_is_the_answer(
        self, old: list[tuple[str, str, str]], new: list[tuple[str, str, str]], old_ends: bool, new_ends: bool
    ) -> None:
        base, changed = written(old, ends=old_ends), written(new, ends=new_ends)
        assert merge_csv(base, changed, base) == changed
        assert merge_csv(base, base, changed) == changed
        assert merge_csv(base, changed, changed) == changed

    @given(st.lists(st.tuples(CELLS, CELLS, ENDS, CELLS, CELLS), max_size=8), st.booleans())
    def test_changes_of_other_cells_are_joined_and_nothing_else_changes(
        self, records: list[tuple[str, str, str, str, str]], ends: bool
    ) -> None:
        base = written([(x, y, end) for x, y, end, _, _ in records], ends=ends)
        ours = written([(new, y, end) for _, y, end, new, _ in records], ends=ends)
        theirs = written([(x, new, end) for x, _, end, _, new in records], ends=ends)
        both = written([(one, other, end) for _, _, end, one, other in records], ends=ends)
        assert merge_csv(base, ours, theirs) == both
        assert merge_csv(base, theirs, ours) == both


def has_ended(process: int) -> bool:
    """Whether a process is no more, or is dead and waits for its parent to take note."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class TestCommand:
    def command(self, tmp_path: Path, body: str) -> Merger:
        script = tmp_path / "merge.py"
        script.write_text(f"import sys\nbase, ours, theirs, out = sys.argv[1:]\n{body}\n")
        return command_merger("outside", "*.bin", [sys.executable, str(script), "%base", "%ours", "%theirs", "%out"])

    def test_its_output_is_the_merge(self, tmp_path: Path) -> None:
        merger = self.command(tmp_path, "open(out, 'w').write(open(ours).read() + open(theirs).read())")
        assert merger.merge(b"b", b"o", b"t") == b"ot"

    def test_exit_one_is_a_conflict(self, tmp_path: Path) -> None:
        assert self.command(tmp_path, "sys.exit(1)").merge(b"b", b"o", b"t") is None

    def test_an_empty_output_is_an_empty_merge(self, tmp_path: Path) -> None:
        assert self.command(tmp_path, "open(out, 'w')").merge(b"b", b"o", b"t") == b""

    @pytest.mark.parametrize("body", ["pass", "open(ours, 'w').write('as Git wants it')", "import os; os.mkdir(out)"])
    def test_no_output_is_an_error_and_no_empty_merge(self, tmp_path: Path, body: str) -> None:
        with pytest.raises(StoreUnavailable, match="left no file %out"):
            self.command(tmp_path, body).merge(b"b", b"o", b"t")

    def test_a_side_may_be_a_part_of_an_argument(self) -> None:
        merger = command_merger(
            "outside", "*", ["sh", "-c", 'cat "${1#--of=}" > "${2#--to=}"', "", "--of=%theirs", "--to=%out"]
        )
        assert merger.merge(b"b", b"o", b"t") == b"t"

    @pytest.mark.parametrize("end", ["exit 0", "exec sleep 300"])
    def test_nothing_that_it_began_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
        monkeypatch.setattr("plait_s3.content._COMMAND_SECONDS_MAX", 2)
        begun = tmp_path / "pid"
        script = f'sleep 300 & echo $! > "{begun}"; echo merged > "$1"; {end}'
        merger = command_merger("outside", "*", ["sh", "-c", script, "", "%out"])
        if end == "exit 0":
            assert merger.merge(b"b", b"o", b"t") == b"merged\n"
        else:
            with pytest.raises(StoreUnavailable, match="timed out"):
                merger.merge(b"b", b"o", b"t")
        until = time.monotonic() + 10
        while not (is_gone := has_ended(int(begun.read_text()))) and time.monotonic() < until:
            time.sleep(0.05)
        assert is_gone

    def test_a_missing_program_is_an_error(self) -> None:
        with pytest.raises(StoreUnavailable):
            command_merger("outside", "*", ["/nonexistent/merger", "%out"]).merge(b"", b"", b"")


class TestChoosing:
    @pytest.mark.parametrize(
        ("key", "name"),
        [("a/b.json", "json"), ("x.csv", "csv"), ("README", "text"), ("a/b.bin", "text"), ("deep/er/x.CSV", "csv")],
    )
    def test_the_first_that_fits_decides(self, key: str, name: str) -> None:
        assert next(mergers_for(key, BUILT_IN)).name == name

    def test_a_users_own_comes_before_the_built_in_ones(self) -> None:
        own = Merger("own", "landing/*.json", lambda base, ours, theirs: None)
        assert next(mergers_for("landing/a.json", [own, *BUILT_IN])) is own
        assert next(mergers_for("other/a.json", [own, *BUILT_IN])).name == "json"

    def test_a_plugins_own_come_first_in_whatever_order_plugins_are_found(self) -> None:
        class Own:
            @hookimpl
            def plait_register_mergers(self) -> Sequence[Merger]:
                return [Merger("own", "*.bin", lambda base, ours, theirs: None)]

        for plugins in ([Own(), plait_s3], [plait_s3, Own()]):
            assert next(mergers_for("a.bin", Plugins(plugins, installed=False).mergers())).name == "own"


def test_a_conflict_names_the_places_that_its_merger_found() -> None:
    merger = next(mergers_for("a.json", BUILT_IN))
    sides = [
        json.dumps({**{f"k{number}": value for number in range(7)}, "\ud800\0": value}).encode() for value in (1, 2, 3)
    ]
    merged, found = merged_by(merger, *sides)
    assert merged is None
    assert found == "in places that the merger 'json' found in conflict: /k0, /k1, /k2, /k3, /k4, and 3 more"
    assert (
        merged_by(merger, b'{"\\ud800\\u0000": 1}', b'{"\\ud800\\u0000": 2}', b'{"\\ud800\\u0000": 3}')[1][-9:]
        == "/\\ud800\\0"
    )

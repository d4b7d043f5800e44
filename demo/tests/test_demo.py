"""The story and the crashes, on a small archive of the same form."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import plait
import pytest
from plait.errors import AlreadyExists, InvalidArgument
from plait_demo.crash import crash_at, steps
from plait_demo.story import tell

HEADER = "year,month,day,dep_delay,arr_delay,carrier,flight,origin,dest,distance"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rows = [f"2013,{1 + n % 12},{1 + n % 28},{n % 60},{n % 50},UA,{n},EWR,IAH,1400" for n in range(2400)]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("flights.csv", "\n".join([HEADER, *rows]) + "\n")
    files = {"flights.csv.zip": packed.getvalue(), "airlines.csv": b"carrier,name\nUA,United\n"}
    made = tmp_path / "data.tar.gz"
    with tarfile.open(made, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"pkg/data/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made


def test_the_story_is_told_to_its_end(tmp_path: Path, archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(tmp_path / "demo", archive)
    told = capsys.readouterr().out
    assert "neither store has it" in told
    assert "both stores have it" in told
    assert "0 problems" in told
    assert (tmp_path / "demo" / "history.html").read_text().count('class="commit"') >= 12
    with plait.open(tmp_path / "demo") as catalog:
        assert catalog.working_sets() == []
    with pytest.raises(AlreadyExists):
        tell(tmp_path / "demo", archive)


def test_a_folder_that_is_no_demo_is_never_removed(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(AlreadyExists):
        tell(tmp_path / "mine", archive, force=True)


def test_steps_are_listed_and_an_unknown_one_is_refused() -> None:
    assert {"transaction.sealed@1", "objects.publish.before_move@1"} <= set(steps())
    with pytest.raises(InvalidArgument, match="crash --list"):
        crash_at("no.such.step")

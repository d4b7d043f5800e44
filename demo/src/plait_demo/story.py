"""The story, step by step, on the public API alone: also the longest example of how to use plait."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import plait
import pyarrow as pa
from plait.catalog import Catalog
from plait.errors import AlreadyExists, CommitConflict, ProposalRejected
from plait.hookspecs import Verdict, hookimpl
from plait.plugins import Plugins
from plait.refspec import format_key, format_path, format_time
from plait.types import Change, Conflict, Proposal

from plait_demo import stores
from plait_demo.crash import crash_at, is_demo, mark
from plait_demo.flights import SCHEMA, Source, fetch, of_month, read
from plait_demo.stores import DISK, FLIGHTS, LANDING, REFERENCE, WEATHER
from plait_demo.telling import Teller

PAGE = "history.html"
NEXT = (
    "plait",
    "plait log --graph --all",
    "plait diff main~1 main --items",
    f"plait blame {LANDING}",
    f"plait cat {FLIGHTS} --limit 5",
    f"plait open {WEATHER}",
    "plait demo crash --at transaction.sealed",
)
"""What to try in the demo's folder. The tests run every line."""
NEXT_IN_VOLUMES = f"plait cat {DISK}::{stores.MODEL}"
"""The same, where the fifth store is there."""


class MonthsGate:
    """A gate: no commit may bring flights that are in no month."""

    @hookimpl
    def plait_check_proposal(self, proposal: Proposal, changes: Sequence[Change], catalog: Catalog) -> Verdict | None:
        for change in changes:
            if format_key(change.key) == FLIGHTS and change.after is not None:
                table: Any = catalog.open(change.after)
                bad = table.scan(row_filter="month < 1 or month > 12").count()
                if bad:
                    return Verdict(False, f"{bad} flights are in no month", "correct them, and commit again")
        return None


@dataclass(frozen=True, slots=True)
class Story:
    """What every step needs: the stores may be anywhere, the folder is for a disk's image."""

    teller: Teller
    catalog: Catalog
    folder: Path
    source: Source
    configured: stores.Configured

    @property
    def volumes(self) -> bool:
        """Whether the fifth store is there."""
        return "vm" in self.configured

    def counts(self, spec: str = "main") -> str:
        point = self.catalog.at(spec)
        parts = [f"{stores.count_flights(point):,} flights", f"{stores.count_weather(point):,} hours of weather"]
        parts.append(f"quality.json says {json.loads(stores.objects(point).cat_file('quality.json'))['loaded']}")
        if self.volumes:
            model = json.loads(stores.disk_files(point)[stores.MODEL])
            parts.append(f"the model has UA at {model['UA']} minutes")
        return ", ".join(parts)


def tell(folder: Path, data: Path | None, *, force: bool = False, as_json: bool = False) -> dict[str, Any]:
    """Run the story in a folder, and leave it there. Returns: what was told, step by step, and what to try next.

    Raises: AlreadyExists for a folder that is somebody's.
    """
    if folder.exists():
        if not is_demo(folder) or not force:
            remedy = "run again with --force to start anew" if is_demo(folder) else "choose another --folder"
            raise AlreadyExists(f"{folder} exists already", remedy=remedy)
        shutil.rmtree(folder)
    source = read(data or fetch())
    folder.mkdir(parents=True)
    mark(folder)
    teller = Teller(9, as_json=as_json)
    plait.init(folder).close()
    with plait.open(folder, plugins=Plugins([MonthsGate()])) as catalog:
        story = Story(teller, catalog, folder, source, stores.local(folder))
        for step in STEPS:
            step(story)
    _page(teller, folder)
    with teller.step("kill -9 in the middle of a commit: all stores or none"):
        for place in ("sequencer.rows_written", "sequencer.after_commit"):
            crash_at(place, folder, teller.say)
        teller.say("any other step: plait demo crash --list, then plait demo crash --at STEP")
    after = [*NEXT[:-1], *([NEXT_IN_VOLUMES] if story.volumes else []), NEXT[-1]]
    return {"folder": str(folder), "steps": teller.told, "page": (folder / PAGE).as_uri(), "next": after}


def load(story: Story) -> None:
    with story.teller.step("One commit over Iceberg, Delta, Dolt, files and a block volume"):
        stores.add_stores(story.catalog, story.configured)
        if not story.volumes:
            story.teller.say(f"told without block volumes; to have them:   {stores.volumes_remedy()}")
        flights, weather = (stores.rows_of_month(part, 1, 10) for part in (story.source.flights, story.source.weather))
        with story.catalog.transaction(message="January to October, in every store") as tx:
            stores.make_flights(tx).append(flights)
            stores.make_weather(tx).append(weather)
            stores.make_reference(tx, story.source.reference)
            tx.create(LANDING)
            for name, content in story.source.files.items():
                stores.objects(tx).pipe(name, content)
            stores.put_quality(tx, loaded=10, checked=False)
            if story.volumes:
                stores.make_disk(tx, story.folder, stores.train(flights))
        assert tx.committed is not None
        story.teller.say(
            f"commit {tx.committed.id[:12]} over {len(story.configured)} stores: {', '.join(story.configured)}"
        )
        story.teller.say(story.counts())


def nightly(story: Story) -> None:
    with story.teller.step("A nightly load on a branch changes every store, and lands at once"):
        story.catalog.create_branch("nightly")
        with story.catalog.transaction("nightly", message="November", properties={"run": "nightly-11"}) as tx:
            stores.flights(tx).append(of_month(story.source.flights, 11))
            stores.weather(tx).append(of_month(story.source.weather, 11))
            stores.rename_airline(tx, "UA", "United Airlines")
            stores.put_quality(tx, loaded=11)
            if story.volumes:
                stores.put_model(tx, stores.train(stores.rows_of_month(story.source.flights, 1, 11)))
        story.teller.say(f"nightly: {story.counts('nightly')}")
        story.teller.say(f"main:    {story.counts()}")
        story.teller.say(f"merged as {story.catalog.merge('nightly').id[:12]}")
        story.teller.say(f"main:    {story.counts()}")


def bad_load(story: Story) -> None:
    with story.teller.step("A bad load is refused by a gate, and leaves no trace in any store"):
        before = story.catalog.resolve("main")
        bad = pa.Table.from_pylist([{**dict.fromkeys(SCHEMA.names), "id": 0, "month": 13}], schema=SCHEMA)
        try:
            with story.catalog.transaction(message="A month too many") as tx:
                stores.flights(tx).append(bad)
                stores.rename_airline(tx, "UA", "Nobody")
                stores.put_quality(tx, loaded=13)
        except ProposalRejected as error:
            story.teller.say(str(error))
        assert story.catalog.resolve("main") == before
        assert story.catalog.working_sets() == []
        story.teller.say(f"main:    {story.counts()}, UA is {stores.airlines(story.catalog.at('main'))['UA']}")


def two_branches(story: Story) -> None:
    title = "Two branches correct different rows of the same tables and files: merged natively, all of it is kept"
    with story.teller.step(title):
        december, weather = of_month(story.source.flights, 12), of_month(story.source.weather, 12)
        hours = weather.slice(0, 1).to_pylist()[0]["time_hour"]
        halves = december.num_rows // 2
        for branch, part, flight, origin, carrier, note in (
            ("early", december.slice(0, halves), 1, "EWR", "AA", "checked_by"),
            ("late", december.slice(halves), 2, "JFK", "B6", "checked_on"),
        ):
            story.catalog.create_branch(branch)
            with story.catalog.transaction(branch, message=f"{branch.title()} December, and corrections") as tx:
                stores.flights(tx).append(part)
                stores.correct_flights(tx, {flight: -flight})
                if branch == "early":
                    stores.weather(tx).append(weather)
                stores.correct_weather(tx, origin, "2013-01-01T06:00:00Z", float(flight))
                stores.rename_airline(tx, carrier, f"{carrier} (corrected)")
                stores.put_quality(tx, **{note: branch})
                if story.volumes:
                    stores.put_note(tx, f"{branch}.txt", f"seen on {branch}, {hours}\n")
        before = stores.count_flights(story.catalog.at("main"))
        for branch in ("early", "late"):
            story.catalog.merge(branch)
        _check_merged(story, before + december.num_rows)


def _check_merged(story: Story, expected: int) -> None:
    point = story.catalog.at("main")
    rows = stores.flights(point).scan(row_filter="id in (1, 2)").to_arrow().to_pylist()
    rain = "SELECT origin, precip FROM this WHERE time_hour = '2013-01-01T06:00:00Z' AND precip > 0 ORDER BY origin"
    wet = stores.weather(point).read(rain).to_pylist()
    named = {carrier: name for carrier, name in stores.airlines(point).items() if name.endswith("(corrected)")}
    quality = json.loads(stores.objects(point).cat_file("quality.json"))
    say = story.teller.say
    rows.sort(key=itemgetter("id"))
    late = ", ".join(f"flight {row['id']} was {row['arr_delay']} minutes late" for row in rows)
    say(f"Iceberg: {stores.count_flights(point):,} flights; {late}")
    say("Delta:   " + ", ".join(f"{row['origin']} had {row['precip']} inches" for row in wet))
    say("Dolt:    " + ", ".join(sorted(named.values())))
    say(f"files:   quality.json {json.dumps(quality)}")
    assert stores.count_flights(point) == expected
    assert {row["id"]: row["arr_delay"] for row in rows} == {1: -1, 2: -2}
    assert {row["origin"]: row["precip"] for row in wet} == {"EWR": 1.0, "JFK": 2.0}
    assert set(named) == {"AA", "B6"}
    assert (quality["checked_by"], quality["checked_on"]) == ("early", "late")
    if story.volumes:
        names = sorted(stores.disk_files(point))
        say(f"volume:  {', '.join(names)}")
        assert {"early.txt", "late.txt", stores.MODEL} <= set(names)


def conflict(story: Story) -> None:
    with story.teller.step("A true conflict: listed per row, cell and object, resolved one by one"):
        catalog = story.catalog
        catalog.create_branch("audit")
        for branch, delay, checked in (("audit", 100, "by audit"), ("main", 200, "by hand")):
            with catalog.transaction(branch, message=f"Check {checked}") as tx:
                stores.correct_flights(tx, {3: delay})
                stores.rename_airline(tx, "DL", f"Delta, {checked}")
                stores.put_quality(tx, checked=checked)
        try:
            catalog.merge("audit")
        except CommitConflict as error:
            for conflict in error.conflicts:
                _say_conflict(story, conflict)
            tx = catalog.working_set(error.details["tx"])
        for conflict, _ in tx.conflicts():
            choice = plait.Choice.OURS if conflict.key[0] == "raw" else plait.Choice.THEIRS
            tx.resolve(conflict.key, choice, item=conflict.item)
            story.teller.say(f"resolved {conflict.item} by {choice.value}")
        story.teller.say(f"merged as {tx.commit().id[:12]}: DL is {stores.airlines(catalog.at('main'))['DL']!r}")


def _say_conflict(story: Story, conflict: Conflict) -> None:
    story.teller.say(format_path(conflict.key, conflict.item))
    for side in ("base", "ours", "theirs"):
        story.teller.say(f"   {side:<7}{json.dumps(getattr(conflict, side))[:110]}")


def undo(story: Story) -> None:
    with story.teller.step("Revert one table of a commit that changed several stores"):
        with story.catalog.transaction(message="January was removed") as tx:
            stores.flights(tx).delete("month = 1")
            stores.weather(tx).delete("month = 1")
            stores.objects(tx).pipe("note.txt", b"January was removed\n")
        story.teller.say(f"after the bad load: {story.counts()}")
        story.catalog.revert("main", keys=[FLIGHTS])
        story.teller.say(f"after reverting {FLIGHTS} alone: {story.counts()}")
        names = stores.objects(story.catalog.at("main")).find("")
        story.teller.say(f"note.txt is still there: {'note.txt' in names}")


def look(story: Story) -> None:
    with story.teller.step("A time between two commits just made, blame, and proof"):
        catalog = story.catalog
        commits = list(catalog.log("main"))
        between = commits[1].committed_at_us + (commits[0].committed_at_us - commits[1].committed_at_us) // 2
        point = f"main*{format_time(between)}"
        story.teller.say(f"{point} had {stores.count_flights(catalog.at(point)):,} flights")
        for key in (LANDING, *((DISK,) if story.volumes else ())):
            for blamed in catalog.blame(key):
                story.teller.say(f"{key}::{blamed.item:<18} {blamed.commit.id[:12]} {blamed.commit.message}")
        (united,) = catalog.blame(REFERENCE, items=["airlines::carrier=UA"])
        story.teller.say(f"{REFERENCE}::{united.item} {united.commit.id[:12]} {united.commit.message}")
        problems = list(catalog.verify(plait.Depth.BYTES))
        story.teller.say(f"verify, every byte: {len(problems)} problems in {len(commits)} commits")
        assert problems == []


STEPS = (load, nightly, bad_load, two_branches, conflict, undo, look)
"""What needs a catalog alone, wherever it and its stores are; `bad_load` needs the gate in it."""


def _page(teller: Teller, folder: Path) -> None:
    with teller.step("The history, as the command line draws it"):
        for arguments in (("--graph", "--oneline"), ("--html", PAGE)):
            command = [sys.executable, "-m", "plait", "log", "--all", *arguments]
            ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
            for line in ended.stdout.splitlines():
                teller.say(line)

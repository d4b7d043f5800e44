"""Diverged native heads, which somebody moved past plait: what was found there, and how an adoption settles the row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from plait.codec import decode_snapshot, ref_digest
from plait.graph import load_snapshots
from plait.persist import Rows
from plait.persist.store_rows import Publication
from plait.threeway import Candidate
from plait.types import Entry, Key


def diverged(rows: Rows, keys: Sequence[Key]) -> list[Publication]:
    """The publications of these keys that wait to be adopted."""
    return [found for found in rows.publications_under(keys) if found.state == "diverged"]


def found_candidates(rows: Rows, keys: Sequence[Key]) -> Iterator[Candidate]:
    """The changes found at diverged native heads: from what was last published to what was found (None: it is gone)."""
    for publication in diverged(rows, keys):
        base = theirs = None
        if publication.published:
            published = load_snapshots(rows, [publication.published])[publication.published]
            base = Entry(publication.key, "", published)
        if publication.found is not None:
            theirs = Entry(publication.key, "", decode_snapshot(publication.found))
        yield Candidate(publication.key, base, theirs)


def settle(rows: Rows, keys: Sequence[Key]) -> None:
    """Record what was found at these keys as published, and drop moves begun before."""
    for publication in diverged(rows, keys):
        found = None
        if publication.found is not None:
            found = ref_digest(decode_snapshot(publication.found))
            rows.put_snapshots({found: publication.found}, rows.serial().seq)
        settled = replace(
            publication, published=found, moving=None, state="idle", found=None, owner="", lease_until_us=0
        )
        swapped = rows.swap_publication(publication, settled)
        assert swapped, "nobody claims a diverged publication"

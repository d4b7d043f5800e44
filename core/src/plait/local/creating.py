"""How a repository begins."""

from __future__ import annotations

from plait.clock import Clock, SystemClock
from plait.errors import AlreadyExists
from plait.failpoint import failpoint
from plait.persist import Database, create_repository, find_repository
from plait.ref_point import FirstCommit
from plait.refspec import check_repository_name
from plait.sequencer import Sequencer

DEFAULT_REPOSITORY = "default"
DEFAULT_BRANCH = "main"


def create(database: Database, name: str = DEFAULT_REPOSITORY, *, author: str = "", clock: Clock | None = None) -> None:
    """Make a repository with its empty first commit on `main`.

    Repeat: one that died before its first commit is made whole. Raises: AlreadyExists, InvalidArgument.
    """
    check_repository_name(name)
    clock = clock or SystemClock()
    database.create_schema()
    try:
        repository = create_repository(database, name, clock)
    except AlreadyExists:
        repository = find_repository(database, name)
        with repository.read() as rows:
            if rows.serial().seq:
                raise
    failpoint("local.repository_created")
    sequencer = Sequencer(repository, clock)
    try:
        sequencer.do(FirstCommit(DEFAULT_BRANCH, author))
    finally:
        sequencer.close()

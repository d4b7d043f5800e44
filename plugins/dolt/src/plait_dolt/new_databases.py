"""The databases that transactions make for new assets: made once each, and dropped by whoever made them alone."""

from __future__ import annotations

from typing import Final

from plait.adapter import Context
from plait.errors import InvalidArgument, StoreUnavailable
from plait.types import Key

from plait_dolt import names
from plait_dolt.engine import Engine, Refused

_TWO_COMMITS: Final = "SELECT commit_hash FROM dolt_log LIMIT 2"


class NewDatabases:
    """Who may create a name (and, aborting, drop it) is said in the adapter's state before it is created."""

    def __init__(self, engine: Engine, context: Context, branch: str) -> None:
        """`branch`: the one that native readers and writers know."""
        self._engine = engine
        self._context = context
        self._branch = branch

    def create(self, tx: str, key: Key, intent: str) -> str:
        """A database for a new asset: named after the key where that name is free, else with the intent's end too.

        Repeat: the same one. Raises: InvalidArgument where both names are taken.
        """
        wanted = names.wanted_database(key)
        claim = names.claim(tx, intent)
        there = set(self._engine.databases())
        for name in (wanted, f"{wanted}_{intent.replace('-', '')[-12:]}"):
            if not self._claim(name, claim, is_free=name not in there):
                continue
            self._context.failpoint("dolt.stage.claimed")
            if name in there or self._create(name, claim):
                return name
        raise InvalidArgument(f"database {wanted!r} exists already", remedy="choose another key")

    def _claim(self, name: str, claim: bytes, *, is_free: bool) -> bool:
        state = self._context.state
        return state.get(_claimed(name)) == claim or (is_free and state.compare_and_set(_claimed(name), None, claim))

    def _create(self, name: str, claim: bytes) -> bool:
        """False: somebody else made it meanwhile."""
        try:
            self._engine.create_database(name, self._branch)
        except Refused:
            self._context.state.compare_and_set(_claimed(name), claim, None)
            if name not in self._engine.databases():
                raise
            return False
        except StoreUnavailable:
            if name not in self._engine.databases():
                self._context.state.compare_and_set(_claimed(name), claim, None)
            raise
        self._context.failpoint("dolt.stage.created")
        return True

    def drop(self, tx: str, database: str) -> bool:
        """Drop a database that this transaction made, unless somebody else works there by now."""
        claim = self._context.state.get(_claimed(database))
        if claim is None or not claim.startswith(names.claim(tx, "")) or self._is_used(tx, database):
            return False
        self._engine.drop_database(database)
        self._context.failpoint("dolt.abort.database_dropped")
        self._context.state.compare_and_set(_claimed(database), claim, None)
        return True

    def _is_used(self, tx: str, database: str) -> bool:
        """Whether it holds more than what it was made with and what the transaction put there."""
        with self._engine.session(database, self._branch) as session:
            others = [name for name in session.branches("") if not name.startswith(names.branches_of(tx))]
            pins = [name for name in session.tags("") if not name.startswith(names.tags_of(tx))]
            has_content = session.tables() or len(session.rows(_TWO_COMMITS)) > 1
            return others != [self._branch] or bool(pins or has_content)


def _claimed(database: str) -> str:
    """Where the state says who made a database."""
    return f"database/{database}"

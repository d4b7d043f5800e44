"""`plait import dolt`: databases that people have, with their history."""

from __future__ import annotations

import logging

import click
from plait.adapter import Context
from plait.cli.session import Session, json_option, pass_session
from plait.stores import NoState, resolve_credential

from plait_dolt.adapter import DoltAdapter
from plait_dolt.history import import_history, native_history


@click.command("dolt")
@click.argument("databases", nargs=-1)
@click.option("--store", "named", help="Default: the only store of kind dolt.")
@click.option("--into", help="Default: the current branch.")
@click.option("--history/--no-history", default=True, show_default=True, help="One commit for each commit it has.")
@click.option("--dry-run", is_flag=True, help="Only list what would be taken.")
@json_option
@pass_session
def import_dolt(
    session: Session, databases: tuple[str, ...], named: str | None, into: str | None, history: bool, dry_run: bool
) -> None:
    """Bring DATABASES (none named: all) of a Dolt store into the history, in place: nothing is copied."""
    from plait.cli.importing import store_of_kind

    branch, name = into or session.branch, store_of_kind(session, DoltAdapter.kind, named)
    store = next(one for one in session.catalog.stores() if one.name == name)
    adapter = DoltAdapter(store, Context(NoState(), log=logging.getLogger("plait"), credential=resolve_credential))
    try:
        there = {entry.key for entry in session.catalog.at(branch).entries((store.name,))}
        wanted = databases or adapter.engine.databases()
        rows = []
        for database in wanted:
            key = (store.name, database)
            commits = native_history(adapter, database)
            # What plait made here is under another key already.
            new = key not in there and not any("plait-txn: " in commit.message for commit in commits)
            rows.append({"key": ".".join(key), "commits": len(commits), "take": new, "commit": None})
            if not new or dry_run:
                continue
            if history:
                commit = import_history(session.catalog, key, database, commits, branch)
            else:
                commit = session.catalog.import_assets({key: database}, branch, message=f"Import {database}")
            rows[-1]["commit"] = commit.id
        session.table(rows, ("key", "commits", "take", "commit"), "there is no database")
    finally:
        adapter.close()

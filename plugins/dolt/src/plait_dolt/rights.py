"""What a Dolt server must be and grant to hold plait's databases; what is missing, as sentences."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Final

from plait.errors import PlaitError

from plait_dolt.engine import Session

OLDEST: Final = (1, 80, 0)
_SETTINGS: Final = {
    "dolt_transaction_commit": "every SQL transaction would become a commit of Dolt's history",
    "dolt_auto_gc_enabled": "it cuts connections whenever it likes; plait's retention runs dolt_gc",
    "read_only": "nothing can be written",
}


def missing(session: Session) -> list[str]:
    """Version, settings, rights. Cost: a few statements, and a branch that is made and dropped."""
    return [*_version(session), *_settings(session), *_rights(session)]


def _version(session: Session) -> Iterator[str]:
    try:
        found = str(session.value("SELECT dolt_version()"))
    except PlaitError:
        yield "this is a MySQL server, but not Dolt: start 'dolt sql-server'"
        return
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    if numbers < OLDEST:
        yield f"Dolt is {found}, plait needs {'.'.join(map(str, OLDEST))} or later: upgrade the server"


def _settings(session: Session) -> Iterator[str]:
    for name, why in _SETTINGS.items():
        found = session.rows("SHOW GLOBAL VARIABLES LIKE %s", name)
        if found and str(next(reversed(found[0].values()))).upper() in ("ON", "1"):
            yield f"{name} is on, and {why}: turn it off in the server's configuration"


def _rights(session: Session) -> Iterator[str]:
    """Try it where there is a database; else read the grants."""
    probe = f"plait/probe/{uuid.uuid4()}"
    databases = [row["Database"] for row in session.rows("SHOW DATABASES")]
    own = [name for name in databases if name not in ("information_schema", "mysql") and "/" not in name]
    if not own:
        grants = " ".join(str(value) for row in session.rows("SHOW GRANTS") for value in row.values())
        if "ALL PRIVILEGES" not in grants and "CREATE" not in grants:
            yield "the user may not create databases: GRANT ALL ON *.* TO it"
        return
    session.database = own[0]
    try:
        session.use("")
        for procedure in ("dolt_branch", "dolt_tag"):
            session.call(procedure, probe)
            session.call(procedure, "-D" if procedure == "dolt_branch" else "-d", probe)
    except PlaitError as error:
        yield f"the user may not make branches and tags in database {own[0]!r}: {error.message}"

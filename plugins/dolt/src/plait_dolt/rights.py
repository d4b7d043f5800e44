"""What a Dolt server must be and grant to hold plait's databases; what is missing, as sentences."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Final

from plait.errors import PlaitError

from plait_dolt.engine import Refused, Session

OLDEST: Final = (1, 80, 0)
_NEEDED: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "EXECUTE")
_GRANT: Final = re.compile("GRANT (.+?)(?: ON | TO )")
_SETTINGS: Final = {
    "dolt_transaction_commit": "every SQL transaction would become a commit of Dolt's history",
    "dolt_auto_gc_enabled": "it cuts connections whenever it likes; plait's retention runs dolt_gc",
    "read_only": "nothing can be written",
}


def missing(session: Session, reserved: Sequence[str]) -> list[str]:
    """Version, settings, rights. Cost: a few statements, and a branch that is made and dropped.

    `reserved`: patterns of branches that only plait's user shall write; what can be reserved is reserved.
    """
    not_dolt = list(_version(session))
    return not_dolt or [*_settings(session), *_rights(session, reserved)]


def reserve(session: Session, reserved: Sequence[str]) -> None:
    """Let others read these branches and not write them, on the whole server. Repeat: no-op.

    Raises: Refused, PermissionDenied for a user who may not say so.
    """
    user = str(session.value("SELECT user()")).rpartition("@")[0]
    control = "INSERT INTO dolt_branch_control VALUES ('%%', %s, %s, '%%', %s)"
    for pattern in reserved:
        if pattern.endswith("%"):
            _put(session, "INSERT INTO dolt_branch_namespace_control VALUES ('%%', %s, %s, '%%')", pattern, user)
    for pattern in reserved:
        # Oneself first: who may only read may not say who may write. Of the rows that match, only the most narrow
        # count, so that one is needed even where a wide one says the same, which is refused as a duplicate.
        if not _put(session, control, pattern, user, "admin"):
            _put(session, control, pattern, user, "write")
    for pattern in reserved:
        _put(session, control, pattern, "%", "read")


def _put(session: Session, sql: str, *args: str) -> bool:
    """Whether the row is new: one that is there already, or that a wider one says, is a duplicate."""
    try:
        session.rows(sql, *args)
    except Refused as error:
        if "duplicate" not in error.text:
            raise
        return False
    return True


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


def _rights(session: Session, reserved: Sequence[str]) -> Iterator[str]:
    """Read the grants, and, where there is a database, try what they do not tell."""
    lacking = _lacking(session)
    if lacking:
        yield f"the user has no right to {', '.join(lacking)}: GRANT ALL ON *.* TO it"
    probe = f"plait/probe/{uuid.uuid4()}"
    databases = [row["Database"] for row in session.rows("SHOW DATABASES")]
    own = [name for name in databases if name not in ("information_schema", "mysql") and "/" not in name]
    if not own:
        return
    session.database = own[0]
    try:
        session.use("")
        for procedure in ("dolt_branch", "dolt_tag"):
            session.call(procedure, probe)
            session.call(procedure, "-D" if procedure == "dolt_branch" else "-d", probe)
    except PlaitError as error:
        yield f"no branches and tags can be made in database {own[0]!r}: {error}"
        return
    try:
        reserve(session, reserved)
    except PlaitError as error:
        shown = " and ".join(reserved)
        yield f"the user may not reserve {shown}: {error.message} · leave the option 'reserve' out, or grant it"


def _lacking(session: Session) -> list[str]:
    """What is granted nowhere of all that plait and its users do. (What a role grants, Dolt does not show.)"""
    granted: set[str] = set()
    for row in session.rows("SHOW GRANTS"):
        for text in row.values():
            found = _GRANT.match(str(text))
            if found is None or found[1].startswith("`") or found[1] == "ALL PRIVILEGES":
                return []
            granted.update(found[1].split(", "))
    return [] if "SUPER" in granted else [right for right in _NEEDED if right not in granted]

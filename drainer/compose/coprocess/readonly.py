"""Starts Mailman in this process so that it can read everything and change nothing.

In    the path of mailman.cfg; None: Mailman looks for it
Out   mailman.config.config ready for use; Unusable with the reason if it cannot be
Shell runs in Mailman's Python

What Mailman's own start would write, and what happens here instead:
- directories, a template mailman.cfg, a lock file: config.create_paths is off;
- log files: messages from WARNING up go to standard error;
- the database file, its schema, its lock file: the file is opened as it is, and refused if its schema is another one.
  An SQLite file need not be writable, except after an interrupted transaction: SQLite must undo that first;
- rows: the database itself refuses changes (SQLite query_only; read-only sessions elsewhere), sessions are rolled back;
- queue entries: Switchboard.enqueue refuses; files below Mailman's directories: an audit hook refuses.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = frozenset(
    ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown")
)
_READ_ONLY_SQL = {
    "sqlite": "PRAGMA query_only = ON",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}


class Unusable(Exception):
    """Mailman cannot be used from here; the text says why.

    unwritable  a directory that must be writable and is not; "" for none
    """

    def __init__(self, detail: str, unwritable: str = "") -> None:
        super().__init__(detail)
        self.unwritable = unwritable


class ChangeRefused(PermissionError):
    """Mailman's code, or a plugin, tried to change something; the text says what."""


def start_mailman(config_path: str | None, overlay: str) -> None:
    """Initialise Mailman as its runners do, without their side effects.

    config_path  mailman.cfg; None: Mailman looks for it
    overlay      text of a configuration file that takes precedence over the site's
    Raises       Unusable, and any exception of Mailman's own initialisation
    """
    import mailman.core.initialize
    import mailman.core.logging
    from mailman.config import config
    from mailman.core.switchboard import Switchboard
    from mailman.database.factory import DatabaseFactory

    config.create_paths = False
    mailman.core.logging.initialize = _log_to_stderr
    DatabaseFactory.create = staticmethod(_open_database)
    Switchboard.enqueue = _refuse_enqueue
    mailman.core.initialize.initialize_1(config_path)
    config.push("drainer", overlay)
    mailman.core.initialize.initialize_2()
    mailman.core.initialize.initialize_3()
    sys.addaudithook(_refuse_changes_below(sorted(set(config.paths.values()))))


def _log_to_stderr(propagate: bool | None = None) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")


def _refuse_enqueue(switchboard: Any, *args: Any, **kwargs: Any) -> None:
    raise ChangeRefused(f"Mailman wanted to put an entry into {switchboard.name}/, which a composer must not do")


def _open_database() -> Any:
    from mailman.config import config
    from mailman.interfaces.database import IDatabase
    from mailman.utilities.modules import call_name
    from mailman.utilities.string import expand
    from sqlalchemy import event
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.pool import NullPool
    from zope.interface.verify import verifyObject

    file = _sqlite_file(expand(config.database.url, None, config.paths))
    if file is not None and not file.is_file():
        raise Unusable(f"there is no database at {file}; is this the right mailman.cfg?")
    database = call_name(config.database["class"])
    verifyObject(IDatabase, database)
    if file is not None:
        # Mailman's own _prepare opens the file for writing, to create it; it exists, and may be read-only for us.
        database._prepare = lambda url: setattr(database, "pool_class", NullPool)
    database.initialize()
    event.listen(database.engine, "connect", _make_read_only(database.engine.dialect.name))
    try:
        _check_schema(database)
    except OperationalError as exc:
        if file is not None and (wanted := repair_wanted(file)):
            raise Unusable(wanted, str(file.parent)) from exc
        raise
    return database


def _sqlite_file(url: str) -> Path | None:
    parts = urlparse(url)
    return Path(parts.path[1:]) if parts.scheme == "sqlite" else None  # sqlite:////var/... is /var/...


def repair_wanted(file: Path) -> str:
    """Why an SQLite database cannot be read without writing to its directory; "" if it can be.

    Source  https://www.sqlite.org/lockingv3.html#hot_journals, https://www.sqlite.org/wal.html#read_only_databases
    """
    if os.access(file, os.W_OK) and os.access(file.parent, os.W_OK):
        return ""
    if any(Path(f"{file}{suffix}").exists() for suffix in ("-journal", "-wal")) or _is_wal(file):
        return (
            f"{file} was left in the middle of a transaction, or has a write-ahead log: SQLite cannot read it without "
            "writing to its directory. The next start of Mailman ends such a transaction too"
        )
    return ""


def _is_wal(file: Path) -> bool:
    """Source  https://www.sqlite.org/fileformat2.html#file_format_version_numbers"""
    with file.open("rb") as opened:
        return opened.read(20)[18:] == b"\2\2"


def _make_read_only(dialect: str) -> Any:
    def connected(connection: Any, _record: object) -> None:
        statement = _READ_ONLY_SQL.get(dialect)
        if statement is not None:
            cursor = connection.cursor()
            cursor.execute(statement)
            cursor.close()
            connection.commit()

    return connected


def _check_schema(database: Any) -> None:
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from mailman.database.alembic import alembic_cfg
    from mailman.version import VERSION

    found = MigrationContext.configure(database.store.connection()).get_current_revision()
    wanted = ScriptDirectory.from_config(alembic_cfg).get_current_head()
    database.store.close()
    if found != wanted:
        raise Unusable(
            f"the database has schema {found}, this Mailman {VERSION} needs {wanted}. If this is the Mailman of this host, "
            "start it once to upgrade the database; if not, set mailman.python to the Python of the one that is"
        )


def _refuse_changes_below(directories: list[str]) -> Any:
    prefixes = tuple(f"{directory}/" for directory in directories)

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if not args[2] & _WRITING or not isinstance(args[0], (str, bytes)):
                return
        elif event not in _CHANGES:
            return
        for path in args[:2]:
            if isinstance(path, (str, bytes)) and f"{Path.cwd() / os.fsdecode(path)}/".startswith(prefixes):
                raise ChangeRefused(f"Mailman wanted to change {os.fsdecode(path)}, which a composer must not do")

    return audit

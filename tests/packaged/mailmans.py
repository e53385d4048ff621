"""Mailmans laid out as their packages and manuals lay them out, below the root of a machine (booted.py).

Debian's Mailman 3 is pip's 3.3.8, the version of Debian 12, with the mailman.cfg, directories and owners that Debian's
package (3.3.8-2~deb12u2) makes. Its Python is a venv's: the package would bring forty others.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from drainer.demo.sample_queue import write_plain
from tests.mailman3.site import MailingList, Member, Post, Site, mailman_python
from tests.packaged.booted import python_inside
from tests.postfix import free_port

LIST_USER = pwd.getpwnam("list")
VENV = "/opt/mailman/venv"

_DEBIAN = """\
[mailman]
site_owner: changeme@example.com
layout: debian
[paths.debian]
var_dir: /var/lib/mailman3
queue_dir: $var_dir/queue
bin_dir: /usr/lib/mailman3/bin
list_data_dir: $var_dir/lists
log_dir: /var/log/mailman3
lock_dir: $var_dir/locks
data_dir: $var_dir/data
cache_dir: $var_dir/cache
etc_dir: /etc/mailman3
ext_dir: $var_dir/ext
messages_dir: $var_dir/messages
archive_dir: $var_dir/archives
template_dir: $var_dir/templates
pid_file: /run/mailman3/master.pid
lock_file: $lock_dir/master.lck
[database]
{database}
[mta]
incoming: mailman.mta.postfix.LMTP
outgoing: mailman.mta.deliver.deliver
smtp_host: localhost
smtp_port: 25
"""
SQLITE = "class: mailman.database.sqlite.SQLiteDatabase\nurl: sqlite:///$DATA_DIR/mailman.db"
_POSTGRESQL = (
    "class: mailman.database.postgresql.PostgreSQLDatabase\nurl: postgresql://mailman3:secret@127.0.0.1:{port}/mailman3"
)
_IN_VENV = """\
[mailman]
layout: custom
[paths.custom]
var_dir: /opt/mailman/mm/var
[database]
{database}
"""

_CHOIR = MailingList(
    "choir@lists.example.org",
    [Member("ann@example.com", "Ann"), Member("bob@example.net", "Bob")],
    personalize="individual",
)
_MAIL = (
    b"From: ann@example.com\nTo: choir@lists.example.org\nSubject: Rehearsal\nMessage-ID: <%d@example.com>\n\nAt %d.\n"
)
OWED = Counter({(f"<{number}@example.com>", member.address): 1 for number in (1, 2) for member in _CHOIR.members})
"""(Message-ID, recipient) of what lies in out/ of each Mailman 3 here."""


def mailman3(directory: Path, database: str) -> Site:
    """A Mailman 3.3.8 whose out/ holds two mails to a list of two."""
    site = Site(directory, mailman_python("3.3.8"), extra_config=f"[database]\n{database}\n")
    site.populate(
        [_CHOIR], [Post(_CHOIR.name, _MAIL % (number, number), kind="") for number in (1, 2)], into="pipeline"
    )
    return site


def mailman_python_inside(root: Path) -> list[tuple[Path, str]]:
    """Mailman in a venv at VENV. Returns what has to be mounted where."""
    venv = mailman_python("3.3.8").parents[1].resolve()
    return python_inside(root, VENV, next(venv.glob("lib/python*/site-packages")))


def _give(path: Path, uid: int, gid: int) -> None:
    for found in (path, *path.rglob("*")):
        os.chown(found, uid, gid)


def put_debian(root: Path, site: Site, database: str) -> None:
    """/etc/mailman3, /var/lib/mailman3 and /var/log/mailman3 as on Debian; what was there is replaced."""
    var, log, etc = root / "var/lib/mailman3", root / "var/log/mailman3", root / "etc/mailman3"
    shutil.rmtree(var, ignore_errors=True)
    shutil.copytree(site.var, var, ignore=shutil.ignore_patterns("logs", "etc", "*.lck", "master.pid"))
    for directory in (log, etc):
        directory.mkdir(exist_ok=True)
    _give(var, LIST_USER.pw_uid, LIST_USER.pw_gid)
    _give(log, LIST_USER.pw_uid, LIST_USER.pw_gid)
    _write_config(etc / "mailman.cfg", _DEBIAN.format(database=database), LIST_USER.pw_gid)


def put_in_venv(root: Path, site: Site, uid: int, gid: int) -> None:
    """Mailman's manual, "Virtualenv installation": /opt/mailman/mm/var, of a user of its own."""
    var = root / "opt/mailman/mm/var"
    shutil.rmtree(var, ignore_errors=True)
    shutil.copytree(site.var, var, ignore=shutil.ignore_patterns("*.lck", "master.pid"))
    _give(root / "opt/mailman/mm", uid, gid)
    (root / "etc/mailman3").mkdir(exist_ok=True)
    _write_config(root / "etc/mailman3/mailman.cfg", _IN_VENV.format(database=SQLITE), gid)


def _write_config(path: Path, text: str, gid: int) -> None:
    path.write_text(text)
    path.chmod(0o640)
    os.chown(path, 0, gid)


def put_mailman2(root: Path) -> Counter[tuple[str, str]]:
    """Debian's Mailman 2.1: /var/lib/mailman with qfiles and lists. Returns what is owed."""
    home = root / "var/lib/mailman"
    shutil.rmtree(home, ignore_errors=True)
    outage = write_plain(home, 4, 3)
    _give(home, LIST_USER.pw_uid, LIST_USER.pw_gid)
    return Counter((message_id, recipient) for (_, message_id), owed in outage.owed.items() for recipient in owed)


def cut_off_transaction(database: Path) -> None:
    """Leave an SQLite database as a machine does that goes down in the middle of a large transaction."""
    work = database.with_name("work.db")
    shutil.copy2(database, work)
    with closing(sqlite3.connect(work, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # so that pages are written before the end
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE half (octets BLOB)")
        connection.executemany("INSERT INTO half VALUES (zeroblob(4000))", [()] * 100)
        shutil.copyfile(work, database)
        journal = shutil.copy2(f"{work}-journal", f"{database}-journal")
    work.unlink()
    owner = database.stat()
    os.chown(journal, owner.st_uid, owner.st_gid)


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    port: int

    @property
    def database(self) -> str:
        """mailman.cfg's [database]."""
        return _POSTGRESQL.format(port=self.port)


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """A private, genuine PostgreSQL with an empty database mailman3. Needs Debian's postgresql package."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found:
        if os.environ.get("CI"):
            pytest.fail("under CI this must run: no PostgreSQL: apt-get install postgresql")
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    programs, owner = found[-1].parent, pwd.getpwnam("postgres")
    home = Path(tempfile.mkdtemp(prefix="drainer-postgresql-"))  # other users cannot enter pytest's directory
    os.chown(home, owner.pw_uid, owner.pw_gid)

    def as_owner(*command: str | Path) -> None:
        who = ["setpriv", "--reuid", str(owner.pw_uid), "--regid", str(owner.pw_gid), "--clear-groups"]
        subprocess.run(
            [*who, *map(str, command)], cwd=home, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    try:
        as_owner(
            programs / "initdb", "-D", home / "data", "-A", "trust", "-U", "mailman3", "-N", "--no-locale", "-E", "UTF8"
        )
        port = free_port()
        options = f"-F -c unix_socket_directories= -c listen_addresses=127.0.0.1 -p {port}"
        as_owner(programs / "pg_ctl", "-D", home / "data", "-w", "-l", home / "log", "-o", options, "start")
        try:
            as_owner(programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mailman3", "mailman3")
            yield PostgreSQL(port)
        finally:
            as_owner(programs / "pg_ctl", "-D", home / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home)

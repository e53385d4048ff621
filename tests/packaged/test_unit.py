"""The unit as shipped and as README installs it, started by a genuine systemd in the sandbox it asks for, beside Mailmans
laid out as packages and manuals lay them out.
"""

from __future__ import annotations

import json
import re
import shutil
import smtplib
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.mailman3.site import Site
from tests.packaged import mailmans
from tests.packaged.booted import PROJECT, Machine, booted, drainer_inside, fresh, needed
from tests.packaged.mailmans import LIST_USER, OWED, SQLITE, VENV
from tests.postfix import running_postfix
from tests.scenarios.running import SinkProcess, eventually, running_sink

MAILMAN_USER = 4711
POSTFIX = "/var/spool/postfix-lists"
"""Where a Postfix that is no default instance is, inside."""
_DEBIAN_SETTINGS = f"""\
[mailman]
config = "/etc/mailman3/mailman.cfg"
python = "{VENV}/bin/python"
coprocesses = 1
"""
_MAILMAN2_SETTINGS = """\
[mailman]
queue_dir = "/var/lib/mailman/qfiles"
"""
_VENV_SETTINGS = f"""\
[mailman]
flavour = "mailman3"
queue_dir = "/opt/mailman/mm/var/queue"
config = "/etc/mailman3/mailman.cfg"
python = "{VENV}/bin/python"
coprocesses = 1
"""


@dataclass(slots=True)
class Host:
    """A machine on which drainer was installed, and a sink beside it."""

    machine: Machine
    sink: SinkProcess
    postfix: Path
    taken_before: int = 0
    started: str = ""
    drop_in: list[str] = field(default_factory=list)

    def begin(self, settings: str, mta: str = "") -> None:
        """As after the installation: these settings, no ledger, no drop-in; the sink counts anew."""
        self.machine.run("systemctl", "stop", "drainer")
        self.machine.run("systemctl", "reset-failed", "drainer", check=False)
        shutil.rmtree(self.machine.place("/var/lib/drainer"), ignore_errors=True)
        self.drop_in.clear()
        self.edit()
        mta = f'[mta]\nhost = "127.0.0.1"\nport = {self.sink.port}\n{mta}'
        self.machine.place("/etc/drainer/drainer.toml").write_text(settings + mta)
        self.taken_before = len(self.sink.taken())

    def edit(self, *lines: str) -> None:
        """What an operator adds by `systemctl edit drainer`."""
        self.drop_in += lines
        drop_in = self.machine.place("/etc/systemd/system/drainer.service.d/override.conf")
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text("\n".join(["[Service]", *self.drop_in, ""]))
        self.machine.run("systemctl", "daemon-reload")

    def taken(self) -> Counter[tuple[str, str]]:
        """(Message-ID, recipient) -> how often the sink took it since `begin`."""
        mails = self.sink.taken()[self.taken_before :]
        return Counter((mail["message_id"], recipient) for mail in mails for recipient in mail["recipients"])

    def said(self) -> str:
        """The journal of the latest start."""
        return self.machine.journal("drainer", self.started)

    def starts(self) -> bool:
        self.started = self.machine.cursor()
        return self.machine.run("systemctl", "start", "drainer", check=False).returncode == 0

    def drain(self, owed: Counter[tuple[str, str]]) -> None:
        """Start the unit, wait for everybody's mail, stop the unit: it went as it should."""
        assert self.starts(), self.said()
        eventually(lambda: self.taken() >= owed, self.said)
        self.machine.run("systemctl", "stop", "drainer")
        assert self.taken() == owed
        ended = self.machine.run("systemctl", "show", "-P", "Result", "-P", "ExecMainStatus", "drainer").stdout.split()
        assert ended == ["success", "0"], self.said()

    def refused(self) -> str:
        """Start the unit, which fails. Returns what it says of it, without a traceback."""
        assert not self.starts()
        said = self.said()
        self.machine.run("systemctl", "stop", "drainer")
        assert "Traceback" not in said
        return said

    def mends_itself_by_what_it_says(self, said: str, most: int = 4) -> list[str]:
        """Add to the unit the very lines it asked for, and start it, until it starts. Returns them."""
        for _ in range(most):
            lines = re.findall(r"^ +((?:ReadWritePaths|SupplementaryGroups|User|Group)=.*)$", said, re.MULTILINE)
            assert lines, said
            self.edit(*lines)
            if self.starts():
                return list(self.drop_in)
            said = self.said()
            self.machine.run("systemctl", "stop", "drainer")
        raise AssertionError(self.said())


def asked_for(journal: str) -> list[str]:
    """The lines for the unit that warnings name."""
    return re.findall(r"with \[Service\] and (\w+=[\w/-]+)", journal)


def readme_lines() -> list[str]:
    """The commands of "Install on a Mailman host" that put files in place; drainer itself is in /opt/drainer already."""
    section = (PROJECT / "README.md").read_text().partition("## Install on a Mailman host")[2]
    commands = [line.partition("  #")[0].strip() for line in section.partition("\n## ")[0].splitlines()]
    return [line for line in commands if line.startswith(("install ", "systemctl daemon-reload"))]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    needed()
    home = tmp_path_factory.mktemp("host")
    root = home / "machine"
    fresh(root)
    with (root / "etc/passwd").open("a") as users, (root / "etc/group").open("a") as groups:
        users.write(f"mailman:x:{MAILMAN_USER}:{MAILMAN_USER}::/opt/mailman:/bin/sh\n")
        groups.write(f"mailman:x:{MAILMAN_USER}:\n")
    postfix = Path(tempfile.mkdtemp(prefix="drainer-postfix-"))  # its daemons cannot enter pytest's directory
    postfix.chmod(0o755)
    (postfix / "lists").mkdir()
    (root / "var/spool/postfix-lists").mkdir()
    mounts = [*drainer_inside(root), *mailmans.mailman_python_inside(root), (postfix / "lists", POSTFIX)]
    with running_sink(home / "sink") as sink, booted(root, mounts) as machine:
        lines = readme_lines()
        assert len(lines) == 3
        for line in lines:
            machine.run("sh", "-c", line)
        yield Host(machine, sink, postfix / "lists")
    shutil.rmtree(postfix)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return mailmans.mailman3(tmp_path_factory.mktemp("sqlite"), SQLITE)


def test_unit_as_installed_drains_debians_mailman_3_with_sqlite_that_went_down_in_a_transaction(
    host: Host, site: Site
) -> None:
    mailmans.put_debian(host.machine.root, site, SQLITE)
    database = host.machine.place("/var/lib/mailman3/data/mailman.db")
    before = database.read_bytes()
    mailmans.cut_off_transaction(database)
    assert database.read_bytes() != before
    host.begin(_DEBIAN_SETTINGS)
    assert host.starts(), host.said()
    socket = host.machine.place("/run/drainer/control.sock").stat()
    assert stat.S_ISSOCK(socket.st_mode) and stat.S_IMODE(socket.st_mode) == 0o660
    as_list = ("setpriv", "--reuid=list", "--regid=list", "--clear-groups")
    assert "Backlog" in host.machine.run(*as_list, "/opt/drainer/bin/drainer", "status").stdout
    host.machine.run("systemctl", "reload", "drainer")
    eventually(lambda: "event=reloaded" in host.said(), host.said)
    assert "Status: " in host.machine.run("systemctl", "status", "drainer").stdout
    host.drain(OWED)
    assert database.read_bytes() == before
    ledger = host.machine.place("/var/lib/drainer/ledger.sqlite").stat()
    assert (ledger.st_uid, ledger.st_gid) == (LIST_USER.pw_uid, LIST_USER.pw_gid)
    queue = host.machine.place("/var/lib/mailman3/queue")
    assert not [*queue.glob("out/*"), *queue.glob("drainer/*/*")]


def test_unit_as_installed_drains_debians_mailman_3_with_postgresql(host: Host, tmp_path: Path) -> None:
    with mailmans.running_postgresql() as server:
        mailmans.put_debian(host.machine.root, mailmans.mailman3(tmp_path / "site", server.database), server.database)
        host.begin(_DEBIAN_SETTINGS)
        host.drain(OWED)


def test_unit_says_line_by_line_what_a_mailman_in_a_venv_of_another_user_needs(host: Host, site: Site) -> None:
    mailmans.put_in_venv(host.machine.root, site, MAILMAN_USER, MAILMAN_USER)
    host.begin(_VENV_SETTINGS)
    assert sorted(host.mends_itself_by_what_it_says(host.refused())) == [
        "Group=mailman",
        "ReadWritePaths=/opt/mailman/mm/var/queue",
        "SupplementaryGroups=list",  # for /etc/drainer/drainer.toml, as README installs it
        "User=mailman",
    ]
    host.drain(OWED)
    mailmans.cut_off_transaction(host.machine.place("/opt/mailman/mm/var/data/mailman.db"))
    assert "  ReadWritePaths=/opt/mailman/mm/var/data\n" in host.refused()


def test_unit_says_how_a_ledger_of_its_own_place_gets_there(host: Host) -> None:
    owed = mailmans.put_mailman2(host.machine.root)
    host.begin(_MAILMAN2_SETTINGS + '[ledger]\npath = "/srv/drainer/ledger.sqlite"\n')
    first = re.search(r"`(install -d [^`]*)`", said := host.refused())
    assert first, said
    host.machine.run("sh", "-c", first[1])
    assert host.mends_itself_by_what_it_says(said) == ["ReadWritePaths=/srv/drainer"]
    host.drain(owed)
    assert host.machine.place("/srv/drainer/ledger.sqlite").exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ('[mailman]\nqueue_dir = "/home/mailman/var/queue"\n', "  ProtectHome=false\n"),
        (f'{_MAILMAN2_SETTINGS}[ledger]\npath = "/srv/ledger.sqlite"\n', "  ReadWritePaths=/srv\n"),
        (f'{_MAILMAN2_SETTINGS}[control]\nsocket = "/srv/control.sock"\n', "  ReadWritePaths=/srv\n"),
        (
            f'{_MAILMAN2_SETTINGS}[control]\ngroup = "operator"\n',
            "  SupplementaryGroups=operator\n  RuntimeDirectoryMode=0755\n",
        ),
    ],
    ids=["a queue in a home directory", "a ledger in an old directory", "a socket elsewhere", "operators"],
)
def test_unit_says_which_line_lets_it_reach_a_path(host: Host, settings: str, says: str) -> None:
    mailmans.put_mailman2(host.machine.root)
    host.begin(settings)
    assert says in host.refused()


def test_unit_is_right_and_exposed_to_little_in_the_eyes_of_systemd(host: Host) -> None:
    unit = "/etc/systemd/system/drainer.service"
    verified = host.machine.run("systemd-analyze", "verify", unit)
    assert verified.stdout + verified.stderr == ""
    host.machine.run("systemd-analyze", "security", "--offline=yes", "--threshold=19", unit)


def test_unit_names_each_group_it_lacks_for_logs_and_for_another_postfix_and_drains_debians_mailman_2_with_them(
    host: Host,
) -> None:
    owed = mailmans.put_mailman2(host.machine.root)
    smtp_log = host.machine.write("/var/log/mailman/smtp", "")
    shutil.chown(smtp_log, "root", "adm")
    smtp_log.chmod(0o640)
    settings = f'{_MAILMAN2_SETTINGS}smtp_log = "/var/log/mailman/smtp"\n'
    with running_postfix(host.postfix, "defer_transports = virtual") as lists:
        with smtplib.SMTP("127.0.0.1", lists.port) as client:
            client.sendmail("ann@example.com", ["bob@example.net"], b"Subject: later\r\n\r\nlater\r\n")
        main = (host.postfix / "etc/main.cf").read_text().replace(str(host.postfix), POSTFIX)
        host.machine.write("/etc/postfix-lists/main.cf", main)
        default = "compatibility_level = 3.6\nmulti_instance_directories = /etc/postfix-lists\n"
        host.machine.write("/etc/postfix/main.cf", default)
        watched = 'log_file = "journal"\nqueue = "postfix"\nqueue_config = "/etc/postfix-lists"\nqueue_low = 1\n'
        host.begin(settings, watched)
        assert host.starts(), host.said()
        eventually(lambda: "guard_cannot_tell" in host.said(), host.said)
        groups = [f"SupplementaryGroups={group}" for group in ("adm", "postdrop", "systemd-journal")]
        assert sorted(asked_for(host.said())) == groups
        host.begin(settings, watched)
        mailmans.put_mailman2(host.machine.root)
        host.edit(*groups)
        assert host.starts(), host.said()

        def guard() -> dict[str, Any]:
            status = host.machine.run("/opt/drainer/bin/drainer", "status", "--json").stdout
            return next((guard for guard in json.loads(status)["guards"] if guard["name"] == "mta_queue"), {})

        eventually(lambda: guard().get("value") == 1, lambda: f"{guard()}")
        assert not asked_for(host.said())
        host.drain(owed)

"""Who may operate the service, what is written down of it, and which modes its files have: the real service, asked by
other users' processes.

A child starts as root and gives that up before it asks: another user may not be able to read this Python's files.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pwd
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drainer.demo.misbehaviour import answer
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import SinkOptions, SinkThread
from tests.control.small_service import control_routes
from tests.scenarios.operated import SOON_S, Site
from tests.scenarios.running import Service, drainer, running_service, site_settings

OPERATORS, STRANGERS = 54_321, 54_322
"""Group numbers that no user has."""
NOBODY = pwd.getpwnam("nobody")
ENTRY_MODES = (0o600, 0o640, 0o660)

_CLIENT = """
import http.client, json, os, socket, sys
uid, gid, path, within_s, requests = json.load(sys.stdin)
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
answers = []
for method, target, body in requests:
    connection = http.client.HTTPConnection("drainer")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(within_s)
    try:
        connection.sock.connect(path)
    except OSError as exc:
        answers.append([type(exc).__name__, None])
        continue
    connection.request(method, target, None if body is None else json.dumps(body))
    reply = connection.getresponse()
    answers.append([reply.status, json.loads(reply.read())])
    connection.close()
print(json.dumps(answers))
"""

Request = tuple[str, str, object]


def asked_by(uid: int, gid: int, path: Path, requests: Sequence[Request]) -> list[tuple[int | str, Any]]:
    """(status, answer) of each request by a process of this user and group; the error's name where it cannot connect."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _CLIENT],
        input=json.dumps([uid, gid, str(path), SOON_S, requests]),
        capture_output=True,
        text=True,
        check=True,
    )
    return [(status, said) for status, said in json.loads(done.stdout)]


@contextmanager
def umask(value: int) -> Iterator[None]:
    """What is started within inherits it."""
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def modes(directory: Path) -> dict[str, int]:
    """Path below the directory to mode."""
    return {str(path.relative_to(directory)): stat.S_IMODE(path.lstat().st_mode) for path in directory.rglob("*")}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory every user can walk through."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("under CI this must run: other users' processes need root")
        pytest.skip("other users' processes need root")
    made = Path(tempfile.mkdtemp(prefix="drainer-who-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@contextmanager
def standing(home: Path, mask: int, port: int, **sections: dict[str, Any]) -> Iterator[Site]:
    """A service that was started under this umask and sends nothing."""
    home.mkdir()
    outage = write_plain(home, 8, 3, lists=("announce", "choir"))
    for number, path in enumerate(sorted((outage.queue_dir / "out").iterdir())):
        path.chmod(ENTRY_MODES[number % len(ENTRY_MODES)])
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    control = {"socket": home / "control.sock", "group": str(OPERATORS)}
    ledger = {"path": home / "made/here/ledger.sqlite"}
    settings = site_settings(home, port, mailman, feed={"messages": 0}, control=control, ledger=ledger, **sections)
    with umask(mask):
        service = Service(settings, home / "drainer.log")
    try:
        site = Site(home, outage, None, settings)  # type: ignore[arg-type]
        site.surveyed()
        yield site
    finally:
        service.kill()


@pytest.fixture(scope="module")
def operated(home: Path) -> Iterator[Site]:
    with standing(home / "site", 0o077, port=9) as site:
        yield site


@pytest.fixture(scope="module")
def open_handed(home: Path) -> Iterator[Site]:
    with standing(home / "open", 0o000, port=9) as site:
        yield site


@pytest.mark.parametrize("of", ["operated", "open_handed"])
def test_files_have_the_same_modes_under_any_umask(of: str, request: pytest.FixtureRequest) -> None:
    site: Site = request.getfixturevalue(of)
    custody = modes(site.custody)
    assert stat.S_IMODE(site.custody.stat().st_mode) == 0o770
    assert {name: custody[name] for name in ("backlog", "held", "duplicates", "lock")} == {
        "backlog": 0o770, "held": 0o770, "duplicates": 0o770, "lock": 0o660
    }  # fmt: skip
    entries = sorted((name.removeprefix("backlog/"), mode) for name, mode in custody.items() if name.endswith(".pck"))
    assert [mode for _, mode in entries] == [ENTRY_MODES[number % len(ENTRY_MODES)] for number in range(len(entries))]
    made = modes(site.home / "made")
    assert (stat.S_IMODE((site.home / "made").stat().st_mode), made["here"]) == (0o750, 0o750)
    ledger = {name for name in made if name.startswith("here/ledger.sqlite")}
    assert {f"here/ledger.sqlite{end}" for end in ("", "-wal", "-shm", ".lock")} <= ledger
    assert {name: made[name] for name in ledger} == dict.fromkeys(ledger, 0o600)
    cache = [name for name in made if name.startswith("here/drainer-")]
    assert any("backlog-index" in name for name in cache)
    assert {made[name] for name in cache if name.count("/") == 1} == {0o700}


@pytest.mark.parametrize("of", ["operated", "open_handed"])
def test_only_members_of_the_group_may_operate(of: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(of).home / "control.sock"
    named = path.stat()
    assert (stat.S_IMODE(named.st_mode), named.st_gid) == (0o660, OPERATORS)
    everything: list[Request] = [("GET", "/status", None), ("POST", "/pause", {}), ("POST", "/drop", {"yes": True})]
    for gid in (STRANGERS, NOBODY.pw_gid):
        refused = asked_by(NOBODY.pw_uid, gid, path, everything)
        assert {status for status, _ in refused} == {"PermissionError"}
    assert [status for status, _ in asked_by(NOBODY.pw_uid, OPERATORS, path, everything[:1])] == [200]


def test_every_change_is_journalled_with_the_users_name_and_the_reason(operated: Site) -> None:
    first, second = sorted(path.stem for path in (operated.custody / "backlog").iterdir())[:2]
    changes: list[tuple[str, dict[str, Any]]] = [
        ("pause", {"list": "choir", "reason": "because 0"}),
        ("resume", {"list": "choir", "reason": "because 1"}),
        ("rate", {"recipients": 5, "reason": "because 2"}),
        ("hold", {"selectors": {"entry": first}, "yes": True, "reason": "because 3"}),
        ("release", {"selectors": {"entry": first}, "yes": True, "reason": "because 4"}),
        ("drop", {"selectors": {"entry": second}, "yes": True, "reason": "because 5"}),
        ("handback", {"selectors": {"entry": first}, "yes": True, "reason": "because 6"}),
        ("resume", {"reason": "because 7"}),
        ("import", {"name": "import-2026", "yes": True, "note": "because 8"}),
        ("domain", {"domain": "example.net", "rate": 5, "reason": "because 9"}),
        ("undo", {"yes": True, "reason": "because 10"}),
    ]
    there_are = {path for method, path in control_routes() if method not in ("GET", "HEAD")}
    assert {f"/{action}" for action, _ in changes} == there_are
    before = len(journal(operated))
    requests: list[Request] = [("POST", f"/{action}", asked) for action, asked in changes]
    answers = asked_by(NOBODY.pw_uid, OPERATORS, operated.home / "control.sock", requests)
    assert [status for status, _ in answers] == [200] * len(changes), answers
    written = journal(operated)[before:]
    for number, (action, _) in enumerate(changes):
        by = {who for who, what, detail in written if what.startswith(action) and f"because {number}" in detail}
        assert by == {"nobody"}, (action, written)
    log = operated.log.read_text()
    assert [action for action, _ in changes if f"action={action} by=nobody uid={NOBODY.pw_uid} " not in log] == []


def test_import_without_a_note_is_journalled_too(operated: Site) -> None:
    had = {"lists": ["choir"], "message_id": "<of-old@example.org>", "recipients": ["ann@example.org"], "at_s": 1.0}
    learn: dict[str, Any] = {"name": "import-of-old", "deliveries": [had]}
    requests: list[Request] = [
        ("POST", "/import", asked) for asked in (learn, learn | {"yes": True}, {"name": "import-of-old", "undo": True})
    ]
    before = len(journal(operated))
    answers = asked_by(NOBODY.pw_uid, OPERATORS, operated.home / "control.sock", requests)
    assert [(status, said["learnt"]) for status, said in answers] == [(200, 0), (200, 1), (200, 1)]
    assert journal(operated)[before:] == [
        ("nobody", "import-log", "import-of-old: 1 delivery"),
        ("nobody", "import-log --undo", "import-of-old: 1 delivery"),
    ]


def test_two_operators_at_once_undo_nothing_of_each_other_and_each_answer_is_true(open_handed: Site) -> None:
    """Ten rounds of each, interleaved as it comes: of two decisions neither is lost, an entry is dropped by one of the
    two, and the journal has all of it."""
    path, rounds = open_handed.home / "control.sock", 10
    entries = sorted(file.stem for file in (open_handed.custody / "backlog").iterdir())
    assert len(entries) == 8
    before = len(journal(open_handed))
    for name in (f"list{who}-{at}" for who in (0, 1) for at in range(rounds)):
        (open_handed.outage.lists_dir / name).mkdir()
        (open_handed.outage.lists_dir / name / "config.pck").touch()

    def shift(number: int) -> list[Request]:
        """What one of them asks for, in his order: his own list, his own limit; and the same entries as the other."""
        limit = ("messages", "recipients")[number]
        decided: list[Request] = []
        for at in range(rounds):
            decided += [
                ("POST", "/pause", {"list": f"list{number}-{at}"}), ("POST", "/rate", {limit: 0}),
                ("POST", "/hold", {"selectors": {}, "yes": True}), ("POST", "/release", {"selectors": {}, "yes": True}),
            ]  # fmt: skip
        return [*decided, ("POST", "/drop", {"selectors": {}, "yes": True})]

    with ThreadPoolExecutor(2) as both:
        answers = list(both.map(lambda number: asked_by(0, OPERATORS, path, shift(number)), (0, 1)))
    assert {status for replies in answers for status, _ in replies} == {200}
    state = open_handed.status()
    assert {pause["list"] for pause in state["pauses"]} == {f"list{who}-{at}" for who in (0, 1) for at in range(rounds)}
    limits = state["rate"]
    assert (limits["limit_messages_per_s"], limits["limit_recipients_per_s"]) == (0, 0)
    dropped = [replies[-1][1] for replies in answers]
    assert sum(said["changed"] for said in dropped) == len(entries) == state["done"]["dropped_entries"]
    for said in (said for replies in answers for _, said in replies if "matched" in said):
        assert said["matched"] == said["changed"] + said["gone"] + len(said["skipped"]), said
        assert all(
            why.endswith((": it is held already", ": it waits already", ": its turn has come already"))
            for why in said["skipped"]
        )
    written = journal(open_handed)[before:]
    done = [line for line in written if line[1] in ("pause", "rate", "hold", "release", "drop")]
    assert Counter(action for _, action, _ in done) == {
        "pause": 2 * rounds, "rate": 2 * rounds, "hold": 2 * rounds, "release": 2 * rounds, "drop": 2
    }  # fmt: skip
    for action in ("hold", "release"):
        changed = [said["changed"] for replies in answers for (_, said), (_, to, _) in zip(replies, shift(0), strict=True)
                if to == f"/{action}"]  # fmt: skip
        wrote = [int(detail.split()[0]) for _, what, detail in done if what == action]
        assert sorted(wrote) == sorted(changed)


def test_user_that_claims_to_be_another_is_refused(operated: Site) -> None:
    before = journal(operated)
    claims = ({"by": "root"}, {"user": "root"}, {"peer": {"uid": 0, "pid": 1, "user": "root"}}, {"uid": 0})
    actions = ("pause", "resume", "rate", "hold", "release", "drop", "handback", "import", "undo")
    requests: list[Request] = [("POST", f"/{action}", claim) for action in actions for claim in claims]
    answers = asked_by(NOBODY.pw_uid, OPERATORS, operated.home / "control.sock", requests)
    assert {status for status, _ in answers} == {400}
    assert journal(operated) == before


def test_user_without_a_name_is_journalled_by_number(operated: Site) -> None:
    asked: list[Request] = [("POST", "/rate", {"recipients": 7, "reason": "no name"})]
    ((status, _),) = asked_by(54_323, OPERATORS, operated.home / "control.sock", asked)
    assert (status, journal(operated)[-1][0]) == (200, "54323")


def test_unknown_group_and_one_we_may_not_give_the_socket_to_end_the_start(operated: Site) -> None:
    text = operated.settings.read_text().replace(f'group = "{OPERATORS}"', 'group = "no-such-group"')
    settings = operated.home / "other.toml"
    text = text.replace(str(operated.outage.queue_dir), str(other_queue(operated.home / "other")))
    settings.write_text(text.replace("made/here", "made/there").replace("control.sock", "other.sock"))
    done = drainer("run", "--config", settings)
    assert (done.returncode, "control.group = 'no-such-group': there is no such group" in done.stderr) == (2, True)


def other_queue(directory: Path) -> Path:
    return write_plain(directory, 1, 1).queue_dir


def test_root_leaves_the_queue_of_another_user_alone(home: Path) -> None:
    queue_dir = other_queue(home / "lists")
    os.chown(queue_dir, 38, 38)
    mailman = {"flavour": "mailman2", "queue_dir": queue_dir, "lists_dir": home / "lists/lists"}
    done = drainer("run", "--until-empty", "--config", site_settings(home / "lists", 9, mailman))
    assert done.returncode == 2
    assert "files made by root would be in Mailman's way" in done.stderr
    assert not (queue_dir / "drainer").exists()


SECRET = "hunter2-sesame"


def test_password_is_in_no_log_status_setting_or_argument(home: Path) -> None:
    site_home = home / "secret"
    outage = write_plain(site_home, 2, 2)
    password = site_home / "password"
    password.write_text(f"{SECRET}\n")
    password.chmod(0o600)
    plain = base64.b64encode(f"\0drainer\0{SECRET}".encode()).decode()
    # A server that repeats what it got, as sendmail does with an unknown command.
    echoes = answer(f"535 5.7.8 AUTH PLAIN {plain} for {SECRET} is wrong")
    echoing = [True]
    options = SinkOptions(accounts=(("drainer", SECRET),))
    with SinkThread(options, lambda step: echoes if step.stage == "auth" and echoing else None) as sink:
        mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
        settings = site_settings(
            site_home,
            sink.port,
            mailman,
            mta={"username": "drainer", "password_file": password},
            log={"level": "debug"},
        )
        with running_service(settings, site_home / "drainer.log", "--until-empty", executed=True) as service:
            site = Site(site_home, outage, None, settings)  # type: ignore[arg-type]
            down = site.status_when(lambda said: said["mta"]["state"] == "down")
            process = Path(f"/proc/{service.process.pid}")
            started_with = [(process / name).read_text(errors="replace") for name in ("cmdline", "environ")]
            said = [json.dumps(down), *started_with, site.says("config")]
            assert "AUTH failed" in down["mta"]["reason"]
            echoing.clear()
            assert service.wait() == 0
    said.append(site.log.read_text())
    forms = (SECRET, base64.b64encode(SECRET.encode()).decode(), plain)
    assert [text for text in said for form in forms if form in text] == []
    assert sink.taken_recipients == 4


def test_password_file_that_every_user_may_read_ends_the_start(home: Path) -> None:
    site_home = home / "exposed"
    outage = write_plain(site_home, 1, 1)
    password = site_home / "password"
    password.write_text(SECRET)
    password.chmod(0o644)
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    settings = site_settings(site_home, 9, mailman, mta={"username": "drainer", "password_file": password})
    done = drainer("run", "--until-empty", "--config", settings)
    assert (done.returncode, SECRET in done.stdout + done.stderr) == (2, False)
    assert "has mode 0644" in done.stderr and "chmod 0600" in done.stderr


def journal(site: Site) -> list[tuple[str, str, str]]:
    """Who did what, with which words."""
    path = site.home / "made/here/ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as ledger:
        lines = ledger.execute("SELECT by, action, detail FROM journal ORDER BY id").fetchall()
    return [(_text(by), _text(action), _text(detail)) for by, action, detail in lines]


def _text(stored: object) -> str:
    return stored.decode() if isinstance(stored, bytes) else str(stored)


_ASK_AS = """
import os, sys
import drainer.control.client, drainer.settings_file, drainer.without_service.answers, drainer.report.incident.from_ledger
from drainer.cli.main import application, main
application([])
uid, sys.argv = int(sys.argv[1]), ["drainer", *sys.argv[2:]]
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
main()
"""


def test_without_the_service_the_advice_names_a_user_with_permission(home: Path) -> None:
    with standing(home / "ended", 0o022, port=9) as site:
        pass
    (site.home / "control.sock").unlink()

    def asked(command: str) -> subprocess.CompletedProcess[str]:
        given = [sys.executable, "-c", _ASK_AS, str(NOBODY.pw_uid), command, "--config", str(site.settings)]
        return subprocess.run(given, capture_output=True, text=True, check=False, timeout=SOON_S)

    for command in ("status", "report"):
        done = asked(command)
        assert (done.returncode, done.stdout) == (3, ""), done
        assert done.stderr.startswith("drainer: drainer is not running: nothing listens on "), done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.endswith("cannot be read by this user; right would be to ask as root, or as user root"), last
    site.custody.chmod(0o700)
    (site.home / "made/here").chmod(0o755)
    (site.home / "made").chmod(0o755)
    (site.home / "made/here/ledger.sqlite").chmod(0o644)
    (site.home / "made/here/ledger.sqlite-wal").chmod(0o644)
    done = asked("status")
    assert (done.returncode, done.stdout) == (3, ""), done
    assert f"{site.custody}/backlog cannot be read: Permission denied; right would be to ask as root" in done.stderr

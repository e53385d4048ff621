"""`drainer config --check` on real queues, files, users, Mailmans and MTAs: what is wrong here, and what would be right."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from drainer.guards.mailman_processes import MailmanProcesses
from drainer.host_check import as_user
from drainer.host_check.files import files
from drainer.host_check.finding import Finding
from drainer.host_check.look import look
from drainer.host_check.mailman import mailman
from drainer.host_check.mta import mta
from drainer.settings import Settings
from drainer.settings_file import load_settings
from tests.mailman3.site import Site as Mailman3
from tests.scenarios.operated import Site, site
from tests.scenarios.running import drainer, running_sink, site_settings

MAIL_LOG = "2026-11-30T08:00:00.000000+00:00 lists postfix/qmgr[812]: 4XyZ1k2Lz9: removed\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site where everything is right."""
    home = tmp_path_factory.mktemp("checked")
    (home / "mail.log").write_text(MAIL_LOG)
    with site(home, 3, mta={"log_file": home / "mail.log"}) as made:
        yield made


Look = Callable[[Settings], Iterator[Finding]]


def around(settings: Settings) -> Iterator[Finding]:
    yield from files(settings, ())
    yield from mailman(settings)
    yield from mta(settings)


def found(place: Site, changes: dict[str, dict[str, Any]], of: Look = around) -> dict[str, Finding]:
    """By what they are about; a problem before what is right."""
    sections = load_settings(place.settings).model_dump(by_alias=True)
    for name, values in changes.items():
        sections[name] = {**sections[name], **values}
    findings = list(of(Settings.model_validate(sections)))
    return {one.about: one for one in sorted(findings, key=lambda one: one.level != "ok")}


def test_if_all_is_right_each_check_gets_a_line_and_the_exit_status_is_0(place: Site) -> None:
    done = drainer("config", "--check", "--config", place.settings)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    *each, last = done.stdout.splitlines()
    assert all(line.startswith("ok ") for line in each), done.stdout
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert last.startswith(f"{place.settings}: all settings are right; looked as user {me}")
    for about in ("mailman.queue_dir", "ledger.path", "disk", "control.socket", "mailman.flavour", "mailman.lists_dir",
                  "Mailman's outgoing runner", "mta", "mta.log_file"):  # fmt: skip
        assert any(f"  {about}: " in line for line in each), about
    assert f"entries: {place.outage.entries} in out" in done.stdout
    assert "127.0.0.1:" in done.stdout and "PIPELINING" in done.stdout
    said = json.loads(drainer("config", "--check", "--json", "--config", place.settings).stdout)
    assert said["ok"] is True
    assert {one["level"] for one in said["findings"]} == {"ok"}


def test_problems_come_first_and_errors_end_with_2(place: Site, tmp_path: Path) -> None:
    text = place.settings.read_text().replace("[feed]\n", "[feed]\nrecipients = 100\n")
    assert "[feed]" in text
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text + '[notify]\nurl_file = "/nowhere/url"\n')
    done = drainer("config", "--check", "--config", wrong)
    assert (done.returncode, done.stderr) == (2, "")
    first, second, *others, last = done.stdout.splitlines()
    assert first.startswith("error    notify.url_file: /nowhere/url cannot be read")
    assert second == 'warning  feed.recipients: 100 has no unit and is taken as 100/s; right would be "100/s"'
    assert all(line.startswith("ok ") for line in others)
    assert "1 error, 1 warning; looked as user " in last
    said = json.loads(drainer("config", "--check", "--json", "--config", wrong).stdout)
    assert (said["ok"], said["findings"][0]["level"], said["findings"][0]["about"]) == (
        False,
        "error",
        "notify.url_file",
    )


@pytest.mark.parametrize(
    ("sections", "about", "level", "said"),
    [
        ({"mailman": {"queue_dir": "/nowhere/queue"}}, "mailman.queue_dir", "error", "does not exist"),
        ({"custody": {"queues": ["out", "retry"]}, "mailman": {"queue_dir": "{home}/no-retry"}}, "mailman.queue_dir",
         "error", "custody.queues names 'retry'"),
        ({"mailman": {"queue_dir": "{home}/qfiles/out"}}, "mailman.queue_dir", "error", "{home}/qfiles"),
        ({"mailman": {"flavour": "mailman3"}}, "mailman.flavour", "error", 'right would be "mailman2"'),
        ({"mailman": {"lists_dir": "/nowhere"}}, "mailman.lists_dir", "error", "No such file"),
        ({"mailman": {"lists_dir": "{home}/qfiles"}}, "mailman.lists_dir", "error", "no list with a config.pck"),
        ({"mailman": {"settings": {"SMTP_MAX_RCPTS": "many"}}}, "mailman.settings", "error", "right would be 500"),
        ({"mailman": {"smtp_log": "/nowhere"}}, "mailman.smtp_log", "error", "there is no /nowhere"),
        ({"mailman": {"smtp_log": "{home}/mail.log"}}, "mailman.smtp_log", "error", "none of its first 1 line"),
        ({"mailman": {"release_lists": ["quire"]}}, "mailman.release_lists", "warning", "quire"),
        ({"ledger": {"path": "{home}/link/ledger.sqlite"}}, "ledger.path", "error", "inside mailman.queue_dir"),
        ({"ledger": {"path": "{home}/mail.log/ledger.sqlite"}}, "ledger.path", "error", "is not a directory"),
        ({"ledger": {"path": "{home}"}}, "ledger.path", "error", "is a directory"),
        ({"guards": {"min_free_bytes": "1000TiB"}}, "ledger_bytes", "warning", "would not send"),
        ({"control": {"socket": "/nowhere/control.sock"}}, "control.socket", "error", "RuntimeDirectory"),
        ({"control": {"group": "no-such-group"}}, "control.group", "error", "there is no group 'no-such-group'"),
        ({"web": {"listen": "192.0.2.1:8025"}}, "web.listen", "error", "cannot listen on 192.0.2.1:8025"),
        ({"mta": {"log_file": "/nowhere.log"}}, "mta.log_file", "error", "there is no /nowhere.log"),
        ({"mta": {"log_file": "{home}/drainer.toml"}}, "mta.log_file", "error", "no line begins like those of syslog"),
        ({"mta": {"log_file": "{home}/other.log"}}, "mta.log_file", "warning", "is from Postfix or Exim"),
        ({"mta": {"log_file": "journal:/nowhere"}}, "mta.log_file", "error", "journal"),
        ({"mta": {"port": 1}}, "mta", "warning", "drainer waits while the MTA is down"),
        ({"mta": {"username": "u", "password_file": "{home}/mail.log"}}, "mta.password_file", "error", "chmod 0600"),
        ({"mta": {"username": "u", "password_file": "/nowhere"}}, "mta.password_file", "error", "cannot be read"),
        ({"mta": {"username": "u", "password_file": "{home}/secret"}}, "mta", "error", "offers no AUTH"),
        ({"mta": {"tls": "starttls"}}, "mta", "error", "does not offer STARTTLS"),
        ({"mta": {"tls": "starttls", "tls_ca_file": "{home}/mail.log"}}, "mta.tls_ca_file", "error", "PEM"),
        ({"notify": {"command": ["/nowhere/page-me"]}}, "notify.command", "error", "there is no program"),
        ({"notify": {"command": ["{home}/mail.log"]}}, "notify.command", "error", "may not be run"),
        ({"notify": {"url_file": "{home}/secret"}}, "notify.url_file", "error", "its first line is not a URL"),
        ({"feed": {"via": "mailman"}}, "feed.via", "warning", "no outgoing runner of Mailman runs"),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_here_is_named_with_what_would_be_right(
    place: Site, sections: dict[str, dict[str, Any]], about: str, level: str, said: str
) -> None:
    home = place.home
    for name in ("no-retry/out", "no-retry/bad"):
        (home / name).mkdir(parents=True, exist_ok=True)
    if not (home / "link").exists():
        (home / "link").symlink_to(place.outage.queue_dir)
        (home / "other.log").write_text(MAIL_LOG.replace("postfix/qmgr", "sshd"))
        (home / "secret").write_text("hush\n")
        (home / "secret").chmod(0o600)
    filled = json.loads(json.dumps(sections).replace("{home}", str(home)))
    problem = found(place, filled)[about]
    assert (problem.level, problem.about) == (level, about), problem
    assert said.replace("{home}", str(home)) in problem.text, problem.text
    assert "hush" not in problem.text


def test_out_behind_a_link_to_another_filesystem_is_an_error(place: Site, tmp_path: Path) -> None:
    queue_dir = tmp_path / "queue"
    (queue_dir / "bad").mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        assert Path(elsewhere).stat().st_dev != queue_dir.stat().st_dev, "another filesystem"
        (queue_dir / "out").symlink_to(elsewhere)
        problem = found(place, {"mailman": {"queue_dir": str(queue_dir)}})["mailman.queue_dir"]
    assert problem.level == "error"
    assert "is on another filesystem" in problem.text


def test_genuine_mailman_3_is_started_to_compose_and_the_obstacle_is_named(
    mailman3_copy: Mailman3, tmp_path: Path
) -> None:
    known = {"flavour": "mailman3", "queue_dir": mailman3_copy.var / "queue", "python": mailman3_copy.python,
             "config": mailman3_copy.config}  # fmt: skip
    with running_sink(tmp_path / "sink") as sink:
        right = load_settings(site_settings(tmp_path, sink.port, known))
    said = {one.about: one for one in mailman(right)}
    assert said["mailman.python"].level == "ok"
    assert "composes, with " in said["mailman.python"].text and str(mailman3_copy.config) in said["mailman.python"].text
    for key, value, about, text in (
        ("python", "/nowhere/python", "mailman.python", "is not a program that this user may run"),
        ("python", sys.executable, "mailman.python", "mailman"),
        ("config", "/nowhere/mailman.cfg", "mailman.config", "there is no /nowhere/mailman.cfg"),
    ):
        section = right.mailman.model_copy(update={key: Path(value)})
        wrong = [one for one in mailman(right.model_copy(update={"mailman": section})) if one.level == "error"]
        assert [one.about for one in wrong] == [about]
        assert text in wrong[0].text


def test_looks_of_root_are_made_as_the_user_the_queue_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("under CI this must run: looking as another user needs root")
        pytest.skip("looking as another user needs root")
    monkeypatch.setattr(as_user, "UNIT_DIRECTORIES", ())
    # This user cannot see whose queue a runner of another test delivers from, and such a runner counts.
    monkeypatch.setattr("drainer.host_check.mailman.mailman_processes", lambda *_: MailmanProcesses(()))
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="drainer-check-"))
        stack.callback(shutil.rmtree, home)
        place = stack.enter_context(site(home / "site", 1, mta={"log_file": home / "site" / "mail.log"}))
        (place.home / "mail.log").write_text(MAIL_LOG)
        (place.home / "mail.log").chmod(0o600)
        nobody = pwd.getpwnam("nobody")
        home.chmod(0o755)
        subprocess.run(["chown", "-R", "nobody", place.outage.queue_dir, place.outage.lists_dir], check=True)
        user, findings = look(load_settings(place.settings), {})
        problems = {one.about: one.text for one in findings if one.level == "error"}
        assert (user.uid, user.name) == (nobody.pw_uid, "nobody")
        assert set(problems) == {"mta.log_file", "ledger.path", "control.socket"}, problems
        assert f"may not be read by user {nobody.pw_uid}" in problems["mta.log_file"]
        assert f"may not be written by user {nobody.pw_uid}" in problems["ledger.path"]

        # What the unit says counts for more: it runs the service as root, whose files would be in Mailman's way.
        (home / as_user.UNIT).write_text("[Service]\nUser=root\n")
        monkeypatch.setattr(as_user.installed_unit, "__defaults__", ((home,),))
        user, findings = look(load_settings(place.settings), {})
        assert user.name == "root"
        assert [one.about for one in findings if one.level == "error"] == ["mailman.queue_dir"]
        assert "belongs to user nobody" in next(one.text for one in findings if one.about == "mailman.queue_dir")

        (home / f"{as_user.UNIT}.d").mkdir()
        (home / f"{as_user.UNIT}.d" / "mine.conf").write_text("[Service]\nUser=nobody\nSupplementaryGroups=root\n")
        (place.home / "mail.log").chmod(0o640)
        user, findings = look(load_settings(place.settings), {})
        assert user.name == "nobody" and 0 in user.groups
        assert not [one for one in findings if one.about == "user"]
        assert "mta.log_file" not in {one.about for one in findings if one.level == "error"}

        # A caller who is not root cannot become that user; the finding says so.
        home.joinpath(as_user.UNIT).write_text("[Service]\nUser=daemon\n")
        shutil.rmtree(home / f"{as_user.UNIT}.d")
        asked = as_user.RunsAs(nobody.pw_uid, nobody.pw_gid, (nobody.pw_gid,), "nobody", "the caller")
        checked = as_user.looked(asked, lambda: look(load_settings(place.settings), {})[1])
        (said,) = [one for one in checked if one.about == "user"]
        assert said.text.startswith("you are nobody, and the service runs as daemon (User= of drainer.service)")

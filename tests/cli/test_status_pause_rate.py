"""`drainer status`, `pause`, `resume` and `rate`."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from drainer.cli.output import print_folded
from drainer.control.messages.pauses_and_rates import RateRequest
from tests.cli.conftest import CommandLine
from tests.control.small_service import SmallService


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("status", "--json"),
        ("status", "--watch"),
        ("pause",),
        ("resume",),
        ("rate",),
        ("rate", "--messages", "5/s"),
    ],
)
def test_command_says_the_service_is_not_running_and_exits_3(cli: CommandLine, arguments: tuple[str, ...]) -> None:
    ran = cli(*arguments)
    assert ran.code == 3
    assert ran.out == ""
    assert ran.err.splitlines()[0] == f"drainer: drainer is not running: nothing listens on {cli.socket}"
    assert "systemctl start drainer" in ran.err
    assert "drainer scan" in ran.err
    no_ledger = [f"{cli.socket.parent}/ledger.sqlite: there is no ledger; was drainer ever run with these settings?"]
    looks_at_the_disk = arguments in (("status",), ("status", "--json"))
    assert ran.err.splitlines()[2:] == (no_ledger if looks_at_the_disk else [])


def test_socket_file_of_a_dead_service_counts_as_not_running(cli: CommandLine) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(cli.socket))
    assert cli.process("status").code == 3


def test_status_shows_state_backlog_and_finish_within_the_width(cli: CommandLine, service: SmallService) -> None:
    for columns in (40, 80):
        ran = cli("status", COLUMNS=str(columns))
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("DRAINING since 09:54 UTC (1 h 12 min)")
        assert "3 entries, 180 recipients" in " ".join(ran.out.split())
        assert "about 1 min 30 s" in ran.out
        assert "kite-makers@" in ran.out
        assert max(len(line) for line in ran.out.splitlines()) <= columns
        assert "\x1b" not in ran.out


def test_status_json_is_one_object_with_the_public_fields(cli: CommandLine, service: SmallService) -> None:
    ran = cli.process("status", "--json")
    answer = json.loads(ran.out)
    assert ran.code == 0
    assert answer["state"] == "draining"
    assert answer["eta"]["seconds"] == 90.0
    assert {"backlog", "done", "rate", "eta", "guards", "mta", "mailman", "lists", "reason", "since"} <= set(answer)


def test_watch_with_json_is_refused(cli: CommandLine, service: SmallService) -> None:
    ran = cli("status", "--watch", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert "--watch and --json" in ran.err


def _on_a_terminal(cli: CommandLine, *arguments: str, until: str, exit_status: int = 0, **environment: str) -> str:
    """What the command writes to a terminal of 80 columns up to and including `until`."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "drainer", *arguments, "--config", str(cli.config)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TZ": "UTC", "TERM": "xterm", "COLUMNS": "80", "LINES": "60", **environment},
    ) as running:
        os.close(slave)
        seen = ""
        while until not in seen and select.select([master], [], [], 30)[0]:
            try:
                seen += os.read(master, 65536).decode()
            except OSError:  # EIO: the process has ended
                break
        code = running.wait(timeout=30)
        os.close(master)
    assert code == exit_status
    return seen


def test_terminal_gets_colour_unless_no_color_is_set(cli: CommandLine, service: SmallService) -> None:
    assert "\x1b[" in _on_a_terminal(cli, "status", until="orchard")
    assert "\x1b[" not in _on_a_terminal(cli, "status", until="orchard", NO_COLOR="1")


def test_long_lines_are_broken_between_words_on_a_terminal_and_not_at_all_in_a_pipe(
    cli: CommandLine, service: SmallService
) -> None:
    for arguments, until, exit_status in ((("eta",), "2 min)", 0), (("eta", "--by", "soon"), '"+2h"', 2)):
        seen = _on_a_terminal(cli, *arguments, until=until, exit_status=exit_status)
        piped = cli(*arguments)
        assert max(map(len, seen.split("\r\n"))) <= 80 < max(map(len, (piped.out + piped.err).splitlines()))
        assert seen.split() == (piped.out + piped.err).split()


def test_columns_of_a_list_stay_where_they_are_when_its_last_one_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Narrow()
    monkeypatch.setenv("COLUMNS", "52")
    print_folded(
        "ok       flavour: 2.1\nwarning  custody.beside_runner: recipients may get second copies\n"
        "    7  11:06 UTC  root  rate  messages 1/s, recipients as the settings say: slow",
        terminal,
    )
    assert terminal.getvalue() == (
        "ok       flavour: 2.1\n"
        "warning  custody.beside_runner: recipients may get\n"
        "         second copies\n"
        "    7  11:06 UTC  root  rate  messages 1/s,\n"
        "       recipients as the settings say: slow\n"
    )


def test_pause_and_resume_reach_the_service_and_say_what_to_do_next(cli: CommandLine, service: SmallService) -> None:
    ran = cli.process("pause", "--for", "10m", "--reason", "MTA disk full")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == "Paused everything."
    assert "`drainer resume`" in ran.out
    assert (service.paused[""].for_s, service.paused[""].reason) == (600.0, "MTA disk full")

    shown = cli("status").out
    assert shown.startswith("PAUSED")
    assert "MTA disk full" in shown
    assert "no finish time while paused" in shown

    assert cli.process("resume").code == 0
    assert service.paused == {}


def test_pause_of_one_list_leaves_the_others(cli: CommandLine, service: SmallService) -> None:
    ran = cli("pause", "--list", "orchard@example.org")
    assert "`drainer resume --list orchard@example.org`" in ran.out
    assert set(service.paused) == {"orchard@example.org"}


def test_refusal_of_the_service_is_one_line_and_exit_1(cli: CommandLine, service: SmallService) -> None:
    ran = cli("resume")
    assert (ran.code, ran.out, ran.err) == (1, "", "drainer: the service is not paused\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pause", "--for", "5x"), "not a duration"),
        (("pause", "--for", "0s"), "--for 0"),
        (("pause", "--list", ""), "--list is empty"),
        (("resume", "--list", " "), "--list is empty"),
        (("rate", "--messages", "fast"), "not a rate"),
        (("rate", "--messages", "-5/s"), "not a rate"),
        (("pause", "now"), "unexpected extra argument"),
        (("stauts",), "No such command"),
    ],
)
def test_wrong_usage_exits_2_says_why_and_asks_the_service_nothing(
    cli: CommandLine, service: SmallService, arguments: tuple[str, ...], said: str
) -> None:
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert service.seen == []


def test_rate_is_shown_and_changed(cli: CommandLine, service: SmallService) -> None:
    assert "20/s" in cli("rate").out
    assert service.seen == []
    ran = cli.process("rate", "--messages", "600/m", "--recipients", "5000/h")
    assert ran.code == 0
    assert service.limits == {"messages": 10.0, "recipients": pytest.approx(5000 / 3600)}
    cli("rate", "--messages", "unlimited")
    assert service.limits["messages"] is None
    assert service.limits["recipients"] is not None
    assert json.loads(cli("rate", "--json").out)["messages"] is None


def test_rate_auto_gives_both_limits_back_to_the_settings_with_the_reason(
    cli: CommandLine, service: SmallService
) -> None:
    assert cli("rate", "--messages", "1/s").code == 0
    assert cli("rate", "--auto", "--reason", "the night is over").code == 0
    asked = service.seen[-1][2]
    assert isinstance(asked, RateRequest)
    assert (asked.messages, asked.recipients, asked.reason) == ("settings", "settings", "the night is over")
    contradiction = cli("rate", "--auto", "--messages", "5/s")
    assert contradiction.code == 2 and "right would be --auto alone" in " ".join(contradiction.err.split())
    assert service.seen[-1][2] is asked


def test_rate_of_zero_says_that_nothing_is_sent(cli: CommandLine, service: SmallService) -> None:
    assert "nothing is sent" in cli("rate", "--messages", "0").out
    assert service.limits["messages"] == 0


def test_missing_settings_file_named_on_the_command_line_exits_2(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli("status", "--config", str(tmp_path / "none.toml"), config=False)
    assert ran.code == 2
    assert "no settings file" in ran.err


def test_mistake_in_the_settings_file_is_named_with_what_would_be_right(cli: CommandLine) -> None:
    cli.config.write_text('[feed]\nmessages = "fast"\nmesages = 3\n')
    ran = cli("status")
    assert ran.code == 2
    assert "feed.messages = 'fast': not a rate; right would be" in ran.err
    assert "feed.mesages: no such setting" in ran.err
    assert "Traceback" not in ran.err


def test_environment_overrides_the_settings_file(cli: CommandLine, service: SmallService, tmp_path: Path) -> None:
    other = tmp_path / "other.sock"
    ran = cli("status", DRAINER_CONTROL__SOCKET=str(other))
    assert ran.code == 3
    assert str(other) in ran.err
    assert cli.process("status", config=False, DRAINER_CONTROL__SOCKET=str(cli.socket)).code == 0


def test_no_command_shows_the_help(cli: CommandLine) -> None:
    ran = cli(config=False)
    assert "Commands:" in ran.out
    assert ran.code == 2


def test_version_is_printed(cli: CommandLine) -> None:
    assert cli.process("version", config=False).out == "drainer 0.1.0\npure Python\n"
    assert cli("--version", config=False).out == "drainer 0.1.0\n"


def test_domain_is_shown_and_ordered_for_with_one_order_at_a_time(cli: CommandLine, service: SmallService) -> None:
    shown = cli("domain")
    assert shown.code == 0 and shown.out.splitlines()[0].split()[:3] == ["domain", "ceiling", "waiting"]
    assert [line.split()[0] for line in shown.out.splitlines()[1:3]] == ["gmail.com", "example.org"]
    assert json.loads(cli("domain", "gmail.com", "--json").out)["domains"][0]["waiting_recipients"] == 7
    assert cli("domain", "gmail.com", "--rate", "300/m", "--reason", "asked").out.splitlines() == [
        "gmail.com: ordered",
        "`drainer undo 3 --yes` takes it back.",
    ]
    assert cli("domain", "gmail.com", "--pause", "30m").code == cli("domain", "gmail.com", "--auto").code == 0
    assert cli("domain", "gmail.com", "--pause", "0").code == 0
    asked = [request for verb, _, request in service.seen if verb == "domain"]
    assert [(one.rate, one.pause_s, one.auto, one.reason) for one in asked] == [
        (5.0, None, False, "asked"),
        (None, 1800.0, False, ""),
        (None, None, True, ""),
        (None, 0.0, False, ""),
    ]
    for wrong, right in (
        (("gmail.com", "--rate", "1/s", "--auto"), "one of them"),
        (("--rate", "1/s"), "drainer domain gmail.com --rate 5/s"),
        (("gmail.com", "--reason", "x"), "--rate, --pause or --auto"),
        (("gmail.com", "--rate", "fast"), "is not a rate"),
    ):
        ran = cli("domain", *wrong)
        assert ran.code == 2 and right in " ".join(ran.err.split()), wrong

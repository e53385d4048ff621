"""`drainer entries`, `show`, `hold`, `release`, `drop`, `handback`, `eta` and `config`."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drainer.cli.entries import left_out
from drainer.cli.times import coming, past
from drainer.control.messages.entries import SelectReply
from drainer.errors import UsageError
from drainer.settings import Settings
from tests.cli.conftest import CommandLine
from tests.control.small_service import SmallService


def test_entries_are_listed_without_what_could_steer_the_terminal(cli: CommandLine, service: SmallService) -> None:
    ran = cli.process("entries")
    assert (ran.code, ran.err) == (0, "")
    assert "\x1b" not in ran.out
    assert "1772438466.0116487+aaaaaa" in ran.out
    assert ran.out.endswith("4 entries\n")
    assert max(len(line) for line in ran.out.splitlines()) <= 80


def test_entries_are_selected_by_every_selector_given(cli: CommandLine, service: SmallService) -> None:
    answer = json.loads(cli("entries", "--list", "orchard", "--class", "resend", "--state", "held", "--json").out)
    assert answer["total"] == 1
    assert answer["entries"][0]["subject"] == "Apples"
    assert json.loads(cli("entries", "--younger-than", "1h", "--json").out)["total"] == 0
    assert json.loads(cli("entries", "1772438469", "--json").out)["total"] == 1


def test_limit_says_how_many_there_are(cli: CommandLine, service: SmallService) -> None:
    assert "2 of 4 entries" in cli("entries", "--limit", "2").out


def test_show_tells_headers_recipients_and_deliveries(cli: CommandLine, service: SmallService) -> None:
    ran = cli.process("show", "<sunday/1@example.org>")
    assert ran.code == 0
    for part in (
        "Subject: Kites on Sunday",
        "2 recipients still owed:",
        "dan@example.org",
        "delivered",
        "250 2.0.0 Ok",
    ):
        assert part in ran.out
    assert json.loads(cli("show", "1772438467", "--json").out)["entry"]["list"] == "orchard@example.org"


def test_unknown_entry_exits_1(cli: CommandLine, service: SmallService) -> None:
    ran = cli("show", "4711")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "drainer: no entry and no message known as '4711'\n"


@pytest.mark.parametrize("action", ["hold", "release", "drop"])
def test_without_yes_nothing_is_changed_and_it_says_so(cli: CommandLine, service: SmallService, action: str) -> None:
    before = list(service.backlog)
    ran = cli(action, "--list", "orchard")
    assert ran.code == 0
    assert f"Dry run: nothing was changed. With --yes this would {action} 3 entries, 90 recipients." in ran.out
    assert service.backlog == before
    assert service.seen[0][2].yes is False


def test_drop_with_yes_drops_what_was_selected_and_no_more(cli: CommandLine, service: SmallService) -> None:
    ran = cli.process("drop", "--sender", "bob@", "--yes", "--reason", "asked by Bob")
    assert ran.code == 0
    assert "2 entries dropped" in ran.out
    assert [entry.sender for entry in service.backlog] == ["ann@example.org", "cyd@example.org"]
    assert service.seen[0][2].reason == "asked by Bob"


def test_entry_in_delivery_is_reported_as_not_done(cli: CommandLine, service: SmallService) -> None:
    ran = cli.process("hold", "--list", "orchard", "--yes")
    assert "2 entries held (of 3 entries, 90 recipients)." in ran.out
    assert "not now: 1772438469.5+" in ran.out
    answer = json.loads(cli.process("release", "--state", "held", "--yes", "--json").out)
    assert (answer["done"], answer["changed"]) == (True, 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("drop", "--yes"), "--all for every one"),
        (("hold", "--yes"), "--all for every one"),
        (("release", "--yes"), "--all for every one"),
        (("drop", "--list", "", "--yes"), "--list is empty"),
        (("drop", "--message-id", " ", "--yes"), "--message-id is empty"),
        (("drop", "", "--yes"), "--entry is empty"),
        (("drop", "--all", "--list", "x", "--yes"), "do not go together"),
        (("drop", "--class", "same", "--yes"), "'same'"),
        (("drop", "--older-than", "long", "--yes"), "not a duration"),
        (("eta", "--at", "fast"), "not a rate"),
        (("eta", "--at", "unlimited"), "right would be"),
        (("eta", "--by", "soon"), "is not a time"),
        (("eta", "--by", "2020-01-01T00:00"), "in the past"),
        (("show",), "ENTRY"),
        (("config", "--defaults", "--check"), "do not go together"),
    ],
)
def test_wrong_usage_exits_2_and_changes_nothing(
    cli: CommandLine, service: SmallService, arguments: tuple[str, ...], said: str
) -> None:
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert service.seen == []
    assert len(service.backlog) == 4


def test_all_selects_every_entry(cli: CommandLine, service: SmallService) -> None:
    assert "3 entries dropped" in cli("drop", "--all", "--yes").out
    assert [entry.state for entry in service.backlog] == ["active"]


def test_handback_needs_yes(cli: CommandLine, service: SmallService) -> None:
    assert "Dry run: nothing was changed. With --yes 4 entries, 210 recipients would go back" in cli("handback").out
    assert len(service.backlog) == 4
    assert "3 entries given back to Mailman" in cli.process("handback", "--yes").out
    assert len(service.backlog) == 1


def test_eta_tells_the_interval_what_if_and_the_rate_needed(cli: CommandLine, service: SmallService) -> None:
    ran = cli.process("eta", "--at", "20/s", "--by", "+2h")
    assert ran.code == 0
    first, what_if, needed, limits, shown, fastest = ran.out.splitlines()
    assert first.startswith("180 recipients to deliver, not counting expected duplicates: about 1 min 30 s, at ")
    assert first.endswith(" (80 %: 1 min 10 s to 2 min)")
    assert what_if.startswith("at 20/s recipients: about 10 s, at ")
    assert what_if.endswith(" (80 %: give or take 10 s)")
    assert needed.endswith("12.5/s recipients needed; at the present pace the chance is 30 %")
    assert limits == "the limits in force do not allow that: `drainer rate --messages 2.5/s` would"
    assert shown == "the MTA has shown that it can: it took 30/s recipients over five minutes"
    assert fastest.endswith("40/s recipients")
    _action, _peer, (at, by, _list) = service.seen[0]
    assert at == 20
    assert timedelta(minutes=119) < datetime.fromtimestamp(by, UTC) - datetime.now(UTC) <= timedelta(hours=2)


def test_eta_of_a_list_is_asked_for_by_its_name_and_shown_beside_that_of_all(
    cli: CommandLine, service: SmallService
) -> None:
    ran = cli("eta", "--list", "orchard@example.org", "--at", "20/s")
    assert ran.code == 0
    _all, _what_if, one, what_if, _fastest = ran.out.splitlines()
    assert one.startswith("list orchard@example.org: 2 entries, 60 recipients in the backlog: about 30 s, at ")
    assert what_if.startswith("list orchard@example.org at 20/s recipients: about 10 s, at ")
    assert service.seen[0][2][2] == "orchard@example.org"


def test_time_of_day_that_has_passed_is_said_to_be_tomorrows(cli: CommandLine, service: SmallService) -> None:
    passed = f"{datetime.now(UTC):%H:%M}"
    ran = cli("eta", "--by", passed)
    assert ran.out.endswith(f"({passed} has passed today: tomorrow's is meant)\n") or "00:00" in ran.out
    assert "has passed" not in cli("eta", "--by", f"tomorrow {passed}").out


def test_eta_while_paused_is_a_word(cli: CommandLine, service: SmallService) -> None:
    cli("pause")
    assert (
        cli("eta").out == "180 recipients to deliver, not counting expected duplicates: no finish time while paused\n"
    )
    assert json.loads(cli("eta", "--json").out)["eta"] == {
        "state": "paused",
        "finish": None,
        "seconds": None,
        "low_s": None,
        "high_s": None,
        "confidence": None,
    }


NOON = datetime(2026, 1, 31, 12, 0, 30).astimezone()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("18:00", datetime(2026, 1, 31, 18, 0)),
        ("9:05", datetime(2026, 2, 1, 9, 5)),
        ("12:00", datetime(2026, 2, 1, 12, 0)),
        ("today 18:00", datetime(2026, 1, 31, 18, 0)),
        ("tomorrow 06:00", datetime(2026, 2, 1, 6, 0)),
        ("Tomorrow  23:59", datetime(2026, 2, 1, 23, 59)),
        ("2026-03-01T06:30", datetime(2026, 3, 1, 6, 30)),
        ("2026-03-01 06:30", datetime(2026, 3, 1, 6, 30)),
        ("+2h", datetime(2026, 1, 31, 14, 0, 30)),
        ("+90m", datetime(2026, 1, 31, 13, 30, 30)),
    ],
)
def test_time_is_the_next_such_time_an_instant_or_a_span(text: str, meant: datetime) -> None:
    assert coming(text, NOON) == meant.astimezone()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("11:59:59", datetime(2026, 1, 31, 11, 59, 59)),
        ("18:00", datetime(2026, 1, 30, 18, 0)),
        ("yesterday 11:00", datetime(2026, 1, 30, 11, 0)),
        ("today 06:00", datetime(2026, 1, 31, 6, 0)),
        ("2026-01-30 18:00:05", datetime(2026, 1, 30, 18, 0, 5)),
        ("90m", datetime(2026, 1, 31, 10, 30, 30)),
    ],
)
def test_time_that_has_been_is_the_last_such_time_an_instant_or_so_long_ago(text: str, meant: datetime) -> None:
    assert past(text, NOON) == meant.astimezone()


@pytest.mark.parametrize("text", ["tomorrow 06:00", "today 18:00", "2026-02-01"])
def test_time_that_has_been_cannot_be_still_to_come(text: str) -> None:
    with pytest.raises(UsageError, match="is still to come"):
        past(text, NOON)


def test_time_with_a_zone_is_that_instant() -> None:
    assert coming("2026-01-31T18:00+05:00", NOON) == datetime(2026, 1, 31, 13, 0, tzinfo=UTC)
    assert past("2026-01-31T09:00Z", NOON) == datetime(2026, 1, 31, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize("text", ["24:00", "noon", "18", "12:60", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="right would be"):
        coming(text, NOON)


def test_config_shows_what_is_in_force_from_file_and_environment(cli: CommandLine) -> None:
    ran = cli.process("config", DRAINER_FEED__MESSAGES="600/m")
    assert (ran.code, ran.err) == (0, "")
    shown = Settings.model_validate(tomllib.loads(ran.out))
    assert shown.control.socket == cli.socket
    assert shown.feed.messages == 10
    assert "# highest rate of transactions" in ran.out
    assert json.loads(cli("config", "--json").out)["feed"]["messages"] == 20


def test_config_check_says_what_is_wrong_here_or_in_the_file(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli("config", "--check", DRAINER_MAILMAN__QUEUE_DIR=str(tmp_path / "none"))
    assert ran.code == 2
    assert ran.out.startswith(f"error    mailman.queue_dir: {tmp_path / 'none'} does not exist")
    cli.config.write_text("[mta]\nport = 0\n")
    ran = cli("config", "--check")
    assert (ran.code, ran.out) == (2, "")
    assert "mta.port = 0" in ran.err


def test_run_without_a_settings_file_exits_2(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli.process("run", "--config", str(tmp_path / "none.toml"), config=False)
    assert ran.code == 2
    assert "no settings file" in ran.err


@pytest.mark.parametrize("command", ["run", "status", "eta", "pause", "entries", "drop", "handback", "config", "demo"])
def test_every_command_has_a_help_with_an_example(cli: CommandLine, command: str) -> None:
    ran = cli(command, "--help", config=False)
    assert ran.code == 0
    assert f"\n  drainer {command}" in ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("entries", "--state", "odd"), "'odd' is not one of 'waiting', 'active', 'deferred', 'held'."),
        (("entries", "--limit", "-1"), "'-1': has to be at least 0"),
        (("report", "--format", "pdf"), "'pdf' is not one of 'markdown', 'html', 'json'."),
    ],
)
def test_wrong_option_is_reported_with_its_value_and_what_would_be_right(
    cli: CommandLine, arguments: tuple[str, ...], said: str
) -> None:
    ran = cli(*arguments)
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == f"Error: Invalid value for '{arguments[1]}': {said}"


def test_why_an_entry_is_held_is_shown_at_every_width(cli: CommandLine, service: SmallService) -> None:
    held = [one for one in service.backlog if one.state == "held"]
    assert held and all(one.reason for one in held)
    for width in ("40", "80", "160"):
        said = " ".join(cli("entries", "--state", "held", COLUMNS=width).out.split())
        assert all(" ".join(one.reason.split()) in said for one in held), (width, said)


def test_what_was_not_changed_is_counted_by_reason() -> None:
    reply = SelectReply(
        done=True,
        matched=160,
        recipients=9,
        gone=153,
        gone_why={"finished": 150, "copy_goes": 3},
        skipped=["17: in doubt"],
    )
    assert left_out(reply) == [
        "not now: 17: in doubt",
        "not changed, 150 entries: no longer here: delivered in between, or another operator was faster",
        "not changed, 3 entries: the recipients go back with another copy of the mail",
    ]

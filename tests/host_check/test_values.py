"""What `drainer config --check` finds without looking at the host: values, the unit, and the text of findings."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from drainer.host_check.finding import Finding, in_order, lines, summary
from drainer.host_check.not_used import not_used
from drainer.host_check.runs_as import Unit, unit_of
from drainer.host_check.values import exposed, unwise, without_unit
from drainer.service import _warn
from drainer.settings import Settings
from drainer.start.reloading import every_setting, reloaded


@pytest.mark.parametrize(
    ("sections", "about", "said"),
    [
        ({"web": {"listen": "0.0.0.0:8025"}}, "web.listen", "every host that can reach it, without a password"),
        ({"web": {"listen": "[::]:8025"}}, "web.listen", "every host"),
        ({"web": {"listen": "lists.example.org:8025"}}, "web.listen", "every host"),
        ({"mta": {"username": "u"}}, "mta.username", "the password is empty"),
        ({}, "mta.log_file", 'ledger.in_doubt_fallback = "resend" decides'),
        ({"feed": {"via": "mailman"}}, "mailman.smtp_log", "counts as delivered"),
        ({"feed": {"messages": 0}}, "feed", "a limit of 0 sends nothing"),
        ({"feed": {"order": "priority"}}, "feed.priority", "empty"),
        ({"feed": {"domains": {"gogle": "5/s"}, "domain_groups": {"google": ["gmail.com"]}}}, "feed.domains", "gogle"),
        ({"feed": {"give_up_after": "5m"}}, "feed.give_up_after", "fails at its second attempt"),
        ({"custody": {"beside_runner": True}}, "custody.beside_runner", "second copies"),
    ],
)
def test_value_that_an_operator_should_know_about_is_a_warning_with_the_setting(
    sections: dict[str, Any], about: str, said: str
) -> None:
    found = {one.about: one for one in unwise(Settings.model_validate(sections))}
    assert said in found[about].text
    assert {one.level for one in found.values()} == {"warning"}


NOT_USED: list[tuple[dict[str, Any], list[str]]] = [
    ({"mta": {"queue": "exim", "queue_config": "/etc/postfix-out"}}, ["mta.queue_config"]),
    ({"mta": {"queue_config": "/etc/postfix-out"}}, ["mta.queue_config"]),
    (
        {"mta": {"queue": "postfix", "queue_config": "/p", "queue_command": ["ssh", "mx1", "postqueue", "-j"]}},
        ["mta.queue_config"],
    ),
    ({"mta": {"queue": "postfix", "queue_config": "/p"}}, []),
    ({"mta": {"log_name": "postfix-out"}}, ["mta.log_name"]),
    ({"mta": {"log_name": "postfix-out", "log_file": "journal"}}, []),
    ({"mta": {"queue_high": 99, "queue_low": 9}}, ["mta.queue_high", "mta.queue_low"]),
    ({"mta": {"queue_high": 99, "queue_low": 9, "queue": "exim"}}, []),
    ({"mta": {"too_fast": ["slower"]}}, []),
    ({"mta": {"too_fast": ["slower"]}, "feed": {"via": "mailman"}}, ["mta.too_fast"]),
    ({"mta": {"too_fast": ["slower"], "queue": "exim"}, "feed": {"via": "mailman"}}, ["mta.too_fast"]),
    ({"mta": {"too_fast": ["slower"], "queue": "postfix"}, "feed": {"via": "mailman"}}, []),
    ({"mta": {"too_fast": ["slower"], "log_file": "journal"}, "feed": {"via": "mailman"}}, []),
    ({"mta": {"password_file": "/p", "tls_ca_file": "/c"}}, ["mta.password_file", "mta.tls_ca_file"]),
    (
        {"feed": {"via": "mailman", "domains": {"gmail.com": 0}, "max_recipients": 9, "give_up_after": "1d"}},
        ["feed.domains", "feed.max_recipients", "feed.give_up_after"],
    ),
    ({"feed": {"retry_first": "1m", "retry_longest": "2h"}}, []),
    ({"feed": {"via": "mailman", "window": 9, "retry_longest": "2h"}}, ["feed.retry_longest"]),
    ({"feed": {"window": 9}}, ["feed.window"]),
    ({"feed": {"window": 9}, "mailman": {"release_lists": ["secret"]}}, []),
    ({"feed": {"messages": "5/s", "windows": ["22:00-06:00 1/s"]}}, []),
    ({"feed": {"messages": 0, "windows": ["22:00-06:00 1/s", "Else 2/s"]}}, ["feed.messages"]),
    ({"feed": {"time_zone": "Europe/Berlin"}}, ["feed.time_zone"]),
    ({"feed": {"time_zone": "Europe/Berlin", "daily": 300}}, []),
    ({"feed": {"priority": ["a"], "weights": {"a": 2}}}, ["feed.priority", "feed.weights"]),
    ({"feed": {"dsn": False, "dsn_wait": "1m"}}, ["feed.dsn_wait"]),
    ({"ledger": {"in_doubt": "resend", "in_doubt_fallback": "hold"}}, ["ledger.in_doubt_fallback"]),
    ({"ledger": {"in_doubt_fallback": "hold", "in_doubt_wait": "5m"}}, ["ledger.in_doubt_wait"]),
    ({"ledger": {"in_doubt": "hold", "in_doubt_wait": "5m"}, "mta": {"log_file": "journal"}}, []),
    ({"web": {"hosts": ["x.example"]}}, ["web.hosts"]),
    ({"notify": {"events": ["held"], "timeout": "5s", "quiet": "1h"}}, ["notify.events", "notify.timeout"]),
    ({"notify": {"events": ["held"], "command": ["/bin/true"]}}, []),
    (
        {"mailman": {"flavour": "mailman2", "python": "/p", "settings": {"SMTP_MAX_RCPTS": 9}}},
        ["mailman.python"],
    ),
    ({"mailman": {"flavour": "mailman3", "settings": {"SMTP_MAX_RCPTS": 9}}}, ["mailman.settings"]),
    ({"mailman": {"python": "/p", "settings": {"SMTP_MAX_RCPTS": 9}}}, []),
]


@pytest.mark.parametrize(("sections", "names"), NOT_USED)
def test_setting_that_another_one_leaves_without_effect_is_a_warning_that_names_it_and_the_other_one(
    sections: dict[str, Any], names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings.model_validate(sections)
    found = [one for one in unwise(settings) if one.text.startswith("not used: ")]
    assert [one.about for one in found] == names
    for one in found:
        others = {name for name in every_setting() if name in one.text} - {one.about}
        assert others, one
    _warn(settings)
    said = [record.getMessage() for record in caplog.records if "not used" in record.getMessage()]
    assert len(said) == len(names), "the service says it too, and starts"


def test_settings_that_say_nothing_give_no_warning_of_this_kind() -> None:
    assert list(not_used(Settings())) == []


def test_reload_with_a_setting_that_has_no_effect_is_in_force(caplog: pytest.LogCaptureFixture) -> None:
    before = Settings.model_validate({"mta": {"queue": "postfix", "queue_config": "/etc/postfix-out"}})
    read = Settings.model_validate({"mta": {"queue": "exim", "queue_config": "/etc/postfix-out"}})
    _warn(read)
    assert reloaded(before, read) == (read, ())
    assert "mta.queue_config: not used: mta.queue = " in caplog.text


def test_limit_of_0_that_windows_replace_is_not_said_to_stop_the_feed() -> None:
    covered = Settings.model_validate({"feed": {"messages": 0, "windows": ["22:00-06:00 1/s", "else 2/s"]}})
    assert "feed" not in {one.about for one in unwise(covered)}


def test_page_for_this_machine_only_gives_no_warning() -> None:
    assert [exposed(listen) for listen in ("", "8025", "127.0.0.1:8025", "[::1]:8025", "localhost:1")] == [""] * 5
    quiet = Settings.model_validate({"web": {"listen": "127.0.0.1:8025"}, "mta": {"log_file": "/var/log/mail.log"}})
    assert list(unwise(quiet)) == []


def test_number_without_a_unit_is_shown_with_the_unit_that_is_assumed() -> None:
    written = tomllib.loads(
        "[feed]\nmessages = 5000\nrecipients = 0\nretry_first = 300\nmemory = 64\nwindow = 7\ndsn = true\n"
        'domains = { "gmail.com" = 5, "b.example" = "5/s" }\n[mta]\nport = 25\n[guards]\nmax_load = 8.0\n'
    )
    assert [(one.about, one.text.partition(";")[0]) for one in without_unit(written)] == [
        ("feed.messages", "5000 has no unit and is taken as 5000/s"),
        ("feed.retry_first", "300 has no unit and is taken as 300s"),
        ("feed.memory", "64 has no unit and is taken as 64B"),
        ("feed.domains.gmail.com", "5 has no unit and is taken as 5/s"),
    ]


def test_problems_come_first_and_each_is_one_line_of_plain_characters() -> None:
    found = [
        Finding("ok", "a", "right"),
        Finding("warning", "b", "two\nlines\x1b[1m"),
        Finding("error", "c", "1"),
        Finding("error", "d", "2"),
    ]
    assert [one.about for one in in_order(found)] == ["c", "d", "b", "a"]
    assert len(lines(found)) == 4
    assert all(line.isprintable() for line in lines(found))
    assert summary(found) == "2 errors, 1 warning"
    assert summary(found[:1]) == "all settings are right"


def test_drop_ins_change_the_unit_as_systemd_reads_them() -> None:
    shipped = (
        "[Unit]\nUser=nobody\n[Service]\nUser=list\nGroup=list\n#User=x\nRuntimeDirectory=drainer\nStateDirectory=a b\n"
    )
    local = "[Service]\nUser = mailman\nSupplementaryGroups=adm systemd-journal\nStateDirectory=\nStateDirectory=mine\n"
    assert unit_of([]) == Unit()
    assert unit_of([shipped, local]) == Unit(
        "mailman", "list", ("adm", "systemd-journal"), ("/run/drainer", "/var/lib/mine")
    )


def test_service_says_at_its_start_that_its_page_is_open_to_every_host(caplog: pytest.LogCaptureFixture) -> None:
    _warn(Settings.model_validate({"web": {"listen": "127.0.0.1:8025"}}))
    assert caplog.text == ""
    _warn(Settings.model_validate({"web": {"listen": "0.0.0.0:8025"}}))
    assert "event=settings" in caplog.text and "without a password" in caplog.text

"""What `drainer config --check` finds without looking at the host: values, the unit, and the text of findings."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from drainer.host_check.finding import Finding, in_order, lines, summary
from drainer.host_check.runs_as import Unit, unit_of
from drainer.host_check.values import exposed, unwise, without_unit
from drainer.service import _warn
from drainer.settings import Settings


@pytest.mark.parametrize(
    ("sections", "about", "said"),
    [
        ({"web": {"listen": "0.0.0.0:8025"}}, "web.listen", "every host that can reach it, without a password"),
        ({"web": {"listen": "[::]:8025"}}, "web.listen", "every host"),
        ({"web": {"listen": "lists.example.org:8025"}}, "web.listen", "every host"),
        ({"web": {"hosts": ["x.example"]}}, "web.hosts", "web.listen is empty"),
        ({"mta": {"username": "u"}}, "mta.username", "the password is empty"),
        ({"mta": {"password_file": "/p"}}, "mta.password_file", "not used"),
        ({"mta": {"tls_ca_file": "/c"}}, "mta.tls_ca_file", "not used"),
        ({}, "mta.log_file", 'ledger.in_doubt_fallback = "resend" decides'),
        ({"feed": {"via": "mailman"}}, "mailman.smtp_log", "counts as delivered"),
        ({"feed": {"messages": 0}}, "feed", "a limit of 0 sends nothing"),
        ({"feed": {"order": "priority"}}, "feed.priority", "empty"),
        ({"feed": {"priority": ["a"]}}, "feed.priority", "not used"),
        ({"feed": {"weights": {"a": 2}}}, "feed.weights", "not used"),
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

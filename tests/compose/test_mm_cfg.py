"""mm_cfg.py of Mailman 2.1, read and never run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.cli.config import toml_settings
from drainer.compose.mm_cfg import MmCfg, NotUnderstood, mm_cfg
from drainer.errors import SettingsError
from drainer.settings_file import load_settings

DEBIAN = '''\
# -*- python -*-
"""This is the module which takes your site-specific settings."""
from Defaults import *
MAILMAN_SITE_LIST = 'mailman'
DEFAULT_EMAIL_HOST = 'lists.example.org'
DEFAULT_URL_HOST   = 'www.' + DEFAULT_EMAIL_HOST
add_virtualhost(DEFAULT_URL_HOST, DEFAULT_EMAIL_HOST)
DEFAULT_SERVER_LANGUAGE = 'de'
GLOBAL_PIPELINE = ['SpamDetect', 'ToOutgoing']
SMTP_MAX_RCPTS = 10 * 10
SEPARATOR = '+'
VERP_FORMAT = '%(bounces)s' + SEPARATOR + '%(mailbox)s=%(host)s'
'''


def test_plain_assignments_that_matter_to_delivery_are_taken_and_others_counted() -> None:
    assert mm_cfg(DEBIAN) == MmCfg(
        {"VERP_FORMAT": "%(bounces)s+%(mailbox)s=%(host)s", "SMTP_MAX_RCPTS": 100, "DEFAULT_SERVER_LANGUAGE": "de"},
        others=5,
        not_understood=(),
    )


def test_nothing_in_it_is_run(tmp_path: Path) -> None:
    there = tmp_path / "there"
    text = (
        f"import os\nos.mkdir({str(there)!r})\nSMTP_MAX_RCPTS = os.mkdir({str(there)!r})\n"
        f"CGIEXT = __import__('os').mkdir({str(there)!r}) or '.cgi'\nadd_virtualhost(os.mkdir({str(there)!r}))\n"
    )
    assert mm_cfg(text).settings == {}
    assert not there.exists()


def test_other_statements_are_named_with_their_line_and_names_they_may_change_become_unknown() -> None:
    found = mm_cfg(
        "SMTP_MAX_RCPTS = 10\nCGIEXT = '.cgi'\nif True:\n    SMTP_MAX_RCPTS = 20\nadd_language('xx', 'X', 'utf-8')\n"
    )
    assert found.settings == {"CGIEXT": ".cgi"}
    assert found.not_understood == (NotUnderstood(3, "if True:"), NotUnderstood(5, "add_language('xx', 'X', 'utf-8')"))


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("'%%(bounces)s%s%%(mailbox)s=%%(host)s' % SEPARATOR", "%(bounces)s-%(mailbox)s=%(host)s"),
        ("'%%(bounces)s%s%d%%(mailbox)s=%%(host)s' % (SEPARATOR, 7)", "%(bounces)s-7%(mailbox)s=%(host)s"),
        ("'%%(bounces)s%s%%(mailbox)s=%%(host)s' % ('+' + SEPARATOR)", "%(bounces)s+-%(mailbox)s=%(host)s"),
    ],
    ids=["one value", "several values", "a sum"],
)
def test_text_formatted_with_known_values_is_what_python_2_makes_of_it(value: str, meant: str) -> None:
    found = mm_cfg(f"SEPARATOR = '-'\nVERP_FORMAT = {value}\n")
    assert found == MmCfg({"VERP_FORMAT": meant}, others=1, not_understood=())


@pytest.mark.parametrize(
    "value",
    ["'%s%s' % 'one'", "'%99999999d' % 1", "'%(x)s' % {'x': 1}", "'%s' % UNKNOWN", "'%s' % 0.1", "'%d' % 'x'", "7 % 2"],
)
def test_formatting_that_cannot_be_computed_is_named_and_its_name_becomes_unknown(value: str) -> None:
    found = mm_cfg(f"CGIEXT = '.cgi'\nCGIEXT = {value}\n")
    assert found.settings == {}
    assert [line.line for line in found.not_understood] == [2]


def test_another_delivery_module_is_named_since_its_output_is_not_known() -> None:
    usual, other = mm_cfg("DELIVERY_MODULE = 'SMTPDirect'\n"), mm_cfg("DELIVERY_MODULE = 'Sendmail'\nX = 1\n")
    assert usual.not_understood == ()
    assert other.not_understood == (NotUnderstood(1, "DELIVERY_MODULE = 'Sendmail'"),)


def test_later_assignment_counts() -> None:
    assert mm_cfg("SMTP_MAX_RCPTS = 10\nSMTP_MAX_RCPTS = 20\n").settings == {"SMTP_MAX_RCPTS": 20}


@pytest.mark.parametrize("text", ["SMTP_MAX_RCPTS = 'many'", "VERP_FORMAT = '%(nobody)s'", "SMTP_MAX_RCPTS = (", "\0"])
def test_impossible_value_or_a_file_that_is_not_python_is_a_settings_error(text: str) -> None:
    with pytest.raises(SettingsError):
        mm_cfg(text)


def test_what_is_printed_is_a_settings_file_that_loads_to_the_same_values(tmp_path: Path) -> None:
    file = tmp_path / "drainer.toml"
    file.write_text("\n".join(toml_settings(mm_cfg(DEBIAN))) + "\n")
    assert load_settings(file).mailman.settings == mm_cfg(DEBIAN).settings


_LINES = st.lists(
    st.one_of(
        st.text(),
        st.builds(
            "{} {} {}".format,
            st.sampled_from(["SMTP_MAX_RCPTS", "VERP_FORMAT", "CGIEXT", "X"]),
            st.sampled_from(["=", "+=", ":", "== 1 or"]),
            st.one_of(
                st.integers().map(str),
                st.text().map(repr),
                st.sampled_from(
                    ["X", "CGIEXT + 'x'", "X * X", "-X", "[1]", "9**9**9", "'%s' % X", "'%s%s' * X % X", "lambda: 1"]
                ),
            ),
        ),
    )
)


@given(_LINES.map("\n".join))
def test_any_text_gives_a_value_or_a_settings_error(text: str) -> None:
    try:
        found = mm_cfg(text)
    except SettingsError:
        return
    assert set(found.settings) <= {"SMTP_MAX_RCPTS", "VERP_FORMAT", "CGIEXT"}
    assert all(0 < line.line <= len(text.splitlines()) + 1 for line in found.not_understood)


PLACES = """\
import os
from Defaults import *
VAR_PREFIX = '/srv/mailman'
QUEUE_DIR = os.path.join(VAR_PREFIX, 'spool')
SMTPHOST = 'relay.example.org'
SMTPPORT = 0
QRUNNERS = [one for one in QRUNNERS if one[0] != 'OutgoingRunner']
"""


def test_where_the_mta_and_the_queues_are_is_found_and_reads_back_as_settings(tmp_path: Path) -> None:
    found = mm_cfg(PLACES)
    assert found.mta == {"host": "relay.example.org", "port": 25}
    assert found.mailman == {"queue_dir": "/srv/mailman/spool", "lists_dir": "/srv/mailman/lists"}
    assert set(found.to_check) == {"queue_dir", "lists_dir"}
    assert found.not_understood == ()
    written = tmp_path / "drainer.toml"
    written.write_text("\n".join(toml_settings(found)))
    settings = load_settings(written)
    assert (settings.mta.host, settings.mta.port) == ("relay.example.org", 25)
    assert settings.mailman.queue_dir == Path("/srv/mailman/spool")
    assert "# QUEUE_DIR alone does not change" in written.read_text()


@pytest.mark.parametrize(
    ("text", "mailman"),
    [
        ("OUTQUEUE_DIR = '/spool/m/out'\nQUEUE_DIR = '/elsewhere'\n", {"queue_dir": "/spool/m"}),
        ("QFILES_DIR = '/spool/q'\n", {"queue_dir": "/spool/q"}),
        ("VAR_PREFIX = '/var/lib/mailman'\n",
         {"queue_dir": "/var/lib/mailman/qfiles", "lists_dir": "/var/lib/mailman/lists"}),
        ("LIST_DATA_DIR = '/lists'\n", {"lists_dir": "/lists"}),
        ("QUEUE_DIR = 'relative'\nVAR_PREFIX = os.getcwd()\n", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_names_of_directories_are_used_in_mailmans_order(text: str, mailman: dict[str, str]) -> None:
    found = mm_cfg(text)
    assert found.mailman == mailman
    certain = {"queue_dir": "OUTQUEUE_DIR", "lists_dir": "LIST_DATA_DIR"}
    assert set(found.to_check) == {key for key in mailman if certain[key] not in text}

"""Settings: what is refused and how it is said, and the sample file that documents them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.cli.config import as_toml, rate_text
from drainer.errors import SettingsError
from drainer.settings import Settings
from drainer.settings.section import fields_of
from drainer.settings_file import load_settings
from drainer.text.quantities import duration_s, rate_per_s, size_bytes

SAMPLE = Path(__file__).parents[1] / "config" / "drainer.toml"
_COMMENTED_SETTING = re.compile(r"^# ([a-z_0-9]+ = .*)$", re.M)


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("DRAINER_"):
            monkeypatch.delenv(name)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "drainer.toml"


def test_sample_file_loads_and_changes_nothing() -> None:
    assert load_settings(SAMPLE) == Settings()


def test_sample_file_shows_every_setting_at_its_default() -> None:
    text = SAMPLE.read_text()
    enabled = tomllib.loads(_COMMENTED_SETTING.sub(r"\1", text))
    assert Settings.model_validate(enabled) == Settings()
    for section, model in ((name, getattr(Settings(), name)) for name in Settings.model_fields):
        shown = set(enabled[section]) | set(re.findall(r"not set; an example: ([a-z_]+) =", text))
        assert set(fields_of(type(model))) <= shown, section
        unset = {name for name in fields_of(type(model)) if name not in enabled[section]}
        assert all(getattr(model, name) is None for name in unset)


def test_sample_file_is_what_config_defaults_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "drainer", "config", "--defaults"], capture_output=True, text=True, check=True
    ).stdout
    assert printed == SAMPLE.read_text()


def test_every_setting_says_what_it_means() -> None:
    for name, section in Settings.model_fields.items():
        model = type(getattr(Settings(), name))
        for key, field in model.model_fields.items():
            assert field.description, f"{name}.{key} ({section})"


CHANGED = Settings.model_validate(
    {
        "mailman": {"settings": {"VERP_FORMAT": '%(bounces)s+"x"', "SMTP_MAX_RCPTS": 5, "ON": True, "F": 1.5}},
        "custody": {"queues": ["out", "retry"], "poll": "500ms"},
        "mta": {"log_file": "/var/log/m\u00e4il.log", "username": "a\\b\x7f\n"},
        "feed": {
            "messages": "5000/h",
            "recipients": 0,
            "domains": {"gmail.com": "10/s", "slow.example": "unlimited"},
            "weights": {"*": 2, "a@b.example": 0.5},
            "only": ["a@b.example", "@GMail.com"],
            "not": ["test-*"],
        },
        "duplicates": {"window": "90m"},
        "guards": {"min_free_bytes": 1000, "max_load": 2.5},
    }
)


@pytest.mark.parametrize("chosen", [Settings(), CHANGED])
def test_settings_shown_read_back_as_the_same(written: Path, chosen: Settings) -> None:
    written.write_text("\n".join(as_toml(chosen, commented=False)))
    assert load_settings(written) == chosen


def test_what_is_not_served_can_be_said_in_the_environment(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written.write_text("")
    monkeypatch.setenv("DRAINER_FEED__NOT", '["choir", "@Gmail.com"]')
    feed = load_settings(written).feed
    assert feed.withheld_lists == ("choir",)
    assert feed.withheld_domains == {"gmail.com"}


def test_order_of_the_oldest_has_its_older_name_too(written: Path) -> None:
    written.write_text('[feed]\norder = "fifo"')
    assert load_settings(written).feed.order == "oldest"


@settings(deadline=None)
@given(st.floats(1e-6, 1e6))
def test_rates_shown_read_back(per_s: float) -> None:
    assert rate_per_s(rate_text(per_s)) == pytest.approx(per_s, rel=1e-3)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[feed]\nmessages = "fast"', "feed.messages = 'fast': not a rate; right would be"),
        ("[feed]\nmesages = 1", "feed.mesages: no such setting"),
        ("[food]\nmessages = 1", "food: no such setting"),
        ("[mta]\nport = 70000", "mta.port = 70000"),
        ('[mta]\ntls = "ssl"', "'none', 'starttls' or 'implicit'"),
        ('[custody]\nqueues = ["retry"]', 'queues must contain "out"'),
        ('[feed]\nretry_first = "2h"\nretry_longest = "1h"', "retry_first is longer than retry_longest"),
        ('[ledger]\nkeep = "soon"', "not a duration"),
        ('[guards]\nmin_free_bytes = "64 elephants"', "not a size"),
        ("[feed\n", "not TOML"),
        ('[feed]\nonly = ["@gmail"]', "'@gmail' is no domain; right would be the whole domain, such as \"@gmail.com\""),
        ('[feed]\nnot = ["@*.example"]', "right would be each domain by itself"),
        ('[feed]\nnot = ["choir, harbour"]', "right would be one list or one domain in each text"),
        ('[feed]\nnot = "choir"', "feed.not = 'choir'"),
        ('[feed]\nonly = ["choir"]\nnot = ["choir"]', "only and not both name choir"),
        ('[feed]\nvia = "mailman"\nnot = ["@gmail.com"]', 'right would be via = "smtp", or lists only'),
        (
            '[mailman]\nrelease_lists = ["choir"]\n[feed]\nnot = ["@gmail.com"]',
            "@gmail.com in feed.only or feed.not cannot be kept apart; right would be lists only",
        ),
        ('[feed]\norder = "newest"', "'fair', 'fresh', 'oldest' or 'priority'"),
        ("[feed]\nweights = { choir = 0 }", "feed.weights.choir = 0"),
        ("[feed]\nweights = { choir = inf }", "feed.weights.choir = inf"),
        ("[mta]\nqueue_high = 10\nqueue_low = 20", "queue_low = 20 is above queue_high = 10"),
        ('[mailman]\nqueue_dir = "qfiles"', "mailman.queue_dir = 'qfiles': not a full path; right would"),
        ('[ledger]\npath = "ledger.sqlite"', "not a full path; right would begin with /, such as '/etc/ledger.sqlite'"),
        ('[notify]\nurl_file = "https://chat.example.org/hook"', "is a URL, not a file"),
        ('[mailman]\nqueue_dir = "journal"', "not a full path"),
        (
            '[mailman]\nqueue_dir = "/q"\n[ledger]\npath = "/q/drainer/ledger.sqlite"',
            "ledger.path = '/q/drainer/ledger.sqlite' is inside mailman.queue_dir = '/q'; right would be another place",
        ),
    ],
)
def test_mistake_is_named_with_key_value_and_what_would_be_right(written: Path, toml: str, said: str) -> None:
    written.write_text(toml)
    with pytest.raises(SettingsError) as refused:
        load_settings(written)
    assert said in str(refused.value)
    assert str(written) in str(refused.value)


def test_mistake_of_several_settings_together_is_reported_without_all_their_values(written: Path) -> None:
    written.write_text("[mta]\nqueue_high = 10\nqueue_low = 20\n")
    with pytest.raises(SettingsError) as refused:
        load_settings(written)
    assert len(str(refused.value)) < 200


def test_journal_is_no_relative_path_where_a_log_is_meant(written: Path) -> None:
    for name in ("journal", "journal:postfix@-", "journal:/var/log/journal"):
        written.write_text(f'[mta]\nlog_file = "{name}"\n')
        assert str(load_settings(written).mta.log_file) == name


def test_all_mistakes_are_reported_at_once(written: Path) -> None:
    written.write_text('[feed]\nmessages = "fast"\n[mta]\nport = 0\n')
    with pytest.raises(SettingsError, match=r"(?s)feed\.messages.*mta\.port|mta\.port.*feed\.messages"):
        load_settings(written)


def test_missing_file_is_refused_unless_it_is_not_needed(written: Path) -> None:
    with pytest.raises(SettingsError, match="no settings file"):
        load_settings(written)
    assert load_settings(written, required=False) == Settings()


def test_file_that_cannot_be_looked_at_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / ("x" * 300), required=False)


def test_file_that_is_not_utf_8_is_refused_with_its_name(written: Path) -> None:
    written.write_bytes(b"[mta]\nhost = 'm\xfcller'\n")
    with pytest.raises(SettingsError, match=r"drainer\.toml"):
        load_settings(written)


def test_environment_overrides_one_key_and_leaves_its_neighbours(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written.write_text('[feed]\nmessages = "5/s"\nrecipients = "100/s"\n')
    monkeypatch.setenv("DRAINER_FEED__MESSAGES", "600/m")
    monkeypatch.setenv("DRAINER_CUSTODY__QUEUES", '["out", "retry"]')
    monkeypatch.setenv("DRAINER_MTA__PORT", "2525")
    found = load_settings(written)
    assert (found.feed.messages, found.feed.recipients) == (10.0, 100.0)
    assert found.custody.queues == ("out", "retry")
    assert found.mta.port == 2525


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DRAINER_FEED__MESSAGES", "fast", "feed.messages"),
        ("DRAINER_FEED__MESAGES", "5/s", "feed.mesages"),
        ("DRAINER_CUSTODY__QUEUES", "out,retry", "QUEUES"),
        ("DRAINER_FEED", "fast", "feed"),
    ],
)
def test_mistake_in_the_environment_is_a_settings_error(
    written: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    written.write_text("")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=said):
        load_settings(written)


def test_numbers_with_units() -> None:
    assert [duration_s(text) for text in ("500ms", "30s", "5m", "24h", "7d", 3)] == [0.5, 30, 300, 86400, 604800, 3]
    assert [rate_per_s(text) for text in ("20/s", "600/m", "3600/h", "unlimited", "0", 2)] == [20, 10, 1, None, 0, 2]
    assert [size_bytes(text) for text in ("64MiB", "1kB", "12", 5)] == [67108864, 1000, 12, 5]


@pytest.mark.parametrize("text", ["", "5", "-5s", "5 weeks", "s", True, None, [], float("nan"), float("inf")])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="right would be"):
        duration_s(text)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[custody]\npoll = "' + "9" * 400 + 's"', "custody.poll"),
        ("[custody]\npoll = 1e18", "longer than a hundred years"),
        (f"[guards]\nmin_free_bytes = {'9' * 40}", "not a size"),
        ('[guards]\nmin_free_bytes = "' + "9" * 400 + 'TB"', "not a size"),
        (f"[feed]\nmessages = {'9' * 400}", "slower or faster than can be timed"),
        ("[feed]\nmessages = 1e-300", "slower or faster than can be timed"),
        ('[mta]\nhost = "mail example"', "mta.host = 'mail example': not the name of a host"),
        ('[mta]\nhelo = "me\\r\\nRSET"', "mta.helo = 'me\\r\\nRSET': not the name of a host"),
        ('[ledger]\npath = "/var/lib/drainer\\u0000/x"', "ledger.path"),
        ("x = " + "[" * 5000 + "]" * 5000, "deep"),
    ],
    ids=["digits", "century", "count", "bytes", "fast", "slow", "blank", "line-end", "nul", "nested"],
)
def test_value_no_machine_can_use_is_a_mistake_like_any_other(written: Path, toml: str, said: str) -> None:
    written.write_text(toml)
    with pytest.raises(SettingsError) as refused:
        load_settings(written)
    assert said in str(refused.value)

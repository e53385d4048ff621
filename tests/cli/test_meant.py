"""Command lines and values that are not as we have them: what is clear is done, for the rest it is said how."""

from __future__ import annotations

from pathlib import Path

import pytest

from drainer.backlog.selection import EntryLine
from drainer.cli.entries import entry_table
from drainer.errors import SettingsError
from drainer.report.check import DEFAULTS, Measure, PluginState, check_result, for_a_person, thresholds
from drainer.settings_file import load_settings
from tests.cli.conftest import CommandLine
from tests.control.small_service import SmallService


def test_config_before_the_command_is_that_of_the_command(cli: CommandLine, service: SmallService) -> None:
    for given in (["--config", str(cli.config)], [f"--config={cli.config}"]):
        ran = cli(*given, "rate", config=False)
        assert (ran.code, ran.err) == (0, ""), ran
        assert ran.out.startswith("Limits:\n")
    assert cli("--config", config=False).code == 2


def test_rate_without_its_option_says_both_ways_and_changes_nothing(cli: CommandLine, service: SmallService) -> None:
    ran = cli("rate", "20/s")
    assert (ran.code, ran.out) == (2, "")
    assert "`drainer rate --messages 20/s` limits messages, `drainer rate --recipients 20/s` recipients" in ran.err
    assert service.seen == [] and service.limits == SmallService().limits


def test_scan_takes_the_directory_as_it_is_given(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "qfiles/out").mkdir(parents=True)
    short, long = (
        run("scan", *given, config=False)
        for run, given in (
            (cli, [str(tmp_path / "qfiles")]),
            (cli.process, ["--queue-dir", str(tmp_path / "qfiles")]),
        )
    )
    assert (short.code, short.out, short.err) == (long.code, long.out, long.err)
    assert str(tmp_path / "qfiles") in short.out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('[custody]\nqueues = "out"', "custody.queues = 'out': not a list; right would be [\"out\"]"),
        ("[web]\nhosts = 3", 'web.hosts = 3: not a list; right would be ["ONE", "ANOTHER"]'),
        ('[feed]\nwindow = "x"', "feed.window = 'x': not a whole number"),
        ("[mta]\nport = 70000", "mta.port = 70000: has to be 65535 at most"),
        ('[feed]\nadaptive = "maybe"', "feed.adaptive = 'maybe': neither true nor false"),
        ("feed = 3", "feed = 3: not a section; its settings go under a line [feed]"),
        ("[mailman]\nqueue_dir = 3", "mailman.queue_dir = 3: not a path; right would be in quotes"),
        ('[log]\nlevel = "loud"', "log.level = 'loud': not one of 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_wrong_value_is_reported_in_an_operators_words(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "drainer.toml"
    file.write_text(f"{line}\n")
    with pytest.raises(SettingsError) as wrong:
        load_settings(file)
    assert said in str(wrong.value)


ENTRY = EntryLine(
    entry="1700009148.061017+" + "97" * 20,
    state="held",
    list="beekeepers",
    subject="The score and the queen, and a good many words more than any table has room for " * 2,
    recipients=12,
    age_s=96_015_418.0,
    duplicate="resend",
    reason="resend: 12 recipients",
)


def test_subject_is_shown_at_80_columns_and_nothing_is_cut_in_a_pipe() -> None:
    narrow = entry_table([ENTRY], 80)
    assert max(map(len, narrow)) <= 80
    assert any(line.startswith("    beekeepers: The score and the queen, and a good many words") for line in narrow)
    assert any("why: resend: 12 recipients" in line for line in narrow)
    _head, whole = entry_table([ENTRY], None)
    assert ENTRY.entry in whole and ENTRY.subject in whole and "(resend: 12 recipients)" in whole


def test_what_is_wrong_stands_above_what_is_right_and_figures_for_a_monitor_last() -> None:
    measures = [Measure("out.entries", 1.0, "out 1 entry"), Measure("held.entries", 2.0, "2 entries held")]
    assert {"out.entries", "held.entries"} <= set(DEFAULTS)
    state, lines = check_result(measures, thresholds([], []), "drainer idle")
    assert state is PluginState.WARNING
    assert [line.partition(" | ")[0] for line in lines] == [
        "DRAINER WARNING - 2 entries held", "[WARNING] held.entries: 2 entries held", "drainer idle",
        "[OK] out.entries: out 1 entry",
    ]  # fmt: skip
    person = for_a_person(lines)
    assert person[0] == "DRAINER WARNING - 2 entries held"
    assert person[-1].startswith("performance data: held.entries=2;0;;0;")

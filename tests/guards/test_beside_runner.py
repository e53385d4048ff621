"""Which settings want Mailman's outgoing runner beside us, and what is said where none does."""

from __future__ import annotations

from pathlib import Path

import pytest

from drainer.guards.beside_runner import refusal, wanted_by
from drainer.guards.mailman import Runner
from drainer.settings import Settings


@pytest.mark.parametrize(
    ("sections", "setting"),
    [
        ({}, ""),
        ({"custody": {"queues": ["out", "retry"]}}, ""),
        ({"custody": {"beside_runner": True}}, "custody.beside_runner = true"),
        ({"custody": {"scope": "backlog"}}, 'custody.scope = "backlog"'),
        ({"feed": {"via": "mailman"}}, 'feed.via = "mailman"'),
        ({"mailman": {"release_lists": ["x@example.org"]}}, "mailman.release_lists"),
    ],
)
def test_runner_is_wanted_by_the_settings_that_need_it_or_accept_it_and_by_no_other(
    sections: dict[str, dict[str, object]], setting: str
) -> None:
    assert wanted_by(Settings.model_validate(sections)) == setting


@pytest.mark.parametrize(
    ("flavour", "lines", "too_little"),
    [
        ("mailman3", ["[runner.out]", "start: no"], "`mailman restart` is not enough"),
        ("mailman2", ["QRUNNERS = [one for one in QRUNNERS if one[0] != 'OutgoingRunner']"],
         "`mailmanctl restart` is not enough"),
    ],
)  # fmt: skip
def test_refusal_names_pid_queue_lines_to_write_and_the_ways_round(
    flavour: str, lines: list[str], too_little: str
) -> None:
    said = refusal([Runner(name="out", pid=812)], flavour, Path("/srv/queue"))
    assert [line.strip() for line in said.splitlines() if line.startswith("    ")] == lines
    for part in ("pid 812", "/srv/queue/out", too_little, "beside_runner = true", 'custody.scope = "backlog"'):
        assert part in said


def test_line_for_2_1_leaves_every_runner_but_the_outgoing_one() -> None:
    said = refusal([Runner(name="OutgoingRunner", pid=1)], "mailman2", Path("/q"))
    (line,) = (line.strip() for line in said.splitlines() if line.startswith("    "))
    mm_cfg = {"QRUNNERS": [("ArchRunner", 1), ("OutgoingRunner", 4), ("RetryRunner", 1)]}
    exec(line, mm_cfg)
    assert mm_cfg["QRUNNERS"] == [("ArchRunner", 1), ("RetryRunner", 1)]

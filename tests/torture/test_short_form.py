"""The torture in short: every kind of fault once, judged as in `make torture`; and no commit point is left out of it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import drainer
from drainer.ledger.sqlite import SqliteLedger
from drainer.queuedir.custody import Custody
from tests.mailman3.site import Site as Mailman3
from tests.torture.points import LEDGER_WRITES, MOVES, POINTS, UNUSED
from tests.torture.stories import NEEDS_MAILMAN3, STORIES, Field, Row
from tests.torture.table import broken, table

SEEDS = {name: 2014 + number for number, name in enumerate(STORIES)}
IN_THE_SUITE = [name for name, (_, _, times) in STORIES.items() if times and name not in NEEDS_MAILMAN3]
A_FEW_POINTS = ("ledger.close_attempt written", "custody.finish before unlink", "ledger.finish_entry durable")


def row_of(name: str, place: Field) -> Row:
    story, _, times = STORIES[name]
    return story(place, times)


def assert_kept(row: Row) -> None:
    assert not broken([row]), f"{table([row])}\n{broken([row])}"
    assert row.injected > 0


@pytest.mark.parametrize("name", IN_THE_SUITE)
def test_everybody_gets_it_once_through(name: str, tmp_path: Path) -> None:
    points = [point for point in POINTS if point.name in A_FEW_POINTS]
    assert_kept(row_of(name, Field(tmp_path, SEEDS[name], patient=False, only=points)))


def test_everybody_gets_it_once_though_mailman_3s_coprocesses_are_killed(
    mailman3_site: Mailman3, tmp_path: Path
) -> None:
    place = Field(tmp_path, SEEDS["composers"], patient=False, mailman3=mailman3_site.copy_to)
    assert_kept(row_of("composers", place))


def test_every_write_of_the_ledger_and_every_move_of_a_file_is_a_point() -> None:
    writes = {
        name
        for name, method in inspect.getmembers(SqliteLedger, inspect.iscoroutinefunction)
        if not name.startswith("_") and "self._write(" in inspect.getsource(method)
    }
    moving = ("self._rename(", "self._unlink(", "self._move(", "self._move_file(", "self.suppress(", "self.hand_back(")
    moves = {
        name
        for name, method in inspect.getmembers(Custody, inspect.isfunction)
        if not name.startswith("_") and any(call in inspect.getsource(method) for call in moving)
    }
    assert writes | moves == LEDGER_WRITES.keys() | MOVES.keys() | UNUSED


def test_points_left_out_are_called_by_nobody() -> None:
    package = Path(inspect.getfile(drainer)).parent
    texts = [path.read_text() for path in package.rglob("*.py")]
    for name in UNUSED:
        assert not any(f"ledger.{name}(" in text or f"custody.{name}(" in text for text in texts), name

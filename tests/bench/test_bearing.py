"""The benchmark of MTAs that bear little still works: a few entries into one of them."""

from __future__ import annotations

from pathlib import Path

from tests.bench.bearing import KINDS, _row, drained


def test_few_entries_give_a_row_of_the_table(tmp_path: Path) -> None:
    borne = drained(tmp_path, "flaky", entries=30)
    assert borne.accepted >= 30 and borne.per_s > 0
    assert _row("flaky", KINDS["flaky"], borne, 100.0).startswith("flaky")

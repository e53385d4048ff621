"""The benchmark of the index measures an index that was filled and drained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.index import main, measure


def test_every_figure_is_measured(tmp_path: Path) -> None:
    measured = measure(600, tmp_path)
    assert measured.entries == 600 and measured.file_bytes > 0
    assert min(measured.listing_us, measured.reading_us, measured.oldest_us, measured.fair_us) > 0


def test_a_line_is_printed_for_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert [one.entries for one in main([200, 400])] == [200, 400]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["200", "400"]

"""Runs recorded drains through the estimate of the service, and prints how good its forecasts were.

    python -m drainer.estimate.backtest TRACE.csv [--json] [--if-resumed]
    python -m drainer.estimate.backtest TRACE.csv...      a table with a row per trace

Columns of a trace: see trace.py. What counts as a forecast: see replay.py. Exit status 2 for a trace that cannot be read.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drainer.errors import UsageError
from drainer.estimate.backtest.replay import FIRST_SHARE, LAST_SHARE, PLAIN_BAND, Scores, forecasts, scores
from drainer.estimate.backtest.trace import TraceRow, read_trace
from drainer.estimate.drain_time import CONFIDENCE
from drainer.estimate.eta import Eta
from drainer.files.regular_file import open_regular

_FIELDS = ("state", "seconds", "low_s", "high_s")
_COLUMNS = "trace", "forecasts", "median error", "ours", "run mean", "5 min mean", "ratio", "coverage"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m drainer.estimate.backtest", description="How good the estimate would have been on these drains."
    )
    parser.add_argument("traces", nargs="+", type=Path, metavar="TRACE.csv")
    parser.add_argument("--json", action="store_true", help="one trace: every forecast, and the scores")
    parser.add_argument(
        "--if-resumed", action="store_true", help='while paused, add the numbers of "if resumed now" to the word'
    )
    asked = parser.parse_args(arguments)
    if asked.json and len(asked.traces) > 1:
        parser.error("--json takes one trace")
    found: list[tuple[str, Scores]] = []
    for path in asked.traces:
        try:
            rows = _read(path)
        except UsageError as exc:
            print(f"{path}: {exc}", file=sys.stderr)
            return 2
        made = forecasts(rows, asked.if_resumed)
        scored = scores(rows, made)
        if asked.json:
            json.dump(_answer(made, scored), sys.stdout, indent=None, separators=(",", ":"))
            print()
        found.append((path.stem, scored))
    if not asked.json:
        print(table(found))
    return 0


def _read(path: Path) -> list[TraceRow]:
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as lines:
            return read_trace(lines)
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"cannot be read: {exc}; right would be a CSV file in UTF-8") from exc


def _answer(made: Sequence[tuple[float, Eta]], scored: Scores) -> dict[str, Any]:
    return {
        "forecasts": [{"t_s": t_s, **eta.model_dump(include=set(_FIELDS))} for t_s, eta in made],
        "scores": {
            **asdict(scored),
            "confidence": CONFIDENCE,
            "from_share_of_time": FIRST_SHARE,
            "to_share_of_time": LAST_SHARE,
            "plain_band": PLAIN_BAND,
        },
    }


def table(found: Sequence[tuple[str, Scores]]) -> str:
    """A row for each trace, and the means of those that could be scored; losses in seconds."""
    rows = [_COLUMNS, *(_row(name, scored) for name, scored in found)]
    ratios = [scored.ratio for _, scored in found if scored.ratio is not None]
    coverages = [scored.ours.coverage for _, scored in found if scored.ours.coverage is not None]
    if len(found) > 1 and ratios and coverages:
        mean = f"{statistics.fmean(ratios):.2f}", f"{statistics.fmean(coverages):.0%}"
        rows.append(("mean", "", "", "", "", "", *mean))
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *figures = cells
    aligned = (figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True))
    return "  ".join([name.ljust(widths[0]), *aligned])


def _row(name: str, scored: Scores) -> tuple[str, ...]:
    if scored.end_s is None:
        return name, "0", "never done", "", "", "", "", ""
    return (
        name,
        str(scored.ours.forecasts),
        _shown(scored.ours.median_relative_error, "{:.1%}"),
        *(
            _shown(one.pinball_loss_s, "{:.1f} s")
            for one in (scored.ours, scored.whole_run_mean, scored.moving_average)
        ),
        _shown(scored.ratio, "{:.2f}"),
        _shown(scored.ours.coverage, "{:.0%}"),
    )


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


if __name__ == "__main__":
    sys.exit(main())

"""The back-test: what it answers, what it refuses, and that it sees nothing before its time."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from drainer.errors import UsageError
from drainer.estimate.backtest.__main__ import main
from drainer.estimate.backtest.replay import forecasts, scores
from drainer.estimate.backtest.scores import Forecast, pinball_s, score
from drainer.estimate.backtest.trace import REQUIRED, read_trace
from drainer.estimate.ceilings import Ceilings
from drainer.estimate.forecaster import Forecaster, Left
from drainer.estimate.rates import Counts
from tests.estimate.make_traces import DIRECTORY

HEADER = ",".join(REQUIRED)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(text, "utf-8")
    return path


def test_command_answers_with_every_forecast_and_the_scores() -> None:
    path = DIRECTORY / "constant.csv"
    ran = subprocess.run(
        [sys.executable, "-m", "drainer.estimate.backtest", str(path), "--json"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    answer = json.loads(ran.stdout)
    rows = read_trace(path.read_text("utf-8").splitlines())
    assert [one["t_s"] for one in answer["forecasts"]] == [row.t_s for row in rows]
    assert all(set(one) == {"t_s", "state", "seconds", "low_s", "high_s"} for one in answer["forecasts"])
    assert answer["forecasts"][0]["state"] == "measuring"
    assert answer["forecasts"][-1] == {"t_s": rows[-1].t_s, "state": "done", "seconds": 0, "low_s": 0, "high_s": 0}
    scored = answer["scores"]
    assert scored["end_s"] == rows[-1].t_s
    for name in ("ours", "whole_run_mean", "moving_average"):
        assert scored[name]["forecasts"] > 100
        assert {"median_abs_error_s", "mean_abs_error_s", "pinball_loss_s", "coverage"} <= set(scored[name])
    assert scored["ratio"] == scored["ours"]["pinball_loss_s"] / min(
        scored["whole_run_mean"]["pinball_loss_s"], scored["moving_average"]["pinball_loss_s"]
    )


def test_table_has_a_row_per_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DIRECTORY / "step_up.csv"), str(DIRECTORY / "slow_drift.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["trace", "step_up", "slow_drift", "mean"]


@pytest.mark.parametrize("kind", ["slow_drift", "mta_stalls"])
def test_no_forecast_knows_what_comes_later(kind: str) -> None:
    rows = read_trace((DIRECTORY / f"{kind}.csv").read_text("utf-8").splitlines())
    whole = forecasts(rows)
    for cut in (len(rows) // 10, len(rows) // 2):
        assert forecasts(rows[:cut]) == whole[:cut]


def test_trace_that_never_ends_is_answered_but_not_scored() -> None:
    rows = read_trace((DIRECTORY / "constant.csv").read_text("utf-8").splitlines())[:60]
    made = forecasts(rows)
    assert made[-1][1].state == "draining"
    assert scores(rows, made).end_s is None
    assert scores(rows, made).ours.forecasts == 0


def test_trace_that_only_grows_says_so() -> None:
    lines = [HEADER, "0,100,1000,0,0,"]
    lines += [f"{at * 60},30,300,10,100," for at in range(1, 60)]
    made = forecasts(read_trace(lines))
    assert {eta.state for _, eta in made[20:]} == {"growing"}


def test_a_backlog_that_never_moves_is_stalled() -> None:
    lines = [HEADER, "0,100,1000,0,0,"]
    lines += [f"{at * 60},0,0,0,0," for at in range(1, 10)]
    assert forecasts(read_trace(lines))[-1][1].state == "stalled"


def test_paused_has_its_word_and_if_asked_the_numbers_of_going_on() -> None:
    lines = [f"{HEADER},state", "0,600,6000,0,0,,"]
    lines += [f"{at * 10},0,0,10,100,," for at in range(1, 20)]
    lines += [f"{at * 10},0,0,0,0,,paused" for at in range(20, 30)]
    rows = read_trace(lines)
    word = forecasts(rows)[-1][1]
    assert (word.state, word.seconds, word.low_s) == ("paused", None, None)
    going_on = forecasts(rows, resumed=True)[-1][1]
    assert going_on.state == "paused"
    assert going_on.seconds == pytest.approx(410, rel=0.1)


def test_columns_in_any_order_spaces_and_further_columns_do_no_harm() -> None:
    lines = [
        "note, state,t_s,arrived_recipients,arrived_entries,finished_recipients,finished_entries,limit_recipients_per_s",
        'start,,0,50,5,0,0,""',
        "x,draining, 10,0,0,50,5,2.5",
    ]
    rows = read_trace(lines)
    assert (rows[0].arrived_recipients, rows[1].finished_entries, rows[1].limit_recipients_per_s) == (50, 5, 2.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("line 1", "t_s is missing")),
        ("t_s,arrived_entries\n0,1\n", ("line 1", "arrived_recipients is missing")),
        (f"{HEADER}\n", ("line 2", "no rows")),
        (f"{HEADER}\n0,1,1,0\n", ("line 2", "4 fields", "6")),
        (f"{HEADER}\n0,1,1,0,0,,,\n", ("line 2", "8 fields", "6")),
        (f"{HEADER}\nnow,1,1,0,0,\n", ("line 2", "t_s = 'now'", "seconds")),
        (f"{HEADER}\nnan,1,1,0,0,\n", ("line 2", "t_s = 'nan'")),
        (f"{HEADER}\n0,1,1,0,0,\n0,0,0,1,1,\n", ("line 3", "not later", "rising")),
        (f"{HEADER}\n0,1,-1,0,0,\n", ("line 2", "arrived_recipients = '-1'", "whole number")),
        (f"{HEADER}\n0,1,1.5,0,0,\n", ("line 2", "arrived_recipients = '1.5'", "whole number")),
        (f"{HEADER}\n0,1,1,0,0,\n9,0,0,2,1,\n", ("line 3", "finished_entries is 1 more than there was")),
        (f"{HEADER}\n0,1,1,0,0,-5\n", ("line 2", "limit_recipients_per_s = -5", "0 or more")),
        (f"{HEADER}\n0,1,1,0,0,fast\n", ("line 2", "limit_recipients_per_s = 'fast'")),
        (f"{HEADER},state\n0,1,1,0,0,,asleep\n", ("line 2", "state = 'asleep'", "paused")),
    ],
)
def test_bad_trace_is_refused_with_the_line_and_what_would_be_right(
    text: str, words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, text)
    assert main([str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert str(path) in said.err
    assert "right would be" in said.err
    for word in words:
        assert word in said.err


def test_missing_or_binary_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.csv")]) == 2
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    assert main([str(tmp_path / "binary.csv")]) == 2
    assert capsys.readouterr().err.count("cannot be read") == 2


def test_huge_field_is_refused_not_fatal() -> None:
    with pytest.raises(UsageError, match="not CSV"):
        read_trace([HEADER, f"{'1' * 200_000},1,1,0,0,"])


def test_pinball_loss_is_least_for_the_true_quantiles_and_weighs_each_side() -> None:
    assert pinball_s(Forecast(0.0, 100.0, 100.0, 100.0), 100.0) == 0
    late = pinball_s(Forecast(0.0, 100.0, 100.0, 100.0), 110.0)
    assert late == pytest.approx((0.1 + 0.5 + 0.9) * 10 / 3)
    assert pinball_s(Forecast(0.0, 100.0, 90.0, 130.0), 110.0) == pytest.approx((0.1 * 20 + 0.5 * 10 + 0.1 * 20) / 3)


def test_score_counts_what_held() -> None:
    found = score([Forecast(0.0, 90.0, 80.0, 120.0), Forecast(50.0, 20.0, 10.0, 30.0)], 100.0)
    assert (found.forecasts, found.coverage) == (2, 0.5)
    assert (found.median_abs_error_s, found.mean_abs_error_s) == (20, 20)
    assert found.median_relative_error == pytest.approx((0.1 + 0.6) / 2)
    assert score([], 100.0).coverage is None


def test_two_days_take_no_more_memory_than_an_hour() -> None:
    seen, sizes = Forecaster(), []
    for at in range(6000):
        seen.observe(Counts(at * 30.0, 100 * at, 10 * at, at), Left(10_000, 100_000), Ceilings(None, 1000.0))
        if at in (120, 5999):
            sizes.append(len(pickle.dumps(seen)))
    assert sizes[1] <= 1.5 * sizes[0]

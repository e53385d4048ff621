"""Gives a trace to the forecaster, row by row, as the service would have done; and to two plain estimators.

In    rows of a trace (trace.py)
Out   an Eta after every row, from that row and the rows before it; the scores at the end
Pure  no file is read

The drain ends at the first row after which nothing is left. A forecast counts if it has numbers and was made between 5 % and
95 % of the time from the first row to the end, while nothing was paused. All three estimators are scored on the same rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from drainer.backlog.work import Work
from drainer.estimate.backtest.scores import Forecast, Score, score
from drainer.estimate.backtest.trace import TraceRow
from drainer.estimate.ceilings import Ceilings
from drainer.estimate.drain_time import drain_time, if_resumed
from drainer.estimate.eta import Eta
from drainer.estimate.forecaster import Forecaster, Left
from drainer.estimate.rates import Counts

FIRST_SHARE, LAST_SHARE = 0.05, 0.95
PLAIN_BAND = 0.25
PLAIN_WINDOW_S = 300.0


@dataclass(frozen=True, slots=True)
class Scores:
    """How good our forecasts were, and those of the two plain estimators.

    end_s       None: something is left at the end of the trace, and nothing can be scored
    unanswered  rows from 5 % to 95 %, not paused, that have a word instead of numbers
    ratio       our pinball loss divided by that of the better plain estimator
    """

    end_s: float | None
    ours: Score
    whole_run_mean: Score
    moving_average: Score
    unanswered: int
    ratio: float | None


def forecasts(rows: Sequence[TraceRow], resumed: bool = False) -> list[tuple[float, Eta]]:
    """(t_s, the forecast made then), one for each row.

    resumed  while paused, the word comes with the numbers of "if resumed now"
    """
    forecaster = Forecaster()
    found: list[tuple[float, Eta]] = []
    entries = recipients = finished_entries = finished = arrived = 0
    for at, row in enumerate(rows):
        entries += row.arrived_entries - row.finished_entries
        recipients += row.arrived_recipients - row.finished_recipients
        finished_entries += row.finished_entries
        finished += row.finished_recipients
        arrived += row.arrived_recipients if at else 0
        ceilings = Ceilings(recipients_per_s=row.limit_recipients_per_s)
        feeding = row.state in ("draining", "scanning", "idle") and not ceilings.are_zero
        counts = Counts(
            at_s=row.t_s,
            serviced_recipients=finished,
            serviced_messages=finished_entries,
            arrived_recipients=arrived,
            feeding=feeding,
            nothing_due=recipients <= 0,
        )
        forecaster.observe(counts, Left(entries, recipients), ceilings)
        work = Work(recipients, messages=entries)
        eta = drain_time(work, forecaster, ceilings, row.state, row.t_s)
        if resumed and eta.state == "paused":
            eta = if_resumed(work, forecaster, ceilings, row.t_s).model_copy(update={"state": "paused"})
        found.append((row.t_s, eta))
    return found


def scores(rows: Sequence[TraceRow], made: Sequence[tuple[float, Eta]], since_s: float | None = None) -> Scores:
    """How good the forecasts were.

    made     as `forecasts` returns them for these rows
    since_s  count only from this moment on, if it is later than 5 %: for a step that could not be predicted
    """
    left = list(accumulate(row.arrived_recipients - row.finished_recipients for row in rows))
    end = next((at for at, recipients in enumerate(left) if recipients <= 0 and at), None)
    if end is None or rows[end].t_s <= rows[0].t_s:
        return Scores(None, Score(0), Score(0), Score(0), 0, None)
    begin_s, end_s = rows[0].t_s, rows[end].t_s
    first_s = max(begin_s + FIRST_SHARE * (end_s - begin_s), begin_s if since_s is None else since_s)
    last_s = begin_s + LAST_SHARE * (end_s - begin_s)
    ours: list[Forecast] = []
    plain: tuple[list[Forecast], list[Forecast]] = ([], [])
    unanswered = 0
    for at, (mean, moving) in enumerate(_plain_rates(rows[:end])):
        row, eta = rows[at], made[at][1]
        if not first_s <= row.t_s <= last_s or eta.state == "paused":
            continue
        if eta.seconds is None or eta.low_s is None or eta.high_s is None:
            unanswered += 1
            continue
        if mean <= 0:
            continue
        ours.append(Forecast(row.t_s, eta.seconds, eta.low_s, eta.high_s))
        for found, rate in zip(plain, (mean, moving or mean), strict=True):
            seconds = left[at] / rate
            found.append(Forecast(row.t_s, seconds, seconds * (1 - PLAIN_BAND), seconds * (1 + PLAIN_BAND)))
    own, whole, window = (score(found, end_s) for found in (ours, *plain))
    better = min((one.pinball_loss_s for one in (whole, window) if one.pinball_loss_s), default=None)
    ratio = None if better is None or own.pinball_loss_s is None else own.pinball_loss_s / better
    return Scores(end_s, own, whole, window, unanswered, ratio)


def _plain_rates(rows: Sequence[TraceRow]) -> list[tuple[float, float]]:
    """Recipients per second after each row: over the whole run, and over the last five minutes; 0 where unknown."""
    rates: list[tuple[float, float]] = []
    window: deque[TraceRow] = deque()
    inside = total = 0
    before_s = rows[0].t_s
    for at, row in enumerate(rows):
        total += row.finished_recipients
        inside += row.finished_recipients
        window.append(row)
        while len(window) > 1 and window[0].t_s <= row.t_s - PLAIN_WINDOW_S:
            before_s = window[0].t_s
            inside -= window.popleft().finished_recipients
        run_s = row.t_s - rows[0].t_s
        rates.append((total / run_s, inside / (row.t_s - before_s)) if at else (0.0, 0.0))
    return rates

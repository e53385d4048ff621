"""python -m tests.estimate.other_drains [FIRST [COUNT]]: the estimate judged on drains of another make than it was tuned on.

Entries of several lists, each of its own size, are served by sessions whose latency scatters; what the MTA gives drifts
in its logarithm. Rows of 10 s, 60 s or 300 s; drains of 20 rows to 700; from some hundred recipients to some million.
No constant of drainer/estimate was searched for on these: make_traces.py is for that. Seeds 100 to 111 were
looked at when one way of reckoning was preferred to another; judge by others.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from drainer.estimate.backtest.replay import Scores, forecasts, scores
from drainer.estimate.backtest.trace import read_trace
from tests.estimate.make_traces import HEADER, KINDS

DAY_S = 86400.0
_MOST_ROWS = 2500


@dataclass(frozen=True, slots=True)
class Made:
    """A drain as CSV, and since when it could be known (seconds of the trace)."""

    text: str
    foreseeable_s: float


def made(kind: str, seed: int) -> Made:
    """One drain of a kind, to its end."""
    chance = random.Random(f"other/{kind}/{seed}")
    row_s = chance.choice([10.0, 60.0, 300.0])
    length_s = row_s * math.exp(chance.uniform(math.log(25), math.log(500)))
    if kind == "daily_wave":
        row_s, length_s = chance.choice([(60.0, 6 * 3600.0), (300.0, 14 * 3600.0), (300.0, 30 * 3600.0)])
    entries = int(math.exp(chance.uniform(math.log(400), math.log(40_000))))
    size = _sizes(kind, chance)
    per_transaction = chance.choice([0.0, 0.2, 1.0, 1.0])
    queue = deque(size() for _ in range(entries))
    mean = statistics.fmean(queue)

    def cost(recipients: int) -> float:
        return per_transaction + (1 - per_transaction) * recipients / mean

    base = sum(map(cost, queue)) / length_s
    speed, foreseeable = _speed(kind, chance)
    arriving = _arriving(kind, chance)
    stands = list(_stands(kind, chance))
    limit, changes_at = _limit(kind, chance)
    lines, lack, allowance, at_s, log_scatter = [HEADER], 0.0, 0.0, 0.0, 0.0
    lasts_s, sigma = chance.choice([20.0, 100.0, 600.0]), chance.choice([0.02, 0.08, 0.15])
    lines.append(_row(0.0, len(queue), sum(queue), 0, 0, _limit_text(limit(0.0), base, mean), ""))
    while queue and len(lines) < _MOST_ROWS:
        at_s += row_s
        at = at_s / length_s
        keep = math.exp(-row_s / lasts_s)
        log_scatter = keep * log_scatter + math.sqrt(1 - keep**2) * chance.gauss(0, sigma)
        state = next((word for begin, end, word in stands if begin <= at < end), None)
        coming = chance.gauss(1, 0.3) * base * row_s * arriving(at_s)
        new = [size() for _ in range(max(0, round(coming)))]
        queue.extend(new)
        done: list[int] = []
        if state is None:
            work = base * row_s * speed(at) * math.exp(log_scatter) + lack
            allowed = limit(at)
            allowance = math.inf if allowed is None else min(allowance, 0.0) + allowed * base * mean * row_s
            while queue and work >= cost(queue[0]) and allowance > 0:
                done.append(queue.popleft())
                work -= cost(done[-1])
                allowance -= done[-1]
            lack = min(work, cost(queue[0])) if queue else 0.0
        text = _limit_text(limit(at), base, mean)
        lines.append(_row(at_s, len(new), sum(new), len(done), sum(done), text, state or ""))
    changed = changes_at if changes_at * length_s < at_s else 0.0
    return Made("\n".join(lines) + "\n", max(foreseeable, changed) * length_s)


def _row(at_s: float, *fields: float | str) -> str:
    return ",".join([f"{at_s:g}", *(str(one) for one in fields)])


def _limit_text(share: float | None, base: float, mean: float) -> str:
    return "" if share is None else f"{share * base * mean:.4g}"


def _sizes(kind: str, chance: random.Random) -> Callable[[], int]:
    """Recipients of an entry: of one of some lists, each of about its own size; or heavy-tailed."""
    if kind == "heavy_tailed":
        shape, least = chance.uniform(1.3, 2.0), chance.choice([1, 5])
        return lambda: min(20_000, int(least * chance.paretovariate(shape)))
    lists = [max(1, int(chance.lognormvariate(chance.choice([0.0, 2.5, 4.0]), 0.9))) for _ in range(8)]
    return lambda: max(1, round(chance.choice(lists) * chance.uniform(0.9, 1.0)))


def _speed(kind: str, chance: random.Random) -> tuple[Callable[[float], float], float]:
    """Of the time as a share of the length; and the share from which on it could be known."""
    if kind in ("step_up", "step_down"):
        when, by = chance.uniform(0.15, 0.7), chance.uniform(1.4, 5.0)
        after = by if kind == "step_up" else 1 / by
        return lambda at: after if at >= when else 1.0, when
    if kind == "slow_drift":
        growth = chance.choice([-0.9, -0.5, 0.5, 0.9]) * chance.uniform(0.7, 1.3)
        if chance.random() < 0.5:
            return lambda at: math.exp(growth * at), 0.0
        turn = chance.uniform(0.5, 2.0)
        return lambda at: max(0.2, 1 + 0.5 * growth * math.sin(at / turn * math.pi / 2)), 0.0
    return lambda at: 1.0, 0.0


def _arriving(kind: str, chance: random.Random) -> Callable[[float], float]:
    if kind == "daily_wave":
        share, depth, from_s = chance.uniform(0.1, 0.55), chance.uniform(0.3, 1.0), chance.uniform(0, DAY_S)
        return lambda at_s: share * max(0.0, 1 - depth * math.cos(math.tau * (at_s + from_s) / DAY_S))
    share = chance.choice([0.0, 0.05, 0.25])
    return lambda at_s: share


def _stands(kind: str, chance: random.Random) -> Iterator[tuple[float, float, str]]:
    if kind not in ("pauses", "mta_stalls"):
        return
    word = "paused" if kind == "pauses" and chance.random() < 0.5 else "draining"
    at, every = 0.0, chance.uniform(0.1, 0.45)
    while at < 6:
        at += chance.gammavariate(2, every / 2)
        length = chance.lognormvariate(-3.2 if kind == "pauses" else -4.2, 0.6)
        yield at, at + length, word
        at += length


def _limit(kind: str, chance: random.Random) -> tuple[Callable[[float], float | None], float]:
    """As _speed; an operator's change of it is a step too."""
    if kind != "limit_bound":
        return lambda at: None, 0.0
    before, after, when = chance.uniform(0.2, 0.9), chance.choice([None, 0.3, 0.6, 1.5]), chance.uniform(0.2, 1.2)
    changes = chance.random() < 0.5
    return lambda at: after if changes and at >= when else before, when if changes else 0.0


def scored(kind: str, seed: int) -> Scores:
    drain = made(kind, seed)
    rows = read_trace(drain.text.splitlines())
    return scores(rows, forecasts(rows), drain.foreseeable_s)


def main() -> None:
    first, count = (int(sys.argv[at]) if len(sys.argv) > at else other for at, other in ((1, 1), (2, 20)))
    ratios, coverages = [], []
    print(f"{'kind':12}  ratio  coverage  lowest and highest")
    for kind in KINDS:
        found = [scored(kind, seed) for seed in range(first, first + count)]
        ratio = [one.ratio for one in found if one.ratio is not None]
        held = [one.ours.coverage for one in found if one.ours.coverage is not None]
        ratios.append(statistics.fmean(ratio))
        coverages.append(statistics.fmean(held))
        print(f"{kind:12}  {ratios[-1]:5.2f}  {coverages[-1]:8.0%}  {min(held):.0%} {max(held):.0%}")
    print(f"{'mean':12}  {statistics.fmean(ratios):5.2f}  {statistics.fmean(coverages):8.0%}")


if __name__ == "__main__":
    main()

"""Traces of drains, as `drainer.estimate.backtest` reads them: the shipped ones, and others from any seed.

    python -m tests.estimate.make_traces      writes tests/estimate/traces/ anew, byte for byte the same

A queue of entries of uneven size is served interval by interval: an entry costs a share of time for itself and one for
each of its recipients, what an interval has to give wanders about the speed its kind prescribes.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KINDS = (
    "constant",
    "step_down",
    "step_up",
    "slow_drift",
    "daily_wave",
    "pauses",
    "heavy_tailed",
    "mta_stalls",
    "limit_bound",
)
SHIPPED = {
    "constant": 205,
    "step_down": 215,
    "step_up": 221,
    "slow_drift": 206,
    "daily_wave": 211,
    "pauses": 201,
    "heavy_tailed": 203,
    "mta_stalls": 213,
    "limit_bound": 210,
    "incident_2014": 0,
}
"""Kind to seed: short drains, chosen for being typical of their kind. How good the estimate is on drains that no one
chose is for tests/estimate/test_aims.py to say."""
DIRECTORY = Path(__file__).parent / "traces"
HEADER = "t_s,arrived_entries,arrived_recipients,finished_entries,finished_recipients,limit_recipients_per_s,state"
DAY_S = 86400.0
_ROWS_AT_MOST = 1200


@dataclass(frozen=True, slots=True)
class Shape:
    """What is the same for every kind.

    interval_s, length_s  of a row; of the drain, roughly
    entries               of the backlog at the start
    scatter, memory_s     relative standard deviation of the speed in 60 s, and how long a deviation lasts
    tail                  sigma of the lognormal recipients per entry; 0: Pareto
    per_entry             share of the cost of an average entry that does not depend on its recipients
    """

    interval_s: float
    length_s: float
    entries: int
    scatter: float
    memory_s: float
    tail: float
    per_entry: float


def shape(kind: str, chance: random.Random) -> Shape:
    interval_s = chance.choice([1.0, 10.0, 60.0, 300.0])
    shortest, longest = max(600.0, 60 * interval_s), min(16 * 3600.0, _ROWS_AT_MOST * interval_s)
    if kind == "daily_wave":
        interval_s = chance.choice([60.0, 300.0])
        shortest, longest = 5 * 3600.0, 16 * 3600.0
    return Shape(
        interval_s=interval_s,
        length_s=math.exp(chance.uniform(math.log(shortest), math.log(longest))),
        entries=int(math.exp(chance.uniform(math.log(1500), math.log(15000)))),
        scatter=chance.choice([0.03, 0.1, 0.2]),
        memory_s=chance.choice([0.0, 30.0, 180.0]),
        tail=chance.choice([1.3, 1.6, 0.0]) if kind == "heavy_tailed" else chance.choice([0.0001, 0.6, 1.0]),
        per_entry=chance.choice([0.9, 0.5, 0.0]) if kind == "heavy_tailed" else chance.choice([1.0, 0.3, 0.0]),
    )


def sizes(of: Shape, chance: random.Random) -> Callable[[], int]:
    """Recipients of one entry."""
    mean = chance.choice([1.0, 12.0, 60.0]) if of.tail < 1.2 and of.tail else 25.0

    def one() -> int:
        if of.tail == 0.0:
            return max(1, min(5000, int(mean * 0.4 * chance.paretovariate(1.5))))
        return max(1, min(5000, round(mean * chance.lognormvariate(-(of.tail**2) / 2, of.tail))))

    return one


@dataclass(slots=True)
class Course:
    """What a kind prescribes: the speed relative to the beginning, arrivals relative to the speed, limit and stand.

    foreseeable_from  a step comes at this part of the length; it cannot be known before
    """

    speed: Callable[[float], float] = lambda at: 1.0
    arrivals: Callable[[float], float] = lambda at_s: 0.0
    limit: Callable[[float], float | None] = lambda at: None
    stands: Callable[[float], str] = lambda at: ""
    foreseeable_from: float = 0.0


def course(kind: str, of: Shape, chance: random.Random) -> Course:
    """`at` is the time as a share of the length the drain would have at the speed of the beginning."""
    match kind:
        case "step_down" | "step_up":
            when, factor = chance.uniform(0.2, 0.6), chance.uniform(1.6, 4.0)
            factor = factor if kind == "step_up" else 1 / factor
            return Course(speed=lambda at: factor if at >= when else 1.0, foreseeable_from=when)
        case "slow_drift":
            end = chance.choice([0.4, 0.6, 1.6, 2.2])
            walk = [1.0]
            for _ in range(400):
                walk.append(walk[-1] * math.exp(chance.gauss(0, chance.choice([0.0, 0.02]))))
            return Course(speed=lambda at: max(0.15, 1 + (end - 1) * at) * walk[min(400, int(at * 100))])
        case "daily_wave":
            share, depth, phase = chance.uniform(0.15, 0.5), chance.uniform(0.4, 0.9), chance.uniform(0, math.tau)
            return Course(arrivals=lambda at_s: share * (1 + depth * math.sin(math.tau * at_s / DAY_S + phase)))
        case "pauses" | "mta_stalls":
            return Course(stands=_stands(kind, chance))
        case "limit_bound":
            before, after, when = chance.uniform(0.3, 0.8), chance.uniform(0.3, 0.8), chance.uniform(0.2, 0.9)
            changes = chance.random() < 0.5
            return Course(limit=lambda at: after if changes and at >= when else before)
        case "constant":
            share = chance.choice([0.0, 0.0, 0.2])
            return Course(arrivals=lambda at_s: share)
    return Course()


def _stands(kind: str, chance: random.Random) -> Callable[[float], str]:
    spans: list[tuple[float, float]] = []
    at = 0.0
    named = "paused" if kind == "pauses" and chance.random() < 0.6 else "draining"
    longest = 0.1 if kind == "pauses" else 0.04
    every = chance.uniform(0.15, 0.5) if kind == "pauses" else chance.uniform(0.04, 0.25)
    while at < 4:
        at += chance.expovariate(1 / every)
        spans.append((at, at + chance.uniform(0.1, 1.0) * longest))
        at = spans[-1][1]
    return lambda moment: named if any(begin <= moment < end for begin, end in spans) else ""


def trace(kind: str, seed: int) -> str:
    """One drain as CSV, to its end."""
    if kind == "incident_2014":
        return incident_2014()
    chance = random.Random(f"{kind}/{seed}")
    of = shape(kind, chance)
    return simulate(of, course(kind, of, chance), chance)


def foreseeable_from_s(kind: str, seed: int) -> float:
    """When the step comes, in seconds of the trace; 0 where there is none."""
    if kind == "incident_2014":
        return 0.0
    chance = random.Random(f"{kind}/{seed}")
    of = shape(kind, chance)
    return course(kind, of, chance).foreseeable_from * of.length_s


def incident_2014() -> str:
    """14 July 2014 from 07:11, as far as it was written down: more than 10,000 entries then, 2,600 left at 13:30. What is
    in between, and how it ended, is made up: new mail as on any working day, an MTA that wanders a little."""
    of = Shape(300.0, 24_300.0, 10_300, 0.1, 180.0, 1.0, 0.5)
    plan = Course(arrivals=lambda at_s: 0.15 * (1 + 0.5 * math.sin(math.tau * at_s / DAY_S)))
    return simulate(of, plan, random.Random("incident_2014"))


def simulate(of: Shape, plan: Course, chance: random.Random) -> str:
    one = sizes(of, chance)
    queue = deque(one() for _ in range(of.entries))
    mean = sum(queue) / len(queue)

    def cost(recipients: int) -> float:
        return of.per_entry + (1 - of.per_entry) * recipients / mean

    per_s = sum(map(cost, queue)) / of.length_s
    lines = [HEADER, f"0,{len(queue)},{sum(queue)},0,0,{_limit(plan.limit(0.0), per_s * mean)},"]
    deviation, owed, coming, spent = 0.0, 0.0, 0.0, 0.0
    allowance = 0.0
    # A longer interval averages out what a shorter one shows, but for what lasts.
    keep = math.exp(-of.interval_s / of.memory_s) if of.memory_s else 0.0
    scatter = of.scatter * (1.0 if of.memory_s > of.interval_s else min(2.0, math.sqrt(60 / of.interval_s)))
    row = 0
    while queue and row < 6 * _ROWS_AT_MOST:
        row += 1
        at_s = row * of.interval_s
        at = at_s / of.length_s
        state = plan.stands(at)
        deviation = keep * deviation + math.sqrt(1 - keep**2) * chance.gauss(0, scatter)
        limit = plan.limit(at)
        finished_entries = finished_recipients = 0
        coming += per_s * of.interval_s * plan.arrivals(at_s)
        arrived = _poisson(coming, chance) if plan.arrivals(at_s) else 0
        coming = 0.0
        new = [one() for _ in range(arrived)]
        queue.extend(new)
        if not state:
            owed += per_s * plan.speed(at) * of.interval_s * max(0.02, 1 + deviation)
            if limit is not None:
                allowance = min(allowance, 0.0) + limit * per_s * mean * of.interval_s
            while queue and spent + cost(queue[0]) <= owed and (limit is None or allowance > 0):
                recipients = queue.popleft()
                spent += cost(recipients)
                allowance -= recipients
                finished_entries += 1
                finished_recipients += recipients
            if limit is not None:
                owed = min(owed, spent + max(map(cost, list(queue)[:1]), default=0.0))
        lines.append(
            f"{at_s:g},{arrived},{sum(new)},{finished_entries},{finished_recipients},"
            f"{_limit(limit, per_s * mean)},{state if state == 'paused' else ''}"
        )
    return "\n".join(lines) + "\n"


def _limit(share: float | None, per_s: float) -> str:
    return "" if share is None else f"{share * per_s:.3f}"


def _poisson(mean: float, chance: random.Random) -> int:
    if mean > 50:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    count, product = 0, chance.random()
    while product > math.exp(-mean):
        count += 1
        product *= chance.random()
    return count


def main() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    for kind, seed in SHIPPED.items():
        (DIRECTORY / f"{kind}.csv").write_text(trace(kind, seed), "utf-8")


if __name__ == "__main__":
    main()

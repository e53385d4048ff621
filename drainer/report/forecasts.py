"""Our own forecasts, remembered, and what they were worth once it is known what came.

In    a Snapshot now and then
Out   ForecastRecord: forecasts made, what came of each; Forecasts: the score, as status and report show it
Pure  snapshots bring their time along

A forecast says when the drain is through if nothing is done to it. So whatever an operator changes overtakes the forecasts
made before: a pause or its end, a rate, other settings, entries held, released, dropped or handed back, an import. So do a
stop by a guard and a restart. Overtaken forecasts are counted with the reason, and are neither right nor wrong. That the MTA
is slow, down or stalls is what a forecast has to reckon with.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from drainer.report.snapshot import ForecastHorizon, Forecasts, Snapshot
from drainer.text.clean_model import CleanModel

MOST_SAMPLES = 512
FIRST_EVERY_S = 1.0
ANEW_AFTER_S = 3600.0
"""A forecast made so long after the last drain was through begins a new record, as a new burn-down begins then."""

HORIZONS_S = (600.0, 3600.0, 4 * 3600.0)
"""Forecasts of what came within ten minutes, an hour, four hours, and later, are scored apart."""

_OVERTAKEN_BY = {"paused": "a pause", "stopped_by_guard": "a stop by a guard"}


class Sample(CleanModel):
    """At `at` the drain was to be through in `seconds`, with low_s..high_s about it; at `came_at` it was. `overtaken_by`: it
    was not to be compared any more."""

    at: float = Field(allow_inf_nan=False)
    seconds: float
    low_s: float
    high_s: float
    came_at: float | None = None
    overtaken_by: str = ""


class ForecastRecord(BaseModel):
    """samples: oldest first, evenly in time. limits: set when it was last looked at (messages, recipients per second)."""

    model_config = ConfigDict(frozen=True)

    samples: tuple[Sample, ...] = Field((), max_length=MOST_SAMPLES)
    every_s: float = FIRST_EVERY_S
    limits: tuple[float | None, float | None] | None = None


def noted(
    record: ForecastRecord, snapshot: Snapshot, operator: tuple[float | None, float | None], changing: str = ""
) -> ForecastRecord:
    """The record with this snapshot in it.

    changing  what an operator is doing to entries at this moment, such as "a drop"; "" if nothing
    operator  limits an operator or the settings set, per second, None unlimited: what changes by itself (feed.adaptive) is
              for the forecast to reckon with
    """
    samples = record.samples
    if samples and snapshot.at < samples[-1].at:
        return ForecastRecord(limits=operator)  # The clock was set back: nothing can be compared.
    if overtaken_by := _OVERTAKEN_BY.get(snapshot.state, "") or changing:
        samples = _closed(samples, None, overtaken_by)
    elif record.limits is not None and record.limits != operator:
        samples = _closed(samples, None, "a change of rate")
    eta = snapshot.eta
    every_s = record.every_s
    if eta.state == "done":
        samples = _closed(samples, snapshot.at, "")
    elif overtaken_by:
        pass  # What is foretold now supposes that it goes on at once.
    elif eta.state == "draining" and eta.seconds is not None and eta.low_s is not None and eta.high_s is not None:
        last = samples[-1] if samples else None
        if last is not None and last.came_at is not None and snapshot.at - last.came_at > ANEW_AFTER_S:
            samples, last, every_s = (), None, FIRST_EVERY_S
        if last is None or snapshot.at - last.at >= every_s:
            made = Sample(at=snapshot.at, seconds=eta.seconds, low_s=eta.low_s, high_s=eta.high_s)
            samples = (*samples, made)
        if len(samples) >= MOST_SAMPLES:
            samples, every_s = samples[::2], every_s * 2
    return ForecastRecord(samples=samples, every_s=every_s, limits=operator)


def interrupted(record: ForecastRecord, why: str) -> ForecastRecord:
    """Whatever is not decided yet will never be: the service ends or was away, or an operator changed the course."""
    return record.model_copy(update={"samples": _closed(record.samples, None, why)})


def scored(record: ForecastRecord) -> Forecasts:
    judged = [sample for sample in record.samples if sample.came_at is not None]
    return Forecasts(
        made=len(record.samples),
        judged=len(judged),
        open=sum(sample.came_at is None and not sample.overtaken_by for sample in record.samples),
        overtaken=dict(sorted(Counter(s.overtaken_by for s in record.samples if s.overtaken_by).items())),
        held=sum(map(_held, judged)),
        median_error_s=_median_error_s(judged),
        median_relative_error=statistics.median(_error_s(s) / _left_s(s) for s in judged) if judged else None,
        by_horizon=[
            ForecastHorizon(
                up_to_s=up_to_s, judged=len(some), held=sum(map(_held, some)), median_error_s=_median_error_s(some)
            )
            for up_to_s, some in _by_horizon(judged)
        ],
        since=record.samples[0].at if record.samples else None,
    )


def _by_horizon(judged: Sequence[Sample]) -> list[tuple[float | None, list[Sample]]]:
    found: list[tuple[float | None, list[Sample]]] = []
    from_s = 0.0
    for up_to_s in (*HORIZONS_S, None):
        below_s = float("inf") if up_to_s is None else up_to_s
        some = [sample for sample in judged if from_s < _left_s(sample) <= below_s]
        if some:
            found.append((up_to_s, some))
        from_s = below_s
    return found


def _closed(samples: tuple[Sample, ...], came_at: float | None, overtaken_by: str) -> tuple[Sample, ...]:
    if not samples or samples[-1].came_at is not None or samples[-1].overtaken_by:
        return samples
    return tuple(
        sample
        if sample.came_at is not None or sample.overtaken_by
        else sample.model_copy(update={"came_at": came_at, "overtaken_by": overtaken_by})
        for sample in samples
        if came_at is None or sample.at < came_at
    )


def _left_s(sample: Sample) -> float:
    """What was really left then; judged samples only."""
    assert sample.came_at is not None
    return sample.came_at - sample.at


def _error_s(sample: Sample) -> float:
    return abs(sample.seconds - _left_s(sample))


def _held(sample: Sample) -> bool:
    return sample.low_s <= _left_s(sample) <= sample.high_s


def _median_error_s(samples: Sequence[Sample]) -> float | None:
    return statistics.median(map(_error_s, samples)) if samples else None

"""A record of our own forecasts, and their accuracy once the end of the drain is known.

In    now and then: the time, the state of the service, the Eta
Out   ForecastRecord: the forecasts made, and the real end for each; ForecastAccuracy: how good they were
Pure  the caller brings the time

A forecast assumes that the course of the drain is left alone. So every change by an operator overtakes the forecasts made
before it: a pause or its end, a rate, other settings, entries held, released, dropped or handed back, an import. A stop by a
guard and a restart overtake them too. An overtaken forecast is counted with the reason; it is neither right nor wrong. An
MTA that is slow, down or stalled is no excuse: the forecast has to allow for it.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from drainer.estimate.accuracy import ForecastAccuracy, HorizonAccuracy
from drainer.estimate.eta import Eta
from drainer.text.clean_model import CleanModel

MOST_SAMPLES = 512
FIRST_EVERY_S = 1.0
ANEW_AFTER_S = 3600.0
"""A forecast made this long after the end of the last drain begins a new record, as a new burn-down begins then."""

HORIZONS_S = (600.0, 3600.0, 4 * 3600.0)
"""Accuracy is computed apart for forecasts made up to ten minutes, an hour and four hours before the end, and earlier."""

_OVERTAKEN_BY = {"paused": "a pause", "stopped_by_guard": "a stop by a guard"}


class Sample(CleanModel):
    """One forecast: made `at`, that the drain ends in `seconds`, between low_s and high_s.

    came_at       when the drain really ended
    overtaken_by  why the forecast cannot be compared with the end; "" if it can
    """

    at: float = Field(allow_inf_nan=False)
    seconds: float
    low_s: float
    high_s: float
    came_at: float | None = None
    overtaken_by: str = ""


class ForecastRecord(BaseModel):
    """samples: oldest first, evenly in time. limits: messages and recipients per second, when last noted."""

    model_config = ConfigDict(frozen=True)

    samples: tuple[Sample, ...] = Field((), max_length=MOST_SAMPLES)
    every_s: float = FIRST_EVERY_S
    limits: tuple[float | None, float | None] | None = None


def noted(
    record: ForecastRecord,
    at_s: float,
    state: str,
    eta: Eta,
    limits: tuple[float | None, float | None],
    changing: str = "",
) -> ForecastRecord:
    """The record with this moment in it.

    state     of the service, as in the snapshot
    limits    set by an operator or the settings, per second; None: unlimited. A limit that changes by itself (feed.adaptive)
              is no excuse for a forecast
    changing  what an operator is doing to entries now, for example "a drop"; "" if nothing
    """
    samples = record.samples
    if samples and at_s < samples[-1].at:
        return ForecastRecord(limits=limits)  # The clock was set back: nothing can be compared.
    if overtaken_by := _OVERTAKEN_BY.get(state, "") or changing:
        samples = _closed(samples, None, overtaken_by)
    elif record.limits is not None and record.limits != limits:
        samples = _closed(samples, None, "a change of rate")
    every_s = record.every_s
    if eta.state == "done":
        samples = _closed(samples, at_s, "")
    elif overtaken_by:
        pass  # A forecast made now would assume that the drain goes on at once.
    elif eta.state == "draining" and eta.seconds is not None and eta.low_s is not None and eta.high_s is not None:
        last = samples[-1] if samples else None
        if last is not None and last.came_at is not None and at_s - last.came_at > ANEW_AFTER_S:
            samples, last, every_s = (), None, FIRST_EVERY_S
        if last is None or at_s - last.at >= every_s:
            made = Sample(at=at_s, seconds=eta.seconds, low_s=eta.low_s, high_s=eta.high_s)
            samples = (*samples, made)
        if len(samples) >= MOST_SAMPLES:
            samples, every_s = samples[::2], every_s * 2
    if samples is record.samples and (every_s, limits) == (record.every_s, record.limits):
        return record  # the same object: its accuracy is known
    return ForecastRecord(samples=samples, every_s=every_s, limits=limits)


def interrupted(record: ForecastRecord, why: str) -> ForecastRecord:
    """Whatever is not decided yet will never be: the service ends or was away, or an operator changed the course."""
    return record.model_copy(update={"samples": _closed(record.samples, None, why)})


def accuracy(record: ForecastRecord) -> ForecastAccuracy:
    judged = [sample for sample in record.samples if sample.came_at is not None]
    return ForecastAccuracy(
        made=len(record.samples),
        judged=len(judged),
        open=sum(sample.came_at is None and not sample.overtaken_by for sample in record.samples),
        overtaken=dict(sorted(Counter(s.overtaken_by for s in record.samples if s.overtaken_by).items())),
        held=sum(map(_held, judged)),
        median_error_s=_median_error_s(judged),
        median_relative_error=statistics.median(_error_s(s) / _left_s(s) for s in judged) if judged else None,
        by_horizon=[
            HorizonAccuracy(
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
    """Seconds that were really left; for judged samples only."""
    assert sample.came_at is not None
    return sample.came_at - sample.at


def _error_s(sample: Sample) -> float:
    return abs(sample.seconds - _left_s(sample))


def _held(sample: Sample) -> bool:
    return sample.low_s <= _left_s(sample) <= sample.high_s


def _median_error_s(samples: Sequence[Sample]) -> float | None:
    return statistics.median(map(_error_s, samples)) if samples else None

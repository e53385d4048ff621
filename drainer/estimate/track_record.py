"""Our own forecasts of this drain, remembered, and what they were worth once it is through.

In    (moment, seconds, low, high) now and then; the moment it was through
Out   Score (scores.py): how many held, the median error
Pure  the observer brings the time along

Memory is bounded: when SAMPLES are full, every other one is dropped and the next are taken half as often, so they stay
spread evenly over a drain of any length.
"""

from __future__ import annotations

from collections.abc import Sequence

from drainer.estimate.scores import Forecast, Score, score
from drainer.report.snapshot import Eta

SAMPLES = 512


class TrackRecord:
    def __init__(self, every_s: float = 1.0) -> None:
        """every_s: seconds between samples at first."""
        self._first_every_s = self._every_s = every_s
        self._samples: list[Forecast] = []
        self._score: Score | None = None

    @property
    def samples(self) -> Sequence[Forecast]:
        """Oldest first, of the drain under way or the last one; t_s as given to `note`."""
        return tuple(self._samples)

    @property
    def score(self) -> Score | None:
        """Of the last drain; None while one goes on or before there was any."""
        return self._score

    def note(self, eta: Eta, now_s: float) -> None:
        """Remember a forecast; the first after a drain was through begins another record.

        now_s  seconds on one clock; finish times are not looked at, so a clock set back does no harm to a monotonic one
        An Eta "done" closes the record; one without numbers is not remembered, since nothing was foretold.
        """
        if eta.state == "done":
            self._close(now_s)
            return
        if eta.seconds is None or eta.low_s is None or eta.high_s is None:
            return
        if self._score is not None:
            self._samples, self._score, self._every_s = [], None, self._first_every_s
        if self._samples and now_s < self._samples[-1].t_s + self._every_s:
            return
        self._samples.append(Forecast(now_s, eta.seconds, eta.low_s, eta.high_s))
        if len(self._samples) >= SAMPLES:
            del self._samples[1::2]
            self._every_s *= 2

    def _close(self, now_s: float) -> None:
        if self._score is None and self._samples:
            self._samples = [one for one in self._samples if one.t_s < now_s]
            self._score = score(self._samples, now_s)

"""The result of `drainer check`: a state, one line, performance data.

In    Measures; thresholds, written as the monitoring-plugins guidelines write ranges
Out   OK, WARNING, CRITICAL or UNKNOWN, and the lines a plugin prints
Pure  nothing is measured here

The worst state counts, in the order CRITICAL, WARNING, UNKNOWN, OK: a value that is unknown never hides one that is bad.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from drainer.text.quantities import duration_s
from drainer.text.wording import duration, shown


class PluginState(IntEnum):
    """Exit statuses of a plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_WORST_FIRST = (PluginState.CRITICAL, PluginState.WARNING, PluginState.UNKNOWN, PluginState.OK)
_SECONDS = frozenset({"age", "standstill", "eta"})
_PERCENT = frozenset({"bytes", "inodes"})

_PROMPT = ("500", "2000"), ("10m", "1h")
_LATER = ("1000", "5000"), ("1h", "6h")
_PER_QUEUE = {
    "out": (("500", "2000"), ("10m", "30m")),
    "in": _PROMPT, "pipeline": _PROMPT, "virgin": _PROMPT, "command": _PROMPT, "commands": _PROMPT,
    "bounces": _LATER, "archive": _LATER, "digest": _LATER,
    "retry": (("500", "5000"), ("", "")),
    "shunt": (("100", ""), ("", "")),
    "bad": (("100", ""), ("", "")),
}  # fmt: skip
"""Queue -> (warning, critical) for its entries, and for its oldest age. The ages of shunt/ and bad/ have none,
since these wait for a person, nor has that of retry/, where mail to a dead host waits for days."""

DEFAULTS: dict[str, tuple[str, str]] = {
    **{f"{queue}.entries": entries for queue, (entries, _) in _PER_QUEUE.items()},
    **{f"{queue}.age": age for queue, (_, age) in _PER_QUEUE.items()},
    "out.standstill": ("5m", "15m"),
    "outgoing.missing": ("", "0"),
    "runners.missing": ("0", ""),
    "runners.competing": ("0", ""),
    "mailman.stopped": ("0", ""),
    "queue.bytes": ("10:", "5:"),
    "queue.inodes": ("10:", "5:"),
    "ledger.bytes": ("10:", "5:"),
    "ledger.inodes": ("10:", "5:"),
    "state.bytes": ("10:", "5:"),
    "state.inodes": ("10:", "5:"),
    "backlog.entries": ("", ""),
    "backlog.age": ("", ""),
    "backlog.orphaned": ("", "0"),
    "held.entries": ("0", ""),
    "doubt.recipients": ("0", ""),
    "drain.stopped": ("", "0"),
    "drain.slowed": ("0", ""),
    "drain.growing": ("0", ""),
    "drain.paused": ("0", ""),
    "drain.eta": ("", ""),
    "service.silent": ("0", ""),
}
"""Name -> (warning, critical) without options; "" never alerts. Percentages are of the free part."""


@dataclass(frozen=True, slots=True)
class Range:
    """A threshold that alerts outside low..high, or inside it if `inside`; both ends belong to the range."""

    low: float
    high: float
    inside: bool = False

    def alerts(self, value: float) -> bool:
        return (self.low <= value <= self.high) is self.inside

    @property
    def text(self) -> str:
        """For performance data: in base units, without suffixes."""
        at = "@" if self.inside else ""
        low = (
            "~:" if math.isinf(self.low) else "" if self.low == 0 and not math.isinf(self.high) else f"{self.low:.15g}:"
        )
        return f"{at}{low}{'' if math.isinf(self.high) else f'{self.high:.15g}'}"

    def in_words(self, unit: str) -> str:
        """When it alerts, for example "above 30 min"."""
        if self.inside:
            return f"within {_end(self.low, unit)} to {_end(self.high, unit)}"
        if math.isinf(self.high):
            return f"below {_end(self.low, unit)}"
        if self.low == 0 or math.isinf(self.low):
            return f"above {_end(self.high, unit)}"
        return f"outside {_end(self.low, unit)} to {_end(self.high, unit)}"


@dataclass(frozen=True, slots=True)
class Measure:
    """A measured value, and a text for people.

    name   one of DEFAULTS, or the entries or the age of another queue
    value  None: it could not be measured, and the text is the reason
    """

    name: str
    value: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    warning: Mapping[str, Range | None]
    critical: Mapping[str, Range | None]

    def of(self, name: str) -> tuple[Range | None, Range | None]:
        return self.warning.get(name), self.critical.get(name)


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """A queue at one check, kept for the next. since_s: since when no entry has left it, seconds since the epoch."""

    entries: int
    oldest_s: float | None
    since_s: float


def seen_now(entries: int, oldest_s: float | None, now_s: float, before: QueueSeen | None) -> QueueSeen:
    """What this check keeps for the next. An entry left if there are fewer entries, another oldest one, or none."""
    stands = before and entries and oldest_s == before.oldest_s and entries >= before.entries
    return QueueSeen(entries, oldest_s, min(before.since_s, now_s) if before and stands else now_s)


def unit_of(name: str) -> str:
    """Unit of measurement in performance data: "s", "%", or "" for a count."""
    kind = name.rpartition(".")[2]
    return "s" if kind in _SECONDS else "%" if kind in _PERCENT else ""


def parse_range(text: str, unit: str = "") -> Range:
    """A range: `10` (alert outside 0..10), `10:` (below 10), `~:10` (above 10), `10:20`, `@10:20` (within).

    unit    "s": each end may be "90s", "10m", "2h", "1d"; "%": may end in %; "": a number
    Raises  ValueError
    Source  https://www.monitoring-plugins.org/doc/guidelines.html#THRESHOLDFORMAT
    """
    ends = text.removeprefix("@")
    start, colon, end = ends.rpartition(":")
    try:
        low = 0.0 if not colon else -math.inf if start == "~" else _number(start, unit)
        high = math.inf if colon and not end else _number(end, unit)
    except ValueError as exc:
        raise ValueError(f"{text!r} is not a range; right would be 10, 10:, ~:10, 10:20 or @10:20") from exc
    if low > high:
        raise ValueError(f"{text!r} is not a range: it begins above its end")
    return Range(low, high, text.startswith("@"))


def thresholds(warning: Sequence[str], critical: Sequence[str]) -> Thresholds:
    """The defaults, with `NAME=RANGE` options on top; `NAME=` switches a threshold off.

    Raises  ValueError, fit for an operator
    """
    chosen = []
    for at, options in enumerate((warning, critical)):
        ranges = {name: _range_or_none(name, default[at]) for name, default in DEFAULTS.items()}
        for option in options:
            name, equals, text = option.partition("=")
            if not equals or not _is_name(name):
                wrong = f"{name!r} is no name of a measure" if equals else f"{option!r} is not NAME=RANGE"
                raise ValueError(f"{wrong}; names are {', '.join(sorted(DEFAULTS))}")
            try:
                ranges[name] = _range_or_none(name, text)
            except ValueError as exc:
                raise ValueError(f"{name}: {exc}") from exc
        chosen.append(ranges)
    return Thresholds(*chosen)


def judged(measure: Measure, limits: Thresholds) -> PluginState:
    """The state of one measure. Without a threshold it is never UNKNOWN."""
    warning, critical = limits.of(measure.name)
    if measure.value is None:
        return PluginState.UNKNOWN if warning or critical else PluginState.OK
    if critical and critical.alerts(measure.value):
        return PluginState.CRITICAL
    return PluginState.WARNING if warning and warning.alerts(measure.value) else PluginState.OK


def check_result(measures: Iterable[Measure], limits: Thresholds, headline: str) -> tuple[PluginState, list[str]]:
    """State and output: `DRAINER STATE - what is wrong, or headline | performance data`; below it the measures that are
    wrong, the headline, and the other measures, a line each.

    Source  https://www.monitoring-plugins.org/doc/guidelines.html#PLUGOUTPUT
    """
    found = [(measure, judged(measure, limits)) for measure in measures]
    found.sort(key=lambda pair: _WORST_FIRST.index(pair[1]))
    worst = found[0][1] if found else PluginState.UNKNOWN
    wrong = [_what_is_wrong(measure, state, limits) for measure, state in found if state is not PluginState.OK]
    performance = " ".join(_performance(measure, limits) for measure, _ in found if measure.value is not None)
    first = f"DRAINER {worst.name} - {_plain('; '.join(wrong) or headline)}"
    lines = [f"[{state.name}] {measure.name}: {_plain(measure.text)}" for measure, state in found]
    if wrong:
        lines.insert(len(wrong), _plain(headline))
    return worst, [f"{first} | {performance}" if performance else first, *lines]


def for_a_person(lines: Sequence[str]) -> list[str]:
    """The same lines, with the performance data at the end: only a monitoring system reads it."""
    first, bar, performance = lines[0].partition(" | ")
    return [first, *lines[1:], *([f"performance data: {performance}"] if bar else [])]


def unknown(why: str) -> str:
    """The line of a check that failed as a whole."""
    return f"DRAINER UNKNOWN - {_plain(why)}"


def _what_is_wrong(measure: Measure, state: PluginState, limits: Thresholds) -> str:
    warning, critical = limits.of(measure.name)
    limit = critical if state is PluginState.CRITICAL else warning
    if state is PluginState.UNKNOWN:
        return f"{measure.name} unknown: {measure.text}"
    if limit is None or limit == Range(0.0, 0.0):
        return measure.text
    return f"{measure.text} ({measure.name} {limit.in_words(unit_of(measure.name))})"


def _performance(measure: Measure, limits: Thresholds) -> str:
    """'label'=value[unit];[warning];[critical];[least];[most]"""
    assert measure.value is not None
    unit = unit_of(measure.name)
    warning, critical = (limit.text if limit else "" for limit in limits.of(measure.name))
    label = shown(measure.name)
    if any(letter in label for letter in " '=;|"):
        label = "'" + label.replace("'", "''").replace("=", "_").replace("|", "_") + "'"
    value = f"{round(measure.value, 3):.15g}"
    return f"{label}={value}{unit};{warning};{critical};0;{'100' if unit == '%' else ''}"


def _plain(text: str) -> str:
    """On one line, without the bar that begins performance data."""
    return shown(text).replace("|", "/")


def _end(value: float, unit: str) -> str:
    if unit == "s" and 0 <= value < math.inf:
        return duration(value)
    return f"{value:.15g}{' %' if unit == '%' else ''}"


def _is_name(name: str) -> bool:
    queue, dot, kind = name.rpartition(".")
    return name in DEFAULTS or bool(dot and queue and kind in ("entries", "age"))


def _range_or_none(name: str, text: str) -> Range | None:
    return parse_range(text, unit_of(name)) if text else None


def _number(text: str, unit: str) -> float:
    text = text.strip()
    if unit == "s" and text[-1:].isalpha():
        return duration_s(text)
    value = float(text.removesuffix("%") if unit == "%" else text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a number")
    return value

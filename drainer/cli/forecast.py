"""The forecast of `drainer scan`: when a backlog would be done if the drain began now, from Mailman's own smtp log.

In    a log named, set (mailman.smtp_log) or found beside the queue; what is still to be sent; the limits of the settings
Out   Forecast: an Eta and what it is based on; or the reason why there is none
Not here  the estimate itself (estimate/before_drain.py); what the log's lines mean (mta_log/mailman_smtp_log.py)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drainer.errors import MtaLogUnreadable, UsageError
from drainer.estimate.ahead import LONGEST_S, Ahead, CapAhead
from drainer.estimate.before_drain import forecast_from_log
from drainer.estimate.ceilings import Ceilings
from drainer.estimate.eta import Eta
from drainer.mta_log.file import text_lines
from drainer.mta_log.mailman_smtp_log import DeliveryTimes, delivery_times, ends_beside, in_order
from drainer.report.words import eta_text
from drainer.schedule.caps import CAPS
from drainer.schedule.timetable import timetable_of
from drainer.schedule.windows import Window
from drainer.settings import Settings
from drainer.settings.feed import FeedSettings
from drainer.text.wording import clock_time, count, limit, rate, shortened, shown

DELIVERIES_AT_MOST = 20_000
_BESIDE = ("logs/smtp.log", "logs/smtp")
"""Seen from the directory that holds the queue directory: Mailman 3's var/ and 2.1's var prefix."""
_USUAL = {
    "/var/lib/mailman3": ("/var/log/mailman3/smtp.log",),
    "/var/lib/mailman": ("/var/log/mailman/smtp",),
    "/var/spool/mailman": ("/var/log/mailman/smtp",),
}


@dataclass(frozen=True, slots=True)
class Forecast:
    """eta None: `missing` says why. log: what was read; times: of its deliveries; limits: as the settings have them."""

    eta: Eta | None
    limits: Ceilings
    missing: str = ""
    log: Path | None = None
    times: DeliveryTimes | None = None

    @property
    def recipients(self) -> int:
        return sum(one.recipients for one in self.times.deliveries) if self.times else 0

    @property
    def recipients_per_s(self) -> float | None:
        """Over the time spent delivering."""
        took_s = sum(one.took_s for one in self.times.deliveries) if self.times else 0.0
        return self.recipients / took_s if took_s else None


def forecast(
    named: Path | None, queue_dir: Path | None, settings: Settings, entries: int, recipients: int, now_s: float
) -> Forecast:
    """When this number of entries, owed to this number of recipients, would be done.

    named      the log, by the operator; it has to be readable
    queue_dir  holds Mailman's queues; its log may be found beside it
    Raises     UsageError if the log named cannot be read
    """
    limits = _limits(settings.feed, now_s)
    log = named or settings.mailman.smtp_log or _found(queue_dir)
    if log is None:
        return Forecast(None, limits, "no smtp log of Mailman's was found; name it with --smtp-log FILE")
    try:
        times = delivery_times(in_order(*_logs(log)), DELIVERIES_AT_MOST)
    except MtaLogUnreadable as exc:
        if named is not None:
            raise UsageError(f"--smtp-log: {exc}") from exc
        return Forecast(None, limits, str(exc), log)
    if not times.deliveries:
        return Forecast(None, limits, _why_none(log, times), log, times)
    eta = forecast_from_log(times.deliveries, entries, recipients, now_s, limits)
    if eta.state == "measuring":
        found = count(len(times.deliveries), "delivery", "deliveries")
        return Forecast(None, limits, f"{log} has only {found} that the MTA accepted", log, times)
    return Forecast(eta, limits, "", log, times)


def _limits(feed: FeedSettings, now_s: float) -> Ceilings:
    """As if the drain began now, and nothing counted against a cap."""
    table = timetable_of(feed.windows, feed.time_zone)

    def per_s(window: Window | None) -> float | None:
        return window.messages_per_s if window is not None else feed.messages

    windows: tuple[tuple[float, float | None], ...] = ()
    if table.windows:
        coming = ((change.at_s - now_s, per_s(change.window)) for change in table.changes(now_s, now_s + LONGEST_S))
        windows = ((0.0, per_s(table.at(now_s))), *coming)
    most = {"hourly": feed.hourly, "daily": feed.daily}
    caps = tuple(CapAhead(float(most[name]), window_s) for name, window_s in CAPS.items() if most[name])
    return Ceilings(per_s(table.at(now_s)), feed.recipients, ahead=Ahead(windows, caps))


def _why_none(log: Path, times: DeliveryTimes) -> str:
    """Why a log without an accepted delivery gives no rate."""
    if times.failed:
        failed = (
            f"the delivery in {log} failed" if times.failed == 1 else f"all {times.failed:,} deliveries in {log} failed"
        )
        last_reply = shown(shortened(times.last_refusal or "not logged", 80))
        return f"{failed}: the MTA accepted no recipient (last reply: {last_reply})"
    if times.unclear:
        what = count(times.unclear, "delivery", "deliveries")
        unclear = f"{log} has {what} and does not say whether the MTA accepted them"
        beside = " and ".join(end.name for end in ends_beside(log))
        if beside:
            return f"{unclear}; Mailman 2.1 writes that to {beside} beside it"
        return f"{unclear}; Mailman 3 does by the templates success, refused and failure of [logging.smtp]"
    return f"{log} has no delivery with the time it took"


def forecast_lines(found: Forecast, now_s: float, by_settings: bool = True) -> list[str]:
    """by_settings: the limits are those of the settings, not drainer's defaults."""
    if found.eta is None or found.times is None:
        return ["", f"No forecast: {found.missing}"]
    times = found.times
    since, until = (clock_time(at_s or now_s, now_s) for at_s in (times.since_s, times.until_s))
    deliveries = count(len(found.times.deliveries), "delivery", "deliveries")
    lines = [
        "",
        f"Forecast, if the drain began now: {eta_text(found.eta, now_s)}",
        f"  from {deliveries} to {count(found.recipients, 'recipient')} in {found.log},",
        f"  {since} to {until}",
    ]
    if times.failing:
        failing = count(times.failing, "delivery", "deliveries")
        began = clock_time(times.failing_since_s or now_s, now_s)
        words = shown(shortened(times.last_refusal or "no reply logged", 80))
        lines.append(
            f"  since {began} the MTA accepted no recipient in {failing} (last reply: {words}): it has to be up again"
        )
    if found.recipients_per_s is not None:
        lines.append(f"  {rate(found.recipients_per_s)} recipients while delivering, one message after the other")
    limits = f"{limit(found.limits.messages_per_s)} messages, {limit(found.limits.recipients_per_s)} recipients"
    which = "the limits of the settings" if by_settings else "drainer's default limits"
    return [*lines, f"  within {which}: {limits}"]


def forecast_object(found: Forecast) -> dict[str, object]:
    """Fields are only ever added."""
    times = found.times
    return {
        **(found.eta.model_dump(mode="json") if found.eta else dict.fromkeys(Eta.model_fields)),
        "missing": found.missing,
        "log": str(found.log) if found.log else None,
        "log_deliveries": len(times.deliveries) if times else 0,
        "log_recipients": found.recipients,
        "log_since": times.since_s if times else None,
        "log_until": times.until_s if times else None,
        "log_failed_deliveries": times.failed if times else 0,
        "log_untold_deliveries": times.unclear if times else 0,
        "log_failing_deliveries": times.failing if times else 0,
        "log_failing_since": times.failing_since_s if times else None,
        "log_recipients_per_s": found.recipients_per_s,
        "limit_messages_per_s": found.limits.messages_per_s,
        "limit_recipients_per_s": found.limits.recipients_per_s,
    }


def _logs(log: Path) -> Iterator[Iterator[str]]:
    """The log, and those beside it that tell how its deliveries ended.

    Raises  MtaLogUnreadable, perhaps after some lines, if one that is there cannot be read
    """
    yield _lines(log)
    for beside in ends_beside(log):
        if beside.is_file():
            yield _lines(beside)


def _lines(log: Path) -> Iterator[str]:
    """Of the log and, before it, of the one that was rotated last."""
    for older in (log.with_name(f"{log.name}.1"), log.with_name(f"{log.name}.1.gz")):
        if older.is_file():
            yield from text_lines(older)
    yield from text_lines(log)


def _found(queue_dir: Path | None) -> Path | None:
    if queue_dir is None:
        return None
    home = queue_dir.resolve().parent
    candidates = [home / name for name in _BESIDE] + [Path(name) for name in _USUAL.get(str(home), ())]
    return next((log for log in candidates if log.is_file()), None)

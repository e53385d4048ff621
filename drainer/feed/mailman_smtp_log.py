"""What Mailman's own log says of deliveries: who was refused for good, and whether a delivery was carried through.

In    lines of Mailman 3's smtp.log, or of Mailman 2.1's logs/smtp and logs/smtp-failure
Out   SmtpLog: refusals and completed deliveries by Message-ID
Pure  no file is read, no clock

Only what the log does say counts; its templates can be changed or switched off, so its silence means nothing.
Source  Mailman 3.3.10 mta/deliver.py, config/schema.cfg [logging.smtp]; 2.1.39 SMTPDirect.py, Defaults.py (same words)
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from drainer.estimate.before_drain import PastDelivery

_LINE = re.compile(r"([A-Z][a-z]{2} [0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}) \([0-9]+\) (<[^>]*>) (.*)\Z")
_COMPLETED = re.compile(r"smtp to (\S+) for ([0-9]+) recips, completed in ([0-9.]{1,20})?")
_FAILURE = re.compile(r"delivery to (.+) failed with code (-?[0-9]+)[,:] (.*)\Z")
_TRIED_AGAIN = 552


@dataclass(frozen=True, slots=True)
class Completed:
    """A delivery carried through, refusals and all."""

    at_s: float
    list_name: str
    recipients: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A recipient refused for good: Mailman has made a bounce of it."""

    at_s: float
    recipient: str
    reply: str


@dataclass(frozen=True, slots=True)
class DeliveryTimes:
    """How long deliveries took, oldest first; from when to when."""

    deliveries: tuple[PastDelivery, ...]
    since_s: float
    until_s: float


def delivery_times(lines: Iterable[str], at_most: int) -> DeliveryTimes | None:
    """The last `at_most` deliveries of a log that say how long they took; None if there is none."""
    found: deque[tuple[str, PastDelivery]] = deque(maxlen=at_most)
    for line in lines:
        match = _LINE.match(line.rstrip("\n"))
        completed = _COMPLETED.match(match[3]) if match else None
        if match is None or completed is None or not completed[3]:
            continue
        with suppress(ValueError):  # "1.2.3"
            found.append((match[1], PastDelivery(int(completed[2]), float(completed[3]))))
    times = [at_s for stamp in (found[0][0], found[-1][0]) if (at_s := _stamp_s(stamp)) is not None] if found else []
    if len(times) < 2:
        return None
    return DeliveryTimes(tuple(delivery for _, delivery in found), times[0], times[1])


def is_mailman_line(line: str) -> bool:
    """Whether it is one of Mailman's smtp log, whatever it says."""
    return _LINE.match(line.rstrip("\n")) is not None


class SmtpLog:
    """Fed lines in order; remembers those of `wanted` Message-IDs only, or everything."""

    def __init__(self, everything: bool = False) -> None:
        self.wanted: set[str] = set()
        self._everything = everything
        self._completed: dict[str, list[Completed]] = {}
        self._refusals: dict[str, list[Refusal]] = {}

    def feed(self, lines: Iterable[str]) -> None:
        for line in lines:
            match = _LINE.match(line.rstrip("\n"))
            if match is None or not (self._everything or match[2] in self.wanted):
                continue
            at_s = _stamp_s(match[1])
            if at_s is None:
                continue
            if completed := _COMPLETED.match(match[3]):
                found = Completed(at_s, completed[1], int(completed[2]))
                self._completed.setdefault(match[2], []).append(found)
            elif failure := _FAILURE.match(match[3]):
                code = int(failure[2])
                if code >= 500 and code != _TRIED_AGAIN:
                    refusal = Refusal(at_s, failure[1], f"{code} {failure[3]}")
                    self._refusals.setdefault(match[2], []).append(refusal)

    def forget(self, still_wanted: Collection[str]) -> None:
        """Keep only what is said of these Message-IDs."""
        self.wanted &= set(still_wanted)
        for told in (self._completed, self._refusals):
            for message_id in told.keys() - self.wanted:
                del told[message_id]

    def refusals(self, message_id: str, since_s: float) -> list[Refusal]:
        """Since a release (stamps have whole seconds)."""
        return [told for told in self._refusals.get(message_id, ()) if told.at_s >= int(since_s)]

    def deliveries(self) -> Iterator[tuple[str, Completed, list[str]]]:
        """Each delivery carried through: the Message-ID, the delivery, and who of that message was ever refused."""
        for message_id, completed in self._completed.items():
            refused = [told.recipient for told in self._refusals.get(message_id, ())]
            for delivery in completed:
                yield message_id, delivery, refused

    def is_completed(self, message_id: str, list_id: str, recipients: int, since_s: float) -> bool:
        """Whether a delivery of this message to so many of this list's was carried through since the release."""
        return any(
            told.at_s >= int(since_s)
            and told.recipients == recipients
            and list_id in (told.list_name, told.list_name.replace("@", "."))
            for told in self._completed.get(message_id, ())
        )


def _stamp_s(stamp: str) -> float | None:
    """Mailman writes this machine's own time."""
    try:
        return datetime.strptime(stamp, "%b %d %H:%M:%S %Y").astimezone().timestamp()
    except (ValueError, OverflowError):
        return None

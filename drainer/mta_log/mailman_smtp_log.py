"""What Mailman's own log says of its deliveries: how many recipients the MTA accepted, and who was refused.

In    lines of Mailman 3's smtp.log, or of Mailman 2.1's logs/smtp, logs/post and logs/smtp-failure
Out   SmtpLog: deliveries, each with what the log says of its end; refusals by Message-ID
Pure  no file is read, no clock

"completed in" says how long a delivery took, not that the MTA accepted anything: Mailman writes it as well when the MTA
refused the connection. The end of a delivery is in another line of the same process: "N bytes" or "success" when the MTA
accepted every recipient, "N failures" otherwise; and each refused recipient has a line. All these templates can be changed
or switched off. So a delivery whose end the log does not tell proves nothing.
When the MTA refuses the content for good, Mailman 2.1 writes "success", and "SMTP session failure: 554" before it.
Source  Mailman 3.3.10 mta/deliver.py, config/schema.cfg [logging.smtp]; 2.1.39 SMTPDirect.py, Defaults.py (2.1 has the
        end in logs/post, what was refused in logs/smtp-failure)
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from heapq import merge
from pathlib import Path

_LINE = re.compile(r"([A-Z][a-z]{2} [0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}) \(([0-9]+)\) (.*)\Z")
_OF_MESSAGE = re.compile(r"(<[^>]*>) (.*)\Z")
_COMPLETED = re.compile(
    r"smtp (?:to (\S+) )?for ([0-9]{1,9}) recips, completed in (?:([0-9]{1,9}(?:\.[0-9]{0,30})?)(?= |\Z))?"
)
_ENDED = re.compile(r"post to (\S+) from .*, [0-9]+ bytes(?:, ([0-9]{1,9}) failures)?\Z")
_ENDED_21 = re.compile(r"post to (\S+) from .*, size=[0-9]+, message-id=(<[^>]*>), (?:success|([0-9]{1,9}) failures)\Z")
_REFUSED = re.compile(r"delivery to (.+) failed with code (-?[0-9]{1,9})[,:] (.*)\Z")
_CONTENT_REFUSED_21 = re.compile(r"SMTP session failure: ([0-9]{3}), (.*), msgid: (<[^>]*>)\Z")
_SMTP_21 = re.compile(r"smtp((?!\.log)[.-](?!failure).*|)\Z")
_TRIED_AGAIN = 552
ENDS_21 = ("post", "smtp-failure")
"""Logs of Mailman 2.1 beside its logs/smtp: how deliveries ended, and what was refused."""

_END_WITHIN_S = 60.0
"""How long after "completed in" the lines about its end may come: Mailman writes them one after the other."""
_OPEN_AT_MOST = 1000


@dataclass(frozen=True, slots=True)
class Refusal:
    """A recipient the MTA refused. is_final: Mailman has made a bounce of it; otherwise retry/ tries it again."""

    at_s: float
    recipient: str
    reply: str
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class PastDelivery:
    """took_s: as the log says, "completed in"."""

    recipients: int
    took_s: float


@dataclass(slots=True)
class LoggedDelivery:
    """One attempt of Mailman's at one entry.

    list_name   "" if the log does not name it
    recipients  how many it was for, those refused included
    took_s      None if the log does not say
    refused     how many of them the MTA refused; None if the log does not say
    refusals    by recipient, as far as the log names them
    content_refused  the MTA refused the content for some of them; the log does not say which
    """

    at_s: float
    list_name: str
    recipients: int
    took_s: float | None
    refused: int | None = None
    refusals: dict[str, Refusal] = field(default_factory=dict)
    content_refused: bool = False

    @property
    def accepted(self) -> int | None:
        """For how many recipients the MTA accepted it; None if the log does not say."""
        if self.content_refused:
            return 0
        refused = (len(self.refusals) or None) if self.refused is None else self.refused
        return None if refused is None else max(0, self.recipients - refused)

    @property
    def is_of_21(self) -> bool:
        """Mailman 2.1 logs a list's name, 3 its address."""
        return "@" not in self.list_name

    @property
    def names_all_refused(self) -> bool:
        """Whether the log says which recipients were accepted: all but the refusals."""
        return self.refused == len(self.refusals) and not self.content_refused

    def is_of_list(self, list_id: str) -> bool:
        return list_id in (self.list_name, self.list_name.replace("@", "."))


@dataclass(frozen=True, slots=True)
class DeliveryTimes:
    """What a log says of how fast the MTA accepted mail.

    deliveries     of which it accepted recipients, oldest first; recipients are those accepted
    since_s, until_s  when the first and the last of them ended; None if there is none
    failed         deliveries without an accepted recipient
    failing        how many of those come after the last accepted one
    failing_since_s  when the first of those ended
    unclear        deliveries where the log does not say whether the MTA accepted them, or how long they took
    last_refusal   the words of the last refusal
    """

    deliveries: tuple[PastDelivery, ...] = ()
    since_s: float | None = None
    until_s: float | None = None
    failed: int = 0
    failing: int = 0
    failing_since_s: float | None = None
    unclear: int = 0
    last_refusal: str = ""


def delivery_times(lines: Iterable[str], at_most: int) -> DeliveryTimes:
    """Of a log's last `at_most` deliveries that the MTA accepted. lines: of 2.1's three logs together, see `in_order`."""
    found: deque[tuple[float, PastDelivery]] = deque(maxlen=at_most)
    failed = failing = unclear = 0
    failing_since_s: float | None = None
    log = _Attempts()
    for one in log.in_order(lines, _OPEN_AT_MOST):
        if one.accepted is None or (one.accepted and one.took_s is None):
            unclear += 1
        elif one.accepted == 0:
            failed += 1
            failing += 1
            failing_since_s = one.at_s if failing == 1 else failing_since_s
        else:
            found.append((one.at_s, PastDelivery(one.accepted, one.took_s or 0.0)))
            failing, failing_since_s = 0, None
    since_s, until_s = (found[0][0], found[-1][0]) if found else (None, None)
    return DeliveryTimes(
        tuple(past for _, past in found), since_s, until_s, failed, failing, failing_since_s, unclear, log.last_refusal
    )


def in_order(*logs: Iterable[str]) -> Iterator[str]:
    """The lines of several logs as one, by their stamps; of the same second, those of the log named first come first."""

    def stamped(lines: Iterable[str]) -> Iterator[tuple[float, str]]:
        last_s = 0.0
        for line in lines:
            match = _LINE.match(line.rstrip("\n"))
            last_s = (_stamp_s(match[1]) if match else None) or last_s
            yield last_s, line

    return (line for _, line in merge(*map(stamped, logs), key=lambda pair: pair[0]))


def ends_beside(log: Path) -> tuple[Path, ...]:
    """The logs beside Mailman 2.1's logs/smtp, rotated alike, that tell how its deliveries ended; () for any other log."""
    match = _SMTP_21.match(log.name)
    return tuple(log.with_name(name + match[1]) for name in ENDS_21) if match else ()


def is_failure_log(log: Path) -> bool:
    """Whether it is named as Mailman 2.1's logs/smtp-failure."""
    return log.name.startswith(ENDS_21[1])


def is_mailman_line(line: str) -> bool:
    """Whether it may be one of Mailman's smtp logs, whatever it says."""
    return _LINE.match(line.rstrip("\n")) is not None


class SmtpLog:
    """Fed lines in order; remembers those of `wanted` Message-IDs only, or everything.

    2.1's logs may be fed one after the other, logs/smtp first.
    """

    def __init__(self, everything: bool = False) -> None:
        self.wanted: set[str] = set()
        self._everything = everything
        self._attempts = _Attempts()
        self._deliveries: dict[str, list[LoggedDelivery]] = {}
        self._refusals: dict[str, list[Refusal]] = {}

    def feed(self, lines: Iterable[str]) -> None:
        for line in lines:
            said = _said(line)
            if said is None or not (self._everything or said.message_id in self.wanted):
                continue
            begun = self._attempts.note(said)
            if begun is not None:
                self._deliveries.setdefault(said.message_id, []).append(begun)
            if isinstance(said.what, _Refused):
                self._refusals.setdefault(said.message_id, []).append(said.what.refusal(said.at_s))

    def forget(self, still_wanted: Collection[str]) -> None:
        """Keep only what is said of these Message-IDs."""
        self.wanted &= set(still_wanted)
        self._attempts.keep(self.wanted)
        for message_id in self._deliveries.keys() - self.wanted:
            del self._deliveries[message_id]
        for message_id in self._refusals.keys() - self.wanted:
            del self._refusals[message_id]

    def refusals(self, message_id: str, since_s: float) -> list[Refusal]:
        """Refused for good since a handover (stamps have whole seconds)."""
        return [one for one in self._refusals.get(message_id, ()) if one.is_final and one.at_s >= int(since_s)]

    def refused_last(self, message_id: str, list_id: str, since_s: float) -> list[Refusal]:
        """Refused for now in the last delivery of the message to this list since a handover.

        Mailman keeps those for retry/, unless it gives up on them.
        """
        # Of two in the same second (stamps have whole seconds) the later line counts: max takes the first of equals.
        ended = reversed(self._since(message_id, list_id, since_s))
        last = max(ended, key=lambda delivery: delivery.at_s, default=None)
        return [one for one in last.refusals.values() if not one.is_final] if last else []

    def delivery(self, message_id: str, list_id: str, recipients: int, since_s: float) -> LoggedDelivery | None:
        """The delivery of this message to so many recipients of this list since the handover, if the log says which were
        accepted."""
        found = [
            delivery
            for delivery in self._since(message_id, list_id, since_s)
            if delivery.recipients == recipients and delivery.names_all_refused
        ]
        return found[-1] if found else None

    def deliveries(self) -> Iterator[tuple[str, LoggedDelivery]]:
        """Every delivery, with its Message-ID."""
        for message_id, deliveries in self._deliveries.items():
            for delivery in deliveries:
                yield message_id, delivery

    def _since(self, message_id: str, list_id: str, since_s: float) -> list[LoggedDelivery]:
        return [
            delivery
            for delivery in self._deliveries.get(message_id, ())
            if delivery.at_s >= int(since_s) and delivery.is_of_list(list_id)
        ]


@dataclass(frozen=True, slots=True)
class _Completed:
    list_name: str
    recipients: int
    took_s: float | None


@dataclass(frozen=True, slots=True)
class _Ended:
    list_name: str
    refused: int


@dataclass(frozen=True, slots=True)
class _Refused:
    recipient: str
    code: int
    reply: str

    def refusal(self, at_s: float) -> Refusal:
        return Refusal(at_s, self.recipient, f"{self.code} {self.reply}", _is_final(self.code))


@dataclass(frozen=True, slots=True)
class _ContentRefused:
    code: int
    reply: str


@dataclass(frozen=True, slots=True)
class _Said:
    """message_id "" if the line names none."""

    at_s: float
    process: str
    message_id: str
    what: _Completed | _Ended | _Refused | _ContentRefused


def _said(line: str) -> _Said | None:
    match = _LINE.match(line.rstrip("\n"))
    at_s = _stamp_s(match[1]) if match else None
    if match is None or at_s is None:
        return None
    of_message = _OF_MESSAGE.match(match[3])
    message_id, text = (of_message[1], of_message[2]) if of_message else ("", match[3])
    what: _Completed | _Ended | _Refused | _ContentRefused
    if found := _COMPLETED.match(text):
        what = _Completed(found[1] or "", int(found[2]), float(found[3]) if found[3] else None)
    elif found := _ENDED.match(text):
        what = _Ended(found[1], int(found[2] or 0))
    elif found := _ENDED_21.match(text):
        what, message_id = _Ended(found[1], int(found[3] or 0)), found[2]
    elif found := _REFUSED.match(text):
        what = _Refused(found[1], int(found[2]), found[3])
    elif found := _CONTENT_REFUSED_21.match(text):
        what, message_id = _ContentRefused(int(found[1]), found[2]), found[3]
    else:
        return None
    return _Said(at_s, match[2], message_id, what)


class _Attempts:
    """Puts the lines about one delivery together, by process, Message-ID and time."""

    def __init__(self) -> None:
        self.last_refusal = ""
        self._known: dict[tuple[str, str], list[LoggedDelivery]] = {}
        self._content_refused: dict[tuple[str, str], list[float]] = {}

    def note(self, said: _Said) -> LoggedDelivery | None:
        """Returns the delivery that the line begins, if it does."""
        name = (said.process, said.message_id)
        match said.what:
            case _Completed(list_name, recipients, took_s):
                begun = LoggedDelivery(said.at_s, list_name, recipients, took_s)
                begun.content_refused = any(_within(begun, at_s) for at_s in self._content_refused.get(name, ()))
                self._known.setdefault(name, []).append(begun)
                return begun
            case _Ended(list_name, refused):
                for found in self._before(name, said.at_s):
                    if found.refused is None and found.list_name in ("", list_name):
                        found.refused = refused
                        break
            case _Refused(recipient, code, reply):
                self.last_refusal = f"{code} {reply}"
                for found in self._before(name, said.at_s):
                    found.refusals.setdefault(recipient, said.what.refusal(said.at_s))
                    break
            case _ContentRefused(code, reply):
                self.last_refusal = f"{code} {reply}"
                if _is_final(code):  # for now: Mailman counts each of those recipients as refused
                    self._content_refused.setdefault(name, []).append(said.at_s)
                    for known in self._known.get(name, ()):
                        known.content_refused = known.content_refused or _within(known, said.at_s)
        return None

    def _before(self, name: tuple[str, str], at_s: float) -> Iterator[LoggedDelivery]:
        """Deliveries whose end a line of that time may report, the last one first."""
        for known in reversed(self._known.get(name, []) if name[1] else []):
            if 0 <= at_s - known.at_s <= _END_WITHIN_S:
                yield known

    def in_order(self, lines: Iterable[str], open_at_most: int) -> Iterator[LoggedDelivery]:
        """Every delivery once, in order, after so many others have begun or at the end; then it is forgotten."""
        begun: deque[tuple[tuple[str, str], LoggedDelivery]] = deque()
        for line in lines:
            said = _said(line)
            delivery = self.note(said) if said is not None else None
            if said is not None and delivery is not None:
                begun.append(((said.process, said.message_id), delivery))
            if len(begun) > open_at_most:
                yield self._let_go(*begun.popleft())
        while begun:
            yield self._let_go(*begun.popleft())

    def _let_go(self, name: tuple[str, str], delivery: LoggedDelivery) -> LoggedDelivery:
        others = [known for known in self._known[name] if known is not delivery]
        if others:
            self._known[name] = others
        else:
            del self._known[name]
            self._content_refused.pop(name, None)
        return delivery

    def keep(self, message_ids: Collection[str]) -> None:
        for remembered in (self._known, self._content_refused):
            for name in [name for name in remembered if name[1] not in message_ids]:
                del remembered[name]


def _is_final(code: int) -> bool:
    """Mailman takes 552 for one for now: RFC 5321 §4.5.3.1.10."""
    return code >= 500 and code != _TRIED_AGAIN


def _within(delivery: LoggedDelivery, at_s: float) -> bool:
    """Whether that was while the delivery went on (stamps have whole seconds)."""
    return delivery.at_s - (delivery.took_s or 0.0) - 2.0 <= at_s <= delivery.at_s + 1.0


@lru_cache(maxsize=64)
def _stamp_s(stamp: str) -> float | None:
    """Mailman writes this machine's own time."""
    try:
        return datetime.strptime(stamp, "%b %d %H:%M:%S %Y").astimezone().timestamp()
    except (ValueError, OverflowError):
        return None

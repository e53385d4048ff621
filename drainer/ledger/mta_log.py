"""What Postfix's log says about a message that may or may not have been handed over.

In    lines of its log, in order: traditional ("Nov 22 06:13:01 host postfix/...") or RFC 3339 time stamps
Out   one Answer per question: did the MTA accept this message from this reverse-path for this recipient at that moment?
Pure  no file is read (mta_log_file.py), no clock

An accepted message leaves three kinds of lines under one queue id: cleanup names its Message-ID, qmgr its reverse-path
and number of recipients once it is queued for good, and delivery agents (smtp, lmtp, local, virtual, pipe, error,
discard) each recipient. Only the qmgr line proves acceptance: cleanup writes its line before the final dot is answered.
NO needs a log that covers the moment, and nothing in it that could be this transaction. Everything else is CANNOT_SAY:
a wrong NO makes a second copy, a wrong YES loses mail.
Source  Postfix 3.7: cleanup_message.c, qmgr_active.c, log_adhoc.c; the fixtures in tests/samples were written by it
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parseaddr
from enum import StrEnum

from drainer.ledger.records import RecipientKey, recipient_key

LINE_WITHIN_S = 900.0
"""How long after the attempt began a queue manager line may still belong to it: 600 s for the final dot, and then some."""

SETTLED_AFTER_S = 30.0
"""How long after the attempt the log has to go on for its silence to count: what was under way had reached it by then."""

LOST_WITHIN_S = 120.0
"""How far back a logger's word that it dropped lines reaches."""

CLOCK_STEP_S = 2.0
"""How much earlier: traditional stamps have whole seconds, and so may the attempt."""

_LINE = re.compile(
    r"(?P<stamp>[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}(?: [0-9]{4})?|[0-9]{4}-[0-9]{2}-[0-9]{2}T\S+) "
    r"\S+ (?P<service>[^\s\[]+)\[[0-9]+\]: (?:\[ID [^\]]*\] )?(?P<rest>.*)\Z",
    re.DOTALL,
)
_QUEUED = re.compile(r"(?P<queue_id>[0-9A-Za-z]{6,}): (?P<text>.*)\Z", re.DOTALL)
_LOST = re.compile(r"rate-limit|[Ss]uppressed [0-9]+ messages|lost [0-9]+ messages|[0-9]+ messages lost")
_MESSAGE_ID = re.compile(r"(?:resent-)?message-id=(?P<message_id>.*)\Z", re.DOTALL)
_FROM = re.compile(r"from=<(?P<reverse_path>.*)>, size=[0-9]+, nrcpt=(?P<recipients>[0-9]+) \(queue active\)")
_TO = re.compile(r"to=<(?P<to>.*?)>, (?:orig_to=<(?P<orig_to>.*?)>, )?relay=.*?, status=(?P<status>\w+)")
_ADDRESS_CHANGED = re.compile(r"\A\"?(.*?)\"?(@[^@]*)\Z")
_MONTHS = {
    name: number
    for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)
}  # fmt: skip


class Answer(StrEnum):
    """Did the MTA accept it?"""

    YES = "yes"
    NO = "no"
    CANNOT_SAY = "cannot_say"


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of any service, split. `service` without the instance: "postfix/qmgr" and "postfix-out/qmgr" are "qmgr"."""

    at_s: float
    service: str
    text: str


@dataclass(slots=True)
class _Mail:
    """One queue id's life. `recipients` is None until the queue manager has it.

    seen        recipients shown (to=), after aliases
    ordered_as  what the client had called some of them (orig_to=)
    """

    first_s: float
    message_id: str
    accepted_s: float | None = None
    reverse_path: str = ""
    recipients: int | None = None
    seen: set[RecipientKey] = field(default_factory=set)
    ordered_as: set[RecipientKey] = field(default_factory=set)


def parse_line(line: str, latest_s: float, zone: tzinfo = UTC) -> LogLine | None:
    """A log line's parts, or None if it is not one.

    latest_s  a moment no line can be later than by more than a day: it gives traditional stamps, which name no year,
              the latest year that fits
    zone      of traditional stamps
    """
    match = _LINE.match(line.rstrip("\n"))
    if match is None:
        return None
    at_s = _stamp_s(match["stamp"], latest_s, zone)
    if at_s is None:
        return None
    return LogLine(at_s, match["service"].rpartition("/")[2], match["rest"])


class MtaEvidence:
    """Fed the lines of a log in order, answers for single transactions.

    message_ids  remember only mail with these; None remembers all
    latest_s     see parse_line
    """

    def __init__(self, latest_s: float, message_ids: Iterable[str] | None = None, zone: tzinfo = UTC) -> None:
        self._latest_s = latest_s
        self._zone = zone
        self._wanted = None if message_ids is None else frozenset(map(_message_id, message_ids))
        self._mails: dict[str, _Mail] = {}
        self._by_message_id: dict[str, list[_Mail]] = {}
        self._first_s: float | None = None
        self._last_s: float | None = None
        self._gaps: list[tuple[float, float]] = []

    @property
    def covers(self) -> tuple[float, float] | None:
        """First and last moment the log speaks of, in seconds since the epoch; None without a line of Postfix's."""
        return None if self._first_s is None or self._last_s is None else (self._first_s, self._last_s)

    def gap(self, from_s: float, to_s: float) -> None:
        """Lines between these moments are missing (a rotated file that cannot be read)."""
        self._gaps.append((from_s, to_s))

    def feed(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._feed(line)

    def _feed(self, line: str) -> None:
        parsed = parse_line(line, self._latest_s, self._zone)
        if parsed is None:
            return
        self._first_s = parsed.at_s if self._first_s is None else min(self._first_s, parsed.at_s)
        self._last_s = parsed.at_s if self._last_s is None else max(self._last_s, parsed.at_s)
        if _LOST.search(parsed.text):
            self.gap(parsed.at_s - LOST_WITHIN_S, parsed.at_s)
        queued = _QUEUED.match(parsed.text)
        if queued is None:
            return
        queue_id, text = queued["queue_id"], queued["text"]
        if parsed.service == "cleanup":
            if match := _MESSAGE_ID.match(text):
                self._message(queue_id, match["message_id"], parsed.at_s)
        elif mail := self._mails.get(queue_id):
            self._follow(queue_id, mail, parsed, text)

    def _message(self, queue_id: str, message_id: str, at_s: float) -> None:
        wanted = _message_id(message_id)
        self._mails.pop(queue_id, None)  # short queue ids are used again
        if self._wanted is not None and wanted not in self._wanted:
            return
        mail = _Mail(at_s, wanted)
        self._mails[queue_id] = mail
        self._by_message_id.setdefault(wanted, []).append(mail)

    def _follow(self, queue_id: str, mail: _Mail, line: LogLine, text: str) -> None:
        if line.service == "qmgr":
            if match := _FROM.match(text):
                mail.accepted_s = line.at_s if mail.accepted_s is None else mail.accepted_s
                mail.reverse_path = match["reverse_path"]
                mail.recipients = max(int(match["recipients"]), mail.recipients or 0)
            elif text == "removed":
                del self._mails[queue_id]
        if match := _TO.match(text):
            mail.seen.add(_address_key(match["to"]))
            if match["orig_to"] is not None:
                mail.ordered_as.add(_address_key(match["orig_to"]))

    def answers(
        self,
        message_id: str,
        reverse_path: str | None,
        recipients: Sequence[str],
        at_s: float,
        *,
        is_only_transaction: bool = False,
    ) -> dict[str, Answer]:
        """For each recipient of one transaction, whether the MTA accepted it.

        message_id    as in the content, angle brackets included; "" can never be found
        reverse_path  of the envelope; None if it is not known (a .bak): then a NO is never given
        recipients    all of the transaction's
        at_s          when the attempt was written down, seconds since the epoch
        is_only_transaction  the message went out in no other: mail that shows no recipient yet can be told by nrcpt

        YES         accepted mail of that Message-ID and reverse-path shows the recipient (to= or orig_to=), or shows
                    others of this transaction and is exactly as large
        NO          the log covers the moment, and no mail in it could be this transaction
        CANNOT_SAY  anything else
        """
        unknown = dict.fromkeys(recipients, Answer.CANNOT_SAY)
        if not message_id or not recipients:
            return unknown
        keys = {recipient: _address_key(recipient) for recipient in recipients}
        wanted = frozenset(keys.values())
        mine = self._candidates(message_id, reverse_path, at_s)
        shown = {key for mail in mine for key in mail.seen | mail.ordered_as}
        found = {recipient: Answer.YES for recipient, key in keys.items() if key in shown}
        if found:
            # One transaction is accepted as a whole: the rest are in the same mail, if the numbers agree.
            whole = any(mail.seen and mail.seen <= wanted and mail.recipients == len(wanted) for mail in mine)
            return dict.fromkeys(recipients, Answer.YES) if whole else unknown | found
        silent = [mail for mail in mine if not _shows_all(mail)]
        if not silent:
            covered = reverse_path is not None and self._covers(at_s)
            return dict.fromkeys(recipients, Answer.NO) if covered else unknown
        alike = is_only_transaction and len(mine) == 1 and not mine[0].seen and mine[0].recipients == len(wanted)
        return dict.fromkeys(recipients, Answer.YES) if alike else unknown

    def _candidates(self, message_id: str, reverse_path: str | None, at_s: float) -> list[_Mail]:
        """Accepted mail that could be this transaction by Message-ID, reverse-path and time."""
        return [
            mail
            for mail in self._by_message_id.get(_message_id(message_id), [])
            if at_s - CLOCK_STEP_S <= (mail.accepted_s or mail.first_s) <= at_s + LINE_WITHIN_S
            and (mail.accepted_s is None or reverse_path is None or _same_address(mail.reverse_path, reverse_path))
        ]

    def _covers(self, at_s: float) -> bool:
        """A line before the attempt and one after it, and nothing missing since."""
        if self._first_s is None or self._last_s is None:
            return False
        after_s = at_s + SETTLED_AFTER_S
        missing = any(from_s <= at_s + LINE_WITHIN_S and to_s >= at_s - CLOCK_STEP_S for from_s, to_s in self._gaps)
        return self._first_s < at_s - CLOCK_STEP_S and self._last_s > after_s and not missing


def _shows_all(mail: _Mail) -> bool:
    """Every recipient it was accepted for has been shown, so it has room for no other."""
    return mail.recipients is not None and len(mail.seen) >= mail.recipients


def _message_id(text: str) -> str:
    """Postfix writes '?' for what it will not print."""
    return "".join(char if " " <= char <= "~" else "?" for char in text.strip())


def _address_key(address: str) -> RecipientKey:
    """Postfix logs local parts unquoted where it can, and '?' for what it will not print.

    `Name <a@b>`, as some Mailman 2.1 entries have recipients, is sent and logged as a@b.
    """
    text = _message_id(parseaddr(address)[1] if address.endswith(">") else address)
    match = _ADDRESS_CHANGED.match(text)
    return recipient_key(match[1] + match[2] if match else text)


def _same_address(logged: str, sent: str) -> bool:
    return _address_key(logged) == _address_key(sent)


def _stamp_s(stamp: str, latest_s: float, zone: tzinfo) -> float | None:
    try:
        if stamp[0].isdigit():
            moment = datetime.fromisoformat(stamp)
            return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
        month, day = _MONTHS[stamp[:3]], int(stamp[4:6])
        hour, minute, second = (int(part) for part in stamp[7:15].split(":"))
        if len(stamp) > 15:
            return datetime(int(stamp[16:]), month, day, hour, minute, min(second, 59), tzinfo=zone).timestamp()
        return _latest_year(month, day, hour, minute, min(second, 59), latest_s, zone)
    except (KeyError, ValueError, OverflowError):
        return None


def _latest_year(
    month: int, day: int, hour: int, minute: int, second: int, latest_s: float, zone: tzinfo
) -> float | None:
    """29 February goes back up to eight years (1900, 2100)."""
    limit = datetime.fromtimestamp(latest_s, zone) + timedelta(days=1)
    for year in range(limit.year, limit.year - 9, -1):
        try:
            moment = datetime(year, month, day, hour, minute, second, tzinfo=zone)
        except ValueError:
            continue
        if moment <= limit:
            return moment.timestamp()
    return None

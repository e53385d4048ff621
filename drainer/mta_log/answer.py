"""Did the MTA accept this transaction? What its log says.

In    lines of the log of Postfix or Exim, in order (mta_log/lines.py)
Out   one Answer per recipient: did the MTA accept it in this transaction, from this reverse-path, at that moment?
Pure  no file is read (mta_log/file.py), no clock

NO needs a log that covers the moment and has nothing that could be this transaction. Everything else is CANNOT_SAY: a
wrong NO makes a second copy, a wrong YES loses mail. A log covers a moment if it shows mail being accepted, has lines of the
MTA shortly before and after, and is not known to have lost lines between. If several MTAs write to it (instances of Postfix,
hosts), it has to cover the moment for each one that accepts mail: the log does not say which of them we feed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parseaddr
from enum import StrEnum

from drainer.ledger.records import RecipientKey, recipient_key
from drainer.mta_log.exim import is_logged_as_it_is, read_exim
from drainer.mta_log.lines import LogLine, MailLine, Sign
from drainer.mta_log.postfix import DAEMONS, PostfixReader

LINE_WITHIN_S = 900.0
"""How long after the attempt began the line of acceptance may still come: 600 s for the final dot, and a margin. The MTA may
also be silent for so long after the attempt: a session that breaks off is logged when it times out."""

ALIVE_BEFORE_S = 300.0
"""How old the MTA's last line before the attempt may be: since then it began a session and answered RCPT."""

SETTLED_AFTER_S = 30.0
"""The log has to go on for so long after the attempt before its silence counts: by then it has what was under way."""

LOST_WITHIN_S = 120.0
"""How far back lines may be missing, when a logger says that it dropped some, or when the machine went down."""

CLOCK_STEP_S = 2.0
"""How much earlier than the attempt a line may be: traditional stamps have whole seconds."""

_LOST = re.compile(r"rate-limit|[Ss]uppressed [0-9]+ messages|lost [0-9]+ messages|[0-9]+ messages lost")
_ADDRESS_CHANGED = re.compile(r"\A\"?(.*?)\"?(@[^@]*)\Z")
_EXIM = re.compile(r"exim[0-9]?\Z")


class Answer(StrEnum):
    """Did the MTA accept it?"""

    YES = "yes"
    NO = "no"
    CANNOT_SAY = "cannot_say"


def signs_of(line: LogLine, postfix: PostfixReader) -> MailLine | Sign:
    """What a line of Postfix, of Exim or of the logger says."""
    if _EXIM.match(line.program):
        return read_exim(line)
    if "/" in line.program and line.program.rpartition("/")[2] in DAEMONS:
        return postfix.read(line)
    return Sign.LOST if _LOST.search(line.text) else Sign.NONE


@dataclass(slots=True)
class _Mail:
    """One queue id's life. `accepted_s` is None until the MTA has it for good.

    message_id  "" if the log does not say
    count       recipients it was accepted for; None if the log does not say (yet)
    all_recipients  these, if the log names them
    seen        recipients shown, after aliases
    ordered_as  the names that the client gave for some of them
    """

    first_s: float
    message_id: str
    accepted_s: float | None = None
    reverse_path: str = ""
    count: int | None = None
    all_recipients: frozenset[RecipientKey] | None = None
    seen: set[RecipientKey] = field(default_factory=set)
    ordered_as: set[RecipientKey] = field(default_factory=set)

    def shown(self) -> frozenset[RecipientKey]:
        return frozenset(self.seen | self.ordered_as | (self.all_recipients or frozenset()))

    def shows_all(self) -> bool:
        """Every recipient it was accepted for has been shown, so it has room for no other."""
        return self.all_recipients is not None or (self.count is not None and len(self.seen) >= self.count)


@dataclass(slots=True)
class _Instance:
    """When an MTA wrote lines, as spans with no more than SETTLED_AFTER_S between lines."""

    spans: list[list[float]] = field(default_factory=list)
    accepts: bool = False
    stopped: bool = False

    def wrote(self, at_s: float) -> None:
        if self.spans and self.spans[-1][0] <= at_s <= self.spans[-1][1] + SETTLED_AFTER_S:
            self.spans[-1][1] = max(at_s, self.spans[-1][1])
        else:
            self.spans.append([at_s, at_s])

    def last_s(self) -> float:
        return self.spans[-1][1] if self.spans else 0.0

    def before_s(self, at_s: float) -> float | None:
        """The last line until then; within a span, that moment itself."""
        return max((min(end_s, at_s) for start_s, end_s in self.spans if start_s <= at_s), default=None)

    def after_s(self, at_s: float) -> float | None:
        return min((max(start_s, at_s) for start_s, end_s in self.spans if end_s >= at_s), default=None)


LOGGED_WHOLE = 900
"""A Message-ID up to this length is logged whole. Syslog daemons cut lines, some at 1,024 octets (RFC 3164 §4.1), and a
Message-ID that was cut cannot be found."""


class MtaEvidence:
    """Fed the lines of a log in order, answers for single transactions.

    message_ids  remember only mail with these, and mail that may be the same; None remembers all
    """

    def __init__(self, message_ids: Iterable[str] | None = None) -> None:
        self._wanted = None if message_ids is None else frozenset(map(_message_id, message_ids))
        self._postfix = PostfixReader()
        self._mails: dict[tuple[str, str], _Mail] = {}
        self._refused: set[tuple[str, str]] = set()
        self._by_message_id: dict[str, list[_Mail]] = {}
        self._instances: dict[str, _Instance] = {}
        self._gaps: list[tuple[float, float, str]] = []
        self._exim = False

    def gap(self, from_s: float, to_s: float, why: str) -> None:
        """Lines between these moments are missing (a rotated file that cannot be read)."""
        self._gaps.append((from_s, to_s, why))

    def feed(self, lines: Iterable[LogLine]) -> None:
        for line in lines:
            said = signs_of(line, self._postfix)
            if said is Sign.NONE:
                continue
            if said is Sign.LOST:
                self.gap(line.at_s - LOST_WITHIN_S, line.at_s, "its logger dropped lines")
                continue
            instance = self._instances.setdefault(line.instance, _Instance())
            if said is Sign.BEGUN and instance.spans and not instance.stopped:
                why = "the MTA started again without having been stopped: its last lines may be lost"
                self.gap(instance.last_s() - LOST_WITHIN_S, line.at_s, why)
            if said in (Sign.STOPPED, Sign.BEGUN):
                instance.stopped = said is Sign.STOPPED
            instance.wrote(line.at_s)
            if isinstance(said, MailLine):
                self._note(said, line.at_s, instance)

    def _note(self, said: MailLine, at_s: float, instance: _Instance) -> None:
        name = (said.instance, said.queue_id)
        if said.refused:
            self._refuse(name)
            return
        if said.message_id is not None:
            self._begin(name, said.message_id, at_s)
        if said.reverse_path is not None:
            instance.accepts = True
            self._exim = self._exim or said.message_id is not None
        mail = self._mails.get(name)
        if mail is None:
            return
        if said.reverse_path is not None:
            mail.accepted_s = at_s if mail.accepted_s is None else mail.accepted_s
            mail.reverse_path = said.reverse_path
            if said.count is not None:
                mail.count = max(said.count, mail.count or 0)
            if said.all_recipients is not None:
                mail.all_recipients = frozenset(map(_address_key, said.all_recipients))
        if said.to is not None:
            mail.seen.add(_address_key(said.to))
        if said.ordered_as is not None:
            mail.ordered_as.add(_address_key(said.ordered_as))
        if said.ended:
            if mail.count is None and not mail.ordered_as:
                mail.count = len(mail.seen)  # Exim has shown each; of redirected ones it leaves out what came out equal
            del self._mails[name]

    def _begin(self, name: tuple[str, str], message_id: str, at_s: float) -> None:
        wanted = _message_id(message_id)
        self._mails.pop(name, None)  # short queue ids are used again
        if name in self._refused:
            self._refused.discard(name)
            return
        if self._wanted is not None and wanted and wanted not in self._wanted:
            return
        mail = _Mail(at_s, wanted)
        self._mails[name] = mail
        self._by_message_id.setdefault(wanted, []).append(mail)

    def _refuse(self, name: tuple[str, str]) -> None:
        """Its content broke off. Its Message-ID may be logged already, or come after this."""
        mail = self._mails.get(name)
        if mail is None:
            self._refused.add(name)
        elif mail.accepted_s is None:
            self._by_message_id[mail.message_id].remove(mail)
            del self._mails[name]

    def answers(
        self, message_id: str, reverse_path: str | None, recipients: Sequence[str], at_s: float
    ) -> dict[str, Answer]:
        """For each recipient of one transaction, whether the MTA accepted it.

        message_id    as in the content, angle brackets included; "" can never be found
        reverse_path  of the envelope; None if it is not known (a .bak): then a NO is never given
        recipients    all of the transaction
        at_s          when the attempt was written to the ledger, seconds since the epoch

        YES         accepted mail of that Message-ID and reverse-path shows the recipient, under our name or another one; or
                    it shows others of this transaction and has exactly as many recipients
        NO          the log covers the moment, and no mail in it could be this transaction
        CANNOT_SAY  anything else; `why_silent` says what
        """
        unknown = dict.fromkeys(recipients, Answer.CANNOT_SAY)
        if not message_id or not recipients:
            return unknown
        keys = {recipient: _address_key(recipient) for recipient in recipients}
        wanted = frozenset(keys.values())
        mine = self._candidates(_message_id(message_id), reverse_path, at_s)
        shown = {key for mail in mine for key in mail.shown()}
        found = {recipient: Answer.YES for recipient, key in keys.items() if key in shown}
        if found:
            # One transaction is accepted as a whole: if the numbers agree, the others are in the same mail.
            whole = any(mail.seen and mail.seen <= wanted and mail.count == len(wanted) for mail in mine)
            return dict.fromkeys(recipients, Answer.YES) if whole else unknown | found
        alike = [*mine, *self._candidates("", reverse_path, at_s)]
        if any(not mail.shows_all() or not mail.shown().isdisjoint(wanted) for mail in alike):
            return unknown
        covered = reverse_path is not None and not self.why_silent(message_id, at_s)
        return dict.fromkeys(recipients, Answer.NO) if covered else unknown

    def _candidates(self, message_id: str, reverse_path: str | None, at_s: float) -> list[_Mail]:
        """Mail that could be this transaction by Message-ID, reverse-path and time."""
        return [
            mail
            for mail in self._by_message_id.get(message_id, [])
            if at_s - CLOCK_STEP_S <= (mail.accepted_s or mail.first_s) <= at_s + LINE_WITHIN_S
            and (mail.accepted_s is None or reverse_path is None or _same_address(mail.reverse_path, reverse_path))
        ]

    def why_silent(self, message_id: str, at_s: float) -> str:
        """Why this log proves nothing if it has nothing about an attempt; "" if it proves that the MTA accepted nothing."""
        receiving = {name: instance for name, instance in self._instances.items() if instance.accepts}
        of_one_host = len({name.partition("@")[2] for name in receiving}) < 2
        if not receiving:
            return "it shows no mail being accepted" if self._instances else "it has no line of Postfix's or Exim's"
        if len(message_id) > LOGGED_WHOLE:
            return f"a Message-ID of {len(message_id)} characters is not logged whole"
        if not message_id.isascii():
            return "a Message-ID outside ASCII is not logged as it is"
        if self._exim and not is_logged_as_it_is(message_id):
            return "Exim does not log such a Message-ID as it is"
        for full_name, instance in sorted(receiving.items()):
            name = full_name.partition("@")[0] if of_one_host else full_name
            before_s, after_s = instance.before_s(at_s - CLOCK_STEP_S), instance.after_s(at_s + SETTLED_AFTER_S)
            if before_s is None:
                return f"{name} begins in it at {_clock(instance.spans[0][0])}, after the attempt at {_clock(at_s)}"
            if after_s is None:
                return f"{name} ends in it at {_clock(instance.last_s())}, too early for the attempt at {_clock(at_s)}"
            if at_s - before_s > ALIVE_BEFORE_S or after_s - at_s > LINE_WITHIN_S:
                return f"{name} has no line in it from {_clock(before_s)} to {_clock(after_s)}"
        for from_s, to_s, why in self._gaps:
            if from_s <= at_s + LINE_WITHIN_S and to_s >= at_s - CLOCK_STEP_S:
                return why
        return ""


def _message_id(text: str) -> str:
    """Postfix writes '?' for what it will not print."""
    return "".join(char if " " <= char <= "~" else "?" for char in text.strip())


def _address_key(address: str) -> RecipientKey:
    """MTAs log local parts unquoted where they can, and '?' for what they will not print.

    `Name <a@b>`, as some Mailman 2.1 entries have recipients, is sent and logged as a@b.
    """
    text = _message_id(parseaddr(address)[1] if address.endswith(">") else address)
    match = _ADDRESS_CHANGED.match(text)
    return recipient_key(match[1] + match[2] if match else text)


def _same_address(logged: str, sent: str) -> bool:
    return _address_key(logged) == _address_key(sent)


def _clock(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"

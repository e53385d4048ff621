"""What a message is: digests that stay the same when it is resubmitted, restored or retried, tagged with the rules' version.

In    a QueueEntry; for one that Mailman has decorated also the header and footer that are in its text already
Out   a Fingerprint, an EntrySummary
Pure  no file, no clock

Two entries are the same message if they share any identity digest. All of them hold the list and the role of the mail
on it (post, mail to the owners, digest, notice): a mail to a list and its owners, or to two lists, is two messages.
A digest is the version of the rules (1 byte), what the mail is called (7 bytes: list, role, Message-ID, Date and the like),
and what it says (8 bytes: the body). So all that is called the same is found by the first eight bytes, in the index and in
the ledger, whatever it says: a mail and the same mail decorated are, if nothing tells that their bodies are one.
  named    body + Message-ID + Date. The Date is in it because devices and scripts reuse a Message-ID, with the same
           text, day after day; what is resubmitted keeps its Date.
           A post that Mailman has wrapped against DMARC gets a Message-ID at each passage: it is also named as what it
           encloses is.
  dated    posts only: body + author + From + Date + Subject + In-Reply-To, for copies that a list or a relay gave
           Message-IDs of their own. Nothing in one copy alone tells that this happened to the other, so every post of a
           person has it; a program's post, which may well say the same twice in a second, only if its Message-ID is not
           its own. (From tells apart the people who post through one address of a forum or ticket system.)
  marked   only if Mailman has decorated it: body as it is, with the last bit set. It says of what is finished, and known to
           the ledger only, that its body may be that of a mail it shares no other digest with (decision.py, UNDECIDED).
  received received_time + Message-ID (posts without one: author + Date + Subject): "received_time stays with a mail
           for life" in 2.1, and 3 gives it to posts when they arrive. Body left out: a retry copy is decorated.
  only-file where none of these can be made: the same metadata and content under the same time in the name, so that the
           ledger still knows the entry itself after a restart.
An original taken for a copy would be lost, a copy taken for an original is only a second mail: whatever is missing makes
fewer digests.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date as datetime_date
from datetime import datetime
from hashlib import blake2b

from drainer.duplicates.canonical import (
    Leaf,
    all_values,
    canonical_leaves,
    canonical_lines,
    canonical_text,
    first_headers,
    header_pairs,
    header_source,
    header_text,
    is_text,
    octets_of,
    readable,
)
from drainer.duplicates.classes import EntrySummary, Fingerprint
from drainer.ledger.records import KIN_BYTES, MARK, recipient_key
from drainer.pickles.standins import Header, Message
from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.text.foreign import clean

RULES = 2
"""First byte of every digest. Raise it with any change to what goes into one: digests of two rules never match."""

_DIGEST_BYTES = 15
_NAME_BYTES = KIN_BYTES - 1
_BODY_BYTES = _DIGEST_BYTES - _NAME_BYTES
_RULES_OCTET = bytes((RULES,))
_SHORT = 256
_SHORT_LENGTHS = tuple(size.to_bytes(8, "big") for size in range(_SHORT))
_EPOCH = datetime_date(1970, 1, 1).toordinal()
_MONTHS = {
    name: number for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)
}
_USUAL_DATE = re.compile(
    rf"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), )?([0-9]{{1,2}}) ({'|'.join(_MONTHS)}) ([12][0-9]{{3}})"
    r" ([0-9]{2}):([0-9]{2}):([0-9]{2}) (\+|-(?!0000))([0-9]{2})([0-9]{2})(?: \([A-Z]{1,5}\))?\Z"
)
"""As RFC 5322 §3.3 has it. "-0000" says that the zone is not known, and is left to parsedate_tz."""
_MADE_BY_MAILMAN = re.compile(r"<mailman\.[0-9]+\.[0-9]+\.[0-9]+\.[^@]*@")
_RECEIVED_BY = re.compile(r"\sby\s+([A-Za-z0-9.-]{1,255})", re.IGNORECASE)
_WORDS = re.compile(r"[a-z0-9]+")
_PROGRAMS = frozenset(
    "root daemon cron anacron nobody noreply donotreply mailer postmaster majordomo listserv listmaster bounce bounces "
    "apache nginx httpd backup nagios icinga zabbix munin prometheus alertmanager grafana jenkins buildbot robot bot "
    "notification notifications notifier alert alerts monitor monitoring automailer autoresponder".split()
)
"""Words in a local part that name a program rather than a person: RFC 5230 §4.6, Debian's system accounts, and the usual
senders of monitoring, backup and build systems."""
_PROGRAM_PHRASES = ("no-reply", "do-not-reply", "mailer-daemon", "www-data")
_PROGRAM_HEADERS = ("x-cron-env", "x-auto-response-suppress", "x-autoreply", "x-autorespond", "feedback-id")
_NOT_OF_A_COPY = frozenset({"received_time", "version", "_parsemsg", "_bak_count", "filebase", "whichq"})
_NESTING_AT_MOST = 8
_PLAIN = frozenset({str, bytes, int, float, bool, datetime})


@dataclass(frozen=True, slots=True)
class Decoration:
    """A list's header and footer as bulk delivery would have inserted them, substitutions made; "" for none.

    header, footer            in the text of a plain message
    part_header, part_footer  as parts of their own, where a charset lost some of it on the way; None: the same
    """

    header: str
    footer: str
    part_header: str | None = None
    part_footer: str | None = None


def fingerprint(entry: QueueEntry, decoration: Decoration | None = None) -> Fingerprint:
    """The digests of an entry.

    decoration  what to take out of an entry that is decorated already; ignored for others. Where it does not fit (the
                footer was changed meanwhile) the text stays as it is
    """
    return _Reader(entry).fingerprint(decoration)


def summarise(entry: QueueEntry, decoration: Decoration | None = None) -> EntrySummary:
    """What the index keeps of an entry. `when_s` is the received time in its name, which has to be an entry's."""
    reader = _Reader(entry)
    return EntrySummary(
        filebase=entry.filebase,
        when_s=float(entry.filebase.partition("+")[0]),
        flavour=entry.flavour,
        list_id=entry.list_shown,
        message_id=readable(reader.message_id),
        sender=clean(readable(reader.author)),
        subject=clean(readable(header_text(reader.headers.get("subject")))),
        size_bytes=len(entry.raw),
        recipients=len(entry.recipients),
        recipient_keys=b"".join([recipient_key(address) for address in entry.recipients]),
        decorated=reader.is_decorated,
        fingerprint=reader.fingerprint(decoration),
    )


def is_decorated(entry: QueueEntry) -> bool:
    """Whether Mailman has put a list's header and footer into the text of this entry, or would have if the list had any."""
    return _Reader(entry).is_decorated


def message_id_keys(list_id: str, message_id: str) -> tuple[bytes, ...]:
    """Fingerprint.message_id of a message that may be a post, a digest or a notice of this list."""
    name = octets_of(message_id.replace(" ", ""))
    return tuple(
        _digest(b"message-id", octets_of(f"{list_id.lower()}\0{role}"), name) for role in ("list", "digest", "notice")
    )


def is_automated(headers: Mapping[str, object], author: str) -> bool:
    """A program's mail, by its own declaration or by the name it writes under.

    headers  lower-case name to value, as canonical.first_headers gives them
    Source   RFC 3834 §5 (Auto-Submitted), RFC 5230 §4.6; a Precedence of bulk or junk is the author's own, Mailman's is list
    """
    submitted = header_text(headers.get("auto-submitted")).lower()
    if submitted and not submitted.startswith("no"):
        return True
    if header_text(headers.get("precedence")).lower() in ("bulk", "junk"):
        return True
    if header_source(headers.get("return-path")).strip() == "<>" or any(name in headers for name in _PROGRAM_HEADERS):
        return True
    if header_source(headers.get("content-type")).lstrip().lower().startswith("multipart/report"):
        return True
    local = author.partition("@")[0].lower()
    return not _PROGRAMS.isdisjoint(_WORDS.findall(local)) or any(phrase in local for phrase in _PROGRAM_PHRASES)


def undecorated(leaves: tuple[Leaf, ...], decoration: Decoration) -> tuple[Leaf, ...]:
    """The leaves without the list's header and footer, wherever bulk delivery puts them: around the text of a plain
    message, or as first and last part. Leaves that do not have them there stay as they are.
    """
    if len(leaves) == 1 and leaves[0].kind == "text/plain":
        text = _without_footer(_without_header(leaves[0].content, decoration.header), decoration.footer)
        return (Leaf(leaves[0].kind, leaves[0].name, text),)
    header = decoration.header if decoration.part_header is None else decoration.part_header
    footer = decoration.footer if decoration.part_footer is None else decoration.part_footer
    if header and leaves and is_text(leaves[0]) and leaves[0].content == canonical_text(octets_of(header)):
        leaves = leaves[1:]
    if footer and leaves and is_text(leaves[-1]) and leaves[-1].content == canonical_text(octets_of(footer)):
        leaves = leaves[:-1]
    return leaves


def _without_header(text: bytes, header: str) -> bytes:
    """Blank lines that end the header are its own; those that begin the body behind it are the body's."""
    lines = canonical_lines(octets_of(header))
    if not lines:
        return text
    if not lines.endswith(b"\n"):
        lines += b"\n"
    if text.startswith(lines):
        return text[len(lines) :]
    return b"" if text == canonical_text(lines) else text


def _without_footer(text: bytes, footer: str) -> bytes:
    lines = canonical_text(octets_of(footer))
    if lines and (text == lines or text.endswith(b"\n" + lines)):
        return canonical_text(text[: -len(lines)])
    return text


class _Reader:
    """Looks up once what several digests need."""

    def __init__(self, entry: QueueEntry) -> None:
        self.entry = entry
        self.metadata = entry.metadata
        self.message = entry.message
        self.headers = first_headers(self.message)
        self.message_id = header_text(self.headers.get("message-id"))
        self.role = self._role()
        self.author = self._author()
        self.is_decorated = self._is_decorated()

    def fingerprint(self, decoration: Decoration | None) -> Fingerprint:
        scope = octets_of(f"{self.entry.list_id.lower()}\0{self.role}")
        name = octets_of(self.message_id.replace(" ", ""))
        date = utc(header_text(self.headers.get("date")))
        author = octets_of(self.author)
        subject = octets_of(self._subject())
        is_post = self.role in ("list", "owner")
        automated = is_automated(self.headers, self.author)
        called: list[bytes] = []
        if name:
            called.append(_name(b"named", scope, name, date))
        if is_post and author and date and (not automated or self._is_renamed()):
            sender = octets_of(header_text(self.headers.get("from")))
            reply_to = octets_of(header_text(self.headers.get("in-reply-to")))
            called.append(_name(b"dated", scope, author, sender, date, subject, reply_to))
        bodies = self._bodies(decoration)
        identity = [called_so + _said(body) for body in bodies for called_so in called]
        if is_post:
            identity += self._named_as_enclosed(scope)
        received = _received_time(self.metadata.get("received_time"))
        if received and name:
            identity.append(_name(b"received", scope, received, name) + _said())
        elif received and is_post and author and date:
            identity.append(_name(b"received-dated", scope, received, author, date, subject) + _said())
        elif received:
            identity.append(_name(b"received-body", scope, received, bodies[-1]) + _said())
        copy = self._copy(scope, bodies[0])
        if not identity:
            when, _, _ = self.entry.filebase.partition("+")
            identity.append(_name(b"only-file", copy, octets_of(when)) + _said())
        if self.is_decorated:
            identity += [called_so + _marked(bodies[0]) for called_so in called]
        return Fingerprint(
            identity=tuple(dict.fromkeys(identity)),
            resend=_digest(b"resend", scope, author, subject, bodies[-1])
            if is_post and author and not automated and not self._is_anonymous()
            else None,
            message_id=_digest(b"message-id", scope, name) if name else None,
            copy=copy,
        )

    def _bodies(self, decoration: Decoration | None) -> list[bytes]:
        """Digest of the body as it is, and of the one without header and footer where those were found."""
        leaves = canonical_leaves(self.message, len(self.entry.raw), self.headers)
        if leaves is None:
            return [_digest(b"unwalkable", self.entry.raw[: self.entry.message_bytes])]
        bodies = [_body(leaves)]
        if decoration and self.is_decorated:
            stripped = undecorated(leaves, decoration)
            if stripped != leaves:
                bodies.append(_body(stripped))
        return bodies

    def _copy(self, scope: bytes, body: bytes) -> bytes:
        lines: list[str] = []
        left = 2 * len(self.entry.raw)
        for name, value in header_pairs(self.message):
            text = value if type(value) is str else header_source(value)
            left -= len(name) + len(text)
            if left < 0:
                break
            lines += (name, text)
        show = _Shower(len(self.entry.raw)).shown
        facts = [f"{key}={show(self.metadata[key])}" for key in sorted(self.metadata) if key not in _NOT_OF_A_COPY]
        return _digest(b"copy", scope, body, octets_of("\n".join(lines)), octets_of("\n".join(facts)))

    def _role(self) -> str:
        metadata = self.metadata
        if metadata.get("isdigest"):
            return "digest"
        if metadata.get("toowner") or metadata.get("to_owner"):
            return "owner"
        if metadata.get("tolist") or metadata.get("to_list"):
            return "list"
        return "notice"

    def _author(self) -> str:
        author = self.metadata.get("original_sender")
        if isinstance(author, str) and author:
            return author.lower()
        sender = header_text(self.headers.get("from"))
        _, address = email.utils.parseaddr(sender[:2000])
        return (address or sender).lower()

    def _subject(self) -> str:
        for key in ("origsubj", "original_subject"):
            subject = self.metadata.get(key)
            if isinstance(subject, str | Header):
                return header_text(subject)
        return header_text(self.headers.get("subject"))

    def _is_decorated(self) -> bool:
        if self.entry.flavour is Flavour.MAILMAN2:
            return bool(self.metadata.get("decorated"))
        return self.role == "list" and bool(self.metadata.get("nodecorate"))

    def _is_anonymous(self) -> bool:
        """Mailman 3 gives every post of an anonymous list the list itself as its author, so nobody can send it again."""
        return self.author.replace("@", ".", 1) == self.entry.list_id.lower()

    def _is_renamed(self) -> bool:
        """The Message-ID is not the sender's: there is none, Mailman made it, or a host that took the mail in did."""
        if not self.message_id or _MADE_BY_MAILMAN.match(self.message_id) or self._is_anonymous():
            return True
        host = self.message_id.rpartition("@")[2].rstrip(">").lower()
        for value in all_values(self.message, "received"):
            text = header_source(value)[:2000]
            taken_in_by = _RECEIVED_BY.search(text) if text.lstrip().lower().startswith("from") else None
            if taken_in_by and taken_in_by[1].lower() == host:
                return True
        return False

    def _enclosed(self) -> Message | None:
        """The mail that Mailman has wrapped against DMARC, as it was: under its own Message-ID and the same Date."""
        payload = self.message.attribute("_payload")
        if not isinstance(payload, list):
            return None
        kind = header_source(self.headers.get("content-type")).partition(";")[0].strip().lower()
        enclosing = [self.message] if kind == "message/rfc822" else payload if kind == "multipart/mixed" else []
        for part in enclosing:
            inside = part.attribute("_payload") if isinstance(part, Message) else None
            if not (isinstance(inside, list) and len(inside) == 1 and isinstance(inside[0], Message)):
                continue
            headers = first_headers(inside[0])
            date = utc(header_text(headers.get("date")))
            if date and date == utc(header_text(self.headers.get("date"))) and header_text(headers.get("message-id")):
                return inside[0]
        return None

    def _named_as_enclosed(self, scope: bytes) -> list[bytes]:
        """The digest the mail would have if it had not been wrapped. What a list puts around it is outside the wrapping."""
        if (enclosed := self._enclosed()) is None:
            return []
        headers = first_headers(enclosed)
        leaves = canonical_leaves(enclosed, len(self.entry.raw), headers)
        name = octets_of(header_text(headers.get("message-id")).replace(" ", ""))
        date = utc(header_text(headers.get("date")))
        return [] if leaves is None else [_name(b"named", scope, name, date) + _said(_body(leaves))]


def _name(purpose: bytes, *parts: bytes) -> bytes:
    """The first half of a digest: what the mail is called."""
    return _RULES_OCTET + blake2b(_framed(parts), digest_size=_NAME_BYTES, person=purpose).digest()


def _said(body: bytes = b"") -> bytes:
    """The second half: what it says."""
    half = blake2b(body, digest_size=_BODY_BYTES, person=b"said").digest()
    return half[:-1] + bytes((half[-1] & ~MARK,))


def _marked(body: bytes) -> bytes:
    half = blake2b(body, digest_size=_BODY_BYTES, person=b"marked").digest()
    return half[:-1] + bytes((half[-1] | MARK,))


def _digest(purpose: bytes, *parts: bytes) -> bytes:
    return _RULES_OCTET + blake2b(_framed(parts), digest_size=_DIGEST_BYTES, person=purpose).digest()


def _framed(parts: Iterable[bytes]) -> bytes:
    framed: list[bytes] = []
    for part in parts:
        size = len(part)
        framed += (_SHORT_LENGTHS[size] if size < _SHORT else size.to_bytes(8, "big"), part)
    return b"".join(framed)


def _body(leaves: tuple[Leaf, ...]) -> bytes:
    parts: list[bytes] = []
    for leaf in leaves:
        parts += (octets_of(leaf.kind), octets_of(leaf.name), leaf.content)
    return _digest(b"body", *parts)


def utc(date: str) -> bytes:
    """A Date as seconds since the epoch, so that a relay may write it differently; as it stands if it is no date."""
    if usual := _USUAL_DATE.match(date):  # comes to what parsedate_tz makes of it, in less time
        day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = usual.groups()
        days = datetime_date(int(year), _MONTHS[month], 1).toordinal() - _EPOCH + int(day) - 1
        zone_s = int(zone_hours) * 3600 + int(zone_minutes) * 60
        utc_s = days * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second) + (zone_s if sign == "-" else -zone_s)
        return b"%d" % utc_s
    try:
        fields = email.utils.parsedate_tz(date[:200])
        if fields:
            return str(email.utils.mktime_tz(fields)).encode()
    except (ValueError, OverflowError, TypeError, IndexError):
        pass
    return octets_of(date)


def _received_time(value: object) -> bytes:
    if isinstance(value, float | int) and not isinstance(value, bool):
        return repr(float(value)).encode()
    return value.isoformat().encode() if isinstance(value, datetime) else b""


class _Shower:
    """Metadata values as text that is equal for equal values, whatever order a set or dictionary was pickled in.

    values_at_most  more than an honest entry can have, such as its size: a pickle may refer to one list a million times
    """

    def __init__(self, values_at_most: int) -> None:
        self._left = values_at_most

    def shown(self, value: object, nesting: int = 0) -> str:
        if value is None or type(value) in _PLAIN:
            return repr(value)
        if isinstance(value, Header):
            return header_source(value)
        if nesting >= _NESTING_AT_MOST or not isinstance(value, list | tuple | set | frozenset | dict):
            return type(value).__name__
        self._left -= len(value) + 1
        if self._left < 0:
            return "..."
        inner = nesting + 1
        if isinstance(value, dict):
            return ",".join(sorted(f"{self.shown(k, inner)}:{self.shown(v, inner)}" for k, v in value.items()))
        parts = (
            list(map(repr, value))
            if _PLAIN.issuperset(map(type, value))
            else [self.shown(item, inner) for item in value]
        )
        return ",".join(sorted(parts) if isinstance(value, set | frozenset) else parts)

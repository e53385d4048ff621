"""What a message is: digests that stay the same when it is resubmitted, restored or retried.

In    a QueueEntry; if Mailman has decorated it, also the header and footer that are in its text already
Out   a Fingerprint
Pure  no file, no clock

Two entries are the same message if they share any identity digest. Every identity digest contains the list and the role of
the mail on it (post, mail to the owners, digest, notice): a mail to a list and to its owners, or to two lists, is two
messages. A digest has three parts: the version of the rules (1 byte), the name half (7 bytes: list, role, Message-ID, Date
and the like) and the body half (8 bytes). Its first eight bytes find all mails of the same name in the index and in the
ledger, whatever their bodies. That is how a mail and its decorated copy are found when nothing shows that their bodies are
the same.
  named     body + Message-ID + Date. The Date is included because devices and scripts send the same text under the same
            Message-ID day after day; a resubmitted mail keeps its Date. A post that Mailman has wrapped against DMARC gets
            a new Message-ID at each passage, so it also gets the digest of the mail inside.
  dated     posts only: body + author + From + Date + Subject + In-Reply-To. It finds copies to which a list or a relay
            gave a new Message-ID. One copy cannot show that the other was renamed, so every post of a person has it.
            A program may send the same text twice in a second, so a program's post has it only if its Message-ID is
            not its own. (From distinguishes people who post through one address of a forum or ticket system.)
  marked    only if Mailman has decorated the mail: the body as it is, with the last bit set. The ledger keeps it for
            finished entries: the body may be that of a mail with which it shares no other digest (classes.py, UNDECIDED).
  received  received_time + Message-ID (posts without one: author + Date + Subject). "received_time stays with a mail for
            life" in 2.1, and Mailman 3 sets it when a post arrives. The body is left out: a retry copy is decorated.
  only-file where none of these can be made: the same metadata and content under the same time in the name, so that the
            ledger still recognises the entry itself after a restart.
An original mistaken for a copy would be lost; a copy mistaken for an original is only a second mail. So missing information
gives fewer digests, never more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

from drainer.compiled import python_class
from drainer.duplicates.canonical import (
    Leaf,
    canonical_date,
    canonical_leaves,
    first_headers,
    header_pairs,
    header_source,
    header_text,
    octets_of,
)
from drainer.duplicates.decoration import Decoration, undecorated
from drainer.duplicates.mail_facts import MailFacts
from drainer.ledger.records import DECORATED_BIT, KIN_BYTES
from drainer.pickles.standins import Header
from drainer.queuedir.entry import QueueEntry

RULES = 2
"""First byte of every digest. Raise it with any change to what goes into one: digests of two rules never match."""

_DIGEST_BYTES = 15
_NAME_BYTES = KIN_BYTES - 1
_BODY_BYTES = _DIGEST_BYTES - _NAME_BYTES
_RULES_OCTET = bytes((RULES,))
_SHORT = 256
_SHORT_LENGTHS = tuple(size.to_bytes(8, "big") for size in range(_SHORT))
_DIFFERS_BETWEEN_COPIES = frozenset({"received_time", "version", "_parsemsg", "_bak_count", "filebase", "whichq"})
_NESTING_AT_MOST = 8
_PLAIN = frozenset({str, bytes, int, float, bool, datetime})


@python_class
@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a message is. Every digest has 16 bytes and begins with the version of the rules that made it.

    identity    two entries carry the same message if they share any of these
    resend      list + author + subject + canonical body; None where a resend looks like routine mail (notices)
    message_id  list + Message-ID; None if the mail has none
    copy        identity and metadata together: equal for an entry and its restored backup
    """

    identity: tuple[bytes, ...]
    resend: bytes | None
    message_id: bytes | None
    copy: bytes

    def __reduce__(self) -> tuple[type[Fingerprint], tuple[object, ...]]:
        # For the pipes between processes: the default pickling of a frozen dataclass takes four times as long.
        return Fingerprint, (self.identity, self.resend, self.message_id, self.copy)


def fingerprint(entry: QueueEntry, decoration: Decoration | None = None) -> Fingerprint:
    """The digests of an entry.

    decoration  what to take out of an entry that is decorated already; ignored for others. Where it does not fit (the
                footer was changed meanwhile) the text stays as it is
    """
    return fingerprint_of(MailFacts(entry), decoration)


def fingerprint_of(facts: MailFacts, decoration: Decoration | None) -> Fingerprint:
    """The same, of an entry whose facts were looked up already."""
    scope = octets_of(f"{facts.entry.list_id.lower()}\0{facts.role}")
    is_automated = facts.is_automated()
    names = _name_halves(facts, scope, is_automated)
    bodies = _body_digests(facts, decoration)
    identity = [name + half for half in map(_body_half, bodies) for name in names]
    if facts.is_post:
        identity += _identity_of_enclosed(facts, scope)
    identity += _received_identity(facts, scope, bodies[-1])
    copy = _copy_digest(facts, scope, bodies[0])
    if not identity:
        when, _, _ = facts.entry.filebase.partition("+")
        identity.append(_name_half(b"only-file", copy, octets_of(when)) + _NO_BODY)
    if facts.is_decorated:
        marked = _marked_body_half(bodies[0])
        identity += [name + marked for name in names]
    has_resend = facts.is_post and bool(facts.author) and not is_automated and not facts.is_anonymous()
    message_id = _octets_of_id(facts.message_id)
    return Fingerprint(
        identity=tuple(dict.fromkeys(identity)),
        resend=_digest(b"resend", scope, octets_of(facts.author), octets_of(facts.subject), bodies[-1])
        if has_resend
        else None,
        message_id=_digest(b"message-id", scope, message_id) if message_id else None,
        copy=copy,
    )


def message_id_keys(list_id: str, message_id: str) -> tuple[bytes, ...]:
    """Fingerprint.message_id of a message that may be a post, a digest or a notice of this list."""
    name = _octets_of_id(message_id)
    return tuple(
        _digest(b"message-id", octets_of(f"{list_id.lower()}\0{role}"), name) for role in ("list", "digest", "notice")
    )


def _name_halves(facts: MailFacts, scope: bytes, is_automated: bool) -> list[bytes]:
    """Name halves of the digests "named" and "dated"."""
    names: list[bytes] = []
    date = facts.date
    if message_id := _octets_of_id(facts.message_id):
        names.append(_name_half(b"named", scope, message_id, date))
    if facts.is_post and facts.author and date and (not is_automated or facts.is_renamed()):
        sender = octets_of(facts.sender)
        reply_to = octets_of(header_text(facts.headers.get("in-reply-to")))
        subject = octets_of(facts.subject)
        names.append(_name_half(b"dated", scope, octets_of(facts.author), sender, date, subject, reply_to))
    return names


def _received_identity(facts: MailFacts, scope: bytes, body: bytes) -> list[bytes]:
    """The digest "received", in a list; [] where Mailman set no received time."""
    received = _received_time(facts.metadata.get("received_time"))
    if not received:
        return []
    date, author = facts.date, octets_of(facts.author)
    if message_id := _octets_of_id(facts.message_id):
        name = _name_half(b"received", scope, received, message_id)
    elif facts.is_post and author and date:
        name = _name_half(b"received-dated", scope, received, author, date, octets_of(facts.subject))
    else:
        name = _name_half(b"received-body", scope, received, body)
    return [name + _NO_BODY]


def _identity_of_enclosed(facts: MailFacts, scope: bytes) -> list[bytes]:
    """The digest the mail would have if it were not wrapped. What a list adds stands outside the wrapped mail."""
    if (enclosed := facts.enclosed()) is None:
        return []
    headers = first_headers(enclosed)
    leaves = canonical_leaves(enclosed, len(facts.entry.raw), headers)
    message_id = _octets_of_id(header_text(headers.get("message-id")))
    date = canonical_date(header_text(headers.get("date")))
    return [] if leaves is None else [_name_half(b"named", scope, message_id, date) + _body_half(_body_digest(leaves))]


def _body_digests(facts: MailFacts, decoration: Decoration | None) -> list[bytes]:
    """Digest of the body as it is; and of the body without header and footer, where those were found."""
    leaves = canonical_leaves(facts.message, len(facts.entry.raw), facts.headers)
    if leaves is None:
        return [_digest(b"unwalkable", facts.entry.raw[: facts.entry.message_bytes])]
    bodies = [_body_digest(leaves)]
    if decoration and facts.is_decorated:
        stripped = undecorated(leaves, decoration)
        if stripped != leaves:
            bodies.append(_body_digest(stripped))
    return bodies


def _copy_digest(facts: MailFacts, scope: bytes, body: bytes) -> bytes:
    lines: list[str] = []
    left = 2 * len(facts.entry.raw)
    for name, value in header_pairs(facts.message):
        text = value if type(value) is str else header_source(value)
        left -= len(name) + len(text)
        if left < 0:
            break
        lines += (name, text)
    metadata = facts.metadata
    text_of = _ValueText(len(facts.entry.raw)).text_of
    values = [f"{key}={text_of(metadata[key])}" for key in sorted(metadata) if key not in _DIFFERS_BETWEEN_COPIES]
    return _digest(b"copy", scope, body, octets_of("\n".join(lines)), octets_of("\n".join(values)))


def _octets_of_id(message_id: str) -> bytes:
    return octets_of(message_id.replace(" ", ""))


def _name_half(purpose: bytes, *parts: bytes) -> bytes:
    """The version of the rules and the name half of a digest."""
    return _RULES_OCTET + blake2b(_framed(parts), digest_size=_NAME_BYTES, person=purpose).digest()


def _body_half(body: bytes) -> bytes:
    half = blake2b(body, digest_size=_BODY_BYTES, person=b"said").digest()
    return half[:-1] + bytes((half[-1] & ~DECORATED_BIT,))


_NO_BODY = _body_half(b"")


def _marked_body_half(body: bytes) -> bytes:
    half = blake2b(body, digest_size=_BODY_BYTES, person=b"marked").digest()
    return half[:-1] + bytes((half[-1] | DECORATED_BIT,))


def _digest(purpose: bytes, *parts: bytes) -> bytes:
    return _RULES_OCTET + blake2b(_framed(parts), digest_size=_DIGEST_BYTES, person=purpose).digest()


def _framed(parts: Iterable[bytes]) -> bytes:
    framed: list[bytes] = []
    for part in parts:
        size = len(part)
        framed += (_SHORT_LENGTHS[size] if size < _SHORT else size.to_bytes(8, "big"), part)
    return b"".join(framed)


def _body_digest(leaves: tuple[Leaf, ...]) -> bytes:
    parts: list[bytes] = []
    for leaf in leaves:
        parts += (octets_of(leaf.kind), octets_of(leaf.name), leaf.content)
    return _digest(b"body", *parts)


def _received_time(value: object) -> bytes:
    if isinstance(value, float | int) and not isinstance(value, bool):
        return repr(float(value)).encode()
    return value.isoformat().encode() if isinstance(value, datetime) else b""


class _ValueText:
    """Metadata values as text, equal for equal values in whatever order a set or dictionary was pickled.

    values_at_most  more than an honest entry can have, such as its size: a pickle may refer to one list a million times
    """

    def __init__(self, values_at_most: int) -> None:
        self._left = values_at_most

    def text_of(self, value: object, nesting: int = 0) -> str:
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
            return ",".join(sorted(f"{self.text_of(k, inner)}:{self.text_of(v, inner)}" for k, v in value.items()))
        parts = (
            list(map(repr, value))
            if _PLAIN.issuperset(map(type, value))
            else [self.text_of(item, inner) for item in value]
        )
        return ",".join(sorted(parts) if isinstance(value, set | frozenset) else parts)

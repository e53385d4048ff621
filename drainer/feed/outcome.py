"""What the replies, or their absence, mean for each recipient of one transaction.

In    the reply to MAIL, RCPT, DATA or the final dot, or the SessionLost that came in its place
Out   a Meaning: DELIVERED, DEFERRED, FAILED or IN_DOUBT, and what is to blame: a recipient, the message, the session
Pure  no socket, no clock, no ledger

A connection lost once the final dot may be out is IN_DOUBT, never DEFERRED: the MTA may own the message, and a second
try would make the very duplicate this project exists to prevent (RFC 1047; RFC 5321 §6.1). If it is lost earlier, the MTA
owns nothing (RFC 5321 §4.1.1.4: only the end of mail data makes it process the message), and the entry is not to blame.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from drainer.compiled import python_class
from drainer.errors import EntryError, MtaError
from drainer.ledger.states import State
from drainer.text.foreign import clean

_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s+|\Z)")
_LONGEST_TEXT = 500

_MTA_STATE_CODES = frozenset({421, 500, 502, 503, 521, 530, 534, 535, 538})
"""Refusals of the session rather than of the mail: closing, command unknown, not implemented or out of sequence, host
takes no mail, authentication or encryption wanted (RFC 5321 §4.2.3; RFC 4954 §6; RFC 7504)."""

_STORAGE_EXCEEDED = 552
"""Temporary at every step, as Mailman 2.1 and 3 treat it: at RCPT servers with a limit on recipients answer it from RFC
821's times (RFC 5321 §4.5.3.1.10), after the final dot it is a full mailbox more often than a mail too large. The latter
is then tried until feed.give_up_after, which costs time and loses nothing."""

_RECIPIENT_LIMIT_CODES = frozenset({450, 451, 452, 550, 552, 554})
_RECIPIENT_LIMIT = re.compile(
    r"(?i)\btoo many (?:recipients|rcpts?)\b|\b(?:recipients?|rcpt) (?:count |number )?limit\b"
    r"|\bmaximum (?:number of )?recipients\b"
)
_MAILBOX_OR_DISK = re.compile(r"(?i)\bmail ?box|\bquota|\bstorage|\bdisk|\bspace\b|\bfull\b")

_RELAY_REFUSED = re.compile(
    r"(?i)\brelay(?:ing)?\b[^<>]{0,60}\b(?:denied|not permitted|not allowed|prohibited|refused|rejected|disabled)\b"
    r"|\b(?:unable|not permitted|not allowed|not authori[sz]ed|cannot|can't|do not|don't|will not|won't|no)"
    r"\b[^<>]{0,30}\brelay(?:ing)?\b"
    r"|\brcpthosts\b|\bauthentication (?:is )?required\b|\bmust (?:first )?authenticate\b|\bnot logged in\b"
)
"""The MTA will not relay for this host, in the words of Postfix, Exim, Sendmail, qmail, Courier, OpenSMTPD and Exchange."""
_QUOTED_ADDRESS = re.compile(r"<[^<>]*>")
_REPLY_OF_POLICY = re.compile(r"5[0-9]{2} (?!5\.(?!7\.))")

ACCEPTED = frozenset({250, 251, 252})
"""Replies to RCPT that accept the recipient (RFC 5321 §4.3.2)."""

_NO_ANSWER_TO_FINAL_DOT = frozenset({211, 214, 220, 221, 235})
"""Positive replies that belong to other commands: HELP, greeting, QUIT, AUTH (RFC 5321 §4.3.2)."""


class Stage(StrEnum):
    """Where in a session something happened. FINAL_DOT begins before the write that may carry the final dot."""

    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "content"
    FINAL_DOT = "final dot"
    RESET = "RSET"
    QUIT = "QUIT"


class Blame(StrEnum):
    """What a refusal is about. Each belongs to exactly one.

    RECIPIENT  one address
    MESSAGE    its reverse-path or its content: the MTA would refuse it for any recipient
    SESSION    the session or the MTA's own state: the same mail may go in the next session
    """

    RECIPIENT = "recipient"
    MESSAGE = "message"
    SESSION = "session"


class ContentRefused(EntryError):
    """The MTA refuses the message itself for good, and Mailman would blame no recipient for that."""

    reason = "content_refused"


class SessionLost(MtaError):
    """The session ended, sent nothing, or sent nonsense where a reply was due; it is closed.

    stage   where; `in_doubt` is True when the MTA may own the message
    """

    def __init__(self, stage: Stage, detail: str) -> None:
        super().__init__(f"session lost at {stage}: {detail}")
        self.stage = stage
        self.detail = clean(detail)

    @property
    def in_doubt(self) -> bool:
        return self.stage is Stage.FINAL_DOT


@python_class
@dataclass(frozen=True, slots=True)
class Reply:
    """The server's answer (RFC 5321 §4.2).

    code      three digits
    enhanced  enhanced status code "5.1.1" (RFC 3463), "" if the server gave none
    text      the rest, printable and on one line
    """

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        return " ".join(filter(None, (str(self.code), self.enhanced, self.text)))


@python_class
@dataclass(frozen=True, slots=True)
class Meaning:
    """What became of a recipient.

    state  DELIVERED, DEFERRED, FAILED or IN_DOUBT
    reply  the server's words, or ours in their place
    blame  what a refusal is about
    """

    state: State
    reply: str
    blame: Blame = Blame.RECIPIENT

    @property
    def blames_entry(self) -> bool:
        """False: the MTA's state; try again once it is better, and count no attempt against the entry."""
        return self.blame is not Blame.SESSION


def parse_reply(code: int, text: str) -> Reply:
    """A Reply from a reply code and the text behind it.

    text     as received; lines joined by newlines, undecodable octets as surrogates
    Raises   ValueError if the code is none of RFC 5321 §4.2 (200 to 599)
    """
    if not 200 <= code <= 599:
        raise ValueError(f"no reply code: {code}")
    enhanced = ""
    match = _ENHANCED.match(text)
    if match and match[1][0] == str(code)[0]:
        enhanced = match[1]
        text = text[match.end() :].replace("\n" + enhanced + " ", "\n")
    return Reply(code, enhanced, clean(text.replace("\n", " "), _LONGEST_TEXT).strip())


def after_mail(reply: Reply) -> Meaning | None:
    """What the reply to MAIL means for all recipients; None: go on with RCPT."""
    if reply.code == 250:
        return None
    return _refusal(reply, Blame.MESSAGE)


def after_rcpt(reply: Reply) -> Meaning | None:
    """What the reply to RCPT means for its recipient; None: accepted."""
    if reply.code in ACCEPTED:
        return None
    return _refusal(reply, Blame.RECIPIENT)


def is_recipient_limit(reply: Reply) -> bool:
    """Whether a reply to RCPT says that the transaction has too many recipients: a limit of the transaction, and no fault of
    this recipient. True only for a reply that says so, by its enhanced code (x.5.3) or in words.

    Source  RFC 5321 §4.5.3.1.10 (452, formerly 552), RFC 3463 §3.6 (x.5.3), the words of Postfix, Exim, Sendmail, Exchange
    """
    if reply.code not in _RECIPIENT_LIMIT_CODES:
        return False
    return reply.enhanced.endswith(".5.3") or _RECIPIENT_LIMIT.search(reply.text) is not None


def may_be_recipient_limit(reply: Reply) -> bool:
    """Whether a reply to RCPT can stand for that limit where nothing but such replies follows: a bare 452 or 552."""
    return reply.code in (452, 552) and not reply.enhanced and not _MAILBOX_OR_DISK.search(reply.text)


def after_data(reply: Reply) -> Meaning | None:
    """What the reply to DATA means for the recipients accepted so far; None: send the content (354)."""
    if reply.code == 354:
        return None
    return _refusal(reply, Blame.MESSAGE)


def after_final_dot(reply: Reply) -> Meaning:
    """What the reply to the final dot means for the recipients of the content.

    A positive reply that belongs to another command, or an intermediate one, says nothing about the message: IN_DOUBT.
    """
    kind = reply.code // 100
    if kind == 2 and reply.code not in _NO_ANSWER_TO_FINAL_DOT:
        return Meaning(State.DELIVERED, str(reply))
    if reply.code == 421:
        return Meaning(State.DEFERRED, str(reply), Blame.SESSION)
    if kind == 4 or reply.code == _STORAGE_EXCEEDED:
        return Meaning(State.DEFERRED, str(reply), Blame.MESSAGE)
    if kind == 5:
        return Meaning(State.FAILED, str(reply), Blame.MESSAGE)
    return Meaning(State.IN_DOUBT, f"out-of-turn reply to the final dot: {reply}")


def after_loss(lost: SessionLost) -> Meaning:
    """What a lost session means for the recipients that were not refused before."""
    if lost.in_doubt:
        return Meaning(State.IN_DOUBT, str(lost))
    return Meaning(State.DEFERRED, str(lost), Blame.SESSION)


def is_relay_refusal(reply: str) -> bool:
    """Whether a reply, as `str` of a Reply gives it, says that the MTA does not relay for us: a 5xx with an enhanced code of
    security or policy (5.7.x; RFC 3463 §3.8), or none, in words that speak of relaying or logging in.

    Never a property of the recipient, so no recipient fails for it: it defers, as Postfix's own default has been since 2.10
    (defer_unauth_destination), and is tried again until feed.give_up_after.
    """
    words = _QUOTED_ADDRESS.sub("<>", reply)
    return _REPLY_OF_POLICY.match(words) is not None and _RELAY_REFUSED.search(words) is not None


def blames_recipient(reply: str) -> bool:
    """Whether a deferral's reply was an answer about the recipient, and not the MTA's own state or a lost session."""
    code = reply[:3]
    return code.isascii() and code.isdigit() and int(code) not in _MTA_STATE_CODES


def _refusal(reply: Reply, blame: Blame) -> Meaning:
    """A reply before the content that does not let it go on; a reply out of turn blames the session."""
    if reply.code in _MTA_STATE_CODES or reply.code < 400:
        return Meaning(State.DEFERRED, str(reply), Blame.SESSION)
    is_temporary = reply.code < 500 or reply.code == _STORAGE_EXCEEDED or is_relay_refusal(str(reply))
    return Meaning(State.DEFERRED if is_temporary else State.FAILED, str(reply), blame)

"""How many transactions the MTA takes in one session, learnt from how it ends sessions.

In    replies; sessions that the MTA ended, with the number of transactions they had carried; the time
Out   after how many transactions a session is renewed; the same as octets, for the ledger
Pure  values only

A limit of the session is no fault of the mail that meets it: that mail goes at once, in another session. A reply in words
that say so is certain. A session that is only ended (a bare 421, a hang-up between two mails, a bare 452) proves
nothing: servers end sessions for many reasons. Two that end after the same number in a row are taken for a limit. One that
is ended earlier than a limit learnt so, without words, shows that there is none.
An hour after a limit was met last, one session is let beyond it: a limit that was raised is found, and one that still
stands costs one refused MAIL. A limit is forgotten after a week, or when another MTA is fed.

Source  RFC 5321 §3.8; RFC 9422 (LIMITS MAILMAX); the words that SAYS_SO names
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

from drainer.feed.outcome import Reply

KEPT_AS = "session_limit"
"""Under this name the ledger keeps it."""

FORGOTTEN_AFTER_S = 7 * 86_400.0
PROBED_AFTER_S = 3600.0

SAYS_SO = re.compile(
    r"(?i)\btoo many (?:messages|mails|e-?mails|transactions)\b[^<>]{0,40}\b(?:connection|session|sent)\b"
    r"|\bmax(?:imum)?\b[^<>]{0,30}\b(?:messages?|mails?|transactions?)\b[^<>]{0,30}\b(?:connection|session)\b"
    r"|\b(?:message|mail|transaction) limit\b[^<>]{0,30}\b(?:connection|session)\b"
    r"|\bbatch limit reached\b"
)
"""The words of, in this order of replies:
    421 too many messages in this connection                      Exim, src/smtp_in.c (smtp_accept_max_per_connection)
    452 4.5.3 Too many recipients: Too many messages sent         OpenSMTPD, smtp_session.c (limit max-mails, 100)
    421 Connection closed by server. Maximum message count per session reached.   Amazon SES
    452 4.5.3 Service unavailable, batch limit reached            SparkPost and Momentum, table of responses
    421 4.7.0 Too many messages this session, closing connection  several small servers
Rates are not meant: Postfix's "too much mail from" and Exchange's "submission rate" hold in the next session too.
"""
_CODES = frozenset({421, 450, 451, 452})
_SAYS_OTHERWISE = re.compile(
    r"(?i)\bstorage|\bdisk|\bspace\b|\bquota|\bgr[ea]y-?list|\brate\b|\btoo much mail|\bmailbox"
)


def is_session_limit(reply: Reply, *, at_mail: bool) -> bool:
    """Whether a reply says that the session has carried enough.

    at_mail  it answers MAIL, where 4.5.3 (too many recipients) can mean nothing else
    """
    if reply.code not in _CODES:
        return False
    return SAYS_SO.search(reply.text) is not None or (at_mail and reply.code != 421 and reply.enhanced == "4.5.3")


def may_be_session_limit(reply: Reply) -> bool:
    """Whether a reply to MAIL, in a session that has carried mail before, may stand for that limit: a 451 or 452 that gives
    no other reason. A mail refused so in a session that has carried nothing yet is refused itself."""
    return reply.code in (451, 452) and not reply.enhanced and not _SAYS_OTHERWISE.search(reply.text)


def announced_limits(text: str) -> dict[str, int]:
    """Limits of an EHLO reply's LIMITS, such as "MAILMAX=10 RCPTMAX=100": those that are numbers above zero.

    Source  RFC 9422 §3
    """
    items = (item.partition("=") for item in text.upper().split())
    return {name: int(value) for name, _, value in items if re.fullmatch(r"0*[1-9][0-9]{0,5}", value)}


@dataclass(frozen=True, slots=True)
class SessionLimit:
    """What is known of one MTA.

    mta        "host:port"
    most       transactions that a session carries; 0: no limit is known
    is_said    the MTA said so in words
    suspected  transactions of the last session that ended without words; 0: none did
    met_at_s   when the limit was last met, seconds since the epoch
    probed_at_s  when a session was last let beyond it
    """

    mta: str = ""
    most: int = 0
    is_said: bool = False
    suspected: int = 0
    met_at_s: float = 0.0
    probed_at_s: float = 0.0

    def renew_after(self, mta: str, now_s: float) -> int:
        """Transactions after which a session is renewed; 0: no limit is known."""
        is_known = mta == self.mta and 0 <= now_s - self.met_at_s < FORGOTTEN_AFTER_S
        return self.most if is_known else 0

    def wants_probe(self, now_s: float) -> bool:
        """Whether a session may go beyond the limit, to see whether it still stands."""
        return self.most > 0 and now_s - max(self.met_at_s, self.probed_at_s) >= PROBED_AFTER_S

    def probed(self, at_s: float) -> SessionLimit:
        """A session is let beyond the limit."""
        return replace(self, probed_at_s=at_s)

    def ended(self, mta: str, transactions: int, at_s: float, *, is_said: bool) -> SessionLimit:
        """The MTA ended a session that had carried `transactions`, at least one.

        is_said  in words that say why
        """
        known = self.renew_after(mta, at_s)
        before = self if mta == self.mta else SessionLimit(mta)
        if is_said:
            return SessionLimit(mta, transactions, True, 0, at_s, at_s)
        if known and transactions == known:
            return replace(before, met_at_s=at_s)
        if known and self.is_said:
            return before  # its limit is known; this session was ended for something else
        if transactions == before.suspected:
            return SessionLimit(mta, transactions, False, 0, at_s, at_s)
        return SessionLimit(mta, suspected=transactions)

    def carried(self, mta: str, transactions: int, now_s: float) -> SessionLimit:
        """A session has carried `transactions` and goes on: beyond the limit, the limit is no more."""
        known = self.renew_after(mta, now_s)
        return SessionLimit(mta) if known and transactions > known else self

    def octets(self) -> bytes:
        return json.dumps([self.mta, self.most, self.is_said, self.met_at_s]).encode("ascii")


def session_limit_from(octets: bytes | None) -> SessionLimit:
    """As `octets` wrote it. Octets that cannot be read are no limit: it is learnt anew."""
    try:
        mta, most, is_said, met_at_s = json.loads(octets or b"")
        return SessionLimit(str(mta), max(0, int(most)), bool(is_said), 0, float(met_at_s))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return SessionLimit()

"""What a mail says of itself: its role on the list, author, subject and Date, and whether a program wrote it.

In    a QueueEntry
Out   MailFacts, from which fingerprint.py makes digests and summary.py makes a summary
Pure  no file, no clock
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping

from drainer.duplicates.canonical import (
    all_values,
    canonical_date,
    first_headers,
    header_source,
    header_text,
)
from drainer.pickles.standins import Header, Message
from drainer.queuedir.entry import Flavour, QueueEntry

_MADE_BY_MAILMAN = re.compile(r"<mailman\.[0-9]+\.[0-9]+\.[0-9]+\.[^@]*@")
_RECEIVED_BY = re.compile(r"\sby\s+([A-Za-z0-9.-]{1,255})", re.IGNORECASE)
_WORDS = re.compile(r"[a-z0-9]+")
_PROGRAMS = frozenset(
    "root daemon cron anacron nobody noreply donotreply mailer postmaster majordomo listserv listmaster bounce bounces "
    "apache nginx httpd backup nagios icinga zabbix munin prometheus alertmanager grafana jenkins buildbot robot bot "
    "notification notifications notifier alert alerts monitor monitoring automailer autoresponder".split()
)
"""Words in a local part that name a program and not a person. Source: RFC 5230 §4.6, Debian's system accounts, and the
usual senders of monitoring, backup and build systems."""
_PROGRAM_PHRASES = ("no-reply", "do-not-reply", "mailer-daemon", "www-data")
_PROGRAM_HEADERS = frozenset({"x-cron-env", "x-auto-response-suppress", "x-autoreply", "x-autorespond", "feedback-id"})


class MailFacts:
    """Facts that several digests need, each looked up once.

    role          "list" (a post), "owner", "digest" or "notice"
    author        address of the author, in lower case
    sender        the From header
    subject       as the author wrote it, without the list's prefix where Mailman kept it
    date          its Date, as canonical_date writes it
    is_decorated  Mailman has put header and footer into the text, or would have if the list had any
    """

    def __init__(self, entry: QueueEntry) -> None:
        self.entry = entry
        self.metadata = entry.metadata
        self.message = entry.message
        self.headers = first_headers(self.message)
        self.message_id = header_text(self.headers.get("message-id"))
        self.date = canonical_date(header_text(self.headers.get("date")))
        self.sender = header_text(self.headers.get("from"))
        self.subject = self._subject()
        self.role = self._role()
        self.author = self._author()
        self.is_decorated = self._is_decorated()

    @property
    def is_post(self) -> bool:
        return self.role in ("list", "owner")

    def is_automated(self) -> bool:
        return is_automated(self.headers, self.author)

    def is_anonymous(self) -> bool:
        """Mailman 3 makes the list itself the author of every post to an anonymous list: no resend can be recognised."""
        return self.author.replace("@", ".", 1) == self.entry.list_id.lower()

    def is_renamed(self) -> bool:
        """The Message-ID is not the sender's: it is missing, or Mailman or a receiving host made it."""
        if not self.message_id or _MADE_BY_MAILMAN.match(self.message_id) or self.is_anonymous():
            return True
        host = self.message_id.rpartition("@")[2].rstrip(">").lower()
        for value in all_values(self.message, "received"):
            text = header_source(value)[:2000]
            taken_in_by = _RECEIVED_BY.search(text) if text.lstrip().lower().startswith("from") else None
            if taken_in_by and taken_in_by[1].lower() == host:
                return True
        return False

    def enclosed(self) -> Message | None:
        """The original inside a mail that Mailman has wrapped against DMARC: another Message-ID, the same Date."""
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
            date = canonical_date(header_text(headers.get("date")))
            if date and date == self.date and header_text(headers.get("message-id")):
                return inside[0]
        return None

    def _subject(self) -> str:
        for key in ("origsubj", "original_subject"):
            subject = self.metadata.get(key)
            if isinstance(subject, str | Header):
                return header_text(subject)
        return header_text(self.headers.get("subject"))

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
        _, address = email.utils.parseaddr(self.sender[:2000])
        return (address or self.sender).lower()

    def _is_decorated(self) -> bool:
        if self.entry.flavour is Flavour.MAILMAN2:
            return bool(self.metadata.get("decorated"))
        return self.role == "list" and bool(self.metadata.get("nodecorate"))


def is_decorated(entry: QueueEntry) -> bool:
    """Whether Mailman has put a list's header and footer into the text of this entry, or would have if the list had any."""
    return MailFacts(entry).is_decorated


def is_automated(headers: Mapping[str, object], author: str) -> bool:
    """Whether a program wrote the mail, by its own declaration or by the name of the sender.

    headers  lower-case name to value, as canonical.first_headers gives them
    Source   RFC 3834 §5 (Auto-Submitted), RFC 5230 §4.6; Precedence bulk or junk comes from the author (Mailman's is list)
    """
    submitted = header_text(headers.get("auto-submitted")).lower()
    if submitted and not submitted.startswith("no"):
        return True
    if header_text(headers.get("precedence")).lower() in ("bulk", "junk"):
        return True
    if header_source(headers.get("return-path")).strip() == "<>" or not _PROGRAM_HEADERS.isdisjoint(headers):
        return True
    if header_source(headers.get("content-type")).lstrip().lower().startswith("multipart/report"):
        return True
    local = author.partition("@")[0].lower()
    return not _PROGRAMS.isdisjoint(_WORDS.findall(local)) or any(phrase in local for phrase in _PROGRAM_PHRASES)

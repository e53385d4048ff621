"""Postfix's words for what becomes of a mail.

In    LogLine
Out   MailLine or Sign
Pure  remembers one queue id per smtpd process, and nothing else

An accepted message leaves three kinds of lines under one queue id: cleanup names its Message-ID, qmgr its reverse-path
and number of recipients once it is queued for good, and delivery agents (smtp, lmtp, local, virtual, pipe, error,
discard) each recipient. Only the qmgr line proves acceptance: cleanup writes its line before the final dot is answered,
and also for content that broke off, where smtpd's "lost connection after DATA" comes first.
Source  Postfix 3.7: cleanup_message.c, qmgr_active.c, log_adhoc.c, smtpd.c; the fixtures in tests/samples were written by it
"""

from __future__ import annotations

import re
from typing import Literal

from drainer.mta_log.lines import LogLine, MailLine, Sign

DAEMONS = frozenset(
    """
    anvil bounce cleanup discard dnsblog error flush lmtp local master nqmgr oqmgr pickup pipe postfix-script postscreen
    postsuper proxymap qmgr qmqpd relay retry scache sendmail showq smtp smtpd spawn tlsmgr tlsproxy trivial-rewrite verify
    virtual
    """.split()
)
"""Last part of the tags Postfix writes under."""

_QUEUED = re.compile(r"(?P<queue_id>[0-9A-Za-z]{6,32}): (?P<text>.*)\Z", re.DOTALL)
_MESSAGE_ID = re.compile(r"(?:resent-)?message-id=(?P<message_id>.*)\Z", re.DOTALL)
_FROM = re.compile(r"from=<(?P<reverse_path>.*)>, size=[0-9]+, nrcpt=(?P<recipients>[0-9]{1,9}) \(queue active\)")
_TO = re.compile(
    r"to=<(?P<to>.*?)>, (?:orig_to=<(?P<orig_to>.*?)>, )?relay=(?P<relay>.*?), (?:.*?, )??"
    r"status=(?P<status>\w+)(?: \((?P<reply>.*))?",
    re.DOTALL,
)
_BROKE_OFF = re.compile(r"(?:lost connection|timeout) after DATA(?: \([0-9]+ bytes\))? from ")
_COMPLAINT = re.compile(r"(?:warning|error|fatal|panic): ")
_SMTPD_PROCESSES = 10_000
_STATUS: dict[str, Literal["sent", "deferred", "failed"]] = {
    "sent": "sent",
    "deferred": "deferred",
    "bounced": "failed",
    "expired": "failed",
    "undeliverable": "failed",
}


class PostfixReader:
    """Fed lines in order."""

    def __init__(self) -> None:
        self._receiving: dict[tuple[str, str], str] = {}

    def read(self, line: LogLine) -> MailLine | Sign:
        """What a line with a tag such as "postfix/qmgr", "postfix-out/smtpd" or "postfix/submission/smtpd" says."""
        instance = line.instance
        service = line.program.rpartition("/")[2]
        if _COMPLAINT.match(line.text):
            return Sign.NONE
        if service == "master" and line.text.startswith("daemon started"):
            return Sign.BEGUN
        if service == "master" and line.text.startswith("terminating on signal"):
            return Sign.STOPPED
        queued = _QUEUED.match(line.text)
        if service == "smtpd":
            return self._smtpd(line, instance, queued)
        return _of_mail(instance, service, queued["queue_id"], queued["text"]) if queued else Sign.ALIVE

    def _smtpd(self, line: LogLine, instance: str, queued: re.Match[str] | None) -> MailLine | Sign:
        process = (instance, line.pid)
        if queued and queued["text"].startswith("client="):
            while len(self._receiving) >= _SMTPD_PROCESSES:
                del self._receiving[next(iter(self._receiving))]
            self._receiving[process] = queued["queue_id"]
        elif _BROKE_OFF.match(line.text) and (queue_id := self._receiving.pop(process, None)):
            return MailLine(instance, queue_id, refused=True)
        return Sign.ALIVE


def _of_mail(instance: str, service: str, queue_id: str, text: str) -> MailLine | Sign:
    if service == "cleanup":
        match = _MESSAGE_ID.match(text)
        return MailLine(instance, queue_id, message_id=match["message_id"]) if match else Sign.ALIVE
    if service == "qmgr" and (match := _FROM.match(text)):
        return MailLine(instance, queue_id, reverse_path=match["reverse_path"], count=int(match["recipients"]))
    if service in ("qmgr", "postsuper") and text == "removed":
        return MailLine(instance, queue_id, ended=True)
    if match := _TO.match(text):
        return MailLine(
            instance,
            queue_id,
            to=match["to"],
            ordered_as=match["orig_to"],
            status=_STATUS.get(match["status"], ""),
            relay=match["relay"],
            reply=(match["reply"] or "").removesuffix(")"),
        )
    return Sign.ALIVE

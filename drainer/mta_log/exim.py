"""Exim's words for what becomes of a mail: its main log, or the same through syslog.

In    LogLine
Out   MailLine or Sign
Pure  a line is understood by itself

"<=" is written once the mail is on disk and before the final reply: it is acceptance. Of a client that hung up after the
final dot the mail is thrown away ("SMTP connection lost after final dot"), with no such line. What stands on it depends on
log_selector: the Message-ID as id= (left out where Exim cannot read it as one), all recipients behind "for" at its end.
Delivered is "=>", "->", ">>" or "*>"; failed "**"; deferred "=="; "Completed" comes last. An address that was redirected
has the one the client gave behind it in angle brackets.
Source  Exim 4.96: receive.c, deliver.c, log.c; its specification, chapter 53; tests/samples/mta_logs was written by it
"""

from __future__ import annotations

import re
from typing import Literal

from drainer.mta_log.lines import LogLine, MailLine, Sign

_OWN_STAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(?:\.[0-9]+)?(?: [+-][0-9]{4})? (?:\[[0-9]+\] )?")
_PART = re.compile(r"\[(?P<number>[0-9]{1,4})[\\/](?P<of>[0-9]{1,4})\] ?")
_MAIL = re.compile(
    r"(?P<queue_id>[0-9A-Za-z]{6}-(?:[0-9A-Za-z]{6}-[0-9A-Za-z]{2}|[0-9A-Za-z]{11}-[0-9A-Za-z]{4})) (?P<text>.*)\Z",
    re.DOTALL,
)
_ARRIVED = re.compile(r'<= (?P<reverse_path><>|"(?:[^"\\]|\\.)*"@\S+|\S+)(?P<fields>.*)\Z', re.DOTALL)
_SUBJECT = re.compile(r' T="(?:[^"\\]|\\.)*"', re.DOTALL)
_ID = re.compile(r' id=(?P<message_id>(?:"(?:[^"\\]|\\.)*"|\S)+)')
_FOR = re.compile(r" for (?P<recipients>\S.*)\Z", re.DOTALL)
_DELIVERY = re.compile(
    r'(?P<flag>=>|->|>>|\*>|\*\*|==) (?P<to>"(?:[^"\\]|\\.)*"(?:@[^\s:]+)?|\S+?):?(?= |\Z)'
    r'(?: (?:\([^)]*\) )?<(?P<ordered_as>[^>]*)>)?'
)  # fmt: skip
_HOST = re.compile(r" H=(?P<relay>\S+(?: \[[^\]]*\])?)")
_DEFER = re.compile(r" defer \(-?[0-9]+\)(?: H=\S+(?: \[[^\]]*\])?)?(?: DT=\S+)?:? ?(?P<reply>.*)", re.DOTALL)
_FAILED = re.compile(r": (?P<reply>.*)", re.DOTALL)
_STATUS: dict[str, Literal["sent", "deferred", "failed"]] = {"**": "failed", "==": "deferred"}
_PLAIN_ID = re.compile(r"<[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.:\[\]_-]+>\Z")


def is_logged_as_it_is(message_id: str) -> bool:
    """Whether Exim writes this Message-ID, with its angle brackets, unchanged; of others it drops or rewrites some."""
    return _PLAIN_ID.match(message_id) is not None


def read_exim(line: LogLine) -> MailLine | Sign:
    """What a line of a program named exim (or exim4) says."""
    text = line.text
    cut = _PART.match(text)
    if cut and int(cut["number"]) > 1:
        return Sign.NONE
    text = _OWN_STAMP.sub("", text[cut.end() :] if cut else text, count=1)
    mail = _MAIL.match(text)
    if mail is None:
        return Sign.BEGUN if text.startswith("exim ") and " daemon started: " in text else Sign.ALIVE
    queue_id, said = mail["queue_id"], mail["text"]
    if arrived := _ARRIVED.match(said):
        return _accepted(line.instance, queue_id, arrived, is_cut=cut is not None and int(cut["of"]) > 1)
    if said == "Completed" or said.startswith("Completed "):
        return MailLine(line.instance, queue_id, ended=True)
    if delivery := _DELIVERY.match(said):
        to, ordered_as = delivery["to"], delivery["ordered_as"]
        if ordered_as and "@" not in to and ordered_as.lower().partition("@")[0] == to.lower():
            to, ordered_as = ordered_as, None  # a local delivery names the mailbox first: no redirection
        elif ordered_as and ordered_as.lower() == to.lower():
            to, ordered_as = ordered_as, None  # the same in the letters the client used
        status, rest = _STATUS.get(delivery["flag"], "sent"), said[delivery.end() :]
        host = _HOST.search(rest)
        reply = {"deferred": _DEFER, "failed": _FAILED}[status].search(rest) if status != "sent" else None
        return MailLine(
            line.instance,
            queue_id,
            to=to,
            ordered_as=ordered_as,
            status=status,
            relay=host["relay"] if host else "",
            reply=reply["reply"] if reply else "",
        )
    return Sign.ALIVE


def _accepted(instance: str, queue_id: str, arrived: re.Match[str], is_cut: bool) -> MailLine:
    reverse_path = "" if arrived["reverse_path"] == "<>" else arrived["reverse_path"]
    fields = _SUBJECT.sub("", arrived["fields"], count=1)
    found = _ID.search(fields)
    named = _FOR.search(fields)
    recipients = tuple(named["recipients"].split(" ")) if named and not is_cut else None
    return MailLine(
        instance,
        queue_id,
        message_id=f"<{found['message_id']}>" if found else "",
        reverse_path=reverse_path,
        count=len(recipients) if recipients else None,
        all_recipients=recipients,
    )

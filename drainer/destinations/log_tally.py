"""What the MTA's log says of recipient domains: accepted, deferred, refused, and the replies.

In    lines of Postfix or Exim
Out   DomainLogged per domain, for the time since they were last taken
Pure  no file is read

Counted are deliveries to other hosts, and deferrals before a host was reached. A delivery by the MTA itself (a mailbox, a
pipe, a socket) is none: no provider takes it. Nor is one to this host, where a filter hands the mail back (amavis), if mail
for the domain also leaves for another host; otherwise this host may be a tunnel to the next MTA.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from drainer.destinations.queue_listing import MOST_DOMAINS
from drainer.destinations.quoted import LONGEST
from drainer.destinations.too_fast import TooFastReplies
from drainer.mta_log.answer import signs_of
from drainer.mta_log.lines import LogLine, MailLine
from drainer.mta_log.postfix import PostfixReader
from drainer.queuedir.domains import domain_of

_NOT_TRIED = ("delivery temporarily suspended", "retry time not reached")
"""How Postfix and Exim say that they defer a mail because of what the provider answered others."""


_TO_THIS_HOST = re.compile(r"\[(?:127\.[0-9.]+|::1)\]")
_TO_A_SOCKET = re.compile(r"\[(?:/|private/|public/)")


@dataclass(slots=True)
class DomainLogged:
    """Recipients; see seen.py."""

    accepted: int = 0
    deferred: int = 0
    not_tried: int = 0
    refused: int = 0
    too_fast: int = 0
    reply: str = ""
    too_fast_reply: str = ""


def may_be_a_delivery(line: bytes) -> bool:
    """Whether a line of a log, as it is, may say what became of a recipient; most lines do not."""
    return b"status=" in line or any(mark in line for mark in (b" => ", b" -> ", b" == ", b" ** ", b" >> "))


class LogTally:
    """Fed lines in order.

    names  of the MTA in its log, as syslog has them ("postfix-out", or "postfix-out@mx1" where several hosts write to it);
           empty: every MTA that writes to the log
    """

    def __init__(self, too_fast: TooFastReplies, names: Collection[str] = ()) -> None:
        self._too_fast = too_fast
        self._names = frozenset(names)
        self._postfix = PostfixReader()
        self._domains: dict[str, DomainLogged] = {}
        self._leave_this_host: set[str] = set()

    def count_only(self, names: Collection[str]) -> None:
        """Lines of these from now on, as `names` above."""
        self._names = frozenset(names)

    def feed(self, line: LogLine) -> None:
        if self._names and self._names.isdisjoint((line.instance, line.instance.partition("@")[0])):
            return
        said = signs_of(line, self._postfix)
        if not isinstance(said, MailLine) or said.to is None or not said.status or not _leaves_the_host(said):
            return
        domain = domain_of(said.to)
        if not self._is_of_provider(domain, said.relay):
            return
        logged = self._domains.get(domain)
        if logged is None:
            if len(self._domains) >= MOST_DOMAINS:
                return
            logged = self._domains[domain] = DomainLogged()
        self._count(logged, said)

    def _is_of_provider(self, domain: str, relay: str) -> bool:
        """Whether the host that answered may be the domain's provider."""
        if _TO_THIS_HOST.search(relay):
            return domain not in self._leave_this_host
        if "[" in relay and len(self._leave_this_host) < MOST_DOMAINS:
            self._leave_this_host.add(domain)
        return True

    def _count(self, logged: DomainLogged, said: MailLine) -> None:
        if said.status == "sent":
            logged.accepted += 1
            return
        reply = said.reply[:LONGEST]
        if said.status == "deferred":
            logged.deferred += 1
            logged.not_tried += reply.startswith(_NOT_TRIED)
            logged.reply = reply
        else:
            logged.refused += 1
        if self._too_fast.of(reply) is not None:
            logged.too_fast += 1
            logged.too_fast_reply = reply

    @property
    def says_too_fast(self) -> bool:
        """Whether a provider has said so since the last `take`."""
        return any(logged.too_fast for logged in self._domains.values())

    def take(self) -> Mapping[str, DomainLogged]:
        """What was counted since the last call."""
        taken, self._domains = self._domains, {}
        return taken


def _leaves_the_host(said: MailLine) -> bool:
    """Postfix names a host with its address in brackets, or "none"; Exim names a host, or none for one it deferred."""
    if _TO_A_SOCKET.search(said.relay):
        return False
    return "[" in said.relay or said.relay == "none" or (not said.relay and said.status != "sent")

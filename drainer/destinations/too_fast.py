"""Which replies of providers say that we are too fast for them.

In    a reply, as the provider gave it or as the MTA quotes it; further patterns of the operator's (mta.too_fast)
Out   the row of the table that it matches, or None
Pure  values only

Not in it: greylisting, which asks everybody to come again once; a full mailbox; a refusal of one mail for what is in it.
They say nothing of our speed, and slowing down changes nothing in them.

Time is bounded: a reply is looked at up to quoted.LONGEST characters, and patterns that may take for ever are refused
(text/safe_pattern.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from drainer.destinations.quoted import one_line

Meaning = Literal["rate", "connections", "reputation"]


@dataclass(frozen=True, slots=True)
class TooFast:
    """A row of the table.

    pattern   a regular expression, found anywhere in the reply, whatever the case
    provider  whose reply it is; "any": several servers', or a common wording
    means     rate: too much mail in a time; connections: too many at once; reputation: a limit because of what we sent
              before, as a rule for hours
    source    where it is documented or was seen
    """

    pattern: str
    provider: str
    means: Meaning
    source: str


_KUMO = "KumoMTA assets/community/shaping.toml"
_KUMO_EXTRAS = "KumoMTA assets/policy-extras/shaping.toml"
_GOOGLE = "https://support.google.com/a/answer/3726730"
_MICROSOFT = "https://sendersupport.olc.protection.outlook.com/pm/troubleshooting"
_YAHOO = "https://senders.yahooinc.com/smtp-error-codes/"
_COMCAST = "https://spa.xfinity.com/postmaster?faq=comcast-mail-errors"
_APPLE = "https://support.apple.com/en-us/102322"
_GMX = "https://postmaster.gmx.net/en/error-messages"
_ORANGE = "https://www.postmastery.com/orange-postmaster-smtp-error-codes-ofr/"

TABLE = (
    # Gmail and Google Workspace
    TooFast(r"\b42[1-9][ -]4\.7\.28\b", "Gmail", "rate", _GOOGLE),
    TooFast(r"unusual rate of", "Gmail", "rate", _GOOGLE),
    TooFast(r"receiving mail at a rate that", "Gmail", "rate", _GOOGLE),
    TooFast(r"receiving mail too quickly", "Gmail", "rate", _GOOGLE),
    TooFast(r"\b4[0-9]{2}[ -]4\.7\.0 .{0,80}(?:rate limited|IP not in whitelist)", "Gmail", "rate", _GOOGLE),
    TooFast(r"mail sent from your (?:IP address|domain) has been temporarily rate", "Gmail", "reputation", _GOOGLE),
    # Outlook.com, Hotmail, Exchange Online
    TooFast(r"\b4[0-9]{2}[ -]4\.7\.(?:500|650|651|652)\b", "Microsoft", "rate", _MICROSOFT),
    TooFast(r"temporarily rate limited", "Microsoft", "reputation", _MICROSOFT),
    TooFast(r"\bRP-00[123]\b", "Microsoft", "rate", _MICROSOFT),
    TooFast(r"\b4[0-9]{2}\b.{0,300}\bS3140\b", "Microsoft", "reputation", _MICROSOFT),
    TooFast(r"exceeded the (?:connection|rate|maximum number of connections)\b", "Microsoft", "connections", _KUMO),
    TooFast(r"maximum number of concurrent connections", "Microsoft", "connections", _MICROSOFT),
    TooFast(r"\b4[0-9]{2}[ -]4\.3\.2 .{0,80}(?:throttl|receive hourly|thread limit)", "Microsoft", "rate", _MICROSOFT),
    TooFast(r"Server busy\. Please try again later from", "Microsoft", "rate", _KUMO_EXTRAS),
    # Yahoo, AOL
    TooFast(r"\[(?:TSS?|IPTS)[0-9]{2}\]", "Yahoo", "reputation", _YAHOO),
    TooFast(r"temporarily deferred due to (?:unexpected volume|user complaints)", "Yahoo", "reputation", _YAHOO),
    TooFast(r"Excessive unknown recipients", "Yahoo", "reputation", _YAHOO),
    TooFast(r"\b(?:RLY|DYN):(?:RL|CH|B|T)[0-9]\b", "AOL", "reputation", _YAHOO),
    TooFast(r"VS98-IP[0-9] deferred", "Yahoo Japan", "reputation", _KUMO),
    # Comcast
    TooFast(r"\bRL0000[0-9]{2}\b", "Comcast", "rate", _COMCAST),
    # iCloud
    TooFast(r"\[HCM?[0-9]\] .{0,80}deferred", "iCloud", "reputation", _KUMO),
    TooFast(r"\[HM?08\]|too many messages from this (?:sender|host)", "iCloud", "rate", _APPLE),
    # GMX, web.de, 1&1
    TooFast(r"Too many messages have been received in a short", "GMX, web.de", "rate", _GMX),
    TooFast(r"\b4[0-9]{2}\b.{0,300}Reject due to policy (?:restrictions|violations)", "GMX, web.de", "reputation", _KUMO),
    # T-Online
    TooFast(r"\b4[0-9]{2}\b.{0,80}IP=[0-9a-f.:]{3,45} - (?:too many|rate)", "T-Online", "rate",
            "https://postmaster.t-online.de"),
    # Orange, Wanadoo, SFR, Free, La Poste
    TooFast(r"\b4[0-9]{2}\b.{0,300}\bOFR(?:00[0-9])?_", "Orange", "connections", _ORANGE),
    TooFast(r"Trop de connexions", "Orange", "connections", _KUMO),
    TooFast(r"too many (?:spam|errors|mails?|messages) from (?:your|this|client)", "Free.fr", "reputation",
            "http://postmaster.free.fr"),
    # Mail.ru, Yandex
    TooFast(r"Ratelimit exceeded", "Mail.ru", "rate", "https://postmaster.mail.ru"),
    TooFast(r"exceeded (?:their|the|your) message rate", "Yandex", "rate", "https://yandex.com/support/mail"),
    # QQ, NetEase
    TooFast(r"(?:Sender|Ip|Connection|Domain) frequency limited", "QQ", "rate", _KUMO),
    TooFast(r"\bRP:ORQ\b|\bHL:ITC\b|\bMI:(?:IMF|SPB)\b", "NetEase", "rate", _KUMO),
    # Filters in front of many domains
    TooFast(r"csi\.cloudmark\.com/reset-request", "Cloudmark", "reputation", _KUMO),
    TooFast(r"\b4[0-9]{2}\b.{0,80}(?:ipcheck|ip-check|dnsbl)\.proofpoint\.com", "Proofpoint", "reputation",
            "https://ipcheck.proofpoint.com"),
    TooFast(r"\bIB00[17]\b|too many sessions from", "GoDaddy", "connections", _KUMO),
    # Wordings that several servers share
    TooFast(r"too many (?:concurrent |simultaneous |open )?(?:smtp )?(?:connections|sessions)", "any", "connections",
            "Postfix smtpd(8), smtpd_client_connection_count_limit"),
    TooFast(r"exceed(?:s|ed|ing)?.{0,40}concurrent (?:connections|sessions)", "any", "connections", _KUMO),
    TooFast(r"connection rate limit exceeded", "any", "connections", "Sendmail doc/op, ConnectionRateThrottle"),
    TooFast(r"too (?:many|much) (?:messages|mails?|recipients|emails|transactions|deliveries|requests)\b.{0,60}"
            r"(?:short|minute|hour|day|second|period|time|recently|slow|rate)", "any", "rate", "common wording"),
    TooFast(r"(?:rate|volume|frequency|throughput)[ -]?limit(?:s|ed|ing)?\b", "any", "rate", "common wording"),
    TooFast(r"\bthrottl(?:ed|ing|e)\b", "any", "rate", "common wording"),
    TooFast(r"(?:send|sending|connecting) (?:mail |messages )?too (?:quickly|frequently|often)", "any", "rate",
            "common wording"),
    TooFast(r"\btoo fast\b|\bslow(?:ing)? down\b|try again .{0,40}(?:slower|more slowly)", "any", "rate", "common wording"),
    TooFast(r"message rate|hourly limit|daily (?:sending )?(?:limit|quota)", "any", "rate", "common wording"),
)  # fmt: skip
"""The first row that matches counts: providers' own before common wordings."""


class TooFastReplies:
    """The table, and the operator's patterns, which come first. own: such as text/safe_pattern.py finds good."""

    def __init__(self, own: Iterable[str] = ()) -> None:
        rows = (*(TooFast(pattern, "the settings", "rate", "mta.too_fast") for pattern in own), *TABLE)
        self._rows = [(re.compile(row.pattern, re.IGNORECASE | re.ASCII), row) for row in rows]
        # Queue and log name one reply a thousand times.
        self._found = lru_cache(4096)(self._find)

    def of(self, reply: str) -> TooFast | None:
        """The row that a reply matches; None: it does not say that we are too fast."""
        return self._found(one_line(reply)) if reply else None

    def _find(self, reply: str) -> TooFast | None:
        return next((row for pattern, row in self._rows if pattern.search(reply)), None)

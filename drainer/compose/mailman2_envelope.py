"""Addresses of an envelope, in the form in which Mailman 2.1 sends them to the MTA.

In    addresses from metadata and settings
Out   arguments of MAIL and RCPT; the reverse-path that contains the recipient (VERP)
Pure  values only

Source  MAILMAN21.md §4 "VERP", §6 "On the wire"; addresses as Python 2.7.18 parses them
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable, Mapping
from functools import partial

from drainer.compose.mailman2_site import ListSettings, SiteSettings
from drainer.errors import ComposerFailed

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN = rf"{_ATOM}(?:\.{_ATOM})*@{_ATOM}(?:\.{_ATOM})*"
_PLAIN_ADDRESS = re.compile(rf"{_PLAIN}\Z")
_PLAIN_ADDRESSES = re.compile(rf"{_PLAIN}(?:\n{_PLAIN})*\Z")
_BLANKS = re.compile(r"[ \t]+")  # Python 2 drops them inside an address, Python 3 does not
# Pythons that have a strict mode use it by default; Python 2 had none.
_parse: Callable[[str], tuple[str, str]] = (
    partial(email.utils.parseaddr, strict=False)
    if hasattr(email.utils, "supports_strict_parsing")
    else email.utils.parseaddr
)


def wire_address(address: str) -> str:
    """The address between the angle brackets of MAIL or RCPT, which may differ from the given one.

    `Name <a@b>` becomes `a@b`, comments and outer blanks are removed, `a,b@c` becomes `a`, `x@y@z` the empty address.
    Raises   ComposerFailed for an address that contains a line end: the rest would be a separate command
    """
    if _PLAIN_ADDRESS.match(address):
        return address
    if any(character in address for character in "\r\n\0"):
        raise ComposerFailed(f"an address contains a line end or NUL: {address!r}")
    parsed = _parse(address)[1]
    return parsed if '"' in address else _BLANKS.sub("", parsed)


def wire_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """wire_address() of each."""
    joined = "\n".join(addresses)
    if joined.count("\n") == len(addresses) - 1 and _PLAIN_ADDRESSES.match(joined):
        return addresses
    return tuple(map(wire_address, addresses))


def envelope_sender(settings: ListSettings, metadata: Mapping[str, object]) -> str:
    """The reverse-path of an entry before VERP: `envsender` if there is one, else the list's -bounces address."""
    given = metadata.get("envsender")
    if isinstance(given, str):
        return given
    return f"{settings.internal_name}-bounces@{settings.host_name}"


def verp_sender(sender: str, recipient: str, site: SiteSettings) -> str | None:
    """The reverse-path that contains the recipient; None for a recipient that Mailman skips (no `@`, or nothing before it).

    A sender without `@`, such as the null reverse-path, is not changed (Mailman shunts the entry).
    """
    mailbox, at, host = recipient.lower().partition("@")
    if not at or not mailbox:
        return None
    bounces, sender_at, domain = sender.lower().partition("@")
    if not sender_at or not bounces:
        return sender
    return f"{site.verp_format % {'bounces': bounces, 'mailbox': mailbox, 'host': host}}@{domain}"

"""A provider's reply as the MTA quotes it in its log or its queue: the reply alone, in one line.

Pure  values only
"""

from __future__ import annotations

import re

LONGEST = 600
"""Characters of a reply that are looked at."""

_QUOTING = re.compile(
    r"(?: said|refused to talk to me|"
    r"SMTP error from remote mail server after (?:[^<:]{0,80}:?<[^>]{0,320}>[^:]{0,80}|[^:<]{0,80})): "
)
"""Postfix: "host NAME[ADDRESS] said: ", "... refused to talk to me: "; Exim: "... after RCPT TO:<ADDRESS>: "."""

_FURTHER_LINE = re.compile(r"(?:\\n|[\s])+[245][0-9]{2}(?:-| (?=[245]\.))(?:[245]\.[0-9]{1,3}\.[0-9]{1,3})?(?:\s|\Z)")
"""Where a further line of the reply begins: the code again, and the enhanced code. Exim writes line ends as \\n."""


def said(text: str) -> str:
    """What the provider said: without the host's name and address."""
    quoted = _QUOTING.search(text, 0, LONGEST)
    return text[quoted.end() :] if quoted else text


def one_line(text: str) -> str:
    """The reply with the code in front only; a multi-line reply repeats it in each line."""
    return _FURTHER_LINE.sub(" ", said(text)[:LONGEST])

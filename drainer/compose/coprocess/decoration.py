"""The header and footer that Mailman's own decorate handler puts into a mail delivered in bulk.

In    the list, a mail of it (decorated already or not) and its metadata
Out   the texts, as inserted into a plain text and as parts of their own; "" where there is none
Shell runs in Mailman's Python

The handler itself runs: it decorates a small probe with the headers of the mail in question (a template may contain the
address of that mail in an archive). The text it puts before and after a mark is the text it puts around any body. In a plain
text, UTF-8 replaces the list's charset if that lacks a character; a part keeps the charset and loses the character.
"""

# mypy: disable-error-code="import-not-found"
from __future__ import annotations

from typing import Any

_MARK = "\U000f1d7adrainer\U000f1d7a"
_ABOUT_THE_BODY = ("content-", "mime-version")
_NOT_OF_BULK = ("nodecorate", "isdigest", "recipients", "recipient", "member")
"""Metadata that would make the handler skip a mail, or write to one member."""


def decoration(mlist: Any, msg: Any, msgdata: dict[str, Any]) -> dict[str, str]:
    """header, footer, part_header, part_footer. Raises what Mailman's handler raises."""
    from mailman.config import config

    handler = config.handlers["decorate"]
    metadata = {key: value for key, value in msgdata.items() if key not in _NOT_OF_BULK}
    text, mixed = _with_headers_of(msg), _with_headers_of(msg)
    text.set_payload(_MARK + "\n", "utf-8")
    inner = type(msg)()
    inner.set_payload(_MARK, "utf-8")
    mixed["Content-Type"] = "multipart/mixed"
    mixed.set_payload([inner])
    found = {}
    for name, probe in (("", text), ("part_", mixed)):
        handler.process(mlist, probe, dict(metadata))
        found[f"{name}header"], found[f"{name}footer"] = _around_the_mark(probe)
    return found


def _with_headers_of(msg: Any) -> Any:
    probe = type(msg)()
    probe.policy = msg.policy
    probe._headers = [(name, value) for name, value in msg._headers if not name.lower().startswith(_ABOUT_THE_BODY)]
    return probe


def _around_the_mark(probe: Any) -> tuple[str, str]:
    texts = [_text(part) for part in probe.walk() if not part.is_multipart()]
    at = next(number for number, text in enumerate(texts) if _MARK in text)
    before, _, after = texts[at].partition(_MARK)
    if after.startswith("\n"):
        after = after[1:]  # it ends the line of the mark; a footer may begin with an empty line
    return "".join(texts[:at]) + before, after + "".join(texts[at + 1 :])


def _text(part: Any) -> str:
    text: str = part.get_payload(decode=True).decode(part.get_content_charset("us-ascii"), "replace")
    return text

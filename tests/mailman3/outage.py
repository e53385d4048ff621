"""A Mailman 3 site after an outage of its MTA: every mail lies in retry/, decorated, and once more in out/.

Pure  values only
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.mailman3.contents import contents
from tests.mailman3.site import MailingList, Member, Post
from tests.mailman3.wide import ARC_CONFIG, EXTRA_CONFIG

HOST = "lists.example.org"
_HEADER, _FOOTER = "list:member:regular:header", "list:member:regular:footer"
_BOTH = {_HEADER: "== $display_name ==\n\n", _FOOTER: "\n-- \n$fqdn_listname\nthe end"}

ARCHIVER = "[archiver.prototype]\nenable: yes\n"
CONFIG = EXTRA_CONFIG + ARCHIVER + ARC_CONFIG.format(key=Path(__file__).with_name("arc_test_key.pem"))
"""Posts get an address in an archive, for templates that name it; all that goes out is signed (ARC)."""


def _list(name: str, **more: object) -> MailingList:
    members = [Member(f"{name}.{who}@example.com", f"{who} Jörg") for who in ("ann", "bob", "eve")]
    settings = {"digests_enabled": False, **more.pop("settings", {})}  # type: ignore[dict-item]
    return MailingList(f"{name}@{HOST}", members, display_name=name.title(), settings=settings, **more)  # type: ignore[arg-type]


_DMARC = {"dmarc_mitigate_unconditionally": True}
_WRAPPED = {**_DMARC, "dmarc_mitigate_action": "DMARCMitigateAction.wrap_message"}

LISTS: Mapping[str, MailingList] = {
    "Mailman's own footer": _list("default"),
    "a footer of its own": _list("own", templates={_FOOTER: "see $prototype_url\n$list_name\n"}),
    "header and footer": _list("both", templates=_BOTH),
    "header and footer, non-ASCII, ASCII list": _list("accents", templates={_HEADER: "Über\n", _FOOTER: "— Fuß\n"}),
    "German footer": _list("deutsch", language="de", templates={_FOOTER: "Abmelden für $list_name: überall — ja\n"}),
    "Russian footer": _list("poryadok", language="ru", templates={_FOOTER: "Отписаться: $list_name\n"}),
    "no footer": _list("bare", templates={_FOOTER: ""}),
    "personalised": _list("personal", personalize="individual", templates={_FOOTER: "for $user_email\n"}),
    "anonymous": _list("robot", settings={"anonymous_list": True}, templates=_BOTH),
    "From munged": _list(
        "munged", settings={**_DMARC, "dmarc_mitigate_action": "DMARCMitigateAction.munge_from"}, templates=_BOTH
    ),
    "wrapped": _list("wrapped", settings=_WRAPPED, templates=_BOTH),
    "wrapped with a text": _list(
        "worded", settings={**_WRAPPED, "dmarc_wrapped_message_text": "Enclosed."}, templates=_BOTH
    ),
    "footer changed meanwhile": _list("changed", templates={_FOOTER: "the old footer\nof two lines\n"}),
    "header taken away meanwhile": _list("shorter", templates=_BOTH),
    "footer given meanwhile": _list("given", templates={_FOOTER: ""}),
}
"""What is special about a list = the list."""

CHANGED: Mapping[str, Mapping[str, str]] = {
    f"changed@{HOST}": {_FOOTER: "the new footer\n"},
    f"shorter@{HOST}": {_HEADER: ""},
    f"given@{HOST}": {_FOOTER: "a footer, at last\n"},
}
"""Templates as they are when the mails are submitted again."""

KINDS = (
    "UTF-8 in quoted-printable", "HTML only", "attachment", "plain ASCII", "UTF-8 in base64",
    "Latin-1 in 8bit", "alternative", "HTML in base64", "no line end at the end", "8bit said to be ASCII",
    "KOI8-R", "signed", "mixed of one part", "plain text as attachment", "ISO-2022-JP", "forwarded message", "empty body",
    "only blank lines", "message/rfc822 only", "long lines", "CRLF and CR within", "format flowed, delsp",
)  # fmt: skip
"""Of mails (contents.py); the first three go to every list, all of them to one with header and footer."""
_TO_ALL = 3


def posts() -> list[Post]:
    found = []
    for item in LISTS.values():
        mails = contents(item.name)
        for number, kind in enumerate(KINDS):
            if number < _TO_ALL or item.name == f"both@{HOST}":
                found.append(Post(item.name, mails[kind], kind=f"{item.name}: {kind}"))
    return found

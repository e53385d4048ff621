"""One mail may lie twice with different octets. docs/promises.md has a row for each way: this is what happens then."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from drainer.duplicates.carried import is_one_mail
from drainer.duplicates.classes import DuplicateClass, SeenEntries, classify
from drainer.duplicates.decoration import Decoration
from drainer.duplicates.summary import EntrySummary, summarise, with_digests_of
from drainer.ledger.records import History
from drainer.queuedir.entry import Flavour, QueueEntry
from tests.duplicates.mails import Mail, Post

PAGE = Path(__file__).parents[2] / "docs/promises.md"
DAY_S = 86_400.0

ONE, UNDECIDED, RESEND = "one mail", "held (`undecided`)", "held (`resend`)"
CONFLICT, TWO = "two mails, the second flagged (`conflict`)", "two mails"
CLASSES = {
    ONE: DuplicateClass.EXACT,
    UNDECIDED: DuplicateClass.UNDECIDED,
    RESEND: DuplicateClass.RESEND,
    CONFLICT: DuplicateClass.CONFLICT,
    TWO: DuplicateClass.NONE,
}
MAIL = Mail()
ROBOT = "robot@lists.example.org"
NEXT_DAY = "Mon, 23 Mar 2026 09:00:00 +0000"
DECORATED: dict[str, object] = {"tolist": 1, "decorated": True}
FOOTER = Decoration("", "-- \ntalk at lists.example.org\n")
NEW_FOOTER = Decoration("", "a new footer\n")


@dataclass(frozen=True)
class Copy:
    """An entry, and what Mailman says it has put, or puts now, around such a mail."""

    post: Post
    decoration: Decoration | None = None

    def entry(self) -> QueueEntry:
        return self.post.entry()


def changed(**changes: object) -> Mail:
    return replace(MAIL, **changes)  # type: ignore[arg-type]


def plain(mail: Mail = MAIL, **post: object) -> Copy:
    return Copy(Post(mail.octets(), **post))  # type: ignore[arg-type]


def footed(text: str = MAIL.text, decoration: Decoration | None = FOOTER) -> Copy:
    mail = changed(text=text + FOOTER.footer)
    return Copy(Post(mail.octets("base64"), metadata=DECORATED), decoration)


def wrapped(message_id: str, author: str = "ann@example.net") -> Copy:
    head = (
        f"From: Ann Ash via Talk <talk@lists.example.org>\nTo: talk@lists.example.org\nSubject: {MAIL.subject}\n"
        f"Date: {MAIL.date}\nMessage-ID: {message_id}\nMIME-Version: 1.0\n"
    )
    if author.startswith("ann"):
        octets = f"{head}Content-Type: message/rfc822\n\n".encode() + MAIL.octets("base64")
    else:
        octets = (
            f'{head}Content-Type: multipart/mixed; boundary="w"\n\n--w\n\nEnclosed.\n--w\n'
            "Content-Type: message/rfc822\n\n"
        ).encode()
        octets += MAIL.octets() + b"\n--w--\n"
    return Copy(Post(octets, author=author))


def anonymous(message_id: str) -> Copy:
    """As Mailman 3 makes it: the list is the author, the Message-ID is new. The list's name is a program's."""
    mail = changed(sender="Robot <robot@lists.example.org>", message_id=message_id)
    return replace(not_yet_anonymous(), post=replace(not_yet_anonymous().post, octets=mail.octets(), author=ROBOT))


def not_yet_anonymous() -> Copy:
    list_id = ROBOT.replace("@", ".")
    return Copy(Post(MAIL.octets(), list_id, flavour=Flavour.MAILMAN3, metadata={"to_list": True}))


Pair = Callable[[], tuple[Copy, Copy]]

ROWS: dict[str, tuple[str, tuple[Pair, ...]]] = {
    "`Received`, other headers a relay adds, their order": (
        ONE, (lambda: (plain(), plain(changed(trace=("from b by c; Sun, 22 Mar 2026", *MAIL.trace)))),),
    ),
    "transfer encoding, charset, line ends, blanks at line ends": (
        ONE, (lambda: (plain(), Copy(Post(MAIL.octets("base64", at_end=b" \r\n\r\n")))),),
    ),
    "the list's subject prefix, a number in it, `Re:` before it": (
        ONE, (lambda: (plain(changed(subject="[Talk 7] Plan")), plain(changed(subject="Re: [Talk 8] Plan"))),),
    ),
    "header and footer, in one of them already (`retry/`)": (
        ONE, (lambda: (footed(), plain()), lambda: (plain(), footed())),
    ),
    "header and footer that were changed since, or that Mailman cannot name": (
        ONE, (lambda: (footed(decoration=NEW_FOOTER), plain()), lambda: (plain(), footed(decoration=None))),
    ),
    "the same, but neither has the whole text of the other, or the other is finished": (
        UNDECIDED, (
            lambda: (footed("Meet at the slipway.\n", None), plain()),
            lambda: (plain(), footed("Meet at the slipway.\n", NEW_FOOTER)),
            lambda: (footed("", None), plain(changed(text=""))),
        ),
    ),
    "`From` munged against DMARC in one of them": (
        ONE, (lambda: (plain(), plain(changed(sender="Ann via Talk <talk@lists.example.org>"))),),
    ),
    "wrapped against DMARC, each with a Message-ID of its own, or one of them only": (
        ONE, (
            lambda: (wrapped("<new-1@lists>"), wrapped("<new-2@lists>")),
            lambda: (wrapped("<new-1@lists>", "root@example.net"), wrapped("<new-2@lists>", "root@example.net")),
            lambda: (plain(), wrapped("<new-1@lists>")),
        ),
    ),
    "an anonymous list gave each a Message-ID": (
        ONE, (lambda: (anonymous("<new-1@lists>"), anonymous("<new-2@lists>")),),
    ),
    "a relay gave each a Message-ID, since it had none": (
        ONE, (lambda: (plain(changed(message_id="<r1@a.example>")), plain(changed(message_id="<r2@a.example>"))),),
    ),
    "the list was made anonymous between the two": (
        TWO, (lambda: (not_yet_anonymous(), anonymous("<new-1@lists>")),),
    ),
    "other words under the same Message-ID and neither decorated: a disclaimer of a relay, a content filter": (
        CONFLICT, (lambda: (plain(), plain(changed(text=MAIL.text + "\nConfidential.\n"))),),
    ),
    "Message-ID and Date, the words are the same: its author sent it again": (
        RESEND, (lambda: (plain(), plain(changed(message_id="<2@sender.example>", date=NEXT_DAY))),),
    ),
    "Date only: a device that uses its Message-ID again": (
        CONFLICT, (lambda: (plain(author="root@example.net"), plain(changed(date=NEXT_DAY), author="root@example.net")),),
    ),
}  # fmt: skip
"""What differs = how it is judged, and pairs that show it."""

PAIRS = [
    pytest.param(verdict, pair, id=f"{what}-{number}")
    for what, (verdict, pairs) in ROWS.items()
    for number, pair in enumerate(pairs)
]


def judged(first: Copy, second: Copy) -> tuple[EntrySummary, DuplicateClass]:
    """As a scan judges, and as the service does when it reads them one after the other."""
    seen = SeenEntries()
    entry, other = first.entry(), replace(second, post=second.post.later()).entry()
    earlier, summary = summarise(entry, first.decoration), summarise(other, second.decoration)
    seen.add(earlier, DAY_S)
    for near in seen.related_to(summary).undecided:
        if is_one_mail(other, summary.decorated, entry, near.is_decorated):
            summary = with_digests_of(summary, near.identity)
    return summary, classify(summary, seen.related_to(summary), History(), DAY_S).kind


@pytest.mark.parametrize(("verdict", "pair"), PAIRS)
def test_the_same_mail_with_other_octets_is_judged_as_the_page_says(verdict: str, pair: Pair) -> None:
    first, second = pair()
    assert first.entry().raw != second.entry().raw
    summary, found = judged(first, second)
    assert found is CLASSES[verdict], summary


def test_the_table_on_the_page_has_these_rows() -> None:
    table = PAGE.read_text().split("| the same mail twice, but for |", 1)[1].split("\n\n", 1)[0]
    rows = [re.fullmatch(r"\| (.+?) \| (.+?) \|", line) for line in table.splitlines()[2:]]
    found = {row[1]: row[2].partition(":")[0] for row in rows if row}
    assert found == {what: verdict for what, (verdict, _) in ROWS.items()}


def test_what_a_person_encloses_is_not_the_mail_itself() -> None:
    """A forwarded mail has a Date of its own; the one enclosed in it is another mail."""
    forwarded = wrapped("<fwd@sender.example>")
    octets = forwarded.post.octets.replace(MAIL.date.encode(), NEXT_DAY.encode(), 1)
    _, found = judged(plain(), Copy(replace(forwarded.post, octets=octets)))
    assert found is DuplicateClass.NONE

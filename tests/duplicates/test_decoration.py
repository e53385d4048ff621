"""A retry copy of 2.1 has the list's header and footer in its text; taken out, it is the message it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from drainer.compose.list_settings import ListSettingsStore
from drainer.compose.mailman2 import bulk_decoration
from drainer.compose.mailman2_site import SiteSettings
from drainer.duplicates.decoration import Decoration
from drainer.duplicates.fingerprint import fingerprint
from drainer.duplicates.summary import summarise
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.read import read_entry
from tests.duplicates.labelled import SAMPLES
from tests.duplicates.mails import Mail, Post

KITES = Decoration(
    "(circulated by Kite-Makers)\n",
    "~~~~\nYou read this because you joined Kite-Makers at lists.example.org.\n"
    "Change that at http://lists.example.org/mailman/listinfo/kite-makers\n",
)
NONE = Decoration("", "")
PAIRS = [
    (next(case.glob("entry--*")), retry)
    for case in sorted((SAMPLES / "failures").iterdir())
    for retry in sorted(case.glob("retry--*"))
]


def another_passage(entry: QueueEntry) -> QueueEntry:
    """The same mail as resubmitted by the sending MTA: enqueued at another time."""
    return replace(entry, metadata={**entry.metadata, "received_time": 1_780_000_000.5})


def decoration_of(entry: QueueEntry) -> Decoration:
    return KITES if entry.list_id == "kite-makers" else NONE


@pytest.mark.parametrize(("before", "retry"), PAIRS, ids=[retry.parent.name for _, retry in PAIRS])
def test_entry_that_mailman_put_into_retry_is_the_message_it_took_from_out(before: Path, retry: Path) -> None:
    entry, retried = read_entry(before), read_entry(retry)
    assert set(fingerprint(entry).identity) & set(fingerprint(retried).identity)


@pytest.mark.parametrize(("before", "retry"), PAIRS, ids=[retry.parent.name for _, retry in PAIRS])
def test_a_retry_copy_is_the_message_a_sending_mta_submits_again(before: Path, retry: Path) -> None:
    entry, retried = read_entry(before), read_entry(retry)
    again = another_passage(entry)
    assert set(fingerprint(again).identity) & set(fingerprint(retried, decoration_of(retried)).identity)


@pytest.mark.parametrize(("before", "retry"), PAIRS, ids=[retry.parent.name for _, retry in PAIRS])
def test_a_lists_own_settings_give_the_decoration_to_take_out(before: Path, retry: Path) -> None:
    entry, retried = read_entry(before), read_entry(retry)
    settings = ListSettingsStore(SAMPLES / "lists").get(retried.list_id)
    found = fingerprint(retried, Decoration(*bulk_decoration(settings, SiteSettings(), retried)))
    assert set(fingerprint(another_passage(entry)).identity) & set(found.identity)


def test_without_its_decoration_a_decorated_copy_is_not_recognised_by_its_text() -> None:
    decorated = [
        read_entry(retry) for _, retry in PAIRS if "(circulated" in str(read_entry(retry).message.attribute("_payload"))
    ]
    assert decorated
    for entry in decorated:
        plain, stripped = fingerprint(another_passage(entry)), fingerprint(another_passage(entry), KITES)
        assert set(stripped.identity) > set(plain.identity)


def test_a_message_that_was_wrapped_to_take_header_and_footer_is_recognised() -> None:
    mail = Mail(text="<p>Meet</p>\n", message_id="<9@sender.example>")
    plain = Post(mail.octets().replace(b"text/plain", b"text/html"))
    wrapped = (
        b"From: Ann Ash <ann@example.net>\nTo: talk@lists.example.org\nSubject: Plan\n"
        b"Date: Sun, 22 Mar 2026 20:38:15 +0000\n"
        b'Message-ID: <9@sender.example>\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="=x="\n\n'
        b'--=x=\nContent-Type: text/plain; charset="iso-8859-1"\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe\n'
        b"--=x=\nContent-Type: text/html; charset=utf-8\n\n<p>Meet</p>\n"
        b"--=x=\nContent-Type: text/plain; charset=us-ascii\n\n-- \nfooter\n\n--=x=--\n"
    )
    decorated: dict[str, object] = {"tolist": 1, "decorated": True}
    retried = Post(wrapped, metadata=decorated).later().entry()
    found = fingerprint(retried, Decoration("Grüße\n", "-- \nfooter\n"))
    assert set(fingerprint(plain.entry()).identity) & set(found.identity)


def test_a_footer_written_by_the_author_is_part_of_the_message() -> None:
    signed = Post(Mail(text="Meet.\n" + KITES.footer).octets()).entry()
    assert fingerprint(signed, KITES) == fingerprint(signed)
    assert not summarise(signed, KITES).decorated

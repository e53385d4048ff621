"""The site the benchmark uses: many genuine entries from one."""

from __future__ import annotations

from pathlib import Path

from drainer.queuedir.read import read_entry
from tests.mailman3.site import MailingList, Member, Post, Site, mailman_python

LIST = "bench@lists.example.org"


def test_cloned_entries_differ_in_message_id_and_have_the_recipients_asked_for(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", mailman_python())
    mail = f"From: a@example.org\nTo: {LIST}\nSubject: x\nMessage-ID: <1@example.org>\n\nhello\n".encode()
    site.populate([MailingList(LIST, [Member("a@example.org"), Member("b@example.org")])], [Post(LIST, mail)])
    (name,) = site.entries
    recipients = tuple(f"r{number:03}@example.com" for number in range(100))
    site.clone_entry(name, 5, recipients)
    (site.out / name).unlink()
    clones = [read_entry(path) for path in site.out.glob("*.pck")]
    assert len(clones) == 5
    assert all(clone.recipients == recipients for clone in clones)
    assert len({clone.raw[: clone.message_bytes] for clone in clones}) == 5

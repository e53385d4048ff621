"""The site the benchmark uses: many genuine entries from one."""

from __future__ import annotations

from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.read import read_entry
from tests.mailman3.site import Site


def test_cloned_entries_differ_in_message_id_and_have_the_recipients_asked_for(
    mailman3_copy: Site, entries: dict[str, list[QueueEntry]]
) -> None:
    site = mailman3_copy
    source = next(entry for of_list in entries.values() for entry in of_list if not entry.metadata.get("_parsemsg"))
    for path in site.out.iterdir():
        path.unlink()
    recipients = tuple(f"r{number:03}@example.com" for number in range(100))
    site.clone_entry(f"{source.filebase}.pck", 5, recipients)
    clones = [read_entry(path) for path in site.out.glob("*.pck")]
    assert len(clones) == 5
    assert all(clone.recipients == recipients for clone in clones)
    assert len({clone.raw[: clone.message_bytes] for clone in clones}) == 5

"""Composing with nothing remembered equals what Mailman's own outgoing runner writes to the wire, here and now.

The wide comparison, of every kind of entry and for each version of Mailman, with what was recorded of it, is tests/wire.
"""

from __future__ import annotations

from collections import Counter

from drainer.compose.mailman3 import Mailman3Composer
from drainer.queuedir.entry import QueueEntry
from tests.mailman3.capture import Captured
from tests.mailman3.site import Site
from tests.wire.mailman3 import Delivery, deliveries_captured, deliveries_composed


async def test_every_delivery_equals_the_one_of_mailmans_own_runner(
    mailman3_site: Site,
    mailman3_deliveries: list[Captured],
    entries: dict[str, list[QueueEntry]],
) -> None:
    expected = Counter(delivery for item in mailman3_deliveries for delivery in deliveries_captured(item))
    composer = Mailman3Composer(mailman3_site.python, mailman3_site.config, 1, 0, 0.0)
    await composer.start()
    found: Counter[Delivery] = Counter()
    try:
        for entry in (entry for of_list in entries.values() for entry in of_list):
            owed: list[str] = []
            async for message in composer.compose(entry, entry.recipients):
                found.update(deliveries_composed(message))
                owed += message.owed_for
            assert sorted(owed) == sorted(entry.recipients)
    finally:
        await composer.close()
    assert sum(expected.values()) > 300
    assert found == expected


def test_sample_holds_what_it_is_meant_to_show(mailman3_deliveries: list[Captured]) -> None:
    """Guards the comparison above against comparing only plain mail."""
    contents = b"".join(item.content for item in mailman3_deliveries)
    assert any("+" in item.reverse_path for item in mailman3_deliveries), "VERP"
    assert b"== Decorated: With header and footer ==" in contents
    assert b"for individual.m0@example.com" in contents
    assert b"multipart/mixed" in contents, "a footer that had to be attached"
    assert max(len(item.recipients) for item in mailman3_deliveries) == 10, "chunks"

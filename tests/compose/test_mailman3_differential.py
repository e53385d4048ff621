"""What we compose is what Mailman's own outgoing runner writes to the wire, for a site with a list of every kind."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from drainer.compose.mailman3 import Mailman3Composer
from drainer.compose.wire import ComposedMessage
from drainer.pickles.restricted import load_pair
from drainer.queuedir.entry import QueueEntry, entry_from_pickles
from tests.mailman3.capture import Captured, boundaries_numbered, capturing
from tests.mailman3.site import Site

Delivery = tuple[str, str, tuple[str, ...], int | None, bytes]


def _captured(item: Captured) -> list[Delivery]:
    content = boundaries_numbered(item.content)
    return [(item.reverse_path, address, item.parameters, item.size, content) for address in item.recipients]


def _composed(item: ComposedMessage) -> list[Delivery]:
    content = boundaries_numbered(item.content)
    envelope = item.envelope
    size = len(item.content) if envelope.size is None else envelope.size
    return [
        (envelope.reverse_path, address, envelope.mail_parameters, size, content) for address in envelope.recipients
    ]


def _entries(site: Site) -> list[QueueEntry]:
    return [entry_from_pickles(name[:-4], raw, load_pair(raw)) for name, raw in site.entries.items()]


async def _deliveries_of_mailman(site: Site) -> Counter[Delivery]:
    site.restore_entries()
    async with capturing() as capture:
        await asyncio.to_thread(site.run_outgoing_once, capture.port)
    assert not list(site.out.iterdir())
    return Counter(delivery for item in capture.captured for delivery in _captured(item))


@pytest.mark.parametrize("remember_s", [0.0, 60.0])
async def test_every_delivery_equals_the_one_of_mailmans_own_runner(mailman3_copy: Site, remember_s: float) -> None:
    expected = await _deliveries_of_mailman(mailman3_copy)
    composer = Mailman3Composer(mailman3_copy.python, mailman3_copy.config, 1, 0, remember_s)
    await composer.start()
    found: Counter[Delivery] = Counter()
    try:
        for entry in _entries(mailman3_copy):
            owed: list[str] = []
            async for message in composer.compose(entry, entry.recipients):
                found.update(_composed(message))
                owed += message.owed_for
            assert sorted(owed) == sorted(entry.recipients)
    finally:
        await composer.close()
    assert sum(expected.values()) > 400
    assert found == expected

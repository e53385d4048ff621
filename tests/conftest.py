"""The genuine Mailman 3 that tests share; a test that changes it takes a copy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from drainer.pickles.restricted import load_pair
from drainer.queuedir.entry import QueueEntry, entry_from_pickles
from tests.mailman3 import sample
from tests.mailman3.capture import Captured, capturing
from tests.mailman3.site import Site, mailman_python


@pytest.fixture(scope="session")
def mailman3_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("mailman3"), mailman_python(), sample.MTA_SETTINGS)
    site.populate(sample.LISTS, sample.POSTS, sample.NOTICES, sample.POST_IDS)
    return site


@pytest.fixture
def mailman3_copy(mailman3_site: Site, tmp_path: Path) -> Site:
    return mailman3_site.copy_to(tmp_path / "site")


@pytest.fixture(scope="session")
def mailman3_deliveries(mailman3_site: Site, tmp_path_factory: pytest.TempPathFactory) -> list[Captured]:
    """What Mailman's own outgoing runner delivered of the site's entries, on a copy of the site."""
    site = mailman3_site.copy_to(tmp_path_factory.mktemp("delivered"))
    site.restore_entries()

    async def delivered() -> list[Captured]:
        async with capturing() as capture:
            await asyncio.to_thread(site.run_outgoing_once, capture.port)
        return capture.captured

    captured = asyncio.run(delivered())
    assert not list(site.out.iterdir())
    return captured


@pytest.fixture
def entries(mailman3_site: Site) -> dict[str, list[QueueEntry]]:
    """The site's entries by list-id, posts before notices and other mail to few, oldest first."""
    found: dict[str, list[QueueEntry]] = {}
    for name, raw in mailman3_site.entries.items():
        entry = entry_from_pickles(name[:-4], raw, load_pair(raw))
        found.setdefault(entry.list_id, []).append(entry)
    return {list_id: sorted(of_list, key=lambda item: -len(item.recipients)) for list_id, of_list in found.items()}

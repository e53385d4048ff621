"""The site that the tests of the handover share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.ledger.memory import MemoryLedger
from tests.via_mailman.site import CLOCK, Site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path / "queue", MemoryLedger(CLOCK))
    yield site
    site.close()

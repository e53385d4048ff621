"""The genuine Mailman 3 that the tests of compose/ share; a test that changes it takes a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mailman3 import sample
from tests.mailman3.site import Site, mailman_python


@pytest.fixture(scope="session")
def mailman3_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("mailman3"), mailman_python(), sample.MTA_SETTINGS)
    site.populate(sample.LISTS, sample.POSTS, sample.NOTICES, sample.POST_IDS)
    return site


@pytest.fixture
def mailman3_copy(mailman3_site: Site, tmp_path: Path) -> Site:
    return mailman3_site.copy_to(tmp_path / "site")

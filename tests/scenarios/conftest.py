"""Fixtures of the stories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def open_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that Postfix's own users can reach."""
    directory = tmp_path_factory.mktemp("postfix")
    for parent in (directory, *directory.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    return directory

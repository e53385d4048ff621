"""Prometheus's own checker (Debian: prometheus), and its exposition read back."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"),
    reason="needs promtool: apt-get install prometheus",
)

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""(name, sorted labels) -> value"""


def promtool(*arguments: str | Path, given: bytes = b"") -> None:
    """Fail with what promtool says unless it is content and silent about style."""
    done = subprocess.run(["promtool", *arguments], input=given, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0 and not done.stderr, (done.stdout + done.stderr).decode()


def series(exposition: bytes) -> Series:
    """Every sample of a page; none of them twice."""
    found: Series = {}
    for family in text_string_to_metric_families(exposition.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found

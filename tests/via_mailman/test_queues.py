"""Mailman's queues at one moment."""

from __future__ import annotations

import os
from pathlib import Path

from drainer.via_mailman.queues import MailmanQueues
from tests.via_mailman.site import CLOCK


async def test_queues_that_change_meanwhile_are_not_believed(tmp_path: Path) -> None:
    for queue in ("out", "retry"):
        (tmp_path / queue).mkdir()

    class Moving(MailmanQueues):
        def _list(self, queue: str, changed_ns: int) -> dict[str, object]:  # type: ignore[override]
            (tmp_path / "retry" / queue).touch()
            return {}

    os.utime(tmp_path / "out", (1.6e9, 1.6e9))
    os.utime(tmp_path / "retry", (1.6e9, 1.6e9))
    assert Moving(tmp_path, CLOCK).look(0.0, ()) is None

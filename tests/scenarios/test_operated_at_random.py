"""An operator who keeps changing decisions: no copy is lost or sent twice, and the figures add up.

With any seed: `python -m tests.scenarios.operated_at_random`.
"""

from __future__ import annotations

from pathlib import Path

from tests.scenarios.operated_at_random import operated


def test_random_commands_and_a_kill_lose_no_copy_and_send_no_second_one(tmp_path: Path) -> None:
    operated(tmp_path, seed=2411)

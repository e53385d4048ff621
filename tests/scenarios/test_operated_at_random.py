"""An operator who cannot make up his mind: nobody is lost, nobody gets it twice, and the figures add up.

With any seed: `python -m tests.scenarios.operated_at_random`.
"""

from __future__ import annotations

from pathlib import Path

from tests.scenarios.operated_at_random import operated


def test_random_commands_and_a_kill_lose_nobody_and_give_nobody_a_second_copy(tmp_path: Path) -> None:
    operated(tmp_path, seed=2411)

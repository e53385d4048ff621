"""The host around the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.observe.surroundings import SPOOL_AGAIN_S, Surroundings
from drainer.queuedir.entry import Flavour
from drainer.settings import Settings


async def test_mta_that_could_not_say_where_its_spool_is_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    postconf = tmp_path / "postconf"
    postconf.write_text("#!/bin/sh\nexit 1\n")
    postconf.chmod(0o755)
    clock = StoppedClock()
    mailman, mta = {"queue_dir": tmp_path / "qfiles"}, {"queue": "postfix"}
    settings = Settings.model_validate({"mailman": mailman, "mta": mta, "ledger": {"path": tmp_path / "ledger"}})
    surroundings = Surroundings(settings, clock, Flavour.MAILMAN2)

    async def values_of_spool() -> list[float | None]:
        await surroundings.look()
        return [guard.value for guard in surroundings.guards if guard.name.startswith("mta_spool")]

    assert await values_of_spool() == [None], "postconf said nothing"
    postconf.write_text("#!/bin/sh\necho /dev/shm\n")
    assert await values_of_spool() == [None], "not at each look"
    clock.advance(SPOOL_AGAIN_S)
    assert None not in await values_of_spool(), "its room is seen from now on"
    assert not [guard.reason for guard in surroundings.guards if "not visible" in guard.reason]

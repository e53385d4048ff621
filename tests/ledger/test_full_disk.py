"""The ledger's filesystem fills up: sending has to stop, nothing may be half written, and it goes on by itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drainer.errors import LedgerNotDurable
from drainer.ledger.records import AttemptId, MessageRecord, NewAttempt, recipient_key
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import State

RECIPIENTS = tuple(f"user{number}@example.org" for number in range(400))


@pytest.fixture
def small_filesystem(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of one mebibyte. Needs root; CI has it and may not skip."""
    if os.geteuid() != 0 and "CI" not in os.environ:
        pytest.skip("mounting a small tmpfs needs root")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "drainer-test", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def attempt(number: int) -> NewAttempt:
    message = MessageRecord((number.to_bytes(16, "big"),), "list", f"<{number}@x>")
    return NewAttempt(f"1700000000.5+{number:040x}", message, "b@x", RECIPIENTS, 1_700_000_000.0)


async def test_full_disk_fails_every_caller_changes_nothing_and_passes(small_filesystem: Path) -> None:
    ledger = SqliteLedger(small_filesystem / "ledger.sqlite")
    await ledger.open()
    survivor = await ledger.open_attempt(attempt(0))
    ballast = small_filesystem / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))

    results = await asyncio.gather(
        *(ledger.open_attempt(attempt(number)) for number in range(1, 200)), return_exceptions=True
    )
    assert any(isinstance(result, LedgerNotDurable) for result in results)
    assert all(isinstance(result, AttemptId | LedgerNotDurable) for result in results)
    durable = {result for result in results if isinstance(result, AttemptId)} | {survivor}
    with pytest.raises(LedgerNotDurable):
        await asyncio.gather(*(ledger.open_attempt(attempt(number)) for number in range(200, 400)))
    assert durable <= {found.attempt_id for found in await ledger.unresolved_attempts()}
    for number, result in enumerate(results, start=1):
        known = bool((await ledger.history(attempt(number).message.identity)).coverage)
        assert known == isinstance(result, AttemptId)

    ballast.unlink()
    await ledger.close_attempt(survivor, State.DELIVERED, "250 Ok", 1_700_000_000.0)
    refused = next(number for number, result in enumerate(results, start=1) if not isinstance(result, AttemptId))
    again = await ledger.open_attempt(attempt(refused))
    await ledger.close_attempt(again, State.DELIVERED, "250 Ok", 1_700_000_000.0)
    assert (await ledger.totals()).counts == {"delivered_recipients": 2 * len(RECIPIENTS), "transactions": 2}
    await ledger.close()

    reopened = SqliteLedger(small_filesystem / "ledger.sqlite")
    await reopened.open()
    assert (await reopened.history(attempt(refused).message.identity)).with_state(State.DELIVERED) == frozenset(
        map(recipient_key, RECIPIENTS)
    )
    await reopened.close()


async def test_ledger_that_cannot_be_created_is_not_durable(tmp_path: Path) -> None:
    with pytest.raises(LedgerNotDurable, match="cannot create"):
        await SqliteLedger(tmp_path / "missing" / "ledger.sqlite").open()


async def test_closed_ledger_takes_no_writes(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    await ledger.open()
    await ledger.close()
    with pytest.raises(LedgerNotDurable):
        await ledger.open_attempt(attempt(1))

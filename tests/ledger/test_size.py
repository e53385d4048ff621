"""The issue's bound: 200 bytes a transaction plus 16 a delivery, with the write-ahead log, while running and closed."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from pathlib import Path

import pytest

from drainer.ledger import known_recipients
from drainer.ledger.records import MessageRecord, NewAttempt
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import State

LOG_AT_LEAST = 512 * 1024
"""A small ledger's write-ahead log: 64 pages before it is folded in, and the groups written meanwhile."""


def attempt(number: int, message: int, recipients: int) -> NewAttempt:
    """As a genuine entry has them: two digests, a Gmail Message-ID, Mailman's file name, addresses all different."""
    digest = hashlib.sha256(str(message).encode()).digest()
    record = MessageRecord(
        (digest[:16], digest[16:]), "wikitech-l.lists.example.org", f"<CAF{digest.hex()[:44]}@mail.gmail.com>"
    )
    filebase = f"{1_700_000_000 + message * 0.37!r}+{hashlib.sha1(digest).hexdigest()}"
    addresses = tuple(f"subscriber{number}.{index}@host{index}.example.org" for index in range(recipients))
    return NewAttempt(filebase, record, "wikitech-l-bounces@lists.example.org", addresses, 1_700_000_000.0 + number)


async def fill(path: Path, transactions: int, recipients: int, *, one_message: bool) -> int:
    """Returns the most bytes file and log had together."""
    ledger = SqliteLedger(path)
    await ledger.open()
    files = [path, path.with_name(path.name + "-wal")]
    largest = 0
    numbers = iter(range(transactions))

    async def work() -> None:
        nonlocal largest
        for number in numbers:
            opened = await ledger.open_attempt(attempt(number, 0 if one_message else number, recipients))
            await ledger.close_attempt(opened, State.DELIVERED, "250 2.0.0 Ok: queued as 4RvN7d1Z", 1_700_000_000.0)
            if number % 100 == 0:
                largest = max(largest, sum(file.stat().st_size for file in files))

    await asyncio.gather(*(work() for _ in range(20)))
    largest = max(largest, sum(file.stat().st_size for file in files))
    await ledger.close()
    return largest


@pytest.mark.parametrize(
    ("transactions", "recipients", "one_message"),
    [(1000, 500, False), (10_000, 1, False), (5000, 1, True)],
    ids=["bulk", "one_recipient_each", "verp"],
)
async def test_size_stays_within_the_bound(
    tmp_path: Path, transactions: int, recipients: int, one_message: bool
) -> None:
    path = tmp_path / "ledger.sqlite"
    largest = await fill(path, transactions, recipients, one_message=one_message)
    bound = 200 * transactions + 16 * transactions * recipients
    closed = path.stat().st_size
    assert closed <= bound
    assert largest <= bound + LOG_AT_LEAST


async def test_memory_does_not_grow_with_what_was_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times as much needs no more, once what is remembered on purpose is full."""
    monkeypatch.setattr(known_recipients, "REMEMBERED_KEYS", 5_000)

    async def peak_bytes(entries: int) -> int:
        tracemalloc.start()
        try:
            await fill(tmp_path / f"{entries}.sqlite", entries, 500, one_message=False)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await peak_bytes(100)
    assert await peak_bytes(300) < 1.3 * await peak_bytes(101)

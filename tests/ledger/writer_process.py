"""A child that writes attempts and outcomes, and says on stdout what has returned, until it is killed.

python -m tests.ledger.writer_process PATH SEED
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from drainer.ledger.records import MessageRecord, NewAttempt
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import State


def digest(seed: int, number: int) -> bytes:
    return f"{seed:06d}{number:010d}".encode()


def recipients(number: int) -> tuple[str, ...]:
    return tuple(f"u{number}.{index}@example.org" for index in range(1 + number % 40))


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def main(path: Path, seed: int) -> None:
    ledger = SqliteLedger(path)
    await ledger.open()
    numbers = iter(range(1_000_000))

    async def work() -> None:
        for number in numbers:
            message = MessageRecord((digest(seed, number),), "list", f"<{number}@x>")
            filebase = f"{seed}.5+{number:040x}"
            attempt = await ledger.open_attempt(
                NewAttempt(filebase, message, "b@x", recipients(number), 1_700_000_000.0 + number)
            )
            say("opened", attempt, number)
            await ledger.close_attempt(attempt, State.DELIVERED, "250 Ok", 1_700_000_000.0 + number)
            say("closed", attempt, number)

    await asyncio.gather(*(work() for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))

"""kill -9 at random moments: what returned is in the ledger, and attempts cut short are found open."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

from drainer.ledger.records import AttemptId, recipient_key
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import State
from tests.ledger.writer_process import digest, recipients

_ROOT = Path(__file__).parents[2]


def written_until_killed(path: Path, seed: int, lines: int) -> tuple[dict[AttemptId, int], dict[AttemptId, int]]:
    """Attempt id to number, of those opened and those closed, as said before the kill."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.ledger.writer_process", str(path), str(seed)], cwd=_ROOT, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    with child, child.stdout:
        said = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL, "the child ended before it was killed"
    done: dict[bytes, dict[AttemptId, int]] = {b"opened": {}, b"closed": {}}
    for line in said:
        if line.endswith(b"\n"):
            word, attempt, number = line.split()
            done[word][AttemptId(attempt.decode())] = int(number)
    return done[b"opened"], done[b"closed"]


async def test_nothing_that_returned_is_lost_to_kill_9(tmp_path: Path) -> None:
    rounds = random.Random(9)
    path = tmp_path / "ledger.sqlite"
    expected: dict[tuple[int, int], State] = {}
    for seed in range(6):
        opened, closed = written_until_killed(path, seed, rounds.randrange(3, 600))
        ledger = SqliteLedger(path)
        await ledger.open()
        unresolved = {found.attempt_id: found for found in await ledger.unresolved_attempts()}
        for attempt, number in opened.items():
            history = await ledger.history([digest(seed, number)])
            (part,) = history.coverage
            assert part.recipients == frozenset(map(recipient_key, recipients(number)))
            if attempt in closed:
                assert part.state is State.DELIVERED
            else:
                # The kill may have come after the outcome's COMMIT and before it could be said.
                assert part.state in (State.ATTEMPTING, State.DELIVERED)
                assert (part.state is State.ATTEMPTING) == (attempt in unresolved)
            expected[seed, number] = part.state
        assert len(unresolved) <= 8, "no more than the callers at work"
        for attempt_id in unresolved:
            await ledger.resolve(attempt_id, State.IN_DOUBT, "service died", 1_700_000_000.0)
            await ledger.resolve(attempt_id, State.PENDING, "resend", 1_700_000_000.0)
        totals = await ledger.totals()
        assert totals.get("transactions") >= sum(state is State.DELIVERED for state in expected.values())
        for (earlier, number), state in expected.items():
            if state is State.DELIVERED:
                assert (await ledger.history([digest(earlier, number)])).with_state(State.DELIVERED)
        await ledger.close()

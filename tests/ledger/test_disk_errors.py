"""Whatever a disk says when it will not write, the ledger says "not durable", keeps what it promised, and goes on.

The errors are put in place of the system call's answer by strace, on the write-ahead log of a real process.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from drainer.ledger.records import MessageRecord, NewAttempt
from drainer.ledger.sqlite import SqliteLedger
from tests.crash.recorded import needed_strace

WRITER = """
import asyncio, json, sys
from pathlib import Path
from drainer.errors import LedgerNotDurable
from drainer.ledger.sqlite import SqliteLedger
from tests.ledger.test_disk_errors import attempt

async def main():
    ledger = SqliteLedger(Path(sys.argv[1]))
    await ledger.open()
    said = []
    for number in range(30):
        try:
            await ledger.open_attempt(attempt(number))
            said.append("durable")
        except LedgerNotDurable as exc:
            said.append(str(exc))
    await ledger.close()
    print(json.dumps(said))

asyncio.run(main())
"""


def attempt(number: int) -> NewAttempt:
    message = MessageRecord((number.to_bytes(16, "big"),), "choir", f"<{number}@example.org>")
    return NewAttempt(f"1700000000.5+{number:040x}", message, "b@example.org", ("ann@example.org",), 1.7e9)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("pwrite64", "ENOSPC"),
        ("pwrite64", "EDQUOT"),
        ("pwrite64", "EROFS"),
        ("fdatasync", "EIO"),
        ("fdatasync", "EDQUOT"),
    ],
)
def test_commit_the_disk_refused_was_not_made_and_the_next_one_is(tmp_path: Path, call: str, error: str) -> None:
    path = tmp_path / "ledger.sqlite"
    asyncio.run(_unresolved(path))
    inject = f"inject={call}:error={error}:when=6..8"
    strace = [needed_strace(), "-f", "-qq", "-o", "/dev/null", "-P", f"{path}-wal", "-e", f"trace={call}", "-e", inject]
    done = subprocess.run([*strace, sys.executable, "-c", WRITER, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    refused = {number for number, answer in enumerate(said) if answer != "durable"}
    assert refused and all("cannot write" in said[number] for number in refused)
    assert said[-1] == "durable"
    assert asyncio.run(_unresolved(path)) == set(range(30)) - refused


async def _unresolved(path: Path) -> set[int]:
    """Numbers of the attempts a ledger has open."""
    ledger = SqliteLedger(path)
    await ledger.open()
    try:
        return {int(found.message_id.strip("<").partition("@")[0]) for found in await ledger.unresolved_attempts()}
    finally:
        await ledger.close()

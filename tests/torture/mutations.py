"""python -m tests.torture.mutations [--only NAME] [--seed N]: breaks the service in a copy, and looks who notices.

A harness that finds nothing proves nothing until it has found what is there. Each mutation takes one guard away; the fault
named with it has to end with a broken promise. What no kill -9 can show (syncs) is for the harness of power loss.
Exit status 0: every mutation was noticed. 1: one was not. 2: one no longer fits the code.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_SHOWN = 150


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is done to the service.

    file     below drainer/
    changes  text that is there once, and what it becomes
    against  what follows `python -m`
    """

    name: str
    file: str
    changes: tuple[tuple[str, str], ...]
    against: tuple[str, ...]


def _torture(fault: str, times: float = 0.1) -> tuple[str, ...]:
    return ("tests.torture", "--only", fault, "--times", str(times))


def _tests(file: str, chosen: str) -> tuple[str, ...]:
    return ("pytest", "-q", "-n0", "-x", "-p", "no:cacheprovider", f"tests/{file}", "-k", chosen)


_POWER = _tests("crash/test_power_loss.py", "any_sync")
_DATA = '        self._session.ask(b"DATA\\r\\n", (Stage.DATA,), self._step(self._data_answered))\n'
_ANSWERED = "        self._finish(self._answers.to_content(answer if isinstance(answer, SessionLost) else answer[0]))\n"
_MEANING = _ANSWERED.replace("self._finish(", "self._meaning = (")
_WRITTEN = "        self._on_end(done)\n        self._done = done\n        self._wake()\n"

MUTATIONS = (
    Mutation(
        "DATA before the attempt is written", "feed/deliver.py",
        ((_DATA, "        self._finish(self._meaning)\n"), ("            self._write_attempt()\n", f"    {_DATA}"),
         (_ANSWERED, f"{_MEANING}        self._write_attempt()\n")),
        _torture("killed-hold"),
    ),
    Mutation(
        "delivered before it is sent", "feed/deliver.py",
        ((_DATA, '        self._finish(Meaning(State.DELIVERED, ""))\n'), (_WRITTEN, f"        self._sent = done\n{_DATA}"),
         (_ANSWERED, _WRITTEN.replace("done)", "self._sent)").replace("= done", "= self._sent"))),
        _tests("crash/test_kill_at_named_points.py", "before_354"),
    ),
    Mutation(
        "a write is reported as durable half a second before COMMIT", "ledger/group_commit.py",
        (("                    self._thread.submit(self._commit, applied, loop)\n",
          "                    for write, result in applied:\n"
          "                        if not write.future.done():\n"
          "                            write.future.set_result(result)\n"
          "                    loop.call_later(0.5, self._thread.submit, self._commit, applied, loop)\n"),),
        _torture("killed-hold"),
    ),
    Mutation(
        "an attempt found open at the start is forgotten", "in_doubt/resolve.py",
        (("                await self._ledger.resolve(attempt.attempt_id, State.IN_DOUBT, why, self._clock.now_s())\n",
          "                await self._ledger.resolve(attempt.attempt_id, State.IN_DOUBT, why, self._clock.now_s())\n"
          "                await self._ledger.resolve(attempt.attempt_id, State.PENDING, why, self._clock.now_s())\n"),),
        _torture("killed-hold"),
    ),
    Mutation(
        "who is in doubt is sent to again without asking", "in_doubt/resolve.py",
        (("resolutions(doubtful, policy.in_doubt, policy", 'resolutions(doubtful, "resend", policy'),),
        _tests("crash/test_kill_at_named_points.py", "log_of_the_mta"),
    ),
    Mutation(
        "a lost reply counts as a refusal", "feed/outcome.py",
        (("    if lost.in_doubt:\n", "    if False:\n"),), _torture("mta-killed", 0.2),
    ),
    Mutation(
        "the file goes before anything is sent", "stages/turn.py",
        (("            sent, interrupted = await self._send(", "            resources.custody.finish(filebase)\n"
          "            sent, interrupted = await self._send("),),
        _torture("killed-ask"),
    ),
    Mutation(
        "a copy is sent although its recipients were served", "stages/entry_facts.py",
        (('        if not digests or released or self._resources.settings.duplicates.exact == "deliver":',
          "        if True:"),),
        _torture("backup"),
    ),
    Mutation(
        "what an operator dropped is unlinked", "queuedir/custody.py",
        (("        return self.suppress(filebase)\n",
          "        dropped = self.suppress(filebase)\n"
          '        (self.duplicates / f"{dropped}.pck").unlink()\n'
          "        return dropped\n"),),
        _tests("scenarios/test_operating_entries.py", "file_is_kept"),
    ),
    Mutation("a directory is not synced", "files/fsync.py", (("        os.fsync(fd)\n", "        pass\n"),), _POWER),
    Mutation(
        "what is taken is not synced before it is fed", "stages/intake.py",
        (("        await self._sync()\n", ""),), _POWER,
    ),
)  # fmt: skip


def copied(home: Path) -> Path:
    """A copy of the package and its tests for this run only."""
    copy = home / "copy"
    left_out = shutil.ignore_patterns("__pycache__")
    for name in ("drainer", "tests", "config"):
        shutil.copytree(_ROOT / name, copy / name, ignore=left_out)
    shutil.copy2(_ROOT / "pyproject.toml", copy)
    (copy / ".venv-mailman3").symlink_to(_ROOT / ".venv-mailman3")
    return copy


def mutated(mutation: Mutation) -> str:
    """The file's text after it. Raises ValueError if it does not fit the code."""
    text = (_ROOT / "drainer" / mutation.file).read_text()
    for before, after in mutation.changes:
        if text.count(before) != 1:
            raise ValueError(f"{mutation.name}: in {mutation.file} there is not once {before!r}")
        text = text.replace(before, after)
    return text


def noticed(mutation: Mutation, seed: int) -> str:
    """What was said of it; "" if all was well."""
    with tempfile.TemporaryDirectory(prefix="mutated-") as home:
        copy = copied(Path(home))
        (copy / "drainer" / mutation.file).write_text(mutated(mutation))
        seeded = ("--seed", str(seed)) if mutation.against[0] == "tests.torture" else ()
        temporary = Path(home, "tmp")
        temporary.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", *mutation.against, *seeded],
            cwd=copy, env={**os.environ, "TMPDIR": str(temporary)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode == 0:
        return ""
    wrong = [line for line in done.stdout.splitlines() if line.startswith(("BROKEN", "E  "))]
    return wrong[0] if wrong else f"exit status {done.returncode}: {done.stderr[-_SHOWN:]}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.mutations", description=__doc__)
    parser.add_argument("--only", action="append", choices=[mutation.name for mutation in MUTATIONS])
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    unnoticed = 0
    for mutation in MUTATIONS:
        if given.only and mutation.name not in given.only:
            continue
        began_s = time.monotonic()
        try:
            said = noticed(mutation, given.seed)
        except ValueError as exc:
            print(exc)
            return 2
        unnoticed += not said
        print(f"{time.monotonic() - began_s:5.0f} s  {mutation.name}: {said[:_SHOWN] or 'NOT NOTICED'}", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The MTA's queue length, from Postfix's directories, from `postqueue -j` and from `exim -bpc`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from drainer.errors import MtaError
from drainer.guards.mta_queue import MtaQueue, parse_exim_count, parse_postqueue

POSTQUEUE_J = (
    '{"queue_name": "active", "queue_id": "4F1", "arrival_time": 1772438466, "message_size": 312, "forced_expire": false,'
    ' "sender": "a@example.org", "recipients": [{"address": "b@example.org"}]}\n'
    '{"queue_name": "deferred", "queue_id": "4F2", "arrival_time": 1772438466, "message_size": 9, "forced_expire": false,'
    ' "sender": "", "recipients": [{"address": "b@example.org", "delay_reason": "connection refused"}]}\n'
    '{"queue_name": "hold", "queue_id": "4F3", "arrival_time": 1, "message_size": 9, "forced_expire": false,'
    ' "sender": "", "recipients": []}\n'
)


def saying(text: str, status: int = 0) -> list[str]:
    return [
        sys.executable,
        "-c",
        f"import sys; sys.stdout.write({text!r}); sys.stderr.write('why not'); sys.exit({status})",
    ]


def spool(directory: Path, **counts: int) -> Path:
    for name in ("maildrop", "incoming", "active", "deferred", "hold", "defer"):
        (directory / name).mkdir(parents=True)
        for number in range(counts.get(name, 0)):
            hashed = directory / name / f"{number % 3}" if name == "deferred" else directory / name
            hashed.mkdir(exist_ok=True)
            (hashed / f"4F{number}").touch()
    return directory


async def test_postfix_directories_are_counted_hashed_ones_included(tmp_path: Path) -> None:
    queue = MtaQueue(
        "postfix", 10, 5, spool=spool(tmp_path / "spool", maildrop=1, incoming=2, active=3, deferred=7, hold=90)
    )
    assert await queue.length() == 13


async def test_feeding_stops_for_a_long_queue_and_goes_on_when_it_is_short_again(tmp_path: Path) -> None:
    directory = spool(tmp_path / "spool", active=11)
    queue = MtaQueue("postfix", 10, 5, spool=directory)
    verdicts = [(await queue.look()).verdict]
    for left in (6, 4):
        for path in list((directory / "active").iterdir())[left:]:
            path.unlink()
        verdicts.append((await queue.look()).verdict)
    assert verdicts == ["stop", "stop", "go"]


async def test_postqueue_is_asked_where_directories_cannot_be_read() -> None:
    queue = MtaQueue("postfix", 10, 5, command=saying(POSTQUEUE_J))
    assert await queue.length() == 2


async def test_exim_is_asked_for_its_count() -> None:
    queue = MtaQueue("exim", 10, 5, command=saying("42\n"))
    guard = await queue.look()
    assert (guard.verdict, guard.value, guard.limit) == ("stop", 42, 10)


async def test_length_that_cannot_be_had_slows_and_says_why() -> None:
    for queue in (
        MtaQueue("exim", 10, 5, command=saying("", status=1)),
        MtaQueue("exim", 10, 5, command=saying("many\n")),
        MtaQueue("postfix", 10, 5, command=["/nonexistent/postqueue", "-j"]),
    ):
        guard = await queue.look()
        assert guard.verdict == "slow" and guard.reason


async def test_command_that_hangs_is_ended() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    queue = MtaQueue("exim", 10, 5, command=command, timeout_s=0.2)
    with pytest.raises(MtaError, match="did not answer"):
        await queue.length()


async def test_unwatched_queue_says_go() -> None:
    assert (await MtaQueue("none", 10, 5).look()).verdict == "go"


def test_postqueue_output_is_counted_by_queue() -> None:
    assert parse_postqueue(POSTQUEUE_J.splitlines()) == {"active": 1, "deferred": 1, "hold": 1}
    assert parse_postqueue([]) == {}


@pytest.mark.parametrize("line", ["Mail queue is empty", "{}", "[]", "null", '{"queue_name"'])
def test_other_postqueue_output_is_an_error_and_not_an_empty_queue(line: str) -> None:
    with pytest.raises(MtaError):
        parse_postqueue([line])


@pytest.mark.parametrize("output", ["", "exim: permission denied", "-1"])
def test_other_exim_output_is_an_error_and_not_an_empty_queue(output: str) -> None:
    with pytest.raises(MtaError):
        parse_exim_count(output)

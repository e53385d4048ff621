"""The MTA's queue is asked as the service's user may, not too often, and never waited for without end."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import drainer.destinations.queue_reader
from drainer.clock import StoppedClock
from drainer.destinations.command import hand_on_lines
from drainer.destinations.queue_reader import (
    LOOK_EVERY_S,
    QueueLook,
    QueueReader,
    count_postfix_queue,
    parse_exim_count,
)
from drainer.errors import MtaError
from drainer.settings.mta import MtaSettings

LISTED = '{"queue_name": "active", "queue_id": "4F1", "arrival_time": 17, "recipients": [{"address": "b@b.test"}]}\n'


def printing(text: str, then: str = "") -> list[str]:
    return [sys.executable, "-Ic", f"import os, sys, time; sys.stdout.write({text!r}); sys.stdout.flush(); {then}"]


def reader(command: Sequence[str], clock: StoppedClock | None = None, kind: str = "postfix") -> QueueReader:
    mta = MtaSettings.model_validate({"queue": kind, "queue_command": tuple(command)})
    return QueueReader(mta, clock or StoppedClock())


async def test_queue_is_listed_by_the_operators_command() -> None:
    queue = reader(printing(LISTED * 3))
    look = await queue.look()
    assert (look.trouble, look.queue.messages, look.queue.domains["b.test"].queued) == ("", 3, 3)
    assert (await queue.messages()).messages == 3


async def test_two_that_ask_at_a_time_cost_one_look_and_the_next_one_waits_until_it_is_due(tmp_path: Path) -> None:
    clock = StoppedClock()
    queue = reader(printing(LISTED, f"open({str(tmp_path / 'asked')!r}, 'a').write('x')"), clock)
    one, other = await asyncio.gather(queue.look(), queue.look())
    assert one is other
    clock.advance(LOOK_EVERY_S - 0.1)
    assert await queue.look() is one
    clock.advance(0.2)
    assert await queue.look() is not one
    assert (tmp_path / "asked").read_text() == "xx"


async def test_number_of_messages_is_not_waited_for_while_the_command_hangs(tmp_path: Path) -> None:
    hangs, clock = tmp_path / "hangs", StoppedClock()
    command = printing("", f"time.sleep(600 if os.path.exists({str(hangs)!r}) else 0); sys.stdout.write({LISTED!r})")
    mta = MtaSettings.model_validate({"queue": "postfix", "queue_command": tuple(command)})
    never_listed, listed = (QueueReader(mta, clock, waited_for_s=0.05) for _ in range(2))
    await listed.look()
    hangs.touch()
    clock.advance(LOOK_EVERY_S + 60)
    assert (await listed.messages()).messages == 1
    with pytest.raises(MtaError, match="the queue is not listed yet"):
        await never_listed.messages()
    await asyncio.gather(listed.close(), never_listed.close())


def test_look_that_takes_long_is_taken_less_often() -> None:
    assert QueueLook(at_s=100.0, took_s=0.01).next_s - 100.01 == LOOK_EVERY_S
    assert QueueLook(at_s=100.0, took_s=3.0).next_s - 103.0 == 30.0
    assert QueueLook(at_s=100.0, took_s=100.0).next_s - 200.0 == 300.0


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (printing("Mail queue is empty"), "said 'Mail queue is empty'"),
        (printing(LISTED, "sys.stderr.write('mail system is down'); sys.exit(69)"), "status 69: mail system is down"),
        (printing(LISTED, "os.kill(os.getpid(), 9)"), "status -9"),
        (["/nonexistent/postqueue", "-j"], "/nonexistent/postqueue: No such file"),
    ],
)
async def test_half_a_listing_or_none_is_trouble_and_no_short_queue(command: list[str], why: str) -> None:
    queue = reader(command)
    look = await queue.look()
    assert why in look.trouble and "mta.queue_command" in look.trouble
    assert not look.queue.domains
    with pytest.raises(MtaError, match=r"mta\.queue_command"):
        await queue.messages()


async def test_command_that_hangs_is_killed_with_what_it_started() -> None:
    heard: list[str] = []
    command = ("/bin/sh", "-c", "sleep 600 & echo $$ $!; wait")
    with pytest.raises(MtaError, match="did not answer within 1 s"):
        await hand_on_lines(command, heard.append, 1.0)
    parent, child = map(int, heard[0].split())
    assert not psutil.pid_exists(parent), "killed, and waited for"
    with suppress(psutil.NoSuchProcess):
        # Its new parent has to wait for it.
        assert psutil.Process(child).status() == psutil.STATUS_ZOMBIE


async def test_listing_is_whole_though_the_command_left_something_behind_that_may_still_complain() -> None:
    heard: list[str] = []
    command = ["sh", "-c", "echo listed; (sleep 20 >/dev/null &) ; echo warned >&2"]
    async with asyncio.timeout(10.0):
        await hand_on_lines(command, heard.append, 60.0)
    assert heard == ["listed"]


async def test_command_that_has_ended_and_left_something_behind_can_be_interrupted() -> None:
    heard: list[str] = []
    listing = asyncio.create_task(hand_on_lines(["sh", "-c", "echo $$; sleep 20 &"], heard.append, 60.0))
    async with asyncio.timeout(10.0):
        while not heard or psutil.pid_exists(int(heard[0])):  # noqa: ASYNC110 (nothing says that it has ended)
            await asyncio.sleep(0.005)
        listing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listing


async def test_output_without_end_is_ended() -> None:
    endless = printing("", "[sys.stdout.write('x' * 100_000) for _ in iter(int, 1)]")
    with pytest.raises(MtaError, match="a line of more than"):
        await hand_on_lines(endless, lambda line: None, 60.0)
    with pytest.raises(MtaError, match="a listing of more than 1,000,000 bytes"):
        await hand_on_lines(
            printing("", "[sys.stdout.write('x\\n' * 1000) for _ in iter(int, 1)]"), lambda line: None, 60.0, 10**6
        )


async def test_complaints_without_end_do_not_stop_a_listing() -> None:
    queue = reader(printing(LISTED, "sys.stderr.write('warning\\n' * 100_000)"))
    assert (await queue.look()).queue.messages == 1


def test_postfix_directories_are_counted_hashed_ones_included_and_hold_left_out(tmp_path: Path) -> None:
    for name, count in {"maildrop": 1, "incoming": 2, "active": 3, "deferred": 7, "hold": 90, "defer": 5}.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            place = tmp_path / name / f"{number % 3}" if name == "deferred" else tmp_path / name
            place.mkdir(exist_ok=True)
            (place / f"4F{number}").touch()
    assert count_postfix_queue(tmp_path) == 13


async def test_directories_on_a_disk_that_does_not_answer_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    counts: list[Path] = []

    def hanging(spool: Path) -> int:
        counts.append(spool)
        answers.wait()
        return 13

    monkeypatch.setattr(drainer.destinations.queue_reader, "count_postfix_queue", hanging)
    postqueue, clock = tmp_path / "postqueue", StoppedClock()
    postqueue.write_text(f"#!/bin/sh\ncat {tmp_path}/listing\n")
    postqueue.chmod(0o755)
    (tmp_path / "listing").write_text(LISTED * 2)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    queue = QueueReader(MtaSettings(queue="postfix"), clock, spool=tmp_path, waited_for_s=0.2)
    try:
        await queue.look()  # however long the listing takes
        assert (await queue.messages()).messages == 2, "the listing counts"
        clock.advance(LOOK_EVERY_S + 60)
        (tmp_path / "listing").unlink()
        await queue.look()
        with pytest.raises(MtaError, match=r"Postfix's queue in .*: no answer within 0.2 s; .*postqueue ended with"):
            await queue.messages()
        assert len(counts) == 1, "one thread hangs, however often it is asked"
    finally:
        answers.set()


@pytest.mark.parametrize("output", ["", "exim: permission denied", "-1", "9" * 99])
def test_other_exim_output_is_an_error_and_not_an_empty_queue(output: str) -> None:
    with pytest.raises(MtaError):
        parse_exim_count(output)
    assert parse_exim_count("42\n") == 42


async def test_who_may_not_list_exims_queue_is_said_what_would_be_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exim = tmp_path / "exim"
    exim.write_text("#!/bin/sh\necho 'exim: permission denied' >&2\nexit 1\n")
    exim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    queue = QueueReader(MtaSettings(queue="exim"), StoppedClock())
    look = await queue.look()
    assert "Debian-exim" in look.trouble and "queue_list_requires_admin" in look.trouble
    with pytest.raises(MtaError, match="Debian-exim"):
        await queue.messages()

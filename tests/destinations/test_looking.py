"""A look behind the MTA: its queue and its log, and what cannot be read of them."""

from __future__ import annotations

import asyncio
import smtplib
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from drainer.clock import StoppedClock, SystemClock
from drainer.demo.misbehaviour import Rule
from drainer.demo.sink import SinkOptions, SinkThread
from drainer.destinations.log_tally import LogTally, may_be_a_delivery
from drainer.destinations.looking import BehindTheMta
from drainer.destinations.too_fast import TooFastReplies
from drainer.mta_log.lines import parse_line
from drainer.rounds.behind_the_mta import glance_again_s, look_is_due
from drainer.settings.mta import MtaSettings
from tests import postfix

SAMPLES = Path(__file__).parents[1] / "samples" / "mta_behind"
LATEST_S = 1_796_100_000.0
WITHIN_S = 30.0
TOO_FAST = {
    "gmail.example": "unusual rate",
    "googlemail.example": "receiving mail at a rate",
    "yahoo.example": "[TSS04]",
    "outlook.example": "4.7.652",
}


def tally(name: str, **of: object) -> LogTally:
    counted = LogTally(TooFastReplies(), **of)  # type: ignore[arg-type]
    for piece in (SAMPLES / name).read_bytes().splitlines(keepends=True):
        if may_be_a_delivery(piece) and (line := parse_line(piece.decode(), LATEST_S, UTC)):
            counted.feed(line)
    return counted


@pytest.mark.parametrize("name", ["postfix.log", "exim.log"])
def test_log_says_who_was_accepted_who_deferred_and_who_is_too_fast(name: str) -> None:
    logged = tally(name).take()
    assert logged["third.example"].accepted == 8
    assert logged["third.example"].deferred == 0
    for domain, words in TOO_FAST.items():
        if name == "postfix.log" and domain == "yahoo.example":
            continue  # it limits sessions, and Postfix put all mail into few
        assert words in logged[domain].too_fast_reply
        assert 0 < logged[domain].too_fast <= logged[domain].deferred
    for domain in ("grey.example", "full.example", "down.example"):
        assert logged[domain].deferred > 0
        assert logged[domain].too_fast == 0, "greylisting, a full mailbox and a dead host do not depend on our speed"
    assert logged["down.example"].not_tried > 0 or name == "postfix.log"


def test_another_mta_of_the_same_log_is_left_out() -> None:
    assert tally("postfix.log", names=("postfix-out",)).take() == {}
    assert tally("postfix.log", names=("postfix",)).take() != {}


def test_a_delivery_into_a_mailbox_of_the_mtas_own_is_no_providers() -> None:
    line = (
        "2026-11-30T10:00:00Z m postfix/local[7]: 4F1C2D3E4F: to=<a@own.test>, relay=local, dsn=2.0.0, status=sent (ok)"
    )
    counted = LogTally(TooFastReplies())
    parsed = parse_line(line, LATEST_S)
    assert parsed is not None
    counted.feed(parsed)
    assert counted.take() == {}


def counted_from(*lines: str) -> LogTally:
    counted = LogTally(TooFastReplies())
    for line in lines:
        parsed = parse_line(f"2026-11-30T10:00:00Z m {line}", LATEST_S)
        assert parsed is not None
        counted.feed(parsed)
    return counted


TO_FILTER = (
    "postfix/smtp[7]: 4F1C2D3E4F: to=<a@gmail.com>, relay=127.0.0.1[127.0.0.1]:10024, delay=1, dsn=2.0.0, status=sent "
    "(250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 5A1C2D3E4F)"
)
TO_PROVIDER = (
    "postfix/smtp[7]: 5A1C2D3E4F: to=<a@gmail.com>, relay=gmail-smtp-in.l.google.com[142.250.1.27]:25, delay=1, dsn=4.7.28, "
    "status=deferred (host gmail-smtp-in.l.google.com[142.250.1.27] said: 421-4.7.28 unusual rate of mail)"
)


def test_filter_on_this_host_is_no_provider_that_accepts() -> None:
    counted = counted_from(TO_PROVIDER, *[TO_FILTER] * 5)
    logged = counted.take()["gmail.com"]
    assert (logged.accepted, logged.deferred, logged.too_fast) == (0, 1, 1)


def test_tunnel_on_this_host_to_the_next_mta_counts() -> None:
    assert counted_from(TO_FILTER, TO_FILTER).take()["gmail.com"].accepted == 2


def test_delivery_to_a_socket_is_no_providers() -> None:
    to_socket = (
        "postfix/lmtp[7]: 4F1C2D3E4F: to=<a@own.test>, relay=m[private/dovecot-lmtp], dsn=2.0.0, status=sent (ok)"
    )
    assert counted_from(to_socket).take() == {}


async def test_log_is_read_on_while_a_long_queue_is_listed(tmp_path: Path) -> None:
    log, long = tmp_path / "mail.log", tmp_path / "long"
    log.touch()
    command = ("sh", "-c", f"test ! -e {long} || sleep 60")
    clock = StoppedClock()
    behind = BehindTheMta(MtaSettings(queue="postfix", queue_command=command, log_file=log), clock)
    await behind.look()
    long.touch()
    clock.advance(1000.0)
    log.write_bytes((SAMPLES / "postfix.log").read_bytes())
    async with asyncio.timeout(WITHIN_S):
        seen = await behind.look()
    assert seen.domains["third.example"].accepted == 8 and seen.messages == 0
    await behind.close()


async def test_log_that_cannot_be_read_is_unknown_and_not_zero(tmp_path: Path) -> None:
    behind = BehindTheMta(MtaSettings(log_file=tmp_path / "mail.log"), StoppedClock())
    seen = await behind.look()
    assert not seen.log_read and "mail.log" in seen.trouble
    (tmp_path / "mail.log").touch()
    assert (await behind.look()).log_read
    await behind.close()


async def test_queue_that_cannot_be_read_takes_nothing_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.touch()
    mta = MtaSettings(queue="postfix", queue_command=(sys.executable, "-c", "print('no')"), log_file=log)
    behind = BehindTheMta(mta, StoppedClock())
    await behind.look()
    log.write_bytes((SAMPLES / "postfix.log").read_bytes())
    seen = await behind.look()
    assert seen.domains["third.example"].accepted == 8
    assert seen.domains["third.example"].queued is None and seen.messages is None
    assert seen.log_read and "'no'" in seen.trouble
    await behind.close()


@pytest.fixture
def root() -> Iterator[Path]:
    """A short path that every user may go through: Postfix's processes are several users'."""
    postfix.needed()
    with tempfile.TemporaryDirectory(prefix="drainer-postfix-") as place:
        Path(place).chmod(0o755)
        yield Path(place)


async def test_genuine_postfix_is_seen_by_queue_and_log(root: Path) -> None:
    refusing = Rule.parse("rcpt 421 4.7.28 Gmail has detected an unusual rate of mail recipient=*@gmail.test")
    with SinkThread(SinkOptions(host="127.0.0.1", scripts=(refusing,))) as gmail, SinkThread() as others:
        providers = {"gmail.test": ("127.0.0.1", gmail.port), "*": ("127.0.0.1", others.port)}
        outbound = postfix.relaying_to(providers, retry_s=300)
        with postfix.running_postfix(root, outbound=outbound) as mta:
            settings = MtaSettings(queue="postfix", queue_config=root / "etc", log_file=mta.log_file)
            behind = BehindTheMta(settings, SystemClock())
            await behind.look()
            with smtplib.SMTP("127.0.0.1", mta.port) as session:
                for number in range(3):
                    session.sendmail(
                        "a@lists.test", [f"m{number}@gmail.test", f"m{number}@fine.test"], b"Subject: x\r\n\r\nx"
                    )
            deadline_s = time.monotonic() + WITHIN_S
            accepted = deferred = 0
            while min(accepted, deferred) < 3 and time.monotonic() < deadline_s:
                await asyncio.sleep(0.02)
                seen = await behind.look()
                accepted += seen.domains["fine.test"].accepted if "fine.test" in seen.domains else 0
                deferred += seen.domains["gmail.test"].deferred if "gmail.test" in seen.domains else 0
            behind.reconfigure(
                settings.model_copy(update={"queue_command": ("/usr/sbin/postqueue", "-c", str(root / "etc"), "-j")})
            )
            seen = await behind.look()
            await behind.close()
    assert (accepted, deferred, seen.trouble) == (3, 3, "")
    refused = seen.domains["gmail.test"]
    assert (refused.queued, refused.waiting, refused.waiting_too_fast) == (3, 3, 3)
    assert refused.reply.startswith("421 4.7.28 Gmail has detected an unusual rate")
    assert seen.messages == 3


async def test_a_glance_at_the_log_tells_that_we_are_too_fast_and_the_next_look_counts_it(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.touch()
    behind = BehindTheMta(MtaSettings(log_file=log), StoppedClock(LATEST_S))
    assert behind.follows_a_log and not await behind.glance()
    taken = (
        b"2026-11-30T10:00:00Z m postfix/smtp[7]: 4F1C2D: to=<a@slow.test>, relay=x[192.0.2.1]:25, status=sent (ok)\n"
    )
    refused = taken.replace(b"status=sent (ok)", b"status=deferred (host x[192.0.2.1] said: 421 4.7.28 unusual rate)")
    for lines, tells in ((taken, False), (refused, True), (taken, True)):
        with log.open("ab") as file:
            file.write(lines)
        assert await behind.glance() is tells
    seen = (await behind.look(at_once=True)).domains["slow.test"]
    assert (seen.accepted, seen.deferred, seen.too_fast) == (2, 1, 1)
    assert not await behind.glance(), "it is told once"
    await behind.close()


async def test_a_log_that_a_glance_could_not_read_is_unknown_in_the_next_look(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    behind = BehindTheMta(MtaSettings(log_file=log), StoppedClock(LATEST_S))
    assert not await behind.glance()
    log.touch()
    seen = await behind.look()
    assert not seen.log_read and "mail.log" in seen.trouble
    assert (await behind.look()).log_read
    await behind.close()


def test_a_look_is_taken_at_once_when_a_provider_says_too_fast_and_a_log_that_is_slow_to_read_is_read_less_often() -> (
    None
):
    assert [look_is_due(since_s, is_told=False) for since_s in (0.5, 0.9, 1.0)] == [False, False, True]
    assert [look_is_due(since_s, is_told=True) for since_s in (0.4, 0.5)] == [False, True]
    assert [glance_again_s(took_s) for took_s in (0.001, 0.5, 60.0)] == [0.5, 2.0, 5.0]

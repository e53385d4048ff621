"""The sink tells the truth: what it took is in the capture file and the log before its reply leaves."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drainer.demo.misbehaviour import Greylisting, Rule, SinkStep
from drainer.demo.sink import Sink, SinkOptions, SinkThread
from drainer.demo.sink_session import SinkSession
from drainer.mta_log.answer import Answer, MtaEvidence
from drainer.mta_log.lines import log_lines

CONTENT = "Received: by x\r\nMESSAGE-ID: <one@example.org>\r\n\r\nMessage-ID: <not@this>\r\n..dots\r\n"


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A sink of its own process, and its port."""
    command = [sys.executable, "-m", "drainer.demo.sink", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sink:
        try:
            assert sink.stdout is not None
            yield sink, int(sink.stdout.readline().rpartition(":")[2])
        finally:
            sink.kill()


def test_capture_and_log_are_written_before_the_reply_even_if_the_sink_is_killed_next(tmp_path: Path) -> None:
    capture, log = tmp_path / "capture.jsonl", tmp_path / "mail.log"
    with process("--capture", str(capture), "--log", str(log), "--keep-content") as (sink, port):
        client = smtplib.SMTP("127.0.0.1", port)
        client.sendmail("ants-bounces@example.org", ["ann@example.org", "ben@example.net"], CONTENT)
        os.kill(sink.pid, signal.SIGKILL)
        sink.wait()
        client.close()
    (line,) = capture.read_text().splitlines()
    taken = json.loads(line)
    assert taken["reverse_path"] == "ants-bounces@example.org" and taken["message_id"] == "<one@example.org>"
    assert taken["recipients"] == ["ann@example.org", "ben@example.net"] and taken["replied"] is True
    assert taken["sha256"] == hashlib.sha256(CONTENT.encode()).hexdigest() and taken["size"] == len(CONTENT)
    begin = r"[A-Z][a-z]{2} [ 0-9][0-9] \d\d:\d\d:\d\d sink postfix/"
    queue_id = re.escape(taken["queue_id"])
    expected = [
        rf"{begin}cleanup\[1\]: {queue_id}: message-id=<one@example\.org>",
        rf"{begin}qmgr\[1\]: {queue_id}: from=<ants-bounces@example\.org>, size=\d+, nrcpt=2 \(queue active\)",
        rf"{begin}local\[1\]: {queue_id}: to=<ann@example\.org>, relay=local, .* dsn=2\.0\.0, status=sent \(.*\)",
        rf"{begin}local\[1\]: {queue_id}: to=<ben@example\.net>, relay=local, .* dsn=2\.0\.0, status=sent \(.*\)",
        rf"{begin}qmgr\[1\]: {queue_id}: removed",
    ]
    lines = log.read_text().splitlines()
    assert len(lines) == len(expected)
    for found, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, found)


def test_process_says_what_it_took_when_asked_to_end() -> None:
    with process("--rule", "rcpt 550 5.1.1 no such user recipient=eve@*") as (sink, port):
        with smtplib.SMTP("127.0.0.1", port) as client:
            refused = client.sendmail("a@example.org", ["ann@example.org", "eve@example.org"], CONTENT)
        sink.terminate()
        output, errors = sink.communicate()
    assert refused == {"eve@example.org": (550, b"5.1.1 no such user")}
    assert output == "taken 1 messages, 1 recipients\n" and errors == "" and sink.returncode == 0


def test_wrong_rule_is_refused_with_what_would_be_right() -> None:
    with pytest.raises(ValueError, match="right would be"):
        Rule.parse("greeting 421 no")
    with pytest.raises(ValueError, match="right would be"):
        Rule.parse("rcpt explode")
    with pytest.raises(ValueError, match="loopback only"):
        Sink(SinkOptions(host="0.0.0.0"))


def step(stage: str, recipient: str = "", sender: str = "") -> SinkStep:
    return SinkStep(stage, 1, 1, sender, recipient, ())  # type: ignore[arg-type]


def test_rule_counts_only_what_it_matches() -> None:
    rule = Rule.parse("rcpt 450 4.2.0 later recipient=*@a.example after=1 first=2")
    assert rule(step("rcpt", "x@b.example")) is None and rule(step("mail")) is None
    answers = [rule(step("rcpt", "x@a.example")) for _ in range(5)]
    assert [answer.reply if answer else None for answer in answers] == [
        None,
        b"450 4.2.0 later\r\n",
        b"450 4.2.0 later\r\n",
        None,
        None,
    ]
    third = Rule.parse("dot hang-up every=3 sender=ants*")
    assert [bool(third(step("dot", sender="ants@x"))) for _ in range(6)] == [False, False, True, False, False, True]
    assert third(step("dot", sender="bees@x")) is None


def test_a_rate_refuses_what_is_above_it_and_only_that_domain() -> None:
    rule = Rule.parse("rcpt 421 4.7.28 unusual rate recipient=*@a.example rate=2")

    def refused(recipient: str, at_s: float) -> bool:
        return rule(replace(step("rcpt", recipient), at_s=at_s)) is not None

    assert [refused("x@a.example", 100.0) for _ in range(4)] == [False, False, True, True]
    assert not refused("x@b.example", 100.0)
    assert [refused("x@a.example", 100.5) for _ in range(2)] == [False, True]
    assert [refused("x@a.example", 160.0) for _ in range(3)] == [False, False, True], (
        "no more than a second is saved up"
    )


def test_a_rate_at_the_final_dot_counts_the_recipients_that_match() -> None:
    rule = Rule.parse("dot 450 4.2.1 later recipient=*@a.example rate=2")
    three = replace(step("dot"), recipients=("1@a.example", "2@a.example", "3@a.example", "4@b.example"))
    assert [rule(replace(three, at_s=at_s)) is None for at_s in (10.0, 10.9, 11.0)] == [True, False, True]
    assert rule(replace(step("dot"), recipients=("4@b.example",))) is None


def test_greylisting_takes_the_second_attempt() -> None:
    with SinkThread(None, Greylisting()) as sink:
        with smtplib.SMTP("127.0.0.1", sink.port) as client:
            with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
                client.sendmail("a@example.org", ["ann@example.org"], CONTENT)
            assert caught.value.recipients["ann@example.org"][0] == 450
            client.sendmail("a@example.org", ["ann@example.org"], CONTENT)
        assert sink.delivered() == [("ann@example.org", "<one@example.org>")]


@pytest.mark.parametrize(("rule", "owned"), [("dot take-and-hang-up", 1), ("dot hang-up", 0), ("dot 451 4.3.0 no", 0)])
def test_sink_knows_whether_it_owns_a_message_without_a_positive_reply(rule: str, owned: int) -> None:
    with SinkThread(None, Rule.parse(rule)) as sink:
        client = smtplib.SMTP("127.0.0.1", sink.port)
        with pytest.raises((smtplib.SMTPServerDisconnected, smtplib.SMTPDataError)):
            client.sendmail("a@example.org", ["ann@example.org"], CONTENT)
        client.close()
        assert [taken.replied for taken in sink.taken] == [False] * owned


async def test_pipelined_commands_are_answered_in_order() -> None:
    async with Sink() as sink:
        reader, writer = await asyncio.open_connection("127.0.0.1", sink.port)
        await reader.readline()
        envelope = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:b\r\nDATA\r\n"
        writer.write(b"HELO x\r\n" + 2 * (envelope + b"Message-ID: <1@x>\r\n\r\n.\r\n") + b"QUIT\r\n")
        replies = (await reader.read()).decode().splitlines()
        writer.close()
        await writer.wait_closed()
        codes = [reply[:3] for reply in replies]
        assert codes == ["250", *2 * ["250", "250", "501", "354", "250"], "221"]
        assert len(sink.taken) == 2


async def test_content_in_any_pieces_is_taken_whole() -> None:
    content = b"Message-ID: <1@x>\r\n\r\n..\r\n.a\r\n"
    async with Sink(SinkOptions(keep_content=True)) as sink:
        reader, writer = await asyncio.open_connection("127.0.0.1", sink.port)
        await reader.readline()
        writer.write(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
        for _ in range(4):
            await reader.readline()
        for octet in content.replace(b"\r\n.", b"\r\n..") + b".\r\n":
            sink_side = next(iter(sink.open_sessions))
            assert isinstance(sink_side, SinkSession)
            sink_side.data_received(bytes([octet]))
        assert (await reader.readline()).startswith(b"250")
        writer.close()
        await writer.wait_closed()
        assert sink.taken[0].content == content


async def test_sessions_beyond_the_limit_are_greeted_with_421() -> None:
    async with Sink(SinkOptions(session_limit=1)) as sink:
        _, first = await asyncio.open_connection("127.0.0.1", sink.port)
        reader, second = await asyncio.open_connection("127.0.0.1", sink.port)
        assert (await reader.read()).startswith(b"421")
        for writer in (first, second):
            writer.close()
            await writer.wait_closed()


def test_its_log_answers_what_became_of_recipients_in_doubt(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    began_s = time.time()
    rules = [Rule.parse("dot take-and-hang-up sender=owned@*"), Rule.parse("dot hang-up sender=refused@*")]
    with SinkThread(SinkOptions(log=log), *rules) as sink:
        for sender in ("owned@example.org", "refused@example.org"):
            client = smtplib.SMTP("127.0.0.1", sink.port)
            with pytest.raises(smtplib.SMTPServerDisconnected):
                client.sendmail(sender, ["ann@example.org", "ben@example.net"], f"Message-ID: <{sender}>\r\n\r\n")
            client.close()
    early = time.strftime("%b %d %H:%M:%S", time.localtime(began_s - 60)) + " sink postfix/qmgr[1]: start"
    late = time.strftime("%b %d %H:%M:%S", time.localtime(began_s + 60)) + " sink postfix/qmgr[1]: end"
    lines = [f"{line}\n".encode() for line in (early, *log.read_text().splitlines(), late)]
    evidence = MtaEvidence()
    evidence.feed(log_lines(lines, began_s + 120, datetime.now().astimezone().tzinfo or UTC))
    for sender, answer in (("owned@example.org", Answer.YES), ("refused@example.org", Answer.NO)):
        recipients = ("ann@example.org", "ben@example.net")
        assert evidence.answers(f"<{sender}>", sender, recipients, began_s) == dict.fromkeys(recipients, answer)

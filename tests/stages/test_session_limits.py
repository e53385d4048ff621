"""The MTA takes so many mails in one session: the next one goes at once in another session, and no mail waits for it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from drainer.demo.misbehaviour import Rule
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.demo.sink_state import SinkOptions
from tests.stages.inside import inside

ENTRIES, LIMIT = 12, 3


def refused(sink: Sink) -> int:
    """Mails that met the limit."""
    return sink.commands["MAIL"] - sink.taken_count


def nobody_waited(lines: list[str], words: tuple[str, ...] = ("outcome=put_back", "outcome=deferred")) -> bool:
    return not [line for line in lines if any(word in line for word in words)]


async def test_limit_of_a_session_defers_no_recipient_and_is_known_after_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "drainer")
    outage = write_plain(tmp_path, 2 * ENTRIES, 2)
    later = sorted((outage.queue_dir / "out").iterdir())[ENTRIES:]
    away = tmp_path / "away"
    away.mkdir()
    for file in later:
        file.rename(away / file.name)
    limited = Rule.parse(f"mail 452 4.5.3 Too many recipients: Too many messages sent mails={LIMIT}")
    async with Sink(None, limited) as sink:
        async with inside(tmp_path, outage, sink, until_empty=True, mta={"sessions": 1}) as run:
            assert await run.ended() == 0
            assert run.service.pipeline.session_limits.most == LIMIT
        assert refused(sink) == 1
        for file in later:
            (away / file.name).rename(file)
        async with inside(tmp_path, outage, sink, mta={"sessions": 1}) as run:
            await run.until("all is delivered", lambda: run.taken() == run.owed())
            assert (await run.status()).mta.session_limit == LIMIT
        assert refused(sink) == 1, "known from the ledger"
    assert nobody_waited(caplog.messages)
    assert len([line for line in caplog.messages if f"event=session_limit transactions={LIMIT}" in line]) == 1


@pytest.mark.parametrize(
    "rule",
    ["mail 421 too many messages in this connection", "mail 452 try later", "dot 451 too many messages this session"],
)
async def test_mail_that_meets_the_limit_goes_at_once_in_another_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rule: str
) -> None:
    caplog.set_level(logging.INFO, "drainer")
    outage = write_plain(tmp_path, ENTRIES, 1)
    async with Sink(None, Rule.parse(f"{rule} mails={LIMIT}")) as sink:
        async with inside(tmp_path, outage, sink, until_empty=True, mta={"sessions": 1}) as run:
            assert await run.ended() == 0
            assert run.taken() == run.owed()
            assert run.service.pipeline.session_limits.most == LIMIT
        assert 1 <= refused(sink) <= 2, "learnt from the first, or, where nothing is said, from two that agree"
    assert nobody_waited(
        caplog.messages, ("outcome=put_back",) if rule.startswith("dot") else ("=put_back", "=deferred")
    )


async def test_limits_that_the_mta_announces_are_kept_from_the_first_session_on(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 6, 5, domains=["example.org"])
    options = SinkOptions(extensions=("PIPELINING", "LIMITS MAILMAX=2 RCPTMAX=3"))
    async with Sink(options) as sink, inside(tmp_path, outage, sink, until_empty=True, mta={"sessions": 1}) as run:
        assert await run.ended() == 0
        assert run.taken() == run.owed()
    assert sorted(len(one.recipients) for one in sink.taken) == [2] * 6 + [3] * 6
    assert sink.sessions_seen == 6 and refused(sink) == 0


async def test_recipients_beyond_an_announced_limit_do_not_wait_for_those_before_it(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 1, 6, domains=["example.org"])
    (names,) = outage.owed.values()
    options = SinkOptions(extensions=("PIPELINING", "LIMITS RCPTMAX=2"))
    rules = [Rule.parse(f"rcpt 450 4.2.0 try later recipient={name}") for name in sorted(names)[:2]]
    async with Sink(options, *rules) as sink, inside(tmp_path, outage, sink, mta={"sessions": 1}) as run:
        await run.until("two wait", lambda: run.resources.index.totals.overall().deferred_recipients)
        assert run.resources.index.totals.overall().deferred_recipients == 2
        assert len(run.taken()) == 4, "the others have it"

"""Many transactions against an MTA that does everything wrong: no recipient gets two copies, none is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from drainer.clock import SystemClock
from drainer.demo.misbehaviour import Rule
from drainer.demo.sink import Sink, SinkOptions
from drainer.feed.deliver import deliver
from drainer.feed.session_pool import SessionPool
from drainer.ledger.records import recipient_key
from drainer.ledger.states import State
from tests.feed.conftest import composed, mta_settings, record_of
from tests.ledger.memory import MemoryLedger

RULES = [
    "connect 421 4.7.0 too many chance=0.1",
    "mail hang-up chance=0.03",
    "mail 451 4.3.0 later chance=0.05",
    "rcpt 450 4.2.0 greylisted chance=0.1",
    "rcpt 550 5.1.1 no such user recipient=eve@*",
    "rcpt hang-up chance=0.02",
    "rcpt twice 250 again chance=0.02",
    "data hang-up chance=0.03",
    "data 421 4.3.2 closing chance=0.02",
    "content hang-up chance=0.03",
    "dot hang-up chance=0.03",
    "dot take-and-hang-up chance=0.03",
    "dot half chance=0.02",
    "dot garbage chance=0.02",
    "dot twice 250 again chance=0.02",
    "dot 451 4.3.0 later chance=0.05",
    "rset hang-up chance=0.2",
    "quit hang-up chance=0.5",
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("extensions", [("PIPELINING", "SIZE"), ("SIZE",)])
async def test_ledger_and_sink_agree_on_every_recipient(
    ledger: MemoryLedger, seed: int, extensions: tuple[str, ...]
) -> None:
    rules = [Rule.parse(line) for line in RULES]
    for number, rule in enumerate(rules):
        rule._random.seed(seed * 100 + number)
    everybody = ("ann@example.org", "ben@example.net", "cat@example.com", "eve@example.org")
    messages = [composed(*everybody) for _ in range(60)]
    async with Sink(SinkOptions(session_limit=6, extensions=extensions), *rules) as sink:
        pool = SessionPool(mta_settings(sink.port, sessions=8), SystemClock(), back_off_first_s=0, back_off_longest_s=0)

        async def drain(number: int) -> None:
            message = messages[number]
            owed = message.envelope.recipients
            while owed:
                part = composed(*owed, content=message.content)
                async with pool.session() as session:
                    record = record_of(message)
                    done = await deliver(part, f"1.0+{number}", record, ledger, session, SystemClock())
                owed = tuple({*done.recipients(State.DEFERRED), *done.untouched})

        async with asyncio.timeout(10):
            await asyncio.gather(*(drain(number) for number in range(len(messages))))
        await pool.close()
    copies = Counter(sink.delivered())
    assert max(copies.values()) == 1
    settled = Counter[State]()
    for message in messages:
        record = record_of(message)
        history = await ledger.history(record.identity)
        for recipient in everybody:
            (state,) = (state for state in State if recipient_key(recipient) in history.with_state(state))
            arrived = copies[(recipient, record.message_id)]
            settled[state] += 1
            assert state is State.IN_DOUBT or arrived == (state is State.DELIVERED)
            assert (state is State.FAILED) <= (recipient == "eve@example.org")
    assert settled[State.DELIVERED] > 100 and settled[State.IN_DOUBT] > 0 and settled[State.FAILED] > 30
    assert set(settled) == {State.DELIVERED, State.IN_DOUBT, State.FAILED}

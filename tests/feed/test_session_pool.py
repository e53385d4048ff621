"""The pool against a real sink: how many sessions, when renewed, what is said of an MTA that is down."""

from __future__ import annotations

import asyncio
import socket

import pytest

from drainer.clock import SystemClock
from drainer.demo.misbehaviour import HANG_UP, Behaviour, Rule, SinkStep, answer
from drainer.demo.sink import Sink, SinkOptions
from drainer.errors import MtaUnreachable
from drainer.feed.deliver import deliver
from drainer.feed.outcome import Stage
from drainer.feed.session import Session
from drainer.feed.session_pool import SessionPool
from drainer.feed.session_renewal import ERRORS_PER_SESSION
from drainer.feed.smtp_commands import mail_command
from drainer.feed.transaction import Transaction
from drainer.ledger.states import State
from drainer.settings.mta import MtaSettings
from tests.feed.conftest import asked, composed, mta_settings, record_of
from tests.ledger.memory import MemoryLedger


def quick_pool(settings: MtaSettings, *, adaptive: bool = False) -> SessionPool:
    return SessionPool(settings, SystemClock(), back_off_first_s=0.01, back_off_longest_s=0.04, adaptive=adaptive)


def seen(pool: SessionPool) -> str:
    return pool.state.state


async def fed(pool: SessionPool, ledger: MemoryLedger, recipient: str) -> Transaction:
    message = composed(recipient)
    async with pool.session() as session:
        return await deliver(message, f"1.0+{recipient}", record_of(message), ledger, session, SystemClock())


async def test_twenty_sessions_carry_transactions_side_by_side(sink: Sink, ledger: MemoryLedger) -> None:
    waiting = 0
    all_there = asyncio.Event()

    def together(step: SinkStep) -> Behaviour | None:
        """Counts sessions that stand at RCPT at the same moment; the test lets them go once all are there."""
        nonlocal waiting
        if step.stage == "rcpt" and not all_there.is_set():
            waiting += 1
            if waiting == 20:
                all_there.set()
        return None

    sink.scripts.append(together)
    pool = quick_pool(mta_settings(sink.port, sessions=20))

    async def hold(number: int) -> Transaction:
        message = composed(f"member{number}@example.org")
        async with pool.session() as session:
            if number < 20:
                await asked(session, mail_command(message.envelope, 1, ()), Stage.MAIL)
                await asked(session, b"RCPT TO:<someone@example.org>\r\n", Stage.RCPT)
                await all_there.wait()
                await asked(session, b"RSET\r\n", Stage.RESET)
            return await deliver(message, f"1.0+{number}", record_of(message), ledger, session, SystemClock())

    done = await asyncio.gather(*(hold(number) for number in range(200)))
    await pool.close()
    assert all(transaction.recipients(State.DELIVERED) for transaction in done)
    assert sink.most_sessions == 20 and sink.sessions_seen == 20
    assert sorted(recipient for recipient, _ in sink.delivered()) == sorted(
        f"member{number}@example.org" for number in range(200)
    )


async def test_session_is_renewed_after_its_transactions(sink: Sink, ledger: MemoryLedger) -> None:
    pool = quick_pool(mta_settings(sink.port, sessions=1, transactions_per_session=3))
    for number in range(7):
        await fed(pool, ledger, f"member{number}@example.org")
    await pool.close()
    assert sink.sessions_seen == 3 and sink.commands["QUIT"] == 3 and len(sink.taken) == 7


async def test_mta_that_is_down_is_waited_for_and_state_says_why(ledger: MemoryLedger) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    pool = quick_pool(mta_settings(port))
    assert seen(pool) == "unknown"
    waits: list[tuple[float, float]] = []
    down = asyncio.Event()
    noted = pool._down

    def note(reason: str) -> None:
        before_s = asyncio.get_running_loop().time()
        noted(reason)
        waits.append((pool._next_try - asyncio.get_running_loop().time(), pool._next_try - before_s))
        if len(waits) == 5:
            down.set()

    pool._down = note  # type: ignore[method-assign]
    tasks = [asyncio.create_task(fed(pool, ledger, f"member{number}@example.org")) for number in range(8)]
    await down.wait()
    state = pool.state
    assert state.state == "down" and str(port) in state.reason and state.next_try_s is not None
    assert all(least <= wait <= most for wait, (least, most) in zip([0.01, 0.02, 0.04, 0.04, 0.04], waits, strict=True))
    async with Sink(SinkOptions(port=port)) as sink:
        done = await asyncio.gather(*tasks)
        assert seen(pool) == "up" and pool.state.reason == "" and pool.state.next_try_s is None
        assert len(sink.taken) == 8
        await pool.close()
    assert all(transaction.recipients(State.DELIVERED) for transaction in done)


async def test_one_session_at_a_time_tries_an_mta_that_hangs_up(sink: Sink, ledger: MemoryLedger) -> None:
    sink.scripts.append(Rule.parse("mail hang-up first=5"))
    pool = quick_pool(mta_settings(sink.port, sessions=1))
    await fed(pool, ledger, "first@example.org")
    assert seen(pool) == "up", "one lost session is not a dead MTA"
    await fed(pool, ledger, "first@example.org")
    assert seen(pool) == "down"
    pool.reconfigure(mta_settings(sink.port, sessions=8))
    sink.most_sessions = 0
    done = [await fed(pool, ledger, "second@example.org") for _ in range(3)]
    assert [bool(transaction.untouched) for transaction in done] == [True, True, True] and sink.most_sessions == 1
    others = await asyncio.gather(*(fed(pool, ledger, f"member{number}@example.org") for number in range(8)))
    await pool.close()
    assert all(transaction.recipients(State.DELIVERED) for transaction in others)
    assert seen(pool) == "up"


async def test_feeding_goes_on_when_another_session_proves_the_mta_works_while_one_is_being_tried(
    sink: Sink, ledger: MemoryLedger
) -> None:
    opening, may_open, slow = asyncio.Event(), asyncio.Event(), False

    async def open_session(settings: MtaSettings) -> Session:
        if slow:
            opening.set()
            await may_open.wait()
        return await Session.open(settings)

    async def lose(session: Session) -> None:
        rule = Rule.parse("rcpt hang-up first=1")
        sink.scripts.append(rule)
        message = composed("lost@example.org")
        await deliver(message, "1.0+lost", record_of(message), ledger, session, SystemClock())
        sink.scripts.remove(rule)

    pool = SessionPool(mta_settings(sink.port), SystemClock(), open_session, back_off_first_s=0)
    async with pool.session() as works:
        for _ in range(2):
            async with pool.session() as breaks:
                await lose(breaks)
        assert seen(pool) == "down"
        slow = True
        tried = asyncio.create_task(fed(pool, ledger, "tried@example.org"))
        await opening.wait()
        message = composed("ann@example.org")
        await deliver(message, "1.0+works", record_of(message), ledger, works, SystemClock())
    may_open.set()
    assert (await tried).recipients(State.DELIVERED) and seen(pool) == "up"
    for _ in range(2):
        async with pool.session() as breaks:
            await lose(breaks)
    assert seen(pool) == "down"
    async with asyncio.timeout(10):
        assert (await fed(pool, ledger, "after@example.org")).recipients(State.DELIVERED)
        await pool.close()


async def test_session_that_died_while_idle_is_replaced_without_blaming_the_mta(
    sink: Sink, ledger: MemoryLedger
) -> None:
    pool = quick_pool(mta_settings(sink.port, sessions=1))
    await fed(pool, ledger, "first@example.org")
    sink.hang_up_all()
    done = [await fed(pool, ledger, "second@example.org") for _ in range(2)]  # the first may find out only at MAIL
    assert done[0].untouched or done[0].recipients(State.DELIVERED)
    assert done[1].recipients(State.DELIVERED) and seen(pool) == "up"
    await pool.close()


async def test_mta_with_a_session_limit_gets_fewer_and_everything_is_delivered(ledger: MemoryLedger) -> None:
    async with Sink(SinkOptions(session_limit=3)) as sink:
        pool = quick_pool(mta_settings(sink.port, sessions=10))
        done = await asyncio.gather(*(fed(pool, ledger, f"member{number}@example.org") for number in range(60)))
        assert all(transaction.recipients(State.DELIVERED) for transaction in done)
        assert pool.limit < 10 and seen(pool) == "up" and "421" in pool.state.reason
        await pool.close()
        assert sink.most_sessions == 3 and len(sink.taken) == 60


async def test_limit_of_transactions_per_session_is_learnt_from_its_421(sink: Sink, ledger: MemoryLedger) -> None:
    refused = 0

    def five_each(step: SinkStep) -> Behaviour | None:
        nonlocal refused
        if step.stage != "mail" or step.transaction <= 5:
            return None
        refused += 1
        return answer("421 4.7.0 too many messages in one session")

    sink.scripts.append(five_each)
    pool = quick_pool(mta_settings(sink.port, sessions=1))
    done = [await fed(pool, ledger, f"member{number}@example.org") for number in range(30)]
    await pool.close()
    assert refused == 1 and sum(bool(transaction.untouched) for transaction in done) == 1
    assert len(sink.taken) == 29 and pool.limit == 1 and pool.state.reason == ""


async def test_421_for_a_recipient_teaches_no_limit_of_the_session(sink: Sink, ledger: MemoryLedger) -> None:
    sink.scripts.append(Rule.parse("rcpt 421 4.7.28 too many messages from you recipient=*@provider.example"))
    pool = quick_pool(mta_settings(sink.port, sessions=1))
    for number in range(6):
        await fed(pool, ledger, f"member{number}@example.org")
        await fed(pool, ledger, f"member{number}@provider.example")
    assert pool.session_limit.most == 0 and pool.session_limit.suspected == 0
    await pool.close()


async def test_closing_waits_for_sessions_at_work_and_takes_leave_of_all(sink: Sink, ledger: MemoryLedger) -> None:
    pool = quick_pool(mta_settings(sink.port, sessions=2))
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> Transaction:
        message = composed("ann@example.org")
        async with pool.session() as session:
            reached.set()
            await go_on.wait()
            return await deliver(message, "1.0+slow", record_of(message), ledger, session, SystemClock())

    at_work = asyncio.create_task(slow())
    await fed(pool, ledger, "ben@example.org")
    await reached.wait()
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    with pytest.raises(MtaUnreachable):
        await fed(pool, ledger, "late@example.org")
    assert not closing.done()
    go_on.set()
    assert (await at_work).recipients(State.DELIVERED)
    await closing
    assert pool.state.sessions == 0 and sink.commands["QUIT"] == 2


async def test_cancelled_waiter_does_not_keep_the_session_from_the_next(sink: Sink, ledger: MemoryLedger) -> None:
    pool = quick_pool(mta_settings(sink.port, sessions=1))
    async with pool.session():
        impatient = asyncio.create_task(fed(pool, ledger, "ann@example.org"))
        patient = asyncio.create_task(fed(pool, ledger, "ben@example.org"))
        await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).recipients(State.DELIVERED)
    with pytest.raises(asyncio.CancelledError):
        await impatient
    await pool.close()


async def test_new_settings_renew_sessions_before_their_next_transaction(sink: Sink, ledger: MemoryLedger) -> None:
    pool = quick_pool(mta_settings(sink.port, sessions=1))
    await fed(pool, ledger, "ann@example.org")
    async with Sink() as other:
        pool.reconfigure(mta_settings(other.port, sessions=1))
        await fed(pool, ledger, "ben@example.org")
        await pool.close()
        assert [recipient for recipient, _ in other.delivered()] == ["ben@example.org"]
    assert sink.commands["QUIT"] == 1


async def test_a_flaky_mta_is_neither_dead_nor_short_of_sessions(sink: Sink, ledger: MemoryLedger) -> None:
    sink.scripts.extend(Rule.parse(rule) for rule in ("mail 421 4.3.2 later every=9", "content hang-up every=13"))
    pool = quick_pool(mta_settings(sink.port, sessions=4), adaptive=True)
    seen_down = False
    for number in range(40):
        await asyncio.gather(*(fed(pool, ledger, f"member{number}.{place}@example.org") for place in range(4)))
        seen_down |= seen(pool) == "down"
    await pool.close()
    assert not seen_down and pool.limit == 4


async def test_a_session_is_renewed_before_a_server_slows_it_down_for_its_refusals(
    sink: Sink, ledger: MemoryLedger
) -> None:
    sink.scripts.append(Rule.parse("rcpt 450 4.2.0 later"))
    pool = quick_pool(mta_settings(sink.port, sessions=1))
    for number in range(2 * ERRORS_PER_SESSION):
        await fed(pool, ledger, f"member{number}@example.org")
    sink.scripts.clear()
    for number in range(ERRORS_PER_SESSION):
        await fed(pool, ledger, f"other{number}@example.org")
    await pool.close()
    assert sink.sessions_seen == 3 and sink.commands["QUIT"] == 3


async def test_second_mail_lost_after_the_final_dot_is_a_dead_mta(sink: Sink, ledger: MemoryLedger) -> None:
    pool = quick_pool(mta_settings(sink.port, sessions=4))
    async with pool.session(), pool.session(), pool.session(), pool.session():
        pass
    sink.scripts.append(Rule.parse("dot hang-up first=2"))
    done = [await fed(pool, ledger, "first@example.org")]
    assert seen(pool) == "up", "one lost session is not a dead MTA"
    done.append(await fed(pool, ledger, "second@example.org"))
    assert seen(pool) == "down" and all(transaction.recipients(State.IN_DOUBT) for transaction in done)
    assert (await fed(pool, ledger, "third@example.org")).recipients(State.DELIVERED) and seen(pool) == "up"
    await pool.close()


async def test_after_a_loss_behind_the_final_dot_one_mail_at_a_time_is_sent_until_one_is_answered(
    sink: Sink, ledger: MemoryLedger
) -> None:
    dots: list[int] = []

    def first_is_lost(step: SinkStep) -> Behaviour | None:
        if step.stage == "dot":
            dots.append(sink.commands["MAIL"])
        return HANG_UP if step.stage == "dot" and len(dots) == 1 else None

    sink.scripts.append(first_is_lost)
    pool = quick_pool(mta_settings(sink.port, sessions=4))
    async with pool.session(), pool.session(), pool.session(), pool.session():
        pass
    await fed(pool, ledger, "first@example.org")
    done = await asyncio.gather(*(fed(pool, ledger, f"member{number}@example.org") for number in range(8)))
    await pool.close()
    assert dots[:2] == [1, 2], "the others wait until the second one is answered"
    assert all(transaction.recipients(State.DELIVERED) for transaction in done) and seen(pool) == "up"
    assert sink.most_sessions == 4


async def test_421_about_a_destination_says_nothing_of_the_mta(sink: Sink, ledger: MemoryLedger) -> None:
    sink.scripts.append(Rule.parse("rcpt 421 4.7.28 too fast recipient=*@provider.example"))
    pool = quick_pool(mta_settings(sink.port, sessions=4), adaptive=True)

    async def refused() -> None:
        message = composed("ann@provider.example")
        async with pool.session() as session:
            await deliver(message, "1.0+ann", record_of(message), ledger, session, SystemClock(),
                          on_end=lambda _: session.closed_for_destination())  # fmt: skip

    before = pool.limit
    for _ in range(10):
        await asyncio.gather(*(refused() for _ in range(4)))
        assert seen(pool) == "up"
    assert pool.limit == before
    await pool.close()


async def test_421_about_a_destination_after_the_content_teaches_no_limit_of_the_session(
    sink: Sink, ledger: MemoryLedger
) -> None:
    pool = quick_pool(mta_settings(sink.port, sessions=1))
    message = composed("ann@provider.example")
    for number in range(3):
        await fed(pool, ledger, f"member{number}@example.org")
        sink.scripts.append(Rule.parse("dot 421 4.7.28 too fast"))
        async with pool.session() as session:
            await deliver(message, f"{number}.0+ann", record_of(message), ledger, session, SystemClock())
            session.closed_for_destination()
        sink.scripts.clear()
    assert pool.session_limit.most == 0 and pool.session_limit.suspected == 0
    await pool.close()


async def test_another_mta_does_not_wait_for_sessions_that_the_one_before_keeps_from_ending(
    sink: Sink, ledger: MemoryLedger
) -> None:
    """The mail lost after the final dot was the other MTA's, and so is the session that hangs."""
    sink.scripts.append(Rule.parse("dot hang-up first=1"))
    pool = quick_pool(mta_settings(sink.port, sessions=4))
    async with Sink() as another, pool.session():
        await fed(pool, ledger, "first@example.org")
        pool.reconfigure(mta_settings(another.port, sessions=4))
        async with asyncio.timeout(10):
            assert (await fed(pool, ledger, "second@example.org")).recipients(State.DELIVERED)
    await pool.close()
    assert len(another.taken) == 1


async def test_session_that_was_being_opened_when_the_settings_changed_carries_nothing(
    sink: Sink, ledger: MemoryLedger
) -> None:
    opening, go_on = asyncio.Event(), asyncio.Event()

    async def opened(settings: MtaSettings) -> Session:
        opening.set()
        await go_on.wait()
        return await Session.open(settings)

    pool = SessionPool(mta_settings(sink.port), SystemClock(), opened)
    feeding = asyncio.create_task(fed(pool, ledger, "member@example.org"))
    await opening.wait()
    async with Sink() as another:
        pool.reconfigure(mta_settings(another.port))
        go_on.set()
        await feeding
        await pool.close()
        assert (len(sink.taken), len(another.taken)) == (0, 1)

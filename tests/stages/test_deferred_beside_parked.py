"""A recipient who is refused for now puts off nobody who only waits for the ceiling of a domain."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import drainer.stages.domain_paces
from drainer.backlog.index import BacklogIndex
from drainer.backlog.states import EntryState
from drainer.control.messages.journal import UndoRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, ResumeRequest
from drainer.demo.misbehaviour import Behaviour, SinkStep, answer
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.ledger.records import Coverage, RecipientKey, recipient_key
from drainer.ledger.states import State
from drainer.stages.survey import may_go_on
from tests.backlog.entries import described, fill, listed
from tests.stages.inside import ME, Inside, inside

SLOW, FULL = "gmail.com", "full.example"
PER_S = 4
FEED: dict[str, Any] = {
    "messages": "unlimited",
    "domains": {SLOW: f"{PER_S}/s"},
    "retry_first": "1h",
    "retry_longest": "1h",
}


class FullMailbox:
    """Refuses one domain; and while the other one's mail is `too_fast`, that one as well."""

    def __init__(self, *, too_fast: bool = False) -> None:
        self.too_fast = too_fast
        self.asked = Counter[str]()

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != "rcpt":
            return None
        self.asked[step.recipient] += 1
        if step.recipient.endswith(FULL):
            return answer("452 4.2.2 mailbox full")
        return answer("451 4.7.28 slow down, unusual rate of mail") if self.too_fast else None


async def test_who_waits_for_a_ceiling_goes_on_while_another_recipient_is_put_off(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 1, 3 * PER_S + 1, domains=(*[SLOW] * 3 * PER_S, FULL))
    full = FullMailbox()
    async with Sink(None, full) as sink, inside(tmp_path, outage, sink, feed=FEED) as run:
        index = run.resources.index
        await run.until("all of the slow domain have it", lambda: len(run.taken()) == 3 * PER_S)
        await run.until("the last one is put off", lambda: index.order.last_due_s() is not None)
        assert max(run.taken().values()) == 1
        assert set(full.asked.values()) == {1}, "the full mailbox is not asked again before its time"
        due_s = index.order.last_due_s()
        (deferral,) = await run.resources.ledger.deferrals()
        assert deferral.attempts == 1 and due_s == deferral.due_s
        assert index.totals.overall().deferred_recipients == 1


async def test_recipient_who_is_put_off_waits_no_longer_because_the_clock_was_set_back_meanwhile(
    tmp_path: Path,
) -> None:
    """Each turn of the others puts him off anew, until his own time."""
    outage = write_plain(tmp_path, 1, 3 * PER_S + 1, domains=(*[SLOW] * 3 * PER_S, FULL))
    async with Sink(None, FullMailbox()) as sink, inside(tmp_path, outage, sink, feed=FEED) as run:
        index = run.resources.index
        await run.until("he is put off", lambda: index.order.next_due_s() and index.totals.lanes())
        run.service.pipeline.clock_was_set_back(1800.0)
        await run.until("only he is left", lambda: index.order.last_due_s() is not None)
        (deferral,) = await run.resources.ledger.deferrals()
        assert len(run.taken()) == 3 * PER_S and index.order.last_due_s() == deferral.due_s - 1800.0


async def test_after_the_clock_was_set_back_who_is_refused_is_tried_in_time_while_others_wait_for_a_ceiling(
    tmp_path: Path,
) -> None:
    """The ledger still has the time of the clock that was ahead."""
    outage = write_plain(tmp_path, 1, 3, domains=(SLOW, SLOW, FULL))
    full = FullMailbox()
    async with Sink(None, full) as sink, inside(tmp_path, outage, sink, feed=FEED | {"domains": {SLOW: "1/h"}}) as run:
        await run.until("he is put off, the other waits", lambda: run.resources.index.totals.lanes())
        an_hour_back(run)
        await tried_again(run, full)


async def test_after_the_clock_was_set_back_who_is_refused_is_tried_in_time_although_his_turn_was_interrupted(
    tmp_path: Path,
) -> None:
    outage = write_plain(tmp_path, 1, 1, domains=(FULL,))
    full = FullMailbox()
    async with Sink(None, full) as sink, inside(tmp_path, outage, sink, feed=FEED | {"domains": {}}) as run:
        await run.until("he is put off", run.resources.index.order.next_due_s)
        with run.held_up("deferral") as held:
            an_hour_back(run)
            await run.until("it is his turn", held.reached.is_set)
            await run.asks.pause(PauseRequest(), ME)
        await run.asks.resume(ResumeRequest(), ME)
        await tried_again(run, full)


def an_hour_back(run: Inside) -> None:
    """He was put off for an hour, and is due now."""
    run.service.pipeline.clock_was_set_back(3600.0)
    run.resources.signals.wake()


async def tried_again(run: Inside, full: FullMailbox) -> None:
    index = run.resources.index
    await run.until("he is put off", lambda: (index.order.next_due_s() or 0.0) > run.resources.clock.now_s() + 60.0)
    (deferral,) = await run.resources.ledger.deferrals()
    assert deferral.attempts == 2
    assert [asked for name, asked in full.asked.items() if name.endswith(FULL)] == [2]


@pytest.mark.parametrize("ceilings", [{SLOW: "100/s"}, {}], ids=["with a ceiling", "without"])
async def test_who_waits_for_a_ceiling_goes_on_after_a_restart_while_another_recipient_is_put_off(
    tmp_path: Path, ceilings: dict[str, str]
) -> None:
    outage = write_plain(tmp_path, 1, 3 * PER_S + 1, domains=(*[SLOW] * 3 * PER_S, FULL))
    full = FullMailbox()
    async with Sink(None, full) as sink:
        async with inside(tmp_path, outage, sink, feed=FEED | {"domains": {SLOW: "1/h"}}) as run:
            await until_parked(run)
        async with inside(tmp_path, outage, sink, feed=FEED | {"domains": ceilings}) as run:
            await only_he_is_left(run, full)


async def test_after_a_restart_who_was_refused_for_the_pace_of_his_domain_waits_for_that_and_for_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer.stages.domain_paces, "AT_ONCE_S", 0.0)
    monkeypatch.setattr(drainer.stages.domain_paces, "KEEP_EVERY_S", 0.0)
    monkeypatch.setattr(drainer.stages.domain_paces, "LOOK_EVERY_S", 0.0)
    outage = write_plain(tmp_path, 1, 3 * PER_S + 1, domains=(*[SLOW] * 3 * PER_S, FULL))
    full = FullMailbox(too_fast=True)
    feed = FEED | {"domains": {}}
    async with Sink(None, full) as sink:
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            await until_parked(run)
            await run.until("the pace is kept", lambda: SLOW.encode() in run.service.pipeline.paces._kept)
        full.too_fast = False
        full.asked.clear()
        async with inside(tmp_path, outage, sink, feed=feed) as run:
            index = run.resources.index
            await run.until(
                "the others wait for their ceiling", lambda: run.taken() or index.totals.lanes() == {SLOW: 1}
            )
            assert not any(name.endswith(FULL) for name in full.asked)


async def test_recipient_who_is_put_off_is_not_asked_when_the_others_leave_their_lane(tmp_path: Path) -> None:
    """A release that comes to nothing since the entry waits already, actions undone, a reload without the ceiling."""
    outage = write_plain(tmp_path, 1, 3 * PER_S + 1, domains=(*[SLOW] * 3 * PER_S, FULL))
    (file,) = (outage.queue_dir / "out").iterdir()
    full = FullMailbox()
    async with Sink(None, full) as sink, inside(tmp_path, outage, sink, feed=FEED | {"domains": {SLOW: "1/h"}}) as run:
        await until_parked(run)
        assert (await run.asks.release(run.of(file), ME)).changed == 0
        await until_parked(run)
        for action in (run.asks.hold, run.asks.drop):
            assert (await action(run.of(file), ME)).changed == 1
            assert (await run.asks.undo(UndoRequest(yes=True), ME)).changed == 1
            await until_parked(run)
        settings = tmp_path / "drainer.toml"
        settings.write_text(settings.read_text().replace(SLOW, "elsewhere.example"))
        run.service.reload()
        await only_he_is_left(run, full)


async def until_parked(run: Inside) -> None:
    index = run.resources.index
    await run.until("one is put off, the others wait", lambda: index.order.next_due_s() and index.totals.lanes())
    assert len(run.taken()) < 3 * PER_S


async def only_he_is_left(run: Inside, full: FullMailbox) -> None:
    """All the others have it, and the refused one waits for his time, asked once."""
    index = run.resources.index
    await run.until("all of the slow domain have it", lambda: len(run.taken()) == 3 * PER_S)
    await run.until("he is put off", lambda: index.order.last_due_s() is not None)
    (deferral,) = await run.resources.ledger.deferrals()
    assert set(full.asked.values()) == {1} and max(run.taken().values()) == 1
    assert deferral.attempts == 1 and index.order.last_due_s() == deferral.due_s
    assert index.totals.overall().deferred_recipients == 1


def test_only_an_entry_of_which_some_were_refused_and_some_were_not_may_go_on() -> None:
    ann, bob = recipient_key("ann@example.org"), recipient_key("bob@example.org")
    full, slow = (part_of(state=State.DEFERRED, reply=reply, keys={ann}) for reply in ("mailbox full", "slow down"))
    had = part_of(state=State.DELIVERED, reply="ok", keys={bob})

    def goes_on(*own: Coverage, owed: set[RecipientKey]) -> bool:
        return may_go_on(own, owed, lambda reply: reply == "slow down")

    assert goes_on(full, owed={ann, bob}) and goes_on(slow, owed={ann})
    assert not goes_on(full, had, owed={ann})
    assert not goes_on(had, owed={ann}), "the MTA hangs up on the entry"


def part_of(state: State, reply: str, keys: set[RecipientKey]) -> Coverage:
    return Coverage(state=state, filebase="1.5+a", recipients=frozenset(keys), at_s=1.0, reply=reply)


def test_entry_deferred_since_an_earlier_run_waits_again_once_reading_showed_that_it_goes_on() -> None:
    index = BacklogIndex(Path(":memory:"))
    some, all_ = described("1.5+a"), described("2.5+b")
    index.add_listed(listed("1.5+a", "2.5+b"))
    for name in ("1.5+a", "2.5+b"):
        index.set_state(name, EntryState.DEFERRED, "attempt 1 deferred", 100.0)
    index.describe([replace(some, goes_on=True), all_])
    (waiting,) = index.order.next_waiting("oldest", 50.0, limit=2)
    assert (waiting.filebase, waiting.due_s, index.state_of("2.5+b")) == ("1.5+a", 100.0, EntryState.DEFERRED)


def test_entry_leaves_its_lane_when_its_refused_recipients_are_due() -> None:
    index = BacklogIndex(Path(":memory:"))
    fill(index, described("1.5+a"), described("2.5+b"))
    for name, due_s in (("1.5+a", 100.0), ("2.5+b", None)):
        index.set_state(name, EntryState.ACTIVE)
        index.set_state(name, EntryState.WAITING, "ceiling of x.example", due_s, lane="x.example")
    assert index.order.next_due_s() == 100.0
    assert index.order.next_waiting("oldest", 99.0) == []
    index.order.shift_due(-50.0)
    assert [waiting.filebase for waiting in index.order.next_waiting("oldest", 50.0)] == ["1.5+a"]
    assert index.order.next_due_s() is None and index.totals.lanes() == {"x.example": 2}

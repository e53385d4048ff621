"""A recipient who is refused for now puts off nobody who only waits for the ceiling of a domain."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from drainer.backlog.index import BacklogIndex
from drainer.backlog.states import EntryState
from drainer.demo.misbehaviour import Behaviour, SinkStep, answer
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from tests.backlog.entries import described, fill
from tests.stages.inside import inside

SLOW, FULL = "gmail.com", "full.example"
PER_S = 4
FEED: dict[str, Any] = {
    "messages": "unlimited",
    "domains": {SLOW: f"{PER_S}/s"},
    "retry_first": "1h",
    "retry_longest": "1h",
}


class FullMailbox:
    """Refuses one domain, and at first one recipient of the slow one as well."""

    def __init__(self) -> None:
        self.asked = Counter[str]()

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != "rcpt":
            return None
        self.asked[step.recipient] += 1
        return answer("452 4.2.2 mailbox full") if step.recipient.endswith(FULL) else None


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

"""An entry ends in the commit of the outcome after which it owes nobody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drainer.control.messages.pauses_and_rates import RateRequest
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.duplicates.decision import Claim, Decision, NextStep
from drainer.ledger.evidence import Ended, Fate, Finish
from drainer.ledger.records import Outcome
from drainer.ledger.states import State
from drainer.stages.ending import Finished
from drainer.stages.last_outcome import LastOutcome
from tests.stages.inside import ME, inside
from tests.stages.test_taken_out import only

ENTRY, OTHER = "1700000001.5+" + "1" * 40, "1700000002.5+" + "2" * 40
ANN, BOB, EVE = "ann@example.org", "bob@Example.ORG", "eve@example.net"
END = Finished({"delivered_entries": 1}, Ended(Fate.DELIVERED), (), 0, (), is_dropped=False)


def outcome(state: State, *recipients: str) -> Outcome:
    return Outcome(state, recipients, "250 ok", 1_700_000_000.0)


def of(before: Decision) -> LastOutcome:
    return LastOutcome(before, ENTRY, lambda decision: END)


def states(decision: Decision | None) -> Sequence[tuple[str, str, State]]:
    assert decision is not None and decision.next_step is NextStep.FINISH
    return [(claim.recipient, claim.filebase, claim.state) for claim in decision.skip]


def test_end_is_written_with_the_last_outcome_and_not_before_the_others_are_durable() -> None:
    had = Claim(EVE, ENTRY, State.DELIVERED, 1.0)
    last = of(Decision(NextStep.DELIVER, deliver=(ANN, BOB), skip=(had,)))
    ann, bob = outcome(State.DELIVERED, ANN), outcome(State.FAILED, "bob@example.org")
    assert last.finish_with([ann]) is None
    assert last.finish_with([bob]) is None, "the outcome for ann may never become durable"
    last.durable([ann])
    assert last.settled is None
    assert last.finish_with([bob]) == Finish(ENTRY, END.counts, END.ended, END.evidence)
    assert last.settled is None, "the outcome for bob may never become durable either"
    last.durable([bob])
    assert last.finished is not None and last.finished[1] is END
    assert states(last.finished[0]) == [
        (EVE, ENTRY, State.DELIVERED), (ANN, ENTRY, State.DELIVERED), ("bob@example.org", ENTRY, State.FAILED),
    ]  # fmt: skip
    assert states(last.settled) == states(last.finished[0])


def test_recipient_that_is_still_owed_or_waits_or_is_held_or_had_it_from_others_has_the_ledger_asked_again() -> None:
    claim = Claim(EVE, OTHER, State.ATTEMPTING, 1.0)
    both, all_delivered = (ANN, BOB), [outcome(State.DELIVERED, ANN, BOB)]
    for left in (State.DEFERRED, State.IN_DOUBT):
        last = of(Decision(NextStep.DELIVER, deliver=both))
        assert last.finish_with([outcome(State.DELIVERED, ANN), outcome(left, BOB)]) is None
    for before in (
        Decision(NextStep.DELIVER, deliver=both, wait=(claim,)),
        Decision(NextStep.DELIVER, deliver=both, hold=(claim,)),
        Decision(NextStep.DELIVER, deliver=both, skip=(Claim(EVE, OTHER, State.DELIVERED, 1.0),)),
    ):
        last = of(before)
        assert last.finish_with(all_delivered) is None
        last.durable(all_delivered)
        assert last.settled is None


async def test_file_goes_only_after_the_end_of_the_entry_is_written(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 1, 3)
    file = only(outage)
    async with Sink() as sink, inside(tmp_path, outage, sink, feed={"messages": "0"}) as run:
        await run.until("it is read", lambda: run.state_of(file) in ("waiting", "active"))
        with run.held_up("close_attempt") as ending:
            await run.asks.set_rate(RateRequest(messages="unlimited"), ME)
            await ending.reached.wait()
            await run.until("it is delivered", lambda: run.taken() == run.owed())
            assert file.name in run.files("backlog")
            assert not (await run.status()).done.delivered_entries
        await run.until("it is off the disk", lambda: not run.files("backlog"))
        assert (await run.status()).done.delivered_entries == 1

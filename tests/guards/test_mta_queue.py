"""What the length of the MTA's own queue allows."""

from __future__ import annotations

from drainer.guards.mta_queue import MtaQueue, uncounted


def test_feeding_stops_for_a_long_queue_and_goes_on_when_it_is_short_again() -> None:
    queue = MtaQueue(10, 5)
    assert [queue.judge(messages).verdict for messages in (11, 6, 4)] == ["stop", "stop", "go"]


def test_length_that_cannot_be_had_slows_and_says_why() -> None:
    guard = uncounted("postqueue: no such file")
    assert (guard.verdict, guard.reason) == ("slow", "postqueue: no such file")

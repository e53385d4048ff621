"""There is one list of Mailman's queues."""

from __future__ import annotations

from drainer.queuedir.misplaced import DEAD_ENDS
from drainer.queuedir.queue_names import MAILMAN_QUEUES


def test_queues_whose_runners_pass_nothing_on_are_queues_of_mailman() -> None:
    assert DEAD_ENDS < MAILMAN_QUEUES

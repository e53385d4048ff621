"""One line per outcome of a mail, or per recipient where a person may have to act on them."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drainer.ledger.records import MessageRecord, Outcome
from drainer.ledger.states import State
from drainer.pickles.standins import Message
from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.stages.outcome_log import log_outcome
from drainer.text.logfmt import logfmt

ENTRY = QueueEntry("1700000000.1+ab12", Flavour.MAILMAN2, "kit es", (), Message(), None, {}, b"", 0)
TEXT = st.text(max_size=12)


def plainly(record: MessageRecord, outcome: Outcome) -> list[str]:
    """The lines by their definition, each with all its fields."""
    by_name = outcome.state is not State.DELIVERED or len(outcome.recipients) == 1
    return [
        logfmt(
            outcome=outcome.state,
            filebase=ENTRY.filebase,
            list=ENTRY.list_id,
            message_id=record.message_id,
            recipient=recipient,
            recipients=None if by_name else len(outcome.recipients),
            reply=outcome.reply,
        )
        for recipient in (outcome.recipients if by_name else [None])
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(State), st.lists(TEXT, max_size=3).map(tuple), TEXT, TEXT)
def test_any_outcome_is_told_once_or_by_recipient(
    caplog: pytest.LogCaptureFixture, state: State, recipients: tuple[str, ...], reply: str, message_id: str
) -> None:
    record, outcome = MessageRecord((b"x",), "kites", message_id), Outcome(state, recipients, reply, 1.0)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        log_outcome(ENTRY, record, outcome)
    assert caplog.messages == plainly(record, outcome)
    expected = logging.INFO if state in (State.DELIVERED, State.DEFERRED) else logging.WARNING
    assert {one.levelno for one in caplog.records} <= {expected}


def test_where_only_warnings_are_logged_a_refusal_is_told_and_a_delivery_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    record = MessageRecord((b"x",), "kites", "<1@example.org>")
    with caplog.at_level(logging.WARNING):
        for state in (State.DELIVERED, State.FAILED):
            log_outcome(ENTRY, record, Outcome(state, ("ann@example.org",), "reply", 1.0))
    assert [message.partition(" ")[0] for message in caplog.messages] == ["outcome=failed"]

"""One log line per outcome, with fixed keys: one search finds everything that happened to a message."""

from __future__ import annotations

import logging

from drainer.ledger.records import MessageRecord, Outcome
from drainer.ledger.states import State
from drainer.queuedir.entry import QueueEntry
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")


def log_outcome(entry: QueueEntry, record: MessageRecord, outcome: Outcome) -> None:
    """Recipients by name where a person may have to act on them."""
    level = logging.INFO if outcome.state in (State.DELIVERED, State.DEFERRED) else logging.WARNING
    if not log.isEnabledFor(level):
        return
    of_mail = logfmt(outcome=outcome.state, filebase=entry.filebase, list=entry.list_id, message_id=record.message_id)
    reply = logfmt(reply=outcome.reply)
    if outcome.state is State.DELIVERED and len(outcome.recipients) != 1:
        log.log(level, f"{of_mail} {logfmt(recipients=len(outcome.recipients))} {reply}")
        return
    for recipient in outcome.recipients:
        log.log(level, f"{of_mail} {logfmt(recipient=recipient)} {reply}")

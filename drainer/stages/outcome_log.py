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
    by_name = outcome.state is not State.DELIVERED
    if not by_name and not log.isEnabledFor(logging.INFO):
        return
    for recipients in [[address] for address in outcome.recipients] if by_name else [list(outcome.recipients)]:
        single = recipients[0] if len(recipients) == 1 else None
        log.log(
            logging.INFO if outcome.state in (State.DELIVERED, State.DEFERRED) else logging.WARNING,
            logfmt(
                outcome=outcome.state, filebase=entry.filebase, list=entry.list_id, message_id=record.message_id,
                recipient=single, recipients=len(recipients) if single is None else None, reply=outcome.reply,
            ),
        )  # fmt: skip

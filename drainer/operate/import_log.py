"""Deliveries that a log shows, matched with the queue and written to the ledger: the work of `drainer import-log`.

In    deliveries from a log (mta_log/delivered.py), the backlog index, the ledger
Out   the ledger has them as DELIVERED under the import's name; the entries concerned
Not here  reading logs; the request (operations.py in the running service, cli/import_log.py without it)

A log has neither body nor digest, so list, Message-ID and recipient are matched. The ledger keeps them by a digest of list
and Message-ID (duplicates/known_from_log.py). Every decision asks for that digest, also for entries that arrive later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drainer.backlog.index import BacklogIndex
from drainer.control.messages.log_import import DeliveryInLog, ImportedEntry, ImportReply, ImportRequest
from drainer.duplicates.fingerprint import message_id_keys
from drainer.duplicates.known_from_log import imported_identity
from drainer.ledger.actions import NewAction
from drainer.ledger.contract import Ledger
from drainer.ledger.records import RECIPIENT_KEY_BYTES, JournalLine, Learnt, MessageRecord, RecipientKey, recipient_key
from drainer.text.wording import count

IMPORT = "import"
"""Key of NewAction.payload for the name of an import, which undo needs."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An entry whose message is in the log."""

    filebase: str
    list_id: str
    recipients: frozenset[RecipientKey]


async def carry_out(ledger: Ledger, index: BacklogIndex, request: ImportRequest, by: str, now_s: float) -> ImportReply:
    """Carry out one request; the journal gets a line with who sent it."""
    if request.undo:
        reply = ImportReply(done=True, name=request.name, learnt=await ledger.unlearn(request.name))
    else:
        reply = await _learn(ledger, index, request.name, request.deliveries, request.yes)
    if request.undo or (request.yes and (reply.learnt or request.note)):
        action = "import-log --undo" if request.undo else "import-log"
        what = request.note or count(reply.learnt, "delivery", "deliveries")
        payload = "" if request.undo else json.dumps({IMPORT: request.name})
        line = JournalLine(now_s, by, action, f"{request.name}: {what}")
        await ledger.write_journal(line, NewAction(ended_s=now_s, payload=payload) if payload else None)
    return reply


async def _learn(
    ledger: Ledger, index: BacklogIndex, name: str, deliveries: Sequence[DeliveryInLog], yes: bool
) -> ImportReply:
    """Write what was delivered; without `yes` only say what that would mean for the queue.

    A delivery of Mailman's that names no recipients covers an entry with exactly as many recipients, and no other.
    """
    learnt: list[Learnt] = []
    entries: list[ImportedEntry] = []
    unmatched = 0
    for one in deliveries:
        waiting = list(_waiting(index, one))
        if one.carried is None:
            had = frozenset(map(recipient_key, one.recipients))
        else:
            refused = frozenset(map(recipient_key, one.recipients))
            had = frozenset[RecipientKey]().union(
                *(entry.recipients - refused for entry in waiting if len(entry.recipients) == one.carried)
            )
            unmatched += not had
        if not had:
            continue
        identity = tuple(imported_identity(name_of_list, one.message_id) for name_of_list in one.lists)
        learnt.append(Learnt(MessageRecord(identity, one.lists[-1], one.message_id), had, one.at_s))
        entries += (
            ImportedEntry(
                entry=entry.filebase,
                list=entry.list_id,
                message_id=one.message_id,
                recipients=len(entry.recipients),
                covered=len(entry.recipients & had),
            )
            for entry in waiting
            if entry.recipients & had
        )
    recipients = sum(len(one.recipients) for one in learnt)
    news = await ledger.learn(name, learnt) if yes and learnt else 0
    return ImportReply(done=yes, name=name, deliveries=recipients, learnt=news, unmatched=unmatched, entries=entries)


def _waiting(index: BacklogIndex, one: DeliveryInLog) -> Iterator[_Waiting]:
    for name_of_list in one.lists:
        for key in message_id_keys(name_of_list, one.message_id):
            for entry in index.related.with_message_id_key(key):
                joined = entry.recipient_keys
                keys = (joined[at : at + RECIPIENT_KEY_BYTES] for at in range(0, len(joined), RECIPIENT_KEY_BYTES))
                yield _Waiting(entry.filebase, name_of_list, frozenset(keys))

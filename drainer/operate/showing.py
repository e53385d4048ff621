"""What is known of one entry or one message: the work of `drainer show`.

In    an entry's name, its beginning, or a Message-ID
Out   a ShowReply: the entry as it lies in custody, and what became of each recipient as the ledger has it
Raises  KeyError: neither an entry nor a message of that name is known; RequestRefused: several are, or it cannot be read
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from drainer.backlog.selection import EntryLine, Selectors
from drainer.control.messages.entries import DeliveryLine, ShowReply
from drainer.duplicates.known_from_log import is_import
from drainer.errors import EntryError, RequestRefused
from drainer.ledger.evidence import DSNS, Fate
from drainer.ledger.records import Coverage
from drainer.ledger.states import State
from drainer.operate.selection import Selection
from drainer.pipeline import Pipeline
from drainer.queuedir.content import header_pairs, value_text

OTHERS_SHOWN = 20
EVIDENCE_SHOWN = 1000


class Showing:
    def __init__(self, pipeline: Pipeline, selection: Selection) -> None:
        self._pipeline = pipeline
        self._resources = pipeline.resources
        self._selection = selection

    async def show(self, key: str) -> ShowReply:
        """key: an entry's name, its beginning, or a Message-ID, also without its <>."""
        key = key.strip()
        if "@" in key and not key.startswith("<"):
            with contextlib.suppress(KeyError):
                return await self._show(f"<{key}>")
        return await self._show(key)

    async def _show(self, key: str) -> ShowReply:
        selectors = Selectors(message_id=key) if "@" in key else Selectors(entry=self._selection.one_entry(key))
        found = self._resources.index.lines.select(selectors, self._resources.clock.now_s(), OTHERS_SHOWN)
        line = self._selection.with_reasons(found.lines[:1])[0] if found.lines else None
        message_id = key if "@" in key else line.message_id if line else ""
        fates = await self._fates(message_id) if message_id else []
        if line is None and not fates:
            raise KeyError(key)
        if line is None:
            return ShowReply(entry=None, fates=fates)
        return await self._shown(line, [other.entry for other in found.lines[1:]], fates)

    async def _shown(self, line: EntryLine, others: list[str], fates: list[DeliveryLine]) -> ShowReply:
        try:
            entry = self._pipeline.facts.read(line.entry)
            owed = await self._pipeline.actions.owed(line.entry)
        except EntryError as exc:
            raise RequestRefused(f"{line.entry} cannot be read: {exc}") from exc
        return ShowReply(
            entry=line,
            others=others,
            headers=[(name, value_text(value)) for name, value in header_pairs(entry.message)],
            recipients=list(entry.recipients),
            owed=owed,
            metadata=metadata_as_json(entry.metadata),
            fates=fates,
        )

    async def _fates(self, message_id: str) -> list[DeliveryLine]:
        """From the deliveries in the ledger, and from its evidence: suppressed copies, resolved doubts, DSNs."""
        ledger = self._resources.ledger
        deliveries = [
            DeliveryLine(
                list=record.list_id,
                message_id=record.message_id,
                state=part.state.value,
                recipients=len(part.recipients),
                entry=part.filebase,
                at=part.at_s,
                detail=_detail(part),
                addresses=part.addresses,
                reply=part.reply,
            )
            for record, history in await ledger.messages_by_message_id(message_id)
            for part in history.coverage
        ]
        evidence = await ledger.evidence_of(message_id, EVIDENCE_SHOWN)
        sent = {
            (line.filebase, address): "DSN sent" if line.fate is Fate.DSN_SENT else "DSN not sent"
            for line in evidence
            if line.fate in DSNS
            for address in line.addresses
        }
        found = [
            one.model_copy(update={"detail": _with_dsn(one, sent)}) if one.addresses else one for one in deliveries
        ]
        found += [
            DeliveryLine(
                list=line.list_id,
                message_id=message_id,
                state=line.fate.value,
                recipients=line.recipients,
                entry=line.filebase,
                at=line.at_s,
                detail=line.detail,
                of=line.of,
                of_at=line.of_at_s or None,
            )
            for line in evidence
            if line.fate not in DSNS
        ]
        return sorted(found, key=lambda one: one.at)


def _with_dsn(one: DeliveryLine, sent: Mapping[tuple[str, str], str]) -> str:
    """For each recipient that failed: address, answer, and what became of its DSN."""
    if one.state != State.FAILED:
        return one.detail
    parts = (f"{address}: {one.reply}; {sent.get((one.entry, address), 'no DSN sent')}" for address in one.addresses)
    return ", ".join(parts)


def _detail(part: Coverage) -> str:
    if is_import(part.filebase):
        return f"known from a log: {part.filebase}"
    return " ".join([part.reply, *part.addresses]).strip()


def metadata_as_json(metadata: Mapping[str, object]) -> dict[str, Any]:
    """Metadata of any type and depth as JSON; what JSON has no form for as text."""
    return {name: _plain(value) for name, value in metadata.items()}


def _plain(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(element) for element in value]
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(element) for key, element in value.items()}
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return ascii(value) if isinstance(value, bytes) else value_text(value)

"""Searches the MTA's log while the service runs: the wait for a log that does not answer has a limit.

In    where the log is, which mails are wanted
Out   an MtaEvidence; MtaLogUnreadable with the reason
Not here  how a log is read (file.py), what its lines mean (answer.py)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from drainer.blocking import InTime
from drainer.errors import MtaLogUnreadable
from drainer.mta_log.answer import MtaEvidence
from drainer.mta_log.file import read_mta_log

SEARCHED_WITHIN_S = 1800.0
"""A log of 20 GB takes minutes; an NFS server that is gone takes for ever."""


@dataclass(frozen=True, slots=True)
class _Search:
    """Two searches are one question only if they look for the same mails: the answer to another one says nothing of them."""

    where: Path
    from_s: float
    message_ids: frozenset[str]

    def __str__(self) -> str:
        return f"the search of {self.where}"


class LogSearch:
    """For one event loop."""

    def __init__(self, within_s: float = SEARCHED_WITHIN_S) -> None:
        self._reading = InTime[MtaEvidence](within_s)

    async def evidence(self, where: Path, from_s: float, now_s: float, message_ids: Collection[str]) -> MtaEvidence:
        """As read_mta_log. Raises MtaLogUnreadable"""
        wanted = frozenset(message_ids)
        try:
            return await self._reading.ask(
                _Search(where, from_s, wanted), lambda: read_mta_log(where, from_s, now_s, wanted)
            )
        except TimeoutError as exc:
            raise MtaLogUnreadable(str(exc)) from exc

"""The requests that the service answers, as the control socket sees it.

Answers     questions: the service answers them, or without_service/ from ledger and custody
Operations  all requests: operate/operations.py carries them out
Pure  types only
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from drainer.backlog.selection import Selectors
from drainer.control.messages.base import Done, Peer
from drainer.control.messages.domains import DomainReply, DomainRequest, DomainsReply
from drainer.control.messages.entries import EntriesReply, SelectReply, SelectRequest, ShowReply
from drainer.control.messages.finish import EtaReply
from drainer.control.messages.journal import JournalReply, UndoReply, UndoRequest
from drainer.control.messages.log_import import ImportReply, ImportRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, RateReply, RateRequest, ResumeRequest
from drainer.report.snapshot import Snapshot

if TYPE_CHECKING:
    from drainer.report.incident.document import Incident


class Answers(Protocol):
    """What can be asked without changing anything: of the service, or of ledger and custody (without_service/)."""

    async def status(self) -> Snapshot: ...

    async def eta(self, at_recipients_per_s: float | None, by_s: float | None, list_name: str) -> EtaReply: ...

    async def entries(self, selectors: Selectors, limit: int) -> EntriesReply: ...

    async def show(self, key: str) -> ShowReply: ...

    async def journal(self, limit: int) -> JournalReply: ...

    async def domains(self, name: str, limit: int) -> DomainsReply: ...


class Operations(Answers, Protocol):
    """What the service can be asked; operate/operations.py implements it. Raises RequestRefused (409) or KeyError (404)."""

    async def pause(self, request: PauseRequest, peer: Peer) -> Done: ...

    async def resume(self, request: ResumeRequest, peer: Peer) -> Done: ...

    async def rate(self) -> RateReply: ...

    async def set_rate(self, request: RateRequest, peer: Peer) -> RateReply: ...

    async def order_domain(self, request: DomainRequest, peer: Peer) -> DomainReply: ...

    async def hold(self, request: SelectRequest, peer: Peer) -> SelectReply: ...

    async def release(self, request: SelectRequest, peer: Peer) -> SelectReply: ...

    async def drop(self, request: SelectRequest, peer: Peer) -> SelectReply: ...

    async def handback(self, request: SelectRequest, peer: Peer) -> SelectReply: ...

    async def import_log(self, request: ImportRequest, peer: Peer) -> ImportReply: ...

    async def undo(self, request: UndoRequest, peer: Peer) -> UndoReply: ...

    async def report(self, since_s: float | None) -> Incident: ...

    async def config(self) -> dict[str, Any]: ...

"""The command line's end of the control socket.

In    the socket's path; requests of messages/
Out   its replies, or ServiceNotRunning, RequestRefused (409), UsageError (400), DrainerError (404, 500)

asyncio carries the octets and http.client reads the reply. aiohttp would do both, but importing it takes twice the time of
all else that `drainer status` needs.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ValidationError

from drainer.backlog.selection import Selectors
from drainer.control.messages.base import Done
from drainer.control.messages.domains import DomainReply, DomainRequest, DomainsReply
from drainer.control.messages.entries import EntriesReply, SelectReply, SelectRequest, ShowReply
from drainer.control.messages.finish import EtaReply
from drainer.control.messages.journal import JournalReply, UndoReply, UndoRequest
from drainer.control.messages.log_import import ImportReply, ImportRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, RateReply, RateRequest, ResumeRequest
from drainer.errors import DrainerError, RequestRefused, ServiceNotRunning, ServiceSilent, UsageError
from drainer.report.snapshot import Snapshot

ANSWER_WITHIN_S = 60.0

if TYPE_CHECKING:
    from drainer.report.incident.document import Incident

_Model = TypeVar("_Model", bound=BaseModel)


class ControlClient:
    """`async with ControlClient(path) as service:` then one method per request. Each request has a connection of its own."""

    def __init__(self, socket_path: Path, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        self._path = socket_path
        self._answer_within_s = answer_within_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing stays open."""

    async def status(self) -> Snapshot:
        return await self._get("/status", Snapshot)

    async def eta(
        self, at_recipients_per_s: float | None = None, by_s: float | None = None, list_name: str = ""
    ) -> EtaReply:
        numbers = {"at": at_recipients_per_s, "by": by_s}
        asked = {name: f"{value:f}" for name, value in numbers.items() if value is not None}
        return await self._get("/eta", EtaReply, {**asked, **({"list": list_name} if list_name else {})})

    async def entries(self, selectors: Selectors, limit: int) -> EntriesReply:
        asked = {name: str(value) for name, value in selectors.model_dump(exclude_none=True).items()}
        return await self._get("/entries", EntriesReply, {**asked, "limit": str(limit)})

    async def show(self, key: str) -> ShowReply:
        return await self._get(f"/entries/{quote(key, safe='', errors='replace')}", ShowReply)

    async def pause(self, request: PauseRequest) -> Done:
        return await self._post("/pause", request, Done)

    async def resume(self, request: ResumeRequest) -> Done:
        return await self._post("/resume", request, Done)

    async def rate(self) -> RateReply:
        return await self._get("/rate", RateReply)

    async def set_rate(self, request: RateRequest) -> RateReply:
        return await self._post("/rate", request, RateReply)

    async def domains(self, name: str = "", limit: int = 20) -> DomainsReply:
        asked = {"limit": str(limit), **({"domain": name} if name else {})}
        return await self._get("/domains", DomainsReply, asked)

    async def order_domain(self, request: DomainRequest) -> DomainReply:
        return await self._post("/domain", request, DomainReply)

    async def hold(self, request: SelectRequest) -> SelectReply:
        return await self._post("/hold", request, SelectReply)

    async def release(self, request: SelectRequest) -> SelectReply:
        return await self._post("/release", request, SelectReply)

    async def drop(self, request: SelectRequest) -> SelectReply:
        return await self._post("/drop", request, SelectReply)

    async def handback(self, request: SelectRequest) -> SelectReply:
        return await self._post("/handback", request, SelectReply)

    async def import_log(self, request: ImportRequest) -> ImportReply:
        return await self._post("/import", request, ImportReply)

    async def undo(self, request: UndoRequest) -> UndoReply:
        return await self._post("/undo", request, UndoReply)

    async def journal(self, limit: int) -> JournalReply:
        return await self._get("/journal", JournalReply, {"limit": str(limit)})

    async def report(self, since_s: float | None) -> Incident:
        from drainer.report.incident.document import Incident  # many models, which no other command needs

        return await self._get("/report", Incident, {} if since_s is None else {"since": repr(since_s)})

    async def config(self) -> dict[str, Any]:
        return await self._exchange("GET", "/config")

    async def _get(self, path: str, kind: type[_Model], query: Mapping[str, str] | None = None) -> _Model:
        return self._understood(kind, await self._exchange("GET", path, query=query))

    async def _post(self, path: str, request: BaseModel, kind: type[_Model]) -> _Model:
        return self._understood(kind, await self._exchange("POST", path, body=request.model_dump(exclude_none=True)))

    def _understood(self, kind: type[_Model], answer: dict[str, Any]) -> _Model:
        try:
            return kind.model_validate(answer)
        except ValidationError as exc:
            raise DrainerError(
                f"the service on {self._path} gave an answer this version does not understand; restart it after an upgrade"
            ) from exc

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        target = f"{path}?{urlencode(query, errors='replace')}" if query else path
        try:
            async with asyncio.timeout(self._answer_within_s):
                reader, writer = await self._connected()
                try:
                    writer.write(_request(method, target, body))
                    await writer.drain()
                    status, octets = _reply(await reader.read())
                finally:
                    writer.close()
        except TimeoutError as exc:
            within = f"in {self._answer_within_s:.0f} s"
            if method == "GET":
                raise ServiceSilent(
                    f"the service on {self._path} gave no answer {within}; it hangs or is very busy: see its log "
                    "(`journalctl -u drainer`)"
                ) from exc
            raise DrainerError(
                f"the service took the request but gave no answer {within}; what was asked may still happen"
            ) from exc
        except (HTTPException, OSError) as exc:
            if method == "GET":
                raise ServiceNotRunning(f"drainer is not running: it went away while asked on {self._path}") from exc
            raise DrainerError(
                f"the service went away while it was asked ({exc}); what was asked may have happened: see `drainer status`"
            ) from exc
        return self._decoded(status, octets)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(self._path)
        except OSError as exc:
            raise self._unreachable(exc) from exc

    def _decoded(self, status: int, octets: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(octets)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise DrainerError(f"{self._path} answered, but not as drainer does; is control.socket right?")
        if status < 400:
            return answer
        said = str(answer.get("error", f"HTTP status {status}"))
        raise {400: UsageError, 409: RequestRefused}.get(status, DrainerError)(said)

    def _unreachable(self, exc: OSError) -> DrainerError:
        if isinstance(exc, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
            return ServiceNotRunning(f"drainer is not running: nothing listens on {self._path}")
        if isinstance(exc, PermissionError):
            return DrainerError(
                f"not allowed to use {self._path}; its group may operate: ask for membership, or use sudo"
            )
        return DrainerError(f"cannot reach {self._path}: {exc.strerror or exc}")


def _request(method: str, target: str, body: Mapping[str, Any] | None) -> bytes:
    """HTTP/1.1 on the wire. The service closes the connection after its reply, so the reply ends where the stream does."""
    content = b"" if body is None else json.dumps(body).encode()
    fields = ["Host: drainer", "Accept: application/json", "Connection: close"]
    if body is not None:
        fields += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *fields, "", ""]).encode("ascii") + content


def _reply(octets: bytes) -> tuple[int, bytes]:
    """Status and content. Raises HTTPException where the reply is cut off, or is no HTTP."""
    response = HTTPResponse(_Received(octets))  # type: ignore[arg-type]  # of a socket it uses makefile alone
    response.begin()
    return response.status, response.read()


class _Received:
    """Octets that are here already, in the place of a socket."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._octets)

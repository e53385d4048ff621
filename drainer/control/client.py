"""The command line's end of the control socket.

In    the socket's path; requests of messages/
Out   its replies, or ServiceNotRunning, RequestRefused (409), UsageError (400), DrainerError (404, 500)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, ValidationError
from yarl import URL

from drainer.backlog.selection import Selectors
from drainer.control.messages.base import Done
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
    """`async with ControlClient(path) as service:` then one method per request."""

    def __init__(self, socket_path: Path, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        self._path = socket_path
        self._answer_within_s = answer_within_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._path)),
            timeout=aiohttp.ClientTimeout(total=self._answer_within_s),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

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
        assert self._session is not None, "used outside `async with`"
        url = URL(f"http://drainer{path}", encoded=True)
        if query:
            url = url.with_query(query)
        try:
            async with self._session.request(method, url, json=body) as reply:
                status, text = reply.status, await reply.text()
        except aiohttp.ClientConnectorError as exc:
            raise self._unreachable(exc.os_error) from exc
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
        except (aiohttp.ClientError, OSError) as exc:
            if method == "GET":
                raise ServiceNotRunning(f"drainer is not running: it went away while asked on {self._path}") from exc
            raise DrainerError(
                f"the service went away while it was asked ({exc}); what was asked may have happened: see `drainer status`"
            ) from exc
        return self._decoded(status, text)

    def _decoded(self, status: int, text: str) -> dict[str, Any]:
        try:
            answer = json.loads(text)
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
            return ServiceNotRunning(f"drainer is not running: nobody answers on {self._path}")
        if isinstance(exc, PermissionError):
            return DrainerError(
                f"not allowed to use {self._path}; its group may operate: ask for membership, or use sudo"
            )
        return DrainerError(f"cannot reach {self._path}: {exc.strerror or exc}")

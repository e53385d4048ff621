"""Checks of the MTA: what it offers, its queue, its log.

In    settings; one SMTP session, opened and closed again; the MTA's queue and log
Out   findings
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - asyncio imports it late; the child process may not be able to (as_user.py)
import encodings.idna  # noqa: F401 - likewise, for a host name
import time
from collections.abc import Iterator
from pathlib import Path

from drainer.clock import SystemClock
from drainer.destinations.own_name import names_in_log
from drainer.destinations.queue_reader import LISTED_WITHIN_S, QueueReader
from drainer.errors import MtaError, MtaLogUnreadable, MtaRefusesLogin
from drainer.feed.session import Session
from drainer.files.regular_file import open_regular
from drainer.host_check.files import unreadable
from drainer.host_check.finding import Finding
from drainer.mta_log.answer import signs_of
from drainer.mta_log.file import LOCAL, PACKED, file_lines, is_journal, read_mta_log
from drainer.mta_log.lines import Sign, log_lines
from drainer.mta_log.postfix import PostfixReader
from drainer.settings import Settings
from drainer.settings.mta import MtaSettings
from drainer.text.wording import count, duration, size

_PATIENCE_S = 15.0
_LOG_END_BYTES = 2**18
_SHOWN = ("PIPELINING", "STARTTLS", "AUTH", "8BITMIME", "SMTPUTF8")


def mta(settings: Settings) -> Iterator[Finding]:
    """Its SMTP session, unless Mailman delivers; its queue; its log."""
    if settings.feed.via == "smtp":
        yield asyncio.run(_session(settings.mta))
    if settings.mta.queue != "none":
        yield asyncio.run(_queue(settings.mta))
    if settings.mta.log_file is not None:
        yield _log(settings.mta.log_file)
        yield from _name_in_log(settings.mta)


async def _session(settings: MtaSettings) -> Finding:
    """Greeting, EHLO, and TLS and AUTH if the settings ask for them; no mail is begun."""
    soon = {name: min(getattr(settings, name), _PATIENCE_S) for name in ("connect_timeout", "command_timeout")}
    where = f"{settings.host}:{settings.port}"
    try:
        session = await Session.open(settings.model_copy(update=soon))
    except MtaRefusesLogin as exc:
        return Finding("error", "mta", str(exc))
    except MtaError as exc:
        return Finding(
            "warning",
            "mta",
            f"{exc}; drainer waits while the MTA is down, so check that mta.host and mta.port are right",
        )
    offered = [name for name in _SHOWN if session.offers(name)]
    limit = f"SIZE {size(session.largest_bytes)}" if session.largest_bytes else "no SIZE limit"
    missing = [name for name in _SHOWN if name not in offered]
    await session.quit()
    said = f"{where} answers; offers {', '.join([limit, *offered])}; not {', '.join(missing) or 'missing anything'}"
    used = {"none": "no TLS used", "starttls": "STARTTLS used", "implicit": "TLS used"}[settings.tls]
    logged_in = f", logged in as {settings.username}" if settings.username else ""
    return Finding("ok", "mta", f"{said}; {used}{logged_in}")


async def _queue(settings: MtaSettings) -> Finding:
    """Both ways in which the service asks: for the number of messages, and for the whole listing."""
    queue = QueueReader(settings, SystemClock(), waited_for_s=LISTED_WITHIN_S)
    try:
        length = (await queue.messages()).messages
    except MtaError as exc:
        return Finding("warning", "mta.queue", f"{exc}; while its length is not known, drainer sends slowly")
    listed = await queue.look()
    if listed.trouble:
        unlisted = f"{listed.trouble}; drainer sees how long the queue is, and not for which domains its mail is"
        return Finding("warning", "mta.queue", unlisted)
    if length > settings.queue_high:
        over = f"{count(length, 'message')} in the MTA's queue, above mta.queue_high: feeding stops until it is shorter"
        return Finding("warning", "mta.queue", over)
    return Finding(
        "ok", "mta.queue", f"{settings.queue}: {count(length, 'message')} in its queue{_cost(listed.took_s)}"
    )


def _cost(took_s: float) -> str:
    return f"; listing it took {duration(took_s)}, so it is looked at less often" if took_s > 1.0 else ""


def _name_in_log(settings: MtaSettings) -> Iterator[Finding]:
    """Whose lines of the log count, where Postfix says it."""
    found = asyncio.run(names_in_log(settings))
    if found.trouble:
        yield Finding("warning", "mta.log_name", found.trouble)
    elif found.names and not settings.log_name:
        yield Finding("ok", "mta.log_name", f"not set: Postfix says {', '.join(found.names)}")


def _log(where: Path) -> Finding:
    about = "mta.log_file"
    now_s = time.time()
    try:
        if is_journal(where):
            read_mta_log(where, now_s, now_s, ())
            return Finding("ok", about, f"{where} can be read")
        if why := unreadable(where):
            return Finding("error", about, why)
        is_packed = where.suffix in PACKED
        lines = list(file_lines(where, now_s) if is_packed else log_lines(_last_lines(where), now_s, LOCAL))
    except (MtaLogUnreadable, OSError) as exc:
        return Finding("error", about, f"{exc}")
    if not lines:
        if where.stat().st_size == 0:
            return Finding("warning", about, f"{where} is empty: it cannot answer for recipients in doubt")
        return Finding(
            "error", about, f"{where}: no line begins like those of syslog or Exim; right would be the MTA's own log"
        )
    postfix = PostfixReader()
    if all(signs_of(line, postfix) is Sign.NONE for line in lines):
        why = f"{where}: none of its last {count(len(lines), 'line')} is from Postfix or Exim"
        return Finding("warning", about, why)
    return Finding("ok", about, f"{where}, in a known format")


def _last_lines(file: Path) -> Iterator[bytes]:
    """Complete lines at the end of a log; the log may have gigabytes."""
    with open_regular(file) as log:
        log.seek(0, 2)
        start = max(0, log.tell() - _LOG_END_BYTES)
        log.seek(start)
        if start:
            log.readline()
        yield from log

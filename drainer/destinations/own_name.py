"""The names under which the MTA that we feed writes to its log.

In    the settings of [mta]; Postfix's own configuration, as postconf tells it
Out   names as syslog has them; none: every MTA that writes to the log counts; why a name is not known that should be

Several instances of Postfix share a log as a rule. What another one delivers says nothing of what ours may send. One
instance has several names where a transport of its master.cf has its own `-o syslog_name=`.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass

from drainer.clock import Clock
from drainer.destinations.command import hand_on_lines, program
from drainer.errors import MtaError
from drainer.settings.mta import MtaSettings

ASK_AGAIN_S = 60.0
"""A postconf that could not say may do so later: after an outage the whole host is busy."""
_WITHIN_S = 10.0
_MOST_BYTES = 2**20
_PARAMETER = re.compile(r"\S+/syslog_name = (?P<name>[^/\s$]+)")


@dataclass(frozen=True, slots=True)
class NamesInLog:
    """names: (): every MTA of the log counts; trouble: why Postfix did not say them, "" if it did, or is not asked."""

    names: tuple[str, ...] = ()
    trouble: str = ""


async def names_in_log(mta: MtaSettings) -> NamesInLog:
    """As mta.log_name says, or as Postfix here is configured."""
    if mta.log_name:
        return NamesInLog((mta.log_name,))
    if mta.queue != "postfix" or mta.queue_command:
        return NamesInLog()
    try:
        return NamesInLog(await _names_of_postfix(() if mta.queue_config is None else ("-c", str(mta.queue_config))))
    except (MtaError, OSError) as exc:
        return NamesInLog(
            trouble=f"Postfix did not say its name in the log, so the lines of every MTA there count ({exc}); "
            "mta.log_name can name it"
        )


async def _names_of_postfix(instance: tuple[str, ...]) -> tuple[str, ...]:
    """The instance's own name first. Raises MtaError; OSError, where no pipe can be made."""
    lines: list[str] = []
    postconf = program("postconf")
    await hand_on_lines((postconf, *instance, "-x", "-h", "syslog_name"), lines.append, _WITHIN_S, _MOST_BYTES)
    own = lines[0].strip() if lines else ""
    if not own:
        raise MtaError(f"{postconf} printed no syslog_name")
    await hand_on_lines((postconf, *instance, "-P"), lines.append, _WITHIN_S, _MOST_BYTES)
    transports = {found["name"] for line in lines[1:] if (found := _PARAMETER.match(line))}
    return own, *sorted(transports - {own})


class OwnName:
    """The names, asked for every ASK_AGAIN_S until they are known.

    trouble  why they are not known yet; "" if they are
    """

    def __init__(self, mta: MtaSettings, clock: Clock) -> None:
        self._mta = mta
        self._clock = clock
        self._found: NamesInLog | None = None
        self._asked_s = 0.0
        self._asking: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str:
        return self._found.trouble if self._found is not None else ""

    async def names(self) -> tuple[str, ...]:
        """As far as they are known. Only the first answer is waited for: after that, the log is read on meanwhile."""
        if self._asking is None and self._is_due():
            self._asking = asyncio.create_task(self._ask())
        if self._asking is not None and self._found is None:
            await asyncio.shield(self._asking)
        return self._found.names if self._found is not None else ()

    async def close(self) -> None:
        """A question under way is ended, and postconf with it."""
        if self._asking is not None:
            self._asking.cancel()
            with suppress(asyncio.CancelledError):
                await self._asking

    def _is_due(self) -> bool:
        if self._found is None:
            return True
        return bool(self._found.trouble) and self._clock.monotonic_s() - self._asked_s >= ASK_AGAIN_S

    async def _ask(self) -> None:
        self._asked_s = self._clock.monotonic_s()
        try:
            self._found = await names_in_log(self._mta)
        finally:
            self._asking = None

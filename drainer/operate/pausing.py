"""Pause, resume and rate: what an operator asks for them, carried out.

In    PauseRequest, ResumeRequest, RateRequest, and who sent them
Out   the new pauses and rates in the ledger and in force; the reply in words
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from drainer.control.messages.base import Done, Peer
from drainer.control.messages.pauses_and_rates import PauseRequest, RateReply, RateRequest, ResumeRequest
from drainer.ledger.records import INTAKE, Pause
from drainer.observe.situation import Situation
from drainer.operate.pauses_and_rates import PausesAndRates
from drainer.operate.selection import Selection
from drainer.pipeline import Pipeline
from drainer.text.wording import count, duration, limit


class Pausing:
    def __init__(self, pipeline: Pipeline, situation: Situation, limits: PausesAndRates, selection: Selection) -> None:
        self._pipeline = pipeline
        self._resources = pipeline.resources
        self._situation = situation
        self._limits = limits
        self._selection = selection

    async def pause(self, request: PauseRequest, peer: Peer) -> Done:
        now_s = self._resources.clock.now_s()
        until_s = now_s + request.for_s if request.for_s is not None else None
        names = await self._lists_of(request.list)
        pauses = tuple(Pause(name, now_s, until_s, peer.user, request.reason) for name in names)
        detail = ": ".join(filter(None, [", ".join(filter(None, names)) or "everything", request.reason]))
        async with self._limits.turn:
            state = self._limits.state
            kept = tuple(other for other in state.pauses if other.list_id not in names)
            number = await self._limits.decide(
                dataclasses.replace(state, pauses=(*kept, *pauses)), peer.user, "pause", detail, request.reason
            )
        return Done(message=f"paused: {self._paused(names, request.for_s)}", number=number)

    def _paused(self, names: tuple[str, ...], for_s: float | None) -> str:
        """What is paused for how long, and what that means just now."""
        how_long = f"for {duration(for_s)}" if for_s is not None else "until `drainer resume`"
        said = f"{_lists_in_words(names)}, {how_long}"
        waiting = {line.list_id for line in self._resources.index.totals.per_list() if line.entries}
        if names != ("",) and waiting.isdisjoint(names):
            return f"{said}; none of its entries waits now, those that come will"
        in_flight = self._pipeline.transmit.in_flight
        return f"{said}; up to {count(in_flight, 'transaction')} in flight finished first" if in_flight else said

    async def _lists_of(self, asked: str) -> tuple[str, ...]:
        """List-ids; ("",) where no list is asked for, which means everything."""
        if not asked:
            return ("",)
        return tuple(one.list_id for one in await self._selection.lists(asked, self._limits.state))

    async def resume(self, request: ResumeRequest, peer: Peer) -> Done:
        async with self._limits.turn:
            names = await self._lists_of(request.list)
            state = self._limits.state
            to_end = set(names) if request.list else {"", INTAKE}
            ended = [pause for pause in state.pauses if pause.list_id in to_end]
            kept = tuple(pause for pause in state.pauses if pause.list_id not in to_end)
            what = _lists_in_words([pause.list_id for pause in ended] or names) if request.list else "everything"
            tried_again = None if request.list else await self._pipeline.trust.trust_again()
            if not ended and tried_again is None:
                return Done(message=_nothing_resumed(what, _single(state.pauses), _still_paused(state.pauses)))
            detail = ": ".join(filter(None, [what, request.reason]))
            number = await self._limits.decide(
                dataclasses.replace(state, pauses=kept), peer.user, "resume", detail, request.reason
            )
            tail = f"; {count(tried_again, 'entry', 'entries')} the MTA had refused tried again" if tried_again else ""
            return Done(message=f"resumed: {what}{tail}{_still_paused(kept)}", number=number)

    async def rate(self) -> RateReply:
        rates, state = (await self._situation.snapshot()).rate, self._limits.state
        own: Literal["window", "settings"] = "window" if rates.window is not None and rates.window.name else "settings"
        return RateReply(
            messages=rates.limit_messages_per_s,
            recipients=rates.limit_recipients_per_s,
            messages_per_s=rates.messages_per_s,
            recipients_per_s=rates.recipients_per_s,
            messages_by=own if state.messages_per_s is None else "operator",
            recipients_by="settings" if state.recipients_per_s is None else "operator",
            window=rates.window,
            caps=rates.caps,
        )

    async def set_rate(self, request: RateRequest, peer: Peer) -> RateReply:
        async with self._limits.turn:
            state = self._limits.state
            messages = _decided(state.messages_per_s, request.messages)
            recipients = _decided(state.recipients_per_s, request.recipients)
            rates = f"messages {_shown(messages)}, recipients {_shown(recipients)}"
            await self._limits.decide(
                dataclasses.replace(state, messages_per_s=messages, recipients_per_s=recipients),
                peer.user,
                "rate",
                ": ".join(filter(None, [rates, request.reason])),
                request.reason,
            )
        return await self.rate()


def _single(pauses: Sequence[Pause]) -> list[str]:
    return [pause.list_id for pause in pauses if pause.list_id not in ("", INTAKE)]


def _still_paused(pauses: Sequence[Pause]) -> str:
    left = [_lists_in_words([pause.list_id]) for pause in pauses if pause.list_id != INTAKE]
    return f"; still paused: {', '.join(left)}" if left else ""


def _nothing_resumed(what: str, paused_lists: Sequence[str], still_paused: str) -> str:
    """what: "everything", or "list NAME"; paused_lists: by name."""
    if what != "everything":
        return f"{what} was not paused{still_paused}"
    if not paused_lists:
        return "nothing was paused"
    return f"only single lists are paused: {', '.join(paused_lists)}; `drainer resume --list NAME` lets one go on"


def _lists_in_words(names: Sequence[str]) -> str:
    """As a pause or its end is shown; "" stands for everything."""
    if len(names) > 1:
        return f"lists {', '.join(names)}"
    return f"list {names[0]}" if names[0] else "everything"


def _decided(before: float | None, asked: float | Literal["unlimited", "settings"] | None) -> float | None:
    """The operator's limit from now on; None: as the settings say."""
    if asked is None:
        return before
    if asked == "settings":
        return None
    return math.inf if asked == "unlimited" else asked


def _shown(per_s: float | None) -> str:
    return "as the settings say" if per_s is None else limit(None if math.isinf(per_s) else per_s)

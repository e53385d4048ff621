"""How many sessions: up while they bring throughput, down to what the MTA works on, never more than it greets.

In    a Round: what came of the transactions of about a second; sessions that the MTA refused, or greeted
Out   a Concurrency: how many sessions may be open, and why no more
Pure  no clock, no session
Not here  how fast (adaptive_rate.py); when an MTA is down (session_pool.py)

Three signals, and what they are taken from:
- Success and failure, as Postfix's scheduler has it (SCHEDULER_README): each delivery counts 1/N up, each failure 1/N down,
  and the number changes by one once a whole is reached (hysteresis). So it takes more failures than successes to lose a
  session: a flaky link loses none. It begins with START_SESSIONS and doubles per round, as there.
- A session refused while others stand: they are what the MTA bears, and it is asked for one more at growing intervals.
  Postfix gives the number away by feedback: it overshoots and falls back all the time, since it does not see how many stand.
- Delay, as in Vegas: time from final dot to reply, beside the shortest known. More sessions than the MTA has workers do
  not make it faster, they only wait in it (Little's law). A queue counts from CoDel's view as bad only while it stands: so
  the middle reply of a round counts, not the slowest. An MTA behind a long line has slow replies and no queue: they do not
  grow with the number of sessions.
Delay alone can deceive: a busy event loop of ours, a disk that commits in groups. So each change that delay asks for is a
trial: a lower number is kept only if throughput hardly falls, and now and then a higher one is tried, and kept if
throughput grows by half as much as the sessions do.
The shortest reply is measured anew with few sessions every UNLOADED_KNOWN_S, as BBR does with its RTT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

START_SESSIONS = 5
FEWEST_PER_ROUND = 5
SHORTEST_ROUND_S = 0.25
LONGEST_ROUND_S = 5.0
BUSY_SHARE = 0.8
"""A round is busy if so many of its transactions ended while sessions were short, or nearly so."""
CALM_QUEUE = 0.3
"""Part of the unloaded reply time that a reply may wait, and sessions are still added."""
LONG_QUEUE = 0.6
"""From here on there are too many. Between the two the number stays: hysteresis."""
CALM_S = 0.025
LONG_S = 0.05
"""Waits shorter than these are no queue, however fast the MTA is: our own event loop makes such."""
TARGET = 1.4
"""Reply time to come down to, in unloaded ones."""
COMPARED_ROUNDS = 4
COMPARED_S = 1.0
"""Throughput is compared over so many transactions of each session, and at least over this time."""
STEADY_S = 5.0
"""What is older than this fades."""
BEARABLE_LOSS = 0.2
"""A lower number is kept if throughput falls by less than this part of what the sessions fall by."""
CHANCE = 0.03
"""Throughput differs by so much from one time to the next without any cause."""
WORTH_GAIN = 0.5
TRIAL_AGAIN_FIRST_S = 15.0
TRIAL_AGAIN_LONGEST_S = 300.0
UNLOADED_KNOWN_S = 300.0
ONE_MORE_FIRST_S = 15.0
ONE_MORE_LONGEST_S = 600.0
REFUSED_WAIT_S = 0.5
FEWER_AFTER = 3
"""Refusals in a row at a lower number than was borne before: one may be a session that is just leaving."""

ONLY_WAIT = "more sessions would only wait in the MTA"


@dataclass(frozen=True, slots=True)
class Round:
    """Transactions that ended in a short time.

    done     in order, whatever the replies were
    failed   lost, or cut short by 421
    reply_s  middle time from final dot to reply; None: nobody got that far
    seconds  how long it took
    busy     whether every session that is allowed had work
    """

    done: int
    failed: int
    reply_s: float | None
    seconds: float
    busy: bool


class RoundCount:
    """A round under way. since_s: monotonic seconds."""

    def __init__(self, since_s: float) -> None:
        self._since_s = since_s
        self._done = self._failed = self._busy = 0
        self._final_dots_s: list[float] = []

    def add(self, final_dot_s: float | None, *, failed: bool, busy: bool) -> None:
        """One more transaction. final_dot_s: time from final dot to reply; busy: sessions were short when it ended."""
        self._failed += failed
        self._done += not failed
        self._busy += busy
        if final_dot_s is not None:
            self._final_dots_s.append(final_dot_s)

    def ended(self, now_s: float, sessions: int) -> Round | None:
        """The Round, once it has gone on for long enough; None: not yet."""
        seconds, ended = now_s - self._since_s, self._done + self._failed
        is_enough = seconds >= SHORTEST_ROUND_S and ended >= max(FEWEST_PER_ROUND, sessions)
        if not is_enough and seconds < LONGEST_ROUND_S:
            return None
        middle_s = median(self._final_dots_s) if self._final_dots_s else None
        return Round(self._done, self._failed, middle_s, max(seconds, 1e-6), self._busy >= BUSY_SHARE * ended)


@dataclass(frozen=True, slots=True)
class Steady:
    """Busy rounds with one number of sessions. The first one is left out: it has transactions that began before."""

    sessions: int
    rounds: int = 0
    done: int = 0
    seconds: float = 0.0
    reply_s: float = math.inf

    @property
    def per_s(self) -> float:
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def is_enough(self) -> bool:
        """Whether its throughput can be compared."""
        return self.done >= COMPARED_ROUNDS * self.sessions and self.seconds >= COMPARED_S

    def after(self, round_: Round) -> Steady:
        if not self.rounds:
            return replace(self, rounds=1)
        reply_s = self.reply_s if round_.reply_s is None else min(self.reply_s, round_.reply_s)
        kept = 0.5 if self.seconds > STEADY_S and self.is_enough else 1.0
        return Steady(
            self.sessions,
            self.rounds + 1,
            int(self.done * kept) + round_.done,
            self.seconds * kept + round_.seconds,
            reply_s,
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """Another number of sessions, tried out. sessions, per_s: as it was before."""

    kind: Literal["more", "fewer", "unloaded"]
    sessions: int
    per_s: float


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many sessions may be open.

    sessions    by success, failure and delay
    borne       how many stood when the MTA refused one more; None: it never did
    one_more_s  when it is asked again, monotonic seconds; one_more_pause_s: the pause after that
    not_before_s  no new session before
    net         successes less failures since the last change, in sessions
    unloaded_s  the shortest reply time known; inf: none; unloaded_at_s: when it was measured; unloaded_busy: while all
                sessions had work, so it may hold a wait
    queue_s     how much longer a reply takes now
    steady      throughput with this number of sessions
    trial       another number that is being tried out
    more_at_s, fewer_at_s  no trial of more, or fewer, sessions before; trial_pause_s: the pause after one that failed
    reason      why no more; "" if nothing speaks against it
    since_s     when `reason` came up
    """

    sessions: int = START_SESSIONS
    starting: bool = True
    net: float = 0.0
    borne: int | None = None
    one_more_s: float = 0.0
    one_more_pause_s: float = ONE_MORE_FIRST_S
    not_before_s: float = -math.inf
    refusals: int = 0
    unloaded_s: float = math.inf
    unloaded_at_s: float = -math.inf
    unloaded_busy: bool = False
    queue_s: float = 0.0
    steady: Steady = Steady(START_SESSIONS)
    trial: Trial | None = None
    more_at_s: float = -math.inf
    fewer_at_s: float = -math.inf
    trial_pause_s: float = TRIAL_AGAIN_FIRST_S
    reason: str = ""
    since_s: float = 0.0

    def allowed(self, now_s: float, most: int, *, adaptive: bool) -> int:
        """Sessions that may be open. most: as the settings say. adaptive false: only what the MTA refuses counts."""
        sessions = min(most, self.sessions) if adaptive else most
        if self.borne is None:
            return sessions
        return min(sessions, self.borne + (now_s >= self.one_more_s))


def first_concurrency(now_s: float, borne: int = 0, unloaded_s: float = math.inf) -> Concurrency:
    """Where to start. borne, unloaded_s: as they were when this MTA was last fed; 0, inf: not known."""
    return Concurrency(max(START_SESSIONS, borne), unloaded_s=unloaded_s, unloaded_at_s=now_s, since_s=now_s)


def restarted(concurrency: Concurrency) -> Concurrency:
    """The MTA is back: it gets its sessions in the course of some rounds, not all at once."""
    return replace(
        concurrency, sessions=min(START_SESSIONS, concurrency.sessions), starting=True, net=0.0, trial=None, queue_s=0.0
    )


def refused(concurrency: Concurrency, standing: int, why: str, now_s: float) -> Concurrency:
    """The MTA refused one more session while so many stood."""
    standing = max(1, standing)
    known = concurrency.borne
    refusals = concurrency.refusals + 1
    was_asked = known is not None and standing >= known
    if was_asked or known is None or refusals >= FEWER_AFTER:
        pause_s = min(2 * concurrency.one_more_pause_s, ONE_MORE_LONGEST_S) if was_asked else ONE_MORE_FIRST_S
        concurrency = replace(
            concurrency,
            borne=standing,
            sessions=standing,
            one_more_s=now_s + pause_s,
            one_more_pause_s=pause_s,
            starting=False,
            trial=None,
        )
        refusals = 0
    return _because(replace(concurrency, refusals=refusals, not_before_s=now_s + REFUSED_WAIT_S), why, now_s)


def greeted(concurrency: Concurrency, standing: int, now_s: float) -> Concurrency:
    """The MTA greeted a session, and so many stand now."""
    if concurrency.borne is None or standing <= concurrency.borne:
        return replace(concurrency, refusals=0)
    # The next one is asked for a little later: sessions that opened together are greeted together.
    return replace(
        concurrency, borne=standing, refusals=0, one_more_pause_s=ONE_MORE_FIRST_S,
        one_more_s=max(concurrency.one_more_s, now_s + REFUSED_WAIT_S),
    )  # fmt: skip


def next_round(concurrency: Concurrency, round_: Round, now_s: float, most: int) -> Concurrency:
    """After a round. most: as the settings say."""
    if concurrency.borne is not None:
        most = min(most, concurrency.borne + 1)
    concurrency = _fed_back(_measured(concurrency, round_, now_s), round_, most)
    if not round_.busy or round_.reply_s is None:
        # There was not enough to do: that shows nothing about the number of sessions.
        sessions = concurrency.sessions if concurrency.trial is None else concurrency.trial.sessions
        return replace(concurrency, sessions=sessions, steady=Steady(sessions), trial=None)
    steady = concurrency.steady if concurrency.steady.sessions == concurrency.sessions else Steady(concurrency.sessions)
    concurrency = replace(concurrency, steady=steady.after(round_))
    if concurrency.trial is not None:
        return _judged(concurrency, concurrency.trial, now_s)
    if concurrency.queue_s <= max(CALM_S, CALM_QUEUE * concurrency.unloaded_s):
        if not concurrency.starting:
            return concurrency
        return replace(concurrency, sessions=max(concurrency.sessions, min(most, concurrency.sessions + round_.done)))
    concurrency = replace(concurrency, starting=False)
    return _trial(concurrency, now_s, most) if concurrency.steady.is_enough else concurrency


def _trial(concurrency: Concurrency, now_s: float, most: int) -> Concurrency:
    """Replies take longer than they could: is another number of sessions better?"""
    steady, unloaded_s = concurrency.steady, concurrency.unloaded_s
    if now_s - concurrency.unloaded_at_s >= UNLOADED_KNOWN_S:
        return _begun(concurrency, "unloaded", max(1, steady.sessions // 3))
    if concurrency.queue_s > max(LONG_S, LONG_QUEUE * unloaded_s) and now_s >= concurrency.fewer_at_s:
        in_service = steady.per_s * max(unloaded_s, LONG_S)
        fewer = max(math.ceil(TARGET * in_service), steady.sessions // 2, 1)
        if fewer < steady.sessions:
            return _begun(concurrency, "fewer", fewer)
    more = min(most, steady.sessions + max(1, steady.sessions // 4))
    if more > steady.sessions and now_s >= concurrency.more_at_s:
        return _begun(concurrency, "more", more)
    return concurrency


def _begun(concurrency: Concurrency, kind: Literal["more", "fewer", "unloaded"], sessions: int) -> Concurrency:
    steady = concurrency.steady
    return replace(
        concurrency, sessions=sessions, steady=Steady(sessions), trial=Trial(kind, steady.sessions, steady.per_s)
    )


def _measured(concurrency: Concurrency, round_: Round, now_s: float) -> Concurrency:
    """The reply time, and the shortest one."""
    if round_.reply_s is None or round_.done < FEWEST_PER_ROUND:
        return concurrency
    if round_.reply_s < concurrency.unloaded_s:
        concurrency = replace(concurrency, unloaded_s=round_.reply_s, unloaded_at_s=now_s, unloaded_busy=round_.busy)
    return replace(concurrency, queue_s=round_.reply_s - concurrency.unloaded_s)


def _fed_back(concurrency: Concurrency, round_: Round, most: int) -> Concurrency:
    """Postfix's feedback: 1/N for each, and a change once it is a whole."""
    is_calm = concurrency.queue_s <= max(CALM_S, CALM_QUEUE * concurrency.unloaded_s)
    up = round_.done if round_.busy and is_calm and concurrency.trial is None else min(round_.done, round_.failed)
    net = max(-1.0, min(1.0, concurrency.net + (up - round_.failed) / concurrency.sessions))
    if net <= -1:
        return replace(concurrency, sessions=max(1, concurrency.sessions - 1), net=0.0, starting=False)
    if net >= 1:
        return replace(concurrency, sessions=min(most, concurrency.sessions + 1), net=0.0)
    return replace(concurrency, net=net)


def _judged(concurrency: Concurrency, trial: Trial, now_s: float) -> Concurrency:
    """A trial goes on, or ends: its number of sessions stays, or the one of before comes back."""
    steady = concurrency.steady
    if trial.kind == "unloaded":
        if steady.done < 2 * FEWEST_PER_ROUND:
            return concurrency
        return replace(
            concurrency,
            sessions=trial.sessions,
            trial=None,
            unloaded_s=steady.reply_s,
            unloaded_at_s=now_s,
            unloaded_busy=False,
            queue_s=0.0,
        )
    if not steady.is_enough:
        return concurrency
    changed = concurrency.sessions / trial.sessions - 1
    gained = steady.per_s / trial.per_s - 1
    if trial.kind == "more" and gained >= WORTH_GAIN * changed:
        return replace(concurrency, trial=None, trial_pause_s=TRIAL_AGAIN_FIRST_S)
    if trial.kind == "fewer" and gained >= BEARABLE_LOSS * changed - CHANCE:
        kept = replace(
            concurrency, trial=None, trial_pause_s=TRIAL_AGAIN_FIRST_S, more_at_s=now_s + TRIAL_AGAIN_FIRST_S
        )
        if concurrency.unloaded_busy:  # there was a queue from the start: how long does a reply take without?
            kept = replace(kept, unloaded_at_s=-math.inf)
        return _because(kept, ONLY_WAIT, now_s)
    again_s = now_s + concurrency.trial_pause_s
    pause_s = min(2 * concurrency.trial_pause_s, TRIAL_AGAIN_LONGEST_S)
    back = replace(concurrency, sessions=trial.sessions, trial=None, trial_pause_s=pause_s)
    if trial.kind == "more":
        return _because(replace(back, more_at_s=again_s), ONLY_WAIT, now_s)
    # Fewer were worse, so replies may just take longer than they did: the unloaded time is measured again.
    return replace(back, fewer_at_s=again_s, unloaded_at_s=-math.inf)


def _because(concurrency: Concurrency, reason: str, now_s: float) -> Concurrency:
    return concurrency if reason == concurrency.reason else replace(concurrency, reason=reason, since_s=now_s)

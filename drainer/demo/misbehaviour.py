"""How an SMTP sink misbehaves: rules in a small language, or any function, called at every step of a session.

In    where a session stands
Out   what to do instead of the ordinary answer
Not here  sockets and time (sink_session.py): a step says when it is
"""

from __future__ import annotations

import fnmatch
import heapq
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

StageName = Literal["connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "content", "dot", "rset", "quit"]
STAGES: tuple[StageName, ...] = get_args(StageName)


@dataclass(frozen=True, slots=True)
class SinkStep:
    """Where a session stands when a script is called.

    session, transaction  their numbers, from 1, in the life of the sink and of the session
    recipient   address at rcpt; "" elsewhere
    recipients  accepted so far
    at_s        monotonic seconds
    """

    stage: StageName
    session: int
    transaction: int
    reverse_path: str
    recipient: str
    recipients: tuple[str, ...]
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What to do instead of the ordinary answer.

    reply      bytes to write in its place; None: the ordinary reply
    then       "go_on"; "hang_up": after the reply (with reply b"": instead of it); "silence": read and answer nothing from
               here on; "endless": likewise, but write the reply again and again
    takes      at dot: whether the sink owns the message; None: with a 2xx reply it does, with any other or none it does not
    delay_s    wait before the reply
    after_bytes  at content: how many bytes to read first, at least one
    """

    reply: bytes | None = None
    then: Literal["go_on", "hang_up", "silence", "endless"] = "go_on"
    takes: bool | None = None
    delay_s: float = 0.0
    after_bytes: int = 0


def answer(text: str) -> Behaviour:
    """Answer with this reply, such as "550 5.1.1 no such user". 421 also hangs up (RFC 5321 §3.8).

    text  \\n, a backslash and an n, stands between the lines of a longer reply: "421-4.7.28 one\\n421 4.7.28 two"
    """
    return Behaviour(text.replace("\\n", "\r\n").encode() + b"\r\n", "hang_up" if text.startswith("421") else "go_on")


HANG_UP = Behaviour(b"", "hang_up")
SILENCE = Behaviour(b"", "silence")
TAKE_AND_HANG_UP = Behaviour(b"", "hang_up", takes=True)
TAKE_AND_SILENCE = Behaviour(b"", "silence", takes=True)
GARBAGE = Behaviour(b"\xff\xfe\x00 \x80garbage\r\n")
HALF_A_REPLY = Behaviour(b"25", "hang_up")
ENDLESS = Behaviour(b"220-and furthermore\r\n", "endless")

Script = Callable[[SinkStep], Behaviour | None]
"""Called at every step; None: the ordinary answer."""


@dataclass(slots=True)
class TokenBucket:
    """How providers limit a rate: each recipient taken costs a token, and tokens come back at the rate.

    rate_per_s  tokens that come back each second; 0: none ever
    burst       most tokens that are kept; the bucket is full at first

    A transaction may cost more than there is, so that a large one is taken too: the bucket is in debt then.
    """

    rate_per_s: float
    burst: float
    _tokens: float = field(init=False)
    _at_s: float | None = None

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def takes(self, cost: int, at_s: float) -> bool:
        """Whether there is a token; if so, `cost` of them are gone. at_s: monotonic seconds."""
        since_s = 0.0 if self._at_s is None else max(0.0, at_s - self._at_s)
        self._at_s = at_s
        self._tokens = min(self.burst, self._tokens + since_s * self.rate_per_s)
        if self._tokens < 1:
            return False
        self._tokens -= cost
        return True


@dataclass(slots=True)
class Workers:
    """How an MTA gets slower and refuses nothing: so many workers, first come, first served, and the rest waits.

    number   workers
    each_s   how long each of them takes for one
    """

    number: int
    each_s: float
    _free_at_s: list[float] = field(default_factory=list)

    def wait_s(self, at_s: float) -> float:
        """Seconds until one that comes now is done. at_s: monotonic seconds."""
        busy = [free_at_s for free_at_s in self._free_at_s if free_at_s > at_s]
        heapq.heapify(busy)
        begins_s = at_s if len(busy) < self.number else heapq.heappop(busy)
        heapq.heappush(busy, begins_s + self.each_s)
        self._free_at_s = busy
        return begins_s + self.each_s - at_s


_AFTER_RCPT = frozenset({"data", "content", "dot"})
_OPTION = re.compile(r"(recipient|sender|beyond|first|after|every|chance|rate|workers|mails)=\S*")


@dataclass(slots=True)
class Rule:
    """A line of the small language, as a Script.

        STAGE WHAT [recipient=GLOB] [sender=GLOB] [beyond=N] [first=N] [after=N] [every=N] [chance=P] [rate=N] [workers=N]
                   [mails=N]

    WHAT  a reply "450 4.2.0 greylisted" | hang-up | silence | take-and-hang-up | take-and-silence | garbage | half |
          endless (a reply without a last line) | delay=SECONDS | twice REPLY (the ordinary reply, and this one behind it)
    recipient, sender  only for addresses that match; from data on: if one of the accepted recipients matches;
          `beyond=N`: only once the transaction has N recipients; `mails=N`: only after N transactions of the session;
          `first=N`: the first N times it matches; `after=N`: not the first N times; `every=N`: each Nth time; `chance=P`:
          with this probability, from a fixed seed; `rate=N`: only above N a second, of the recipients that match or, where
          there are none, of the times it matches; `workers=N`: with delay, one of N workers is busy for that long, and who
          comes while all are waits
    """

    stage: str
    behaviour: Behaviour
    recipient: str = "*"
    sender: str = "*"
    beyond: int = 0
    first: int = 0
    after: int = 0
    every: int = 1
    chance: float = 1.0
    twice: bool = False
    bucket: TokenBucket | None = None
    workers: Workers | None = None
    mails: int = 0
    _matched: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    @classmethod
    def parse(cls, line: str) -> Rule:
        """Raises ValueError saying what would be right."""
        stage, _, rest = line.strip().partition(" ")
        if stage not in STAGES:
            raise ValueError(f"{stage!r} is no stage; right would be one of {', '.join(STAGES)}")
        words = rest.split()
        options: dict[str, str] = {}
        while words and _OPTION.fullmatch(words[-1]):
            name, _, value = words.pop().partition("=")
            options[name] = value
        what = " ".join(words)
        named = {
            "hang-up": HANG_UP, "silence": SILENCE, "garbage": GARBAGE, "half": HALF_A_REPLY, "endless": ENDLESS,
            "take-and-hang-up": TAKE_AND_HANG_UP, "take-and-silence": TAKE_AND_SILENCE,
        }  # fmt: skip
        twice = what.startswith("twice ")
        if what in named:
            behaviour = named[what]
        elif match := re.fullmatch(r"delay=([0-9.]+)", what):
            behaviour = Behaviour(delay_s=float(match[1]))
        elif re.match(r"[2-5][0-9][0-9]\b", what.removeprefix("twice ")):
            behaviour = answer(what.removeprefix("twice "))
        else:
            raise ValueError(f"{what!r} is nothing to do; right would be a reply, {', '.join(named)}, delay=S or twice")
        return cls(
            stage,
            behaviour,
            options.get("recipient", "*"),
            options.get("sender", "*"),
            int(options.get("beyond", 0)),
            int(options.get("first", 0)),
            int(options.get("after", 0)),
            int(options.get("every", 1)),
            float(options.get("chance", 1)),
            twice,
            TokenBucket(rate, max(1.0, rate)) if (rate := float(options.get("rate", 0))) else None,
            Workers(workers, behaviour.delay_s) if (workers := int(options.get("workers", 0))) else None,
            int(options.get("mails", 0)),
        )

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != self.stage or len(step.recipients) < self.beyond:
            return None
        if self.mails and step.transaction <= self.mails:
            return None
        addresses = step.recipients if step.stage in _AFTER_RCPT else (step.recipient,)
        matching = sum(1 for address in addresses if fnmatch.fnmatchcase(address, self.recipient))
        if not matching and self.recipient != "*":
            return None
        if not fnmatch.fnmatchcase(step.reverse_path, self.sender) and self.sender != "*":
            return None
        self._matched += 1
        if self._matched <= self.after or (self.first and self._matched > self.after + self.first):
            return None
        if (self._matched - self.after) % self.every or self._random.random() >= self.chance:
            return None
        if self.bucket is not None and self.bucket.takes(max(1, matching), step.at_s):
            return None
        if self.workers is not None:
            return replace(self.behaviour, delay_s=self.workers.wait_s(step.at_s))
        if self.twice:
            ordinary = {"connect": b"220 sink\r\n", "data": b"354 go ahead\r\n"}.get(step.stage, b"250 2.0.0 Ok\r\n")
            return Behaviour(ordinary + (self.behaviour.reply or b""), takes=step.stage == "dot" or None)
        return self.behaviour


@dataclass(slots=True)
class Greylisting:
    """Script: the first attempt for each (reverse-path, recipient) is answered 450, the next is taken."""

    seen: set[tuple[str, str]] = field(default_factory=set)

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != "rcpt" or (step.reverse_path, step.recipient) in self.seen:
            return None
        self.seen.add((step.reverse_path, step.recipient))
        return answer("450 4.2.0 greylisted, try again")

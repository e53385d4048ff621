"""Deliver, skip, wait or hold, for each recipient of an entry: the decision that counts, made at the moment of sending.

In    the recipients an entry still owes, and what the ledger knows of their message
Out   decide(): a Decision
Pure  no clock, no ledger, no queue

What covers a recipient, by the state of another delivery of the same message to it
  DELIVERED             by whichever entry: the recipient has the message. Skip.
  IN_DOUBT, ATTEMPTING  the recipient may have it. Wait until the doubt is resolved, or the attempt has ended.
  HELD                  a single recipient is held when it is in doubt and an operator has to decide (an entry held whole
                        has no rows). Hold, whichever entry it was, and also if that entry was dropped: a drop says
                        "this entry not", and nothing about what the MTA did.
  FAILED, SKIPPED       settle the entry they belong to, and no other. The refusal of one copy may have been the outage
                        itself (relaying denied, a broken map), and to drop one copy means to keep the other. So a second
                        copy may deliver. Cost: an address that no longer exists is refused once per copy.
  DEFERRED              covers nothing. While another entry retries the recipient this one waits, so that a grey-listing
                        host is not asked twice in a row. If this entry has a deferral of its own it goes ahead, so that
                        two entries never wait for each other. The first to succeed settles the recipient for both.
Undecided messages: another message has the same name, one of the two is decorated, and nothing shows whether they are the
same mail (carried.py). Here a recipient that has had the other message is held; one that may have it waits; the others get
this one. So the first of the two is delivered, and no recipient gets both until an operator says that they are two mails.
Coverage does not depend on order: History is a set of claims.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple

from drainer.compiled import python_class
from drainer.ledger.records import Akin, Coverage, History, RecipientKey, is_of_decorated, recipient_key
from drainer.ledger.states import State

Policy = Literal["suppress", "hold", "deliver"]

_OPEN_FOR_OTHERS = frozenset({State.FAILED, State.SKIPPED})


class NextStep(StrEnum):
    """What happens to the entry next.

    DELIVER   send to Decision.deliver; then decide again about the others
    FINISH    every recipient is settled, at least one by this entry (the crash came after the outcome; or the entry is
              back from a backup: stages/settle.py recognises that by its file), or the entry has no recipients
    SUPPRESS  every recipient is settled, all by other entries
    WAIT      nothing to do until another entry's attempt, deferral or doubt has ended
    HOLD      an operator has to decide
    """

    DELIVER = "deliver"
    FINISH = "finish"
    SUPPRESS = "suppress"
    WAIT = "wait"
    HOLD = "hold"


class Claim(NamedTuple):
    """Why a recipient is not delivered to now: an entry has settled, attempted, deferred or held it.

    filebase      that entry; "" where the policy holds the recipient and not an entry
    at_s          since when; 0.0 where the policy holds it
    is_undecided  that entry's mail may be another one
    """

    recipient: str
    filebase: str
    state: State
    at_s: float
    is_undecided: bool = False


@python_class
@dataclass(frozen=True, slots=True)
class Decision:
    """Every recipient of the entry is in exactly one of the four groups, in the entry's order.

    deferred  those of `deliver` that the entry itself has deferred, to be tried again, each with the reply
    """

    next_step: NextStep
    deliver: tuple[str, ...] = ()
    skip: tuple[Claim, ...] = ()
    wait: tuple[Claim, ...] = ()
    hold: tuple[Claim, ...] = ()
    deferred: Mapping[str, str] = field(default_factory=dict)


def decide(
    filebase: str,
    recipients: Sequence[str],
    history: History,
    exact: Literal["suppress", "hold"] = "suppress",
    resend: Policy = "deliver",
    resembled: History | None = None,
    undecided: History | None = None,
) -> Decision:
    """What to do with an entry's recipients at the moment of sending.

    filebase    the entry
    recipients  the addresses it still owes
    history     the ledger's, of the entry's identity
    exact       an entry whose recipients have all had the mail from others is suppressed, or held for an operator. (To
                deliver all the same, give the ledger a separate identity: then history knows this entry only.)
    resend      what to do when a person has sent one text a second time; matters only if `resembled` is given
    resembled   the ledger's history of the messages whose text this one repeats (class RESEND); None: it repeats none,
                or an operator has released it
    undecided   see undecided_among

    A resend is held only if it has not begun, and if a recipient has had the first sending or may still get it. Where every
    recipient of the first sending failed, the second one replaces it and goes out. With "suppress", only recipients who
    have had the first sending are skipped, and those are held that may have had it.
    """
    claims = _by_recipient(history)
    groups = _Groups()
    resembled_claims = _by_recipient(resembled) if resembled is not None and resend == "suppress" else {}
    undecided_claims = _by_recipient(undecided) if undecided is not None else {}
    for address in recipients:
        key = recipient_key(address)
        groups.add(address, filebase, claims.get(key, ()), resembled_claims.get(key, ()), undecided_claims.get(key, ()))
    if resend == "hold" and resembled is not None and _may_arrive(resembled) and not _is_begun(filebase, history):
        groups.hold_the_rest()
    return groups.decision(filebase, exact)


def undecided_among(akin: Iterable[Akin], identity: Iterable[bytes]) -> History | None:
    """The history of messages that may be an entry's mail although they share no digest with it.

    akin      messages of the same name
    identity  the entry's own
    Where neither is decorated, the bodies were compared as they are: a different body is another mail (CONFLICT).
    """
    is_decorated = any(map(is_of_decorated, identity))
    found = [one.history for one in akin if is_decorated or one.is_decorated]
    return History(tuple(part for history in found for part in history.coverage)) if found else None


class _Groups:
    """Sorts recipients into the four groups."""

    def __init__(self) -> None:
        self.deliver: list[str] = []
        self.skip: list[Claim] = []
        self.wait: list[Claim] = []
        self.hold: list[Claim] = []
        self.deferred: dict[str, str] = {}

    def add(
        self,
        address: str,
        filebase: str,
        claims: Collection[Coverage],
        resembled: Collection[Coverage] = (),
        undecided: Collection[Coverage] = (),
    ) -> None:
        if not claims and not resembled and not undecided:
            self.deliver.append(address)
            return
        own = {part.state: part for part in claims if part.filebase == filebase}
        others = _first_of_each_state(part for part in claims if part.filebase != filebase)
        firsts = _first_of_each_state(resembled)
        doubtful = _first_of_each_state(undecided)
        rules: tuple[tuple[list[Claim], dict[State, Coverage], State], ...] = (
            (self.skip, own, State.DELIVERED),
            (self.skip, others, State.DELIVERED),
            (self.wait, own, State.ATTEMPTING),
            (self.wait, others, State.ATTEMPTING),
            (self.wait, own, State.IN_DOUBT),
            (self.wait, others, State.IN_DOUBT),
            (self.skip, own, State.FAILED),
            (self.skip, own, State.SKIPPED),
            (self.hold, own, State.HELD),
            (self.hold, others, State.HELD),
            (self.skip, firsts, State.DELIVERED),
            (self.wait, firsts, State.ATTEMPTING),
            (self.wait, firsts, State.IN_DOUBT),
            (self.hold, firsts, State.HELD),
            (self.hold, doubtful, State.DELIVERED),
            (self.wait, doubtful, State.ATTEMPTING),
            (self.wait, doubtful, State.IN_DOUBT),
            (self.hold, doubtful, State.HELD),
        )
        for group, found, state in rules:
            if claim := found.get(state):
                # A resend is held by the policy, so that a release overrules it.
                by = "" if found is firsts and group is self.hold else claim.filebase
                group.append(Claim(address, by, state, claim.at_s, is_undecided=found is doubtful))
                return
        deferred = others.get(State.DEFERRED)
        if deferred and State.DEFERRED not in own:
            self.wait.append(Claim(address, deferred.filebase, State.DEFERRED, deferred.at_s))
            return
        self.deliver.append(address)
        if refused := own.get(State.DEFERRED):
            self.deferred[address] = refused.reply

    def hold_the_rest(self) -> None:
        self.hold += [Claim(address, "", State.HELD, 0.0) for address in self.deliver]
        self.deliver, self.deferred = [], {}

    def decision(self, filebase: str, exact: Literal["suppress", "hold"]) -> Decision:
        if self.deliver:
            next_step = NextStep.DELIVER
        elif self.wait:
            next_step = NextStep.WAIT
        elif self.hold:
            next_step = NextStep.HOLD
        elif not self.skip or any(claim.filebase == filebase for claim in self.skip):
            next_step = NextStep.FINISH
        else:
            next_step = NextStep.SUPPRESS if exact == "suppress" else NextStep.HOLD
        return Decision(
            next_step, tuple(self.deliver), tuple(self.skip), tuple(self.wait), tuple(self.hold), self.deferred
        )


def _first_of_each_state(parts: Iterable[Coverage]) -> dict[State, Coverage]:
    found: dict[State, Coverage] = {}
    for part in parts:
        found.setdefault(part.state, part)
    return found


def _by_recipient(history: History) -> dict[RecipientKey, list[Coverage]]:
    claims: dict[RecipientKey, list[Coverage]] = defaultdict(list)
    for part in sorted(history.coverage, key=lambda part: (part.at_s, part.filebase, part.state)):
        for key in part.recipients:
            claims[key].append(part)
    return claims


def _may_arrive(resembled: History) -> bool:
    """Whether a recipient had the first sending or may still get it; also if nothing is known of it yet."""
    return not resembled.coverage or any(part.state not in _OPEN_FOR_OTHERS for part in resembled.coverage)


def _is_begun(filebase: str, history: History) -> bool:
    return any(part.filebase == filebase for part in history.coverage)

"""What the MTA's answers in one transaction mean for each of its recipients.

In    replies to MAIL, RCPT, DATA and the final dot, or the losses that came in their place
Out   who was accepted, who was refused with which reply, who lies beyond a limit; the outcomes that the ledger gets
Pure  values only

An MTA may limit the recipients of one transaction (RFC 5321 §4.5.3.1.10). The recipients beyond its limit are not at
fault: they are `over_limit`, owed as before. It may limit the transactions of a session: a mail that meets this limit is
`untouched`, and goes in another session. The caller says what a refusal of the message itself means: under Mailman 2.1
no recipient fails for it (`holds_refused`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from drainer.feed.outcome import (
    ACCEPTED,
    Blame,
    Meaning,
    Reply,
    SessionLost,
    after_data,
    after_final_dot,
    after_loss,
    after_mail,
    after_rcpt,
    is_recipient_limit,
    may_be_recipient_limit,
)
from drainer.feed.session_limit import is_session_limit, may_be_session_limit
from drainer.feed.smtp_commands import UnsafeAddress
from drainer.feed.transaction import Transaction
from drainer.ledger.records import AttemptId, Outcome
from drainer.ledger.states import State

ToRcpt = Reply | UnsafeAddress
"""What came of one RCPT; UnsafeAddress: it was not sent."""


class Answers:
    """What is known so far of the recipients of one transaction, by their place in owed_for.

    session_has_enough  the MTA takes no more mail in this session: as it said, or as it may have meant
    """

    def __init__(self, owed_for: tuple[str, ...], *, carried: int, mails: int, holds_refused: bool) -> None:
        """carried, mails  transactions that the session has carried before, and contents accepted among them"""
        self._owed_for = owed_for
        self._carried = carried
        self._mails = mails
        self._holds_refused = holds_refused
        self._refused: dict[str, Meaning] = {}
        self._over_limit: list[str] = []
        self._somebody_accepted = False
        self._trouble = ""
        self._message_refused = ""
        self._heard: list[ToRcpt] = []
        self.session_has_enough: Literal["no", "perhaps", "said"] = "no"

    @property
    def asked(self) -> int:
        """How many recipients, in order, it is known for what came of their RCPT."""
        return len(self._heard)

    @property
    def limit_is_met(self) -> bool:
        """The MTA takes no more recipients in this transaction: the next ones would be refused as well."""
        return bool(self._over_limit)

    @property
    def accepted(self) -> tuple[str, ...]:
        """The recipients that the content goes to, as the entry has them; for use once the envelope is answered."""
        if not self._refused and not self._over_limit:
            return self._owed_for
        beyond = frozenset(self._over_limit)
        return tuple(owed for owed in self._owed_for if owed not in self._refused and owed not in beyond)

    def to_mail(self, reply: Reply) -> bool:
        """The reply to MAIL. False: the transaction ends with it."""
        refusal = after_mail(reply)
        if refusal is None:
            return True
        self._refuse(self._owed_for, self._unless_session_limit(reply, refusal, at_mail=True))
        return False

    def to_recipients(self, replies: Sequence[ToRcpt]) -> bool:
        """What came of the next RCPTs, in order. False: the transaction ends with the last one that counts."""
        begin = len(self._heard)
        self._heard += replies
        for at, reply in enumerate(replies, begin):
            if isinstance(reply, Reply) and reply.code in ACCEPTED:
                self._somebody_accepted = True
            elif not self._refused_recipient(self._owed_for[at], reply):
                return False
        return True

    def others_are_not_asked(self) -> None:
        """Recipients that were not asked for lie beyond the limit too."""
        self._over_limit += self._owed_for[len(self._heard) :]

    def envelope_is_over(self) -> None:
        """All that came of the RCPTs is here.

        Several recipients at the end may be refused by a 452 or 552 that gives no reason: RFC 5321 §4.5.3.1.10 has these
        codes for one recipient too many. A single one may be a full mailbox.
        """
        heard = self._heard
        if not self._refused or self._over_limit or self._trouble or len(heard) != len(self._owed_for):
            return
        tail = len(heard)
        while tail and isinstance(reply := heard[tail - 1], Reply) and may_be_recipient_limit(reply):
            tail -= 1
        beyond = self._owed_for[tail:]
        if len(beyond) > 1 and self._somebody_accepted:
            for owed in beyond:
                del self._refused[owed]
            self._over_limit += beyond

    def lost(self, lost: SessionLost) -> None:
        """The session was lost before the envelope was answered: nothing that was said before counts for those who were not
        refused."""
        self._over_limit.clear()
        self._refuse(tuple(owed for owed in self._owed_for if owed not in self._refused), after_loss(lost))

    def to_data(self, reply: Reply) -> Meaning | None:
        """The reply to DATA; None: send the content."""
        refusal = after_data(reply)
        return self._spared(self._unless_session_limit(reply, refusal)) if refusal else None

    def to_content(self, answer: Reply | SessionLost) -> Meaning:
        """The reply to the final dot, or one that came before it, or the loss of the session since DATA."""
        if isinstance(answer, SessionLost):
            return after_loss(answer)
        meaning = after_final_dot(answer)
        if meaning.state is State.DEFERRED:
            meaning = self._unless_session_limit(answer, meaning)
        return self._spared(meaning)

    def refusals(self, at_s: float) -> tuple[Outcome, ...]:
        """Outcomes that need no attempt: of recipients refused before the content; alike ones in one."""
        if not self._refused:
            return ()
        alike: dict[tuple[State, str], list[str]] = {}
        for owed, meaning in self._refused.items():
            if meaning.blames_entry:
                alike.setdefault((meaning.state, meaning.reply), []).append(owed)
        return tuple(Outcome(state, tuple(owed), reply, at_s) for (state, reply), owed in alike.items())

    def transaction(
        self, content: tuple[AttemptId, Outcome, Meaning] | None, refusals: tuple[Outcome, ...]
    ) -> Transaction:
        """All of it.

        content  None: it was not begun; else its attempt, and what became of the recipients it went to
        """
        untouched = tuple(owed for owed, refusal in self._refused.items() if not refusal.blames_entry)
        trouble, outcomes = self._trouble, refusals
        attempt_id, accepted = None, 0
        if content is not None:
            attempt_id, outcome, meaning = content
            accepted = len(outcome.recipients)
            outcomes = (outcome, *refusals)
            if outcome.state is State.DEFERRED and not meaning.blames_entry:
                untouched += outcome.recipients
            if outcome.state is State.IN_DOUBT or not meaning.blames_entry:
                trouble = meaning.reply
        is_session_limit = self.session_has_enough != "no"
        return Transaction(
            outcomes, untouched, "" if is_session_limit else trouble, attempt_id, tuple(self._over_limit), accepted,
            self._message_refused, is_session_limit,
        )  # fmt: skip

    def _refused_recipient(self, owed: str, reply: ToRcpt) -> bool:
        if self._somebody_accepted and isinstance(reply, Reply) and is_recipient_limit(reply):
            self._over_limit.append(owed)
            return True
        refusal = after_rcpt(reply) if isinstance(reply, Reply) else Meaning(State.FAILED, f"553 5.1.3 {reply}")
        if refusal is None:
            return True
        if refusal.blames_entry:
            self._refuse((owed,), refusal)
            return True
        self._over_limit.clear()
        self._refuse(tuple(owed for owed in self._owed_for if owed not in self._refused), refusal)
        return False

    def _unless_session_limit(self, reply: Reply, refusal: Meaning, *, at_mail: bool = False) -> Meaning:
        """The same, or that the session has carried enough. One that has carried nothing cannot have."""
        is_said = is_session_limit(reply, at_mail=at_mail)
        may_be = at_mail and self._mails > 0 and may_be_session_limit(reply)
        if not self._carried or not (is_said or may_be):
            return refusal
        self.session_has_enough = "said" if is_said else "perhaps"
        return Meaning(State.DEFERRED, str(reply), Blame.SESSION)

    def _spared(self, meaning: Meaning) -> Meaning:
        """A refusal of the message for good fails no recipient if the caller holds the entry for it."""
        if meaning.state is not State.FAILED or meaning.blame is not Blame.MESSAGE or not self._holds_refused:
            return meaning
        self._message_refused = meaning.reply
        return replace(meaning, state=State.DEFERRED)

    def _refuse(self, owed: tuple[str, ...], refusal: Meaning) -> None:
        refusal = self._spared(refusal)
        for recipient in owed:
            self._refused[recipient] = refusal
        if not refusal.blames_entry:
            self._trouble = refusal.reply

"""The Ledger protocol: what any storage must promise. One suite (tests/contract/) runs on every implementation.

Writes    Every coroutine that writes returns only when what it wrote is durable. It raises LedgerNotDurable, having
          changed nothing, when it cannot commit: the same call may be made again. An implementation that loses the answer
          to a COMMIT asks whether the commit happened before it raises. Readers see every write that has returned.
Attempts  The caller makes an attempt's id. So whoever lost an answer can ask (`attempt`) and repeat the write: the second
          writing of an attempt, of its part or of its end is recognised and changes nothing.
Queues    A ledger writes for one queue, the one it has claimed. Attempts, holds, deferrals, DSNs, counters, the journal,
          events and what is kept under a name belong to a queue. A call reads and changes those of its own queue only, so
          recovery after a crash never touches what another host has in flight. A queue has one owner: a drainer whose
          queue was claimed by another owner writes nothing any more (LedgerUnusable).
Shared    Messages and what was delivered are known to every queue; so are pauses and rates.
Locking   Every write reads, decides and writes in one transaction that excludes other writers. Of two that open an attempt
          for one recipient at the same moment, one gets IllegalTransition.

The state of a recipient belongs to an entry (queue and filebase) of a message; DELIVERED, ATTEMPTING and IN_DOUBT bind every
entry of every queue that shares a digest with that message, since a second copy would follow. FAILED, SKIPPED, HELD and
DEFERRED bind their own entry only: a first copy that fails, or is dropped, leaves the second one free to deliver.

A recipient is HELD because it may have the mail. To drop its entry says nothing about that: the recipient is SKIPPED for
this entry, and its HELD row stays for the decision about other entries (duplicates/decision.py). The row goes when an
operator releases an entry that it holds up, or with its message.

Messages are never merged: what binds is a digest shared directly. Were resemblance to spread along a chain (A with B,
B with C), an original C could be suppressed for the sake of an A that it has nothing in common with.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Protocol

from drainer.ledger.actions import Action, NewAction, PutBack, Step
from drainer.ledger.evidence import Account, Ended, Event, Evidence, Finish
from drainer.ledger.records import (
    Akin,
    AttemptId,
    Deferral,
    DsnBacklog,
    History,
    Hold,
    JournalLine,
    Learnt,
    MessageRecord,
    NewAttempt,
    NewDsn,
    OpenAttempt,
    OperatorState,
    Outcome,
    OwedDsn,
    Queue,
    RecipientKey,
    Totals,
)
from drainer.ledger.states import DsnState, State


class Ledger(Protocol):
    async def open(self) -> None:
        """Open or create. Raises LedgerUnusable (damaged, newer version, not durable), LedgerNotDurable (cannot write)."""

    async def close(self) -> None: ...

    @property
    def is_in_place(self) -> bool:
        """Whether what is written reaches the ledger that the settings name. If not, `close` saves what it can."""

    async def queues(self) -> list[Queue]:
        """The queues it knows. In front the one it is of: the one claimed last."""

    async def claim(self, queue: Queue, known_as: str | None = ...) -> None:
        """Write for this queue from now on, as its owner.

        known_as  the queue_id that this queue had here before, "" for the one that was not claimed yet: what is known under
                  it is this queue's from now on. None, or unknown: a queue of its own, with nothing in flight
        Until a claim the ledger is of the queue that was claimed last. A former owner of the queue writes nothing any more.
        """

    async def history(self, identity: Sequence[bytes]) -> History:
        """What is known of the messages that share any digest with `identity`, in all queues; empty if nothing."""

    async def histories(self, identities: Sequence[Sequence[bytes]]) -> list[History]:
        """As history, for several messages at once; in their order."""

    async def kin_known(self, digests: Collection[bytes]) -> frozenset[bytes]:
        """The kin (records.kin_of) of these digests that any message has: for the others there is neither history nor
        anything akin. Asked for many at a time."""

    async def akin(self, identity: Sequence[bytes]) -> list[Akin]:
        """Messages that have a digest of the same kin (records.kin_of) as one of `identity`, and none of `identity`."""

    async def open_attempt(self, attempt: NewAttempt) -> AttemptId:
        """Write that content is about to be sent (state ATTEMPTING). Returns attempt.attempt_id.

        DEFERRED rows of these recipients of this entry are superseded. An attempt that is open already, alike in all, is
        accepted and changes nothing.
        Raises IllegalTransition if any recipient is DELIVERED, ATTEMPTING or IN_DOUBT by any entry of this message, or
               FAILED, SKIPPED or HELD for this entry; nothing is written then. ValueError: the id is another attempt's
        Cancelled before it returned, a new attempt is withdrawn: the caller went no further, so nothing was sent under it.
        """

    def begin_attempt(self, attempt: NewAttempt) -> Awaitable[AttemptId]:
        """As open_attempt, for a caller that never cancels it: whoever goes on in a callback needs no task for it."""

    async def attempt(self, attempt_id: AttemptId) -> State | None:
        """What the ledger has of an attempt of this queue: ATTEMPTING, IN_DOUBT, or how it ended (PENDING: may be sent
        again).

        None: it was not written, or it ended long ago. A queue's last thousand ends are remembered.
        """

    def close_attempt(
        self,
        attempt_id: AttemptId,
        state: State,
        reply: str,
        at_s: float,
        dsns: Sequence[NewDsn] = (),
        finish: Finish | None = None,
    ) -> Awaitable[None]:
        """Write how an attempt ended: DELIVERED, DEFERRED, FAILED or IN_DOUBT, for all its recipients.

        finish  its entry is settled by this outcome: as finish_entry, in the same commit. So outcome and end become durable
                together, and the file goes only after that. A crash before leaves the attempt open; after it, the entry is
                read again, found settled, and finished again. Repeated, it counts nothing

        Counts one transaction, and its recipients if delivered or failed. The DSNs are owed from the same commit on, without
        recipients that failed before by another entry of this message: a DSN has reported them. An attempt that has ended so
        at this very moment (state and at_s; in doubt: state and reply) stays as it is, and nothing is counted.
        Raises IllegalTransition if the attempt is not ATTEMPTING (or this queue has none of this id)
        """

    async def sent_since(self, since_s: float) -> list[tuple[float, int]]:
        """How many recipients this queue's attempts and DSNs were begun for, by ten seconds: (the first of these seconds,
        recipients), oldest first.

        Counted in the commit that opens the attempt or begins the DSN, whatever becomes of them. Kept as long as two days of
        sending do not come after it, whatever the clock says.
        """

    async def redate_sent(self, now_s: float, set_forward_s: float = 0.0) -> None:
        """Date these counts by the clock as it stands at now_s. Those that are more than a minute ahead of it were written
        while the clock was ahead: they count as of now.

        set_forward_s  by so much was the clock set forward just now, >= 0: counts of the day before that are dated later by
                       as much, up to ten seconds more
        """

    async def split_attempt(self, attempt_id: AttemptId, recipients: Sequence[str], part_id: AttemptId) -> None:
        """Some recipients of an open attempt end apart from the others: they get an attempt of their own, alike in all else.

        recipients  among the attempt's, as it has them; not none and not all
        part_id     of the new attempt; neither is counted as a transaction until it is closed. One that has these recipients
                    already was split off before: nothing changes
        Raises      IllegalTransition if the attempt is not ATTEMPTING; ValueError for any other recipients
        """

    def record(
        self,
        filebase: str,
        message: MessageRecord,
        outcomes: Sequence[Outcome],
        dsns: Sequence[NewDsn] = (),
        step: Step | None = None,
        finish: Finish | None = None,
    ) -> Awaitable[None]:
        """Write outcomes that needed no attempt: refused at MAIL or RCPT, skipped, held, in doubt from a .bak.

        All or none, the DSNs among them as in close_attempt. Each replaces the recipients' DEFERRED or HELD rows of this
        entry; SKIPPED leaves HELD rows in place. IN_DOUBT becomes an unresolved attempt (Outcome.attempt_id) with an
        unknown (empty) reverse-path. finish: as in close_attempt.
        Raises IllegalTransition for what states.py does not allow from the state the recipient has for this entry, and
               for recipients of this entry that are ATTEMPTING or IN_DOUBT: resolve those attempts first
        """

    async def unresolved_attempts(self) -> list[OpenAttempt]:
        """This queue's attempts in state ATTEMPTING (found open at start) or IN_DOUBT, oldest first."""

    async def resolve(self, attempt_id: AttemptId, state: State, why: str, at_s: float) -> None:
        """Move an attempt: ATTEMPTING to IN_DOUBT; IN_DOUBT to PENDING (forgotten: may be sent again), DELIVERED, HELD.

        DELIVERED counts its recipients. What becomes of a doubt is written as evidence, with `why`. Repeated, it changes
        nothing, as close_attempt.
        Raises IllegalTransition for any other step
        """

    async def finish_entry(
        self,
        filebase: str,
        counts: Mapping[str, int] = ...,
        ended: Ended | None = ...,
        evidence: Sequence[Evidence] = ...,
        step: Step | None = None,
    ) -> None:
        """The entry is settled and about to leave the disk: drop its deferral, hold and DEFERRED rows; add `counts`, and
        write for the report how it ended and why, all in one commit.

        ended  given: its HELD rows lose the addresses, since nothing of this entry is left to act on; they stay for the
               decision about other entries, and go with their message (expire)
        """

    async def dsns(
        self, state: DsnState, limit: int, due_by_s: float = ..., except_lists: Collection[str] = ...
    ) -> list[OwedDsn]:
        """DSNs in this state that are due at `due_by_s`, those due first in front; none of `except_lists`."""

    async def dsn_backlog(self) -> DsnBacklog: ...

    async def move_dsns(
        self,
        dsn_ids: Sequence[int],
        state: DsnState,
        at_s: float,
        due_s: float = ...,
        journal: JournalLine | None = None,
    ) -> None:
        """Write what becomes of DSNs: SENDING before DATA, then SENT, DROPPED, IN_DOUBT, or OWED again.

        due_s    OWED: not before; the attempt is counted
        journal  written in the same commit; so is the evidence of a DSN that is SENT or DROPPED
        Raises   IllegalTransition, with nothing written, if any of them cannot go there (states.py) or is not there
        """

    async def learn(self, name: str, learnt: Sequence[Learnt]) -> int:
        """Write deliveries known from elsewhere, as DELIVERED by an entry of this name; all or none, and counted nowhere.

        Returns  how many recipients were news: one that any entry of the message delivered to already stays as it is
        """

    async def unlearn(self, name: str) -> int:
        """Forget all that was learnt under this name, by whatever queue. Returns how many recipients that were."""

    async def undo_failures(self, filebases: Collection[str], at_s: float) -> int:
        """Revert the failures of these entries, except those that a DSN has reported, or may have. They are counted as
        undone beside bounced, and reported if they fail again; a DSN that is still owed for them is dropped in the same
        commit, so that they are reported once. Returns how many recipients that were."""

    async def defer(self, deferral: Deferral) -> None:
        """Write or replace when an entry is due again."""

    async def deferrals(self) -> list[Deferral]: ...

    async def deferral(self, filebase: str) -> Deferral | None:
        """When this entry is due again; None if it is not deferred."""

    async def hold(self, holds: Sequence[Hold], step: Step | None = None) -> None:
        """Write that entries are set aside (replaces an earlier reason)."""

    async def release(
        self,
        filebases: Sequence[str],
        *,
        held_recipients: bool,
        step: Step | None = None,
        held_elsewhere: tuple[Sequence[bytes], Collection[RecipientKey]] | None = None,
    ) -> None:
        """Forget holds and deferrals of these entries.

        held_recipients  return their HELD recipients to PENDING as well: they may be sent to, perhaps a second time
        held_elsewhere   identity and recipients: return these to PENDING wherever an entry of any queue has them HELD
        """

    async def held_recipients(self, filebases: Collection[str]) -> int:
        """How many recipients of these entries are HELD."""

    async def holds(self) -> list[Hold]: ...

    async def hold_of(self, filebase: str) -> Hold | None:
        """Why this entry is set aside; None if it is not."""

    async def operator_state(self) -> OperatorState: ...

    async def set_operator_state(
        self, state: OperatorState, journal: JournalLine, action: NewAction | None = None
    ) -> int:
        """Put pauses and rates in force, for every queue. Returns the number of the journal's line.

        state   made of the one in force (OperatorState.changed)
        Raises  OperatorStateChanged, with nothing written, if another one is in force by now: read it and decide again
        """

    async def write_journal(self, line: JournalLine, action: NewAction | None = None) -> int:
        """Returns its number: greater than that of every line before. action: what is written beside it, an operator's."""

    async def end_action(self, number: int, detail: str, at_s: float | None) -> None:
        """The journal's line has this text now. at_s: when the action ended; None: a crash cut it off."""

    async def actions(self, limit: int = ...) -> list[Action]:
        """This queue's journal with what was written beside its lines, newest last."""

    async def action(self, number: int) -> Action | None: ...

    async def steps(self, number: int) -> list[Step]:
        """What this action did to entries, by name. A step is written by `hold`, `release`, `record`, `finish_entry` and
        `put_back`, in the commit that does it; the step that it takes back is marked in the same commit."""

    async def steps_after(self, number: int) -> dict[str, int]:
        """Entries that actions after this one did something to, each with the last of them."""

    async def put_back(
        self,
        how: PutBack,
        message: MessageRecord | None,
        waiting: Sequence[Outcome],
        step: Step,
        counts: Mapping[str, int] = ...,
        ended: Ended | None = ...,
    ) -> None:
        """The entry stands again as it did before a step, in one commit.

        message  None: neither recipients SKIPPED nor `waiting` are concerned
        waiting  HELD or DEFERRED recipients that were so before. A recipient that was delivered to or failed meanwhile, is
                 in doubt or is being sent to, by an entry that binds it, stays so
        A held entry loses its DEFERRED recipients, as it does when it is held. Evidence that it was dropped is forgotten.
        """

    async def journal(self, limit: int = ...) -> list[JournalLine]:
        """Newest last."""

    async def write_event(self, event: Event) -> None:
        """At most MOST_EVENTS of a kind are kept; beyond that, the one that lasted shortest is forgotten."""

    async def keep(self, values: Mapping[str, bytes]) -> None:
        """Write or replace what is kept under these names, all or none."""

    async def kept(self, name: str) -> bytes | None:
        """What is kept under this name; None: nothing."""

    async def write_baseline(self, at_s: float) -> None:
        """Write what has been counted up to now, for accounts since then. Of older baselines ever fewer stay."""

    async def account(self, limit: int, since_s: float | None = ...) -> Account:
        """What a report is made of, from one moment; of each list the first lines, of the journal the last.

        since_s  leave out what was before the last baseline that is not later than that; None, or without such a baseline:
                 leave out nothing
        """

    async def evidence_of(self, message_id: str, limit: int) -> list[Evidence]:
        """Why mails of this Message-ID had another fate than a plain delivery, oldest first."""

    async def count(self, counts: Mapping[str, int]) -> None:
        """Add to this queue's durable counters, which never fall. The ledger itself counts recipients delivered, bounced and
        undone, transactions and DSNs (close_attempt, record, undo_failures, move_dsns). The others are added here, or by the
        `counts` of the write that they belong to."""

    async def totals(self) -> Totals:
        """The counters of this queue."""

    async def messages_by_message_id(self, message_id: str) -> list[tuple[MessageRecord, History]]:
        """The fate of a message: every list it went to, with what became of its recipients."""

    async def lists(self) -> list[str]:
        """List-ids of the messages it knows, some perhaps of messages that are forgotten; in no order."""

    async def expire(self, older_than_s: float) -> int:
        """Forget messages whose last delivery is older than this moment (seconds since the epoch).

        A message with recipients that wait, are held, attempted or in doubt, in any queue, stays. A HELD row of an entry
        that has left counts as a delivery does: by its age. This queue's evidence
        older than that goes as well.
        Returns how many messages were forgotten.
        """

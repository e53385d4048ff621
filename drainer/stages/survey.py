"""read > fingerprint > forecast: make every entry taken known to the index, in FIFO order where it matters.

In    entries listed in the index
Out   their summaries there, each with the class of duplicate it is expected to be; the unreadable in Mailman's bad/
Not here  what happens to an entry: its turn decides that (turn.py)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

from drainer.backlog.readers import EntryRead
from drainer.backlog.values import Description, SameTextEntry, tie_order
from drainer.duplicates.classes import Classification, DuplicateClass, RelatedEntries, classify
from drainer.duplicates.decision import undecided_among
from drainer.duplicates.summary import EntrySummary, fifo_key
from drainer.errors import (
    CustodyRefused,
    EntryError,
    EntryVanished,
    LedgerNotDurable,
)
from drainer.ledger.records import (
    RECIPIENT_KEY_BYTES,
    Coverage,
    Hold,
    MessageRecord,
    Outcome,
    RecipientKey,
    kin_of,
    recipient_key,
)
from drainer.ledger.states import SETTLED, State
from drainer.queuedir.domains import DomainCounts
from drainer.queuedir.entry import Flavour
from drainer.queuedir.read import read_entry
from drainer.stages.domain_paces import DomainPaces
from drainer.stages.entry_facts import EntryFacts
from drainer.stages.giving_way import give_way
from drainer.stages.hold_reasons import RESEMBLES, UNDECIDED
from drainer.stages.intake import Intake, batched
from drainer.stages.outcome_log import log_outcome
from drainer.stages.progress import Progress
from drainer.stages.resources import Resources
from drainer.stages.same_mail import SameMail
from drainer.stages.set_aside import SetAside
from drainer.text.logfmt import logfmt
from drainer.via_mailman.open_handovers import OpenHandovers

log = logging.getLogger("drainer")

SURVEYED_AT_A_TIME = 1000
DESCRIBED_AT_A_TIME = 20
"""So many entries are made known to the index in one step, which takes some milliseconds."""
LOCATED_AT_A_TIME = 100
SET_ASIDE_AT_A_TIME = 100
"""So many share one commit of the ledger: a backlog may hold a million unreadable files."""
LEDGER_AGAIN_S = 1.0


class Survey:
    """`run` for ever."""

    def __init__(
        self,
        resources: Resources,
        facts: EntryFacts,
        progress: Progress,
        intake: Intake,
        set_aside: SetAside,
        at_mailman: OpenHandovers,
        paces: DomainPaces,
    ) -> None:
        self._resources = resources
        self._facts = facts
        self._progress = progress
        self._intake = intake
        self._set_aside = set_aside
        self._at_mailman = at_mailman
        self._paces = paces
        self._same_mail = SameMail(resources, facts, self._file)

    async def run(self) -> None:
        """For ever: read and fingerprint the entries listed, oldest first. One lot is read while the lot before it is
        compared with earlier entries."""
        in_hand: list[str] = []
        reading: asyncio.Future[list[EntryRead]] | None = None
        while True:
            finished = list(zip(in_hand, await reading, strict=True)) if reading else []
            if self._intake.is_on:
                await self._resources.signals.listed.wait()
            if self._intake.readers_starting is not None:
                await self._intake.readers_starting
            known = {*in_hand, *self._facts.left_unread()}
            unread = self._resources.index.unread(SURVEYED_AT_A_TIME + len(known))
            located = await self._located([filebase for filebase in unread if filebase not in known])
            in_hand = [filebase for filebase, path in located.items() if path]
            paths = [path for path in located.values() if path]
            reading = asyncio.ensure_future(asyncio.to_thread(self._resources.readers.read, paths)) if paths else None
            await self._set_aside_unread([(filebase, read) for filebase, read in finished if read.summary is None])
            found = await self._undecorated([read.summary for _, read in finished if read.summary is not None])
            summaries = sorted(found, key=fifo_key)
            domains = {filebase: read.domains for filebase, read in finished}
            for some in batched(summaries, DESCRIBED_AT_A_TIME):
                await self._describe(some, domains)
                await give_way()
            if finished:
                self._resources.signals.wake()
            elif not located:
                self._resources.signals.unread.clear()
                await self._resources.signals.unread.wait()

    async def look(self, filebases: Sequence[str]) -> None:
        """Read these entries and make them known to the index. Nothing is moved: what cannot be read stays unread."""
        where = {filebase: path for filebase in filebases if (path := self._where(filebase)) is not None}
        found = await asyncio.to_thread(self._resources.readers.read, list(where.values()))
        self._facts.illegible |= {name for name, read in zip(where, found, strict=True) if read.summary is None}
        summaries = sorted((read.summary for read in found if read.summary is not None), key=fifo_key)
        domains = {name: read.domains for name, read in zip(where, found, strict=True)}
        for some in batched(summaries, DESCRIBED_AT_A_TIME):
            await self._describe(some, domains)
            await give_way()

    def _where(self, filebase: str) -> str | None:
        with contextlib.suppress(EntryVanished):
            return self._file(filebase)
        return None

    async def _set_aside_unread(self, without_summary: Sequence[tuple[str, EntryRead]]) -> None:
        for some in batched(without_summary, SET_ASIDE_AT_A_TIME):
            await asyncio.gather(*(self._set_aside_one(filebase, read) for filebase, read in some))

    async def _set_aside_one(self, filebase: str, read: EntryRead) -> None:
        try:
            if read.reason == EntryVanished.reason:
                # Mailman's runner has taken it; or it was held or released since: then it stays unread, and is read again.
                if self._at_mailman.has(filebase):
                    self._resources.index.remove(filebase)
                else:
                    await self._locate(filebase)
            elif read.is_unreadable:
                await self._set_aside.unreadable(filebase, read.reason, read.detail)
            else:
                await self._set_aside.hold(filebase, read.reason, read.detail, by="drainer")
                self._facts.illegible.add(filebase)
        except EntryVanished as exc:
            await self._set_aside.forget(filebase, exc)
        except LedgerNotDurable as exc:
            await self._read_again(filebase, exc)
        except CustodyRefused as exc:
            # It stays unread, and so comes here again: there may be room then.
            log.error(logfmt(outcome="not_moved", filebase=filebase, detail=exc))
            await asyncio.sleep(LEDGER_AGAIN_S)

    async def _read_again(self, filebase: str, exc: LedgerNotDurable) -> None:
        """The entry stays unread, so it is read again. Until then sending stops, as for any other write that failed."""
        self._set_aside.halt(filebase, exc)
        await asyncio.sleep(LEDGER_AGAIN_S)

    def _file(self, filebase: str) -> str:
        at_mailman = self._at_mailman.path(filebase)
        return str(at_mailman) if at_mailman else self._resources.custody.file(filebase)

    async def _located(self, filebases: Sequence[str]) -> dict[str, str | None]:
        """In steps: a question that an operator asks meanwhile is answered between two of them."""
        found: dict[str, str | None] = {}
        for some in batched(filebases, LOCATED_AT_A_TIME):
            found |= {filebase: await self._locate(filebase) for filebase in some}
            await give_way()
        return found

    async def _locate(self, filebase: str) -> str | None:
        """Where an entry is now. An entry whose file is gone leaves the index."""
        try:
            return self._file(filebase)
        except EntryVanished as exc:
            await self._set_aside.forget(filebase, exc)
            return None

    async def _undecorated(self, summaries: Sequence[EntrySummary]) -> list[EntrySummary]:
        """The same summaries; those of decorated entries of Mailman 3 also have the digests of the mail without header and
        footer. As many are asked for at once as there are co-processes."""
        decorations = self._resources.mailman3_decorations
        if decorations is None:
            return list(summaries)
        decorated = [one for one in summaries if one.decorated and one.flavour is Flavour.MAILMAN3]
        again: dict[str, EntrySummary] = {}
        for some in batched(decorated, self._resources.settings.mailman.coprocesses):
            found = await asyncio.gather(*(self._summarised_again(summary) for summary in some))
            again.update((summary.filebase, summary) for summary in found)
        return [again.get(summary.filebase, summary) for summary in summaries]

    async def _summarised_again(self, summary: EntrySummary) -> EntrySummary:
        try:
            entry = await asyncio.to_thread(read_entry, self._file(summary.filebase))
            return await self._facts.summarised(entry)
        except (EntryError, OSError):
            return summary  # the next reader of it finds out what is wrong

    async def _describe(self, summaries: Sequence[EntrySummary], domains: Mapping[str, DomainCounts]) -> None:
        """Make entries known to the index, in FIFO order where it matters. Most mails have nothing in common with any other;
        one query finds those for the whole lot."""
        strangers = self._resources.index.related.unrelated(summaries) - self._facts.claimed
        known_as = [self._facts.known_as(self._facts.record(summary)) for summary in summaries]
        kin = await self._resources.ledger.kin_known([digest for digests in known_as for digest in digests])
        described: list[Description] = []
        for summary, digests in zip(summaries, known_as, strict=True):
            counted = domains.get(summary.filebase, ())
            if summary.filebase in strangers and kin.isdisjoint(map(kin_of, digests)):
                described.append(Description(summary, domains=counted))
            else:
                try:
                    self._note([replace(await self._compared(summary), domains=counted)])
                except LedgerNotDurable as exc:
                    await self._read_again(summary.filebase, exc)
                except (EntryError, CustodyRefused, OSError) as exc:
                    # It was read a moment ago, and stays unread: the next reading finds out what is wrong now.
                    log.error(logfmt(outcome="read_again", filebase=summary.filebase, detail=exc))
                    await asyncio.sleep(LEDGER_AGAIN_S)
        self._note(described)

    async def look_again(self, filebases: Sequence[str]) -> None:
        """The ledger has learnt, or forgotten, deliveries: forecast these entries again, which were read before."""
        for filebase in dict.fromkeys(filebases):
            with contextlib.suppress(EntryError, OSError):
                entry = self._facts.read(filebase)
                summary = await self._same_mail.proved(await self._facts.summarised(entry))
                record = self._facts.record(summary)
                found = await self._forecast(summary, record)
                # A turn that was cut short left a smaller number in the index: without those whose deliveries were learnt.
                settled = _settled(await self._own(filebase, record))
                owed = {recipient_key(address) for address in entry.recipients} - settled
                self._resources.index.set_owed(filebase, len(owed))
                self._resources.index.set_duplicate(filebase, found.kind, found.of, len(found.covered & owed))
            await give_way()

    async def _compared(self, summary: EntrySummary) -> Description:
        summary = await self._same_mail.proved(summary)
        record = self._facts.record(summary)
        if summary.filebase in self._facts.claimed:
            await self._doubt_claimed(summary, record)
        found = await self._forecast(summary, record)
        repeats = self._facts.resembling - self._facts.released.keys()
        if found.kind is DuplicateClass.RESEND or found.of in repeats:  # or a copy of one that is held for an operator
            await self._mark_resend(summary.filebase, found.of or "")
        if not (own := await self._own(summary.filebase, record)):
            return Description(summary, found.kind, found.of, len(found.covered))
        joined, settled = summary.recipient_keys, _settled(own)
        keys = {joined[at : at + RECIPIENT_KEY_BYTES] for at in range(0, len(joined), RECIPIENT_KEY_BYTES)} - settled
        goes_on = may_go_on(own, keys - found.covered, self._paces.may_limit)
        owed = len(keys) if settled else None
        return Description(summary, found.kind, found.of, len(found.covered & keys), owed=owed, goes_on=goes_on)

    async def _own(self, filebase: str, record: MessageRecord) -> list[Coverage]:
        """What the ledger has of the entry's recipients by the entry itself."""
        known = await self._resources.ledger.history(record.identity)
        return [part for part in known.coverage if part.filebase == filebase]

    def _note(self, described: Sequence[Description]) -> None:
        self._resources.index.describe(described)
        for entry in described:
            filebase, recipients = entry.summary.filebase, entry.summary.recipients
            self._progress.sizes = self._progress.sizes.plus(recipients - entry.covered)
            if filebase in self._facts.late:
                self._facts.late.discard(filebase)
                self._progress.arrived_recipients += recipients - entry.covered

    async def _mark_resend(self, filebase: str, of: str) -> None:
        # INVARIANT resemblance-before-index: written down before the entry can be picked, and so before a later restart.
        #   Crash before: both entries are still here and are compared again; if the first was finished meanwhile, the
        #   second goes out as a mail of its own. Crash after: recover() knows. Held by tests/crash/.
        policy = self._resources.settings.duplicates.resend
        if policy == "deliver" or filebase in self._facts.resembling or filebase in self._facts.released:
            return
        if await self._resources.ledger.hold_of(filebase) is None:
            await self._resources.ledger.hold([Hold(filebase, RESEMBLES, of, "drainer", self._resources.clock.now_s())])
        self._facts.resembling.add(filebase)

    async def _forecast(self, summary: EntrySummary, record: MessageRecord) -> Classification:
        index, ledger, print_ = self._resources.index, self._resources.ledger, summary.fingerprint
        is_another = self._facts.released.get(summary.filebase) == UNDECIDED
        same = index.related.earlier_with(print_.identity, (summary.when_s, tie_order(summary), summary.filebase))
        kin = RelatedEntries(
            same=same,
            copies={earlier.filebase for earlier in same if earlier.copy == print_.copy},
            resembling=[other] if (other := self._resembled(summary)) else (),
            same_message_id=index.related.with_message_id_key(print_.message_id) if print_.message_id else (),
            to_be_held={earlier.filebase for earlier in same if earlier.duplicate is DuplicateClass.UNDECIDED},
            undecided=() if is_another else self._same_mail.undecided_beside(summary),
        )
        history = await ledger.history(self._facts.known_as(record))
        undecided = None if is_another else undecided_among(await ledger.akin(record.identity), record.identity)
        return classify(summary, kin, history, self._resources.settings.duplicates.window, undecided)

    def _resembled(self, summary: EntrySummary) -> SameTextEntry | None:
        print_, related = summary.fingerprint, self._resources.index.related
        if not print_.resend:
            return None
        window_s = self._resources.settings.duplicates.window
        return related.resembled(print_.resend, print_.identity, (summary.when_s, summary.filebase), window_s)

    async def _doubt_claimed(self, summary: EntrySummary, record: MessageRecord) -> None:
        """A `.bak` that Mailman's runner left behind: the runner may have delivered to any of them, so all are in doubt."""
        filebase = summary.filebase
        entry = read_entry(self._file(filebase))
        known = await self._resources.ledger.history(record.identity)
        own = {key for part in known.coverage if part.filebase == filebase for key in part.recipients}
        owed = tuple(address for address in entry.recipients if recipient_key(address) not in own)
        if owed:
            reply = "left as .bak by Mailman's runner"
            outcome = Outcome(State.IN_DOUBT, owed, reply, self._resources.clock.now_s())
            await self._resources.ledger.record(filebase, record, [outcome])
            log_outcome(entry, record, outcome)
            self._resources.signals.doubt.set()
        # INVARIANT doubt-before-pck: the ledger has the doubt before the file looks like any other.
        #   Crash before: the file is still .bak and comes here again. Crash after: the ledger has it in doubt.
        self._resources.custody.promote_bak(filebase)
        self._facts.claimed.discard(filebase)


def may_go_on(own: Sequence[Coverage], owed: Set[RecipientKey], may_limit: Callable[[str], bool]) -> bool:
    """Whether an entry that was deferred may owe recipients who were not refused, but wait for a ceiling.

    own        what the ledger has of its recipients by itself; owed: those of them that are not settled
    may_limit  whether a reply may have been about the pace of a destination, which has a ceiling for that
    Returns    False also if none was refused: then the entry itself is put off, since the MTA hangs up on it
    """
    refused = [part for part in own if part.state is State.DEFERRED]
    put_off = {key for part in refused if not may_limit(part.reply) for key in part.recipients}
    return bool(refused and owed - put_off)


def _settled(own: Sequence[Coverage]) -> set[RecipientKey]:
    """The recipients that the entry has settled itself."""
    return {key for part in own if part.state in SETTLED for key in part.recipients}

"""In a crowd each mail is looked up by its parts: what is found is what a comparison of each with each finds.

That comparison (`akin`, and carried.carries) says what is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.backlog import crowds
from drainer.backlog.index import BacklogIndex
from drainer.backlog.values import Description, RelatedEntry, tie_order
from drainer.duplicates.canonical import Leaf
from drainer.duplicates.carried import Parts, carries, parts_of
from drainer.duplicates.classes import Classification, DuplicateClass, RelatedEntries, classify
from drainer.duplicates.summary import EntrySummary, with_digests_of
from drainer.ledger.records import RECIPIENT_KEY_BYTES, History, kin_of
from tests.backlog.entries import listed
from tests.backlog.test_one_name import mail

CROWDED_FROM = (0, 4)
"""Keys of one name above which it is a crowd: at once, and soon."""


@dataclass(frozen=True)
class Mail:
    summary: EntrySummary
    leaves: tuple[Leaf, ...]


LINES = st.lists(st.sampled_from([b"", b"a", b"b", b"c"]), min_size=1, max_size=4).map(b"\n".join)
TEXTS = st.builds(Leaf, st.just("text/plain"), st.just(""), LINES)
FILES = st.builds(Leaf, st.just("text/plain"), st.just("notes.txt"), LINES)
PAGES = st.builds(Leaf, st.just("text/html"), st.just(""), LINES)
BODIES = st.one_of(
    st.tuples(TEXTS), st.tuples(TEXTS), st.lists(st.one_of(TEXTS, FILES, PAGES), min_size=1, max_size=4).map(tuple)
)


@st.composite
def mails(draw: st.DrawFn) -> list[Mail]:
    known: list[tuple[Leaf, ...]] = []
    made = []
    for number in range(draw(st.integers(2, 14))):
        leaves = draw(st.sampled_from(known) | BODIES if known else BODIES)
        known.append(leaves)
        names = sorted(draw(st.sets(st.integers(0, 1), min_size=1)))
        summary = mail(number, names, known.index(leaves), is_decorated=draw(st.booleans()))
        keys = draw(st.sets(st.sampled_from([b"ann", b"bob", b"eve"]), min_size=1))
        joined = b"".join(key.ljust(RECIPIENT_KEY_BYTES) for key in sorted(keys))
        made.append(Mail(replace(summary, recipient_keys=joined, recipients=len(keys)), leaves))
    return made


class Reader:
    """Reads entries into an index, as the survey does, and says what a comparison of each with each says.

    released  filebases of undecided entries that an operator released
    """

    def __init__(self) -> None:
        self.index = BacklogIndex(Path(":memory:"))
        self.leaves: dict[str, tuple[Leaf, ...]] = {}
        self.here: dict[str, RelatedEntry] = {}
        self.released: set[str] = set()
        self.files_read: list[str] = []

    def read(self, found: Mail) -> None:
        summary, filebase = found.summary, found.summary.filebase
        self.leaves[filebase] = found.leaves
        one_mail = self.one_mail(summary)
        compared = [other for other in self.akin(summary) if self.is_one_mail(summary, other)]
        assert [other.filebase for other in one_mail] == [other.filebase for other in compared]
        for other in one_mail:
            summary = with_digests_of(summary, other.identity)
        found_class = self.classified(summary, self.undecided(summary))
        assert found_class == self.classified(summary, [other for other in self.akin(summary) if self.counts(other)])
        self.index.add_listed(listed(filebase))
        self.index.describe([Description(summary, found_class.kind, found_class.of)])
        print_ = summary.fingerprint
        self.here[filebase] = RelatedEntry(
            filebase, summary.when_s, summary.recipient_keys, found_class.kind, print_.copy, print_.identity
        )

    def akin(self, summary: EntrySummary) -> list[RelatedEntry]:
        """All that have a name in common with it and no digest, where one of the two is decorated."""
        own = summary.fingerprint.identity
        found = [
            other
            for other in self.here.values()
            if other.filebase != summary.filebase
            and set(own).isdisjoint(other.identity)
            and not set(map(kin_of, own)).isdisjoint(map(kin_of, other.identity))
            and (summary.decorated or other.is_decorated)
        ]
        return sorted(found, key=lambda other: (other.when_s, other.filebase))

    def parts(self, filebase: str) -> Parts:
        self.files_read.append(filebase)
        return parts_of(self.leaves[filebase])

    def one_mail(self, summary: EntrySummary) -> list[RelatedEntry]:
        related, identity = self.index.related, summary.fingerprint.identity
        names = related.crowds.names_of(identity, summary.decorated)
        few = related.with_same_name(summary.filebase, identity, summary.decorated, without=names)
        found = {other.filebase: other for other in few if self.is_one_mail(summary, other)}
        if names:
            for name in related.crowds.unread(names):
                related.crowds.note(names, name, self.parts(name))
            own = self.parts(summary.filebase)
            crowded = related.crowds.may_be_one(names, summary.filebase, identity, summary.decorated, own)
            assert all(self.is_one_mail(summary, other) for other in crowded)
            found |= {other.filebase: other for other in crowded}
        return sorted(found.values(), key=lambda other: (other.when_s, other.filebase))

    def is_one_mail(self, summary: EntrySummary, other: RelatedEntry) -> bool:
        own, theirs = self.leaves[summary.filebase], self.leaves[other.filebase]
        return (summary.decorated and carries(own, theirs)) or (other.is_decorated and carries(theirs, own))

    def undecided(self, summary: EntrySummary) -> list[RelatedEntry]:
        related, identity = self.index.related, summary.fingerprint.identity
        names = related.crowds.names_of(identity, summary.decorated)
        few = related.with_same_name(summary.filebase, identity, summary.decorated, without=names)
        found = {other.filebase: other for other in few if self.counts(other)}
        crowded = related.crowds.undecided_beside(
            names, identity, summary.decorated, summary.recipient_keys, self.released
        )
        found |= {other.filebase: other for other in crowded}
        return sorted(found.values(), key=lambda other: (other.when_s, other.filebase))

    def counts(self, other: RelatedEntry) -> bool:
        return other.duplicate is not DuplicateClass.UNDECIDED or other.filebase in self.released

    def classified(self, summary: EntrySummary, undecided: Sequence[RelatedEntry]) -> Classification:
        place = (summary.when_s, tie_order(summary), summary.filebase)
        same = self.index.related.earlier_with(summary.fingerprint.identity, place)
        to_be_held = {earlier.filebase for earlier in same if earlier.duplicate is DuplicateClass.UNDECIDED}
        return classify(summary, RelatedEntries(same=same, to_be_held=to_be_held, undecided=undecided), History(), 60.0)


CHANGES = st.lists(
    st.tuples(st.sampled_from(["remove", "release", "hold", "again", "other class"]), st.integers(0, 13))
)


@given(mails(), st.lists(CHANGES, max_size=14))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("few", CROWDED_FROM)
def test_whatever_comes_and_goes_the_forecast_is_that_of_comparing_each_with_each(
    few: int, found: list[Mail], changes: list[list[tuple[str, int]]]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(crowds, "FEW", few)
        reader = Reader()
        for number, one in enumerate(found):
            reader.read(one)
            for change, which in changes[number] if number < len(changes) else ():
                name = found[min(which, number)].summary.filebase
                if change == "remove":
                    reader.index.remove(name)
                    reader.here.pop(name, None)
                elif change == "release":
                    reader.released.add(name)
                elif change == "hold":
                    reader.released.discard(name)
                elif change == "again":
                    reader.read(found[min(which, number)])
                else:
                    kind = DuplicateClass.UNDECIDED if which % 2 else DuplicateClass.NONE
                    if reader.index.set_duplicate(name, kind, None, 0):
                        reader.here[name] = replace(reader.here[name], duplicate=kind)
        reader.index.close()


def script(entries: int) -> list[Mail]:
    """Decorated mails of a script whose Date never changes. Each has one line of its own among lines that all have."""
    common = [b"line %d" % number for number in range(20)]
    made = []
    for number in range(entries):
        text = b"\n".join((*common[:10], b"number %d" % number, *common[10:], b"-- ", b"footer"))
        made.append(Mail(mail(number, [1], number, is_decorated=True), (Leaf("text/plain", "", text),)))
    return made


def test_each_mail_of_a_crowd_is_read_once_and_compared_with_none_that_is_another_mail() -> None:
    reader = Reader()
    for one in script(300):
        reader.leaves[one.summary.filebase] = one.leaves
        assert reader.one_mail(one.summary) == []
        undecided = reader.undecided(one.summary)[:1]
        kind = DuplicateClass.UNDECIDED if undecided else DuplicateClass.NONE
        reader.index.add_listed(listed(one.summary.filebase))
        reader.index.describe([Description(one.summary, kind)])
    assert len(reader.files_read) == len(set(reader.files_read)) == 300
    reader.index.close()


def test_the_undecorated_copy_of_one_mail_of_a_crowd_is_found_by_reading_one_text_more() -> None:
    reader = Reader()
    for one in script(200):
        reader.leaves[one.summary.filebase] = one.leaves
        reader.one_mail(one.summary)
        reader.index.add_listed(listed(one.summary.filebase))
        reader.index.describe([Description(one.summary, DuplicateClass.UNDECIDED)])
    text = script(200)[123].leaves[0].content.removesuffix(b"\n-- \nfooter")
    plain = Mail(mail(999, [1], 999), (Leaf("text/plain", "", text),))
    reader.leaves[plain.summary.filebase] = plain.leaves
    del reader.files_read[:]
    assert [other.filebase for other in reader.one_mail(plain.summary)] == [script(200)[123].summary.filebase]
    assert reader.files_read == [plain.summary.filebase]
    reader.index.close()

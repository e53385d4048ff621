"""The class of duplicate that an entry has in reports and the forecast."""

from __future__ import annotations

from dataclasses import dataclass

from drainer.duplicates.classes import DuplicateClass, RelatedEntries, SeenEntries, classify
from drainer.duplicates.fingerprint import Fingerprint
from drainer.duplicates.summary import EntrySummary, fifo_key
from drainer.ledger.records import History, recipient_key
from drainer.ledger.states import State
from drainer.queuedir.entry import Flavour
from tests.duplicates.test_decision import ADDRESSES, ENTRY, OTHER, claim


@dataclass(frozen=True)
class Known:
    filebase: str
    when_s: float
    recipient_keys: bytes


def keys(*addresses: str) -> bytes:
    return b"".join(recipient_key(address) for address in addresses)


def summary(
    filebase: str, *addresses: str, identity: tuple[bytes, ...] = (b"i",), resend: bytes | None = b"r",
    copy: bytes = b"c", decorated: bool = False, size_bytes: int = 100,
) -> EntrySummary:  # fmt: skip
    when_s = float(filebase.partition("+")[0])
    return EntrySummary(
        filebase, when_s, Flavour.MAILMAN2, "talk", "<1@a>", "ann@example.net", "Plan", size_bytes, len(addresses),
        keys(*addresses), decorated, Fingerprint(identity, resend, b"m", copy),
    )  # fmt: skip


def test_class_follows_from_which_recipients_are_covered() -> None:
    ann, ben, cleo = ADDRESSES[:3]
    first = Known(OTHER, 1.5, keys(ann, ben))
    same = RelatedEntries(same=[first])
    assert classify(summary(ENTRY, ann), same, History(), 60).kind is DuplicateClass.EXACT
    assert classify(summary(ENTRY, ann, cleo), same, History(), 60).kind is DuplicateClass.PARTIAL
    assert (
        classify(summary(ENTRY, ann), RelatedEntries(same=[first], copies={OTHER}), History(), 60).kind
        is DuplicateClass.RESTORED
    )
    apart = classify(summary(ENTRY, cleo), same, History(), 60)
    assert (apart.kind, apart.of, apart.covered) == (DuplicateClass.NONE, OTHER, frozenset())


def test_earlier_delivery_in_the_ledger_counts_and_earlier_failure_does_not() -> None:
    ann, ben = ADDRESSES[:2]
    delivered, failed = History((claim(OTHER, State.DELIVERED, ann),)), History((claim(OTHER, State.FAILED, ann),))
    assert classify(summary(ENTRY, ann, ben), RelatedEntries(), delivered, 60).covered == {recipient_key(ann)}
    assert classify(summary(ENTRY, ann, ben), RelatedEntries(), failed, 60).kind is DuplicateClass.NONE


def test_entry_half_delivered_is_not_a_duplicate_of_itself() -> None:
    own = History((claim(ENTRY, State.DELIVERED, ADDRESSES[0]),))
    found = classify(summary(ENTRY, *ADDRESSES), RelatedEntries(same=[Known(ENTRY, 2.5, keys(*ADDRESSES))]), own, 60)
    assert (found.kind, found.of) == (DuplicateClass.NONE, None)


def test_resend_counts_only_within_the_window_and_after_the_first() -> None:
    ann = ADDRESSES[0]
    near, far = Known("90.0+aa", 90.0, keys(ann)), Known("10.0+aa", 10.0, keys(ann))
    later = summary("100.0+bb", ann)
    assert classify(later, RelatedEntries(resembling=[far, near]), History(), 60).of == "90.0+aa"
    assert classify(later, RelatedEntries(resembling=[far]), History(), 60).kind is DuplicateClass.NONE
    assert (
        classify(summary("80.0+bb", ann), RelatedEntries(resembling=[near]), History(), 60).kind is DuplicateClass.NONE
    )


def test_related_entries_are_found_by_any_shared_digest() -> None:
    ann = ADDRESSES[0]
    seen = SeenEntries()
    seen.add(summary("1.0+aa", ann, identity=(b"1", b"2"), resend=b"x"), 60)
    seen.add(summary("2.0+bb", ann, identity=(b"3",), resend=b"y"), 60)
    related = seen.related_to(summary("3.0+cc", ann, identity=(b"2", b"4"), resend=b"y"))
    assert [entry.filebase for entry in related.same] == ["1.0+aa"]
    assert [entry.filebase for entry in related.resembling] == ["2.0+bb"]
    assert set(related.copies) == {"1.0+aa"}


def test_of_two_entries_of_one_received_time_the_whole_undecorated_one_is_first() -> None:
    whole = summary("5.0+ff", *ADDRESSES)
    rest = summary("5.0+aa", ADDRESSES[0])
    decorated = summary("5.0+bb", *ADDRESSES, decorated=True, size_bytes=900)
    rewritten = summary("5.0+cc", *ADDRESSES, size_bytes=90)
    assert sorted([decorated, rest, rewritten, whole], key=fifo_key) == [whole, rewritten, rest, decorated]

"""The forecast on 184 genuine entries of an outage, against what is known of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

from drainer.duplicates.classes import Classification, DuplicateClass, SeenEntries, classify
from drainer.duplicates.summary import fifo_key, summarise
from drainer.ledger.records import History, recipient_key
from drainer.queuedir.read import read_entry
from tests.duplicates.labelled import RESUBMISSION, labels

WINDOW_S = 259_200.0
REPEATS = ("exact", "restored", "partial")


@dataclass(frozen=True)
class Classified:
    name: str
    found: Classification
    covered: list[str]
    to_send: list[str]


@cache
def classified() -> tuple[Classified, ...]:
    entries = {name: read_entry(RESUBMISSION / name) for name in labels()}
    in_order = sorted(
        ((summarise(entry), name) for name, entry in entries.items()),
        key=lambda pair: (pair[0].when_s, pair[1].endswith(".bak"), fifo_key(pair[0])),
    )
    seen = SeenEntries()
    every: list[Classified] = []
    for summary, name in in_order:
        found = classify(summary, seen.related_to(summary), History(), WINDOW_S)
        seen.add(summary, WINDOW_S)
        covered = [address for address in entries[name].recipients if recipient_key(address) in found.covered]
        to_send = [address for address in entries[name].recipients if address not in covered]
        every.append(Classified(name, found, sorted(covered), sorted(to_send)))
    return tuple(every)


def confusion() -> str:
    counts = Counter((labels()[item.name]["class"], str(item.found.kind)) for item in classified())
    return "\n".join(f"labelled {label:10} found {found:9} {count}" for (label, found), count in sorted(counts.items()))


def test_no_original_lookalike_crosspost_or_digest_is_ever_covered() -> None:
    suppressed = [
        item
        for item in classified()
        if labels()[item.name]["class"] not in REPEATS
        and (item.covered or item.found.kind in (DuplicateClass.EXACT, DuplicateClass.RESTORED, DuplicateClass.PARTIAL))
    ]
    assert not suppressed, confusion()


def test_labelled_duplicates_are_found_with_exactly_the_recipients_that_are_covered() -> None:
    repeats = [item for item in classified() if labels()[item.name]["class"] in REPEATS]
    right = [
        item
        for item in repeats
        if item.covered == sorted(labels()[item.name]["recipients_already_covered"])
        and item.to_send == sorted(labels()[item.name]["recipients_to_send"])
    ]
    assert len(repeats) >= 56
    assert len(right) >= 0.98 * len(repeats), confusion()


def test_duplicates_name_the_entry_they_repeat() -> None:
    wrong = [
        (item.name, item.found.of)
        for item in classified()
        if labels()[item.name]["class"] in (*REPEATS, "resend")
        and item.found.of != labels()[item.name]["of"].removeprefix("resubmission/").removesuffix(".pck")
    ]
    assert not wrong


def test_text_sent_again_by_a_person_is_a_resend_and_covers_no_recipient() -> None:
    resends = [item for item in classified() if labels()[item.name]["class"] == "resend"]
    assert resends and all(item.found.kind is DuplicateClass.RESEND and not item.covered for item in resends)


def test_no_lookalike_is_held_as_a_resend() -> None:
    lookalikes = [item for item in classified() if labels()[item.name]["class"] in ("lookalike", "crosspost", "digest")]
    assert {str(item.found.kind) for item in lookalikes} <= {"none", "conflict"}, confusion()


def test_entry_from_a_backup_is_distinguished_from_one_sent_again() -> None:
    restored = [item for item in classified() if labels()[item.name]["class"] == "restored"]
    exact = [item for item in classified() if labels()[item.name]["class"] == "exact"]
    assert {item.found.kind for item in restored} == {DuplicateClass.RESTORED}, confusion()
    assert DuplicateClass.RESTORED not in {item.found.kind for item in exact}, confusion()

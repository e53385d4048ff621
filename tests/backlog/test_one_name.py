"""Many mails of one name: what is found is what a comparison of each with each finds, and the work does not grow with them.

The comparison of each with each is what the index did before; here it says what is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.backlog.index import BacklogIndex
from drainer.backlog.store import Store
from drainer.backlog.values import Description, tie_order
from drainer.duplicates.fingerprint import Fingerprint
from drainer.duplicates.summary import EntrySummary
from drainer.ledger.records import DECORATED_BIT, DIGEST_BYTES, KIN_BYTES, is_of_decorated, kin_of
from drainer.queuedir.entry import Flavour
from tests.backlog.entries import digest as digest_of
from tests.backlog.entries import listed


def digest(name: int, body: int, *, is_mark: bool = False) -> bytes:
    """As fingerprint.py makes them: the halves of the name and of the body, and the bit of a decorated mail."""
    half = digest_of(f"body {body}")[KIN_BYTES:]
    last = half[-1] | DECORATED_BIT if is_mark else half[-1] & ~DECORATED_BIT
    found = digest_of(f"name {name}")[:KIN_BYTES] + half[:-1] + bytes((last,))
    assert len(found) == DIGEST_BYTES
    return found


def mail(
    number: int,
    names: Sequence[int],
    body: int,
    *,
    is_decorated: bool = False,
    text: int | None = None,
    message_id: int | None = None,
) -> EntrySummary:
    marks = [digest(name, body, is_mark=True) for name in names] if is_decorated else []
    filebase = f"{number // 3}.5+{number}"
    print_ = Fingerprint(
        (*(digest(name, body) for name in names), *marks),
        None if text is None else digest_of(f"text {text}"),
        None if message_id is None else digest_of(f"message-id {message_id}"),
        digest_of(f"copy {number}"),
    )
    return EntrySummary(
        filebase, number // 3 + 0.5, Flavour.MAILMAN2, "birds", f"<{number}@example.org>", "ann@example.org", "", 100, 1,
        b"recipient.", is_decorated, print_,
    )  # fmt: skip


@st.composite
def mails(draw: st.DrawFn) -> list[EntrySummary]:
    few, bodies = st.integers(0, 3), st.integers(0, 4)
    return [
        mail(
            number,
            sorted(draw(st.sets(few, min_size=1, max_size=2))),
            draw(bodies),
            is_decorated=draw(st.booleans()),
            text=draw(st.none() | few),
            message_id=draw(st.none() | few),
        )
        for number in range(draw(st.integers(2, 12)))
    ]


def filled(read: Sequence[EntrySummary]) -> BacklogIndex:
    index = BacklogIndex(Path(":memory:"))
    describe(index, read)
    return index


def describe(index: BacklogIndex, read: Sequence[EntrySummary]) -> None:
    index.add_listed(listed(*(summary.filebase for summary in read)))
    index.describe(map(Description, read))


def may_be_one(one: EntrySummary, other: EntrySummary) -> bool:
    """A name in common, no digest, and one of the two is decorated."""
    own, others = one.fingerprint.identity, other.fingerprint.identity
    is_decorated = one.decorated or other.decorated
    return is_decorated and set(own).isdisjoint(others) and not set(map(kin_of, own)).isdisjoint(map(kin_of, others))


def shares_a_key(one: EntrySummary, other: EntrySummary) -> bool:
    first, second = one.fingerprint, other.fingerprint
    return (
        not set(first.identity).isdisjoint(second.identity)
        or (first.resend is not None and first.resend == second.resend)
        or (first.message_id is not None and first.message_id == second.message_id)
    )


def fifo(summary: EntrySummary) -> tuple[float, int, str]:
    return summary.when_s, tie_order(summary), summary.filebase


@given(mails(), st.integers(0, 12))
def test_a_stranger_is_what_each_comparison_finds_a_stranger(found: list[EntrySummary], read: int) -> None:
    index, batch = filled(found[:read]), found[read:]
    strangers = {
        one.filebase
        for one in batch
        if not any(shares_a_key(one, other) or may_be_one(one, other) for other in found if other is not one)
    }
    assert index.related.unrelated(batch) == strangers
    index.close()


@given(mails())
def test_who_may_be_one_mail_or_is_a_copy_is_what_each_comparison_finds(found: list[EntrySummary]) -> None:
    index = filled(found)
    for one in found:
        identity = one.fingerprint.identity
        akin = sorted((other.when_s, other.filebase) for other in found if other is not one and may_be_one(one, other))
        same = index.related.with_same_name(one.filebase, identity, one.decorated)
        assert [(other.when_s, other.filebase) for other in same] == akin
        assert {other.filebase: other.is_decorated for other in same} == {
            other.filebase: any(map(is_of_decorated, other.fingerprint.identity))
            for other in found
            if other.filebase in {name for _, name in akin}
        }
        earlier = sorted(
            fifo(other)
            for other in found
            if fifo(other) < fifo(one) and not set(identity).isdisjoint(other.fingerprint.identity)
        )
        assert [other.filebase for other in index.related.earlier_with(identity, fifo(one))] == [
            filebase for *_, filebase in earlier
        ]
    index.close()


@given(mails(), st.sampled_from([0.0, 1.0, 2.5, 60.0]))
def test_the_text_that_an_entry_repeats_is_what_each_comparison_finds(
    found: list[EntrySummary], window_s: float
) -> None:
    index = filled(found)
    for one in found:
        if (key := one.fingerprint.resend) is None:
            continue
        identity, place = one.fingerprint.identity, (one.when_s, one.filebase)
        first = next(
            (
                other.filebase
                for other in index.related.with_resend_key(key)
                if set(identity).isdisjoint(other.identity)
                and (other.when_s, other.filebase) < place
                and one.when_s - other.when_s <= window_s
            ),
            None,
        )
        resembled = index.related.resembled(key, identity, place, window_s)
        assert (resembled.filebase if resembled else None) == first
    index.close()


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each question to the tables gave."""
    asked: list[int] = []
    query = Store.query_waiting

    def counted(self: Store, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        rows = query(self, sql, values)
        asked.append(len(rows))
        return rows

    monkeypatch.setattr(Store, "query_waiting", counted)
    return asked


def test_a_mail_is_not_compared_with_others_that_have_only_its_name(rows_read: list[int]) -> None:
    """A script whose Date never changes; none of its mails is decorated."""
    script = [mail(number, [1], number, text=number, message_id=number) for number in range(300)]
    index = filled(script[:250])
    del rows_read[:]
    assert index.related.unrelated(script[250:]) == {one.filebase for one in script[250:]}
    for one in script[250:]:
        assert index.related.with_same_name(one.filebase, one.fingerprint.identity, is_decorated=False) == []
        assert index.related.earlier_with(one.fingerprint.identity, fifo(one)) == []
    assert sum(rows_read) == 0
    index.close()


def test_a_decorated_mail_is_found_among_others_of_its_name_and_they_are_passed_over(rows_read: list[int]) -> None:
    script = [mail(number, [1], number, is_decorated=number == 77) for number in range(250)]
    index = filled(script)
    del rows_read[:]
    late = mail(300, [1], 300)
    assert index.related.unrelated([late]) == set()
    found = index.related.with_same_name(late.filebase, late.fingerprint.identity, is_decorated=False)
    assert [other.filebase for other in found] == [script[77].filebase]
    assert sum(rows_read) == 2
    index.close()


def test_of_many_mails_with_one_text_only_the_first_few_are_looked_at(rows_read: list[int]) -> None:
    alarms = [mail(number, [number], number, text=1) for number in range(250)]
    index = filled(alarms)
    del rows_read[:]
    late = mail(300, [300], 300, text=1)
    assert late.fingerprint.resend
    found = index.related.resembled(
        late.fingerprint.resend, late.fingerprint.identity, (late.when_s, late.filebase), 600.0
    )
    assert found and found.filebase == alarms[0].filebase
    assert sum(rows_read) <= 4
    index.close()

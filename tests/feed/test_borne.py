"""What an MTA bore is remembered for a week, for each MTA, and octets that are not ours are nothing known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drainer.feed.borne import (
    FORGOTTEN_AFTER_S,
    MOST_MTAS,
    NOTHING,
    Bore,
    bore_of,
    known_from,
    octets_of,
    with_bore,
)

NOW_S = 1.7e9


def test_each_mta_has_its_own_and_it_comes_back_as_it_was_kept() -> None:
    first, second = Bore(60.0, True, 8, 0.1, NOW_S), Bore(300.0, False, 20, at_s=NOW_S)
    known = with_bore(with_bore({}, "a.example:25", first, NOW_S), "b.example:25", second, NOW_S)
    again = known_from(octets_of(known))
    assert bore_of(again, "a.example:25", NOW_S) == first and bore_of(again, "b.example:25", NOW_S) == second
    assert bore_of(again, "a.example:587", NOW_S) is NOTHING


def test_it_is_forgotten_after_a_week_and_not_believed_from_the_future() -> None:
    known = with_bore({}, "a:25", Bore(60.0, True, 8, at_s=NOW_S), NOW_S)
    assert bore_of(known, "a:25", NOW_S + FORGOTTEN_AFTER_S - 1).per_s == 60
    assert (
        bore_of(known, "a:25", NOW_S + FORGOTTEN_AFTER_S) is NOTHING and bore_of(known, "a:25", NOW_S - 60) is NOTHING
    )
    later = NOW_S + FORGOTTEN_AFTER_S
    assert set(with_bore(known, "b:25", Bore(at_s=later), later)) == {"b:25"}


def test_what_does_not_change_is_written_again_each_day() -> None:
    kept = Bore(60.0, True, 8, at_s=NOW_S)
    assert not Bore(62.0, True, 8, at_s=NOW_S + 80_000).differs_from(kept)
    assert Bore(60.0, True, 8, at_s=NOW_S + 86_400).differs_from(kept)
    assert Bore(60.0, True, 8, at_s=NOW_S - 60).differs_from(kept), (
        "the clock was set back: it would count as of the future"
    )


def test_many_mtas_do_not_fill_the_ledger() -> None:
    known: dict[str, Bore] = {}
    for number in range(3 * MOST_MTAS):
        known = with_bore(known, f"{number}:25", Bore(1.0, at_s=NOW_S + number), NOW_S + number)
    assert len(known) == MOST_MTAS and "47:25" in known and "0:25" not in known


@given(
    st.one_of(
        st.binary(), st.sampled_from([b"null", b"[]", b'{"a":[1]}', b'{"a":[NaN,0,1,1,1]}', b'{"a":3}', b"[" * 100_000])
    )
)
def test_any_octets_are_read_or_are_nothing_known(octets: bytes) -> None:
    assert all(0 <= one.per_s < 1e300 for one in known_from(octets).values())

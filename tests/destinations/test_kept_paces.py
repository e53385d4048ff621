"""Ceilings that were learnt come back after a restart, a day old at most; octets that are not ours are nothing learnt."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from drainer.destinations.domain_pace import DomainPace
from drainer.destinations.kept_paces import FORGOTTEN_AFTER_S, kept, paces_from

NOW_S, MOMENT_S = 1.7e9, 5_000.0
SLOW = DomainPace(
    open_per_s=4.0, takes_per_s=5.0, cause="421 4.7.28 unusual rate", since_s=MOMENT_S - 60, told_s=MOMENT_S - 30
)
KEYS = ("per_s", "takes", "cause", "since", "told", "pause_s")
VALUES = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=3), st.just([]), st.just(NOW_S)
)


def test_a_ceiling_comes_back_with_its_cause_and_its_age_until_it_is_a_day_old() -> None:
    octets = kept({"gmail.com": SLOW, "open.example": DomainPace()}, NOW_S - MOMENT_S)
    again = paces_from(octets, NOW_S + 100, 7.0)
    assert set(again) == {"gmail.com"}
    assert (again["gmail.com"].per_s, again["gmail.com"].cause) == (SLOW.per_s, SLOW.cause)
    assert again["gmail.com"].since_s == 7.0 - 160
    assert paces_from(octets, NOW_S + FORGOTTEN_AFTER_S, 7.0) == {}
    assert paces_from(octets, NOW_S - 2 * FORGOTTEN_AFTER_S, 7.0) == {}, "no clock was ever so far ahead"


def test_a_clock_set_back_by_an_hour_takes_no_ban_away() -> None:
    banned = replace(SLOW, pause_s=240.0)
    again = paces_from(kept({"gmail.com": banned}, NOW_S - MOMENT_S), NOW_S - 3600, 7.0)["gmail.com"]
    assert again.is_banned and again.per_s == 1 / 240
    assert (again.told_s, again.since_s) == (7.0, 7.0), "nothing is of the future"


@given(
    st.one_of(
        st.binary(),
        st.sampled_from([b"null", b"[]", b'{"a": 1}', b'{"a": {}}', b"[" * 100_000]),
        st.dictionaries(st.text(max_size=3), st.dictionaries(st.sampled_from(KEYS), VALUES)).map(
            lambda value: json.dumps(value).encode()
        ),
        st.tuples(*[VALUES] * len(KEYS)).map(
            lambda row: json.dumps({"a.example": dict(zip(KEYS, row, strict=True))}).encode()
        ),
    )
)
def test_any_octets_are_paces_that_can_be_used_or_nothing_learnt(octets: bytes) -> None:
    for pace in paces_from(octets, NOW_S, MOMENT_S).values():
        assert pace.per_s is None or 0 <= pace.per_s < math.inf
        assert math.isfinite(pace.since_s) and math.isfinite(pace.pause_s)

"""What the law is given of each destination, and what of it outlasts a restart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drainer.destinations.domain_pace import DomainPace, Look, next_pace
from drainer.destinations.kept_paces import FORGOTTEN_AFTER_S, kept, learnt, paces_from
from drainer.destinations.looks import Own, looks
from drainer.destinations.seen import DestinationsSeen, DomainSeen

NOW_S, MOMENT_S = 1_700_000_000.0, 500.0
GROUP = {"gmail.com": "google", "googlemail.com": "google"}
REPLY = "421 4.7.28 unusual rate"


def test_domains_of_a_group_are_looked_at_as_one() -> None:
    seen = DestinationsSeen(
        MOMENT_S,
        {
            "gmail.com": DomainSeen(30, 10, NOW_S - 60, accepted=20, deferred=9, not_tried=4, too_fast=5, reply=REPLY),
            "googlemail.com": DomainSeen(2, 0, NOW_S - 90, accepted=3),
            "example.org": DomainSeen(1),
        },
        log_read=True,
        messages=33,
    )
    found = looks(seen, {"google": Own(fed=40)}, (), {"google"}, lambda name: GROUP.get(name, name), 5.0, NOW_S)
    google = found["google"]
    assert (google.fed, google.bound, google.accepted, google.queued, google.waiting) == (40, True, 23, 32, 10)
    assert (google.refused, google.too_fast, google.oldest_age_s, google.reply) == (5, 5, 90, REPLY)
    assert (found["example.org"].queued, found["example.org"].bound) == (1, False)


def test_oldest_of_a_group_is_the_oldest_though_its_moment_be_zero() -> None:
    seen = DestinationsSeen(MOMENT_S, {"gmail.com": DomainSeen(1, 1, 0.0), "googlemail.com": DomainSeen(1, 1, 50.0)})
    assert looks(seen, {}, (), (), lambda name: GROUP.get(name, name), 5.0, 60.0)["google"].oldest_age_s == 60


def test_what_was_not_read_is_unknown_and_not_zero() -> None:
    seen = DestinationsSeen(MOMENT_S, {"gmail.com": DomainSeen(accepted=0, deferred=3)}, log_read=False, messages=None)
    look = looks(seen, {}, (), (), lambda name: name, 5.0, NOW_S)["gmail.com"]
    assert look.accepted is None and look.queued is None


def test_mta_that_tries_nobody_any_more_repeats_what_the_provider_said() -> None:
    held = DomainSeen(50, 50, accepted=0, deferred=20, not_tried=20, too_fast=20, reply=REPLY)
    seen = DestinationsSeen(MOMENT_S, {"gmail.com": held}, log_read=True, messages=50)
    assert looks(seen, {}, (), (), lambda name: name, 5.0, NOW_S)["gmail.com"].too_fast == 20


def test_learnt_ceiling_outlasts_a_restart_and_is_forgotten_after_a_day() -> None:
    pace = DomainPace(5.0, 5.3, cause=REPLY, since_s=MOMENT_S - 60, told_s=MOMENT_S - 5)
    octets = kept({"google": pace, "example.org": DomainPace()}, NOW_S - MOMENT_S)
    later = paces_from(octets, NOW_S + 600, 20.0)
    assert set(later) == {"google"} and (later["google"].per_s, later["google"].takes_per_s) == (5.0, 5.3)
    found = learnt(later["google"], NOW_S + 600 - 20.0)
    assert found is not None and (found.cause, found.since_s) == (REPLY, NOW_S - 60)
    assert paces_from(octets, NOW_S + FORGOTTEN_AFTER_S, 20.0) == {}
    assert paces_from(None, NOW_S, 0.0) == {}


def test_what_a_provider_takes_is_unknown_if_it_took_nothing_while_it_was_measured() -> None:
    refused = Look(MOMENT_S, 5.0, refused=4, too_fast=4, reply=REPLY)
    pace = next_pace(DomainPace(), refused)
    assert pace.open_per_s is not None and pace.takes_per_s is None
    octets = kept({"google": pace}, NOW_S - MOMENT_S).replace(b'"takes": null', b'"takes": 0.0')
    assert paces_from(octets, NOW_S, MOMENT_S)["google"].takes_per_s is None, "as it was written once"


@given(
    st.binary(max_size=60) | st.sampled_from([b"[]", b'{"a": 1}', b'{"a": {"per_s": "x"}}', b"null", b'{"a": null}'])
)
def test_what_cannot_be_read_was_not_kept(octets: bytes) -> None:
    assert paces_from(octets, NOW_S, 0.0) == {}

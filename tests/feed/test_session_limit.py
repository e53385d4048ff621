"""The limit on transactions of a session: which replies mean it, how it is learnt, probed and forgotten."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.feed.outcome import parse_reply
from drainer.feed.session_limit import (
    FORGOTTEN_AFTER_S,
    PROBED_AFTER_S,
    SessionLimit,
    announced_limits,
    is_session_limit,
    may_be_session_limit,
    session_limit_from,
)

MTA = "mail.example.org:25"
SAID = (
    "421 too many messages in this connection",
    "452 4.5.3 Too many recipients: Too many messages sent",
    "421 Connection closed by server. Maximum message count per session reached.",
    "452 4.5.3 Service unavailable, batch limit reached",
    "421 4.7.0 Too many messages this session, closing connection",
    "451 4.7.0 Too many messages this session",
    "421 4.7.0 too many mails in one session",
)
OF_OTHER_THINGS = (
    "450 4.7.1 Error: too much mail from 192.0.2.1",
    "421 4.4.2 Message submission rate for this client has exceeded the configured limit",
    "421 4.7.0 Too many connections, try again later",
    "421 4.7.0 mx.example.org Error: too many errors",
    "452 4.3.1 Insufficient system storage",
    "451 4.7.1 Greylisting in action",
    "550 5.7.1 too many messages in this session, go away",
)


@pytest.mark.parametrize("text", SAID)
def test_reply_that_says_so_is_the_sessions_limit(text: str) -> None:
    assert is_session_limit(parse_reply(int(text[:3]), text[4:]), at_mail=True)


@pytest.mark.parametrize("text", OF_OTHER_THINGS)
def test_rates_errors_and_full_disks_are_no_limit_of_the_session(text: str) -> None:
    reply = parse_reply(int(text[:3]), text[4:])
    assert not is_session_limit(reply, at_mail=True) and not may_be_session_limit(reply)


def test_bare_452_at_mail_may_be_the_limit_and_too_many_recipients_after_mail_is_not() -> None:
    assert may_be_session_limit(parse_reply(452, "try again later"))
    assert not may_be_session_limit(parse_reply(452, "no space left"))
    assert not is_session_limit(parse_reply(452, "4.5.3 too many recipients"), at_mail=False)


def test_limit_in_words_is_known_at_once_and_forgotten_after_a_week_or_with_another_mta() -> None:
    known = SessionLimit().ended(MTA, 20, 1000.0, is_said=True)
    assert known.renew_after(MTA, 1000.0) == known.renew_after(MTA, 999.0 + FORGOTTEN_AFTER_S) == 20
    assert known.renew_after(MTA, 1000.0 + FORGOTTEN_AFTER_S) == known.renew_after("other:25", 1000.0) == 0
    assert known.ended("other:25", 5, 1001.0, is_said=True).renew_after("other:25", 1001.0) == 5
    assert known.ended(MTA, 7, 1001.0, is_said=True).renew_after(MTA, 1001.0) == 7, "it was lowered"
    assert known.ended(MTA, 7, 1001.0, is_said=False) == known, "ended for something else"


def test_sessions_ended_without_a_word_are_a_limit_only_after_the_same_number() -> None:
    once = SessionLimit().ended(MTA, 50, 1000.0, is_said=False)
    assert once.renew_after(MTA, 1000.0) == 0
    twice = once.ended(MTA, 50, 1001.0, is_said=False)
    assert twice.renew_after(MTA, 1001.0) == 50
    assert twice.ended(MTA, 12, 1002.0, is_said=False).renew_after(MTA, 1002.0) == 0, "it ends sessions at any number"
    assert once.ended(MTA, 12, 1001.0, is_said=False).ended(MTA, 50, 1002.0, is_said=False).most == 0


def test_limit_that_was_raised_is_found_by_a_probe_once_an_hour() -> None:
    known = SessionLimit().ended(MTA, 20, 1000.0, is_said=True)
    at_s = 1000.0 + PROBED_AFTER_S
    assert not known.wants_probe(at_s - 1) and known.wants_probe(at_s)
    assert not known.probed(at_s).wants_probe(at_s + 1)
    still = known.probed(at_s).ended(MTA, 20, at_s, is_said=True)
    assert (still.most, still.wants_probe(at_s + 1)) == (20, False)
    assert known.carried(MTA, 20, at_s) == known
    assert known.carried(MTA, 21, at_s).renew_after(MTA, at_s) == 0


@given(st.integers(1, 10_000), st.floats(0, 4e9))
def test_limit_survives_a_restart(transactions: int, at_s: float) -> None:
    known = SessionLimit().ended(MTA, transactions, at_s, is_said=True)
    assert session_limit_from(known.octets()).renew_after(MTA, at_s) == transactions


def test_limit_of_the_future_is_none_since_it_would_stand_until_then() -> None:
    known = SessionLimit().ended(MTA, 10, 1e9, is_said=True)
    assert known.renew_after(MTA, 1e9 - 3600) == 0 and known.renew_after(MTA, math.nan) == 0


@given(
    st.none()
    | st.binary()
    | st.sampled_from([b"[]", b'["a", 1, 2, "x"]', b'["a", 1e999, 1, 0]', b'{"a": 1}', b"3", b"[" * 100_000])
)
def test_octets_that_are_no_limit_are_none(octets: bytes | None) -> None:
    assert session_limit_from(octets).renew_after(MTA, 0.0) == 0


@given(st.text(st.characters(codec="ascii")))
def test_any_announcement_gives_numbers_above_zero(text: str) -> None:
    assert all(0 < value < 10**6 for value in announced_limits(text).values())
    assert announced_limits("MAILMAX=10 RCPTMAX=0 rcptdomainmax=2 X") == {"MAILMAX": 10, "RCPTDOMAINMAX": 2}

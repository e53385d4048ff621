"""Replies as providers give them and as MTAs quote them: which say that we are too fast, and which do not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.destinations.quoted import LONGEST, one_line, said
from drainer.destinations.too_fast import TABLE, TooFastReplies
from drainer.settings.mta import MtaSettings
from drainer.text.safe_pattern import pattern_trouble

REPLIES = TooFastReplies()

SAMPLES = Path(__file__).parents[1] / "samples" / "replies"
TOO_FAST = [tuple(line.split("\t")) for line in (SAMPLES / "too_fast.txt").read_text().splitlines()]
NOT_TOO_FAST = ["", *(SAMPLES / "not_too_fast.txt").read_text().splitlines()]


@pytest.mark.parametrize(("provider", "reply"), TOO_FAST)
def test_reply_that_says_too_fast_is_known_bare_and_as_postfix_and_exim_quote_it(provider: str, reply: str) -> None:
    for text in (
        reply,
        f"host gmail-smtp-in.l.google.com[142.250.1.27] said: {reply}",
        f"host mx.example.org[192.0.2.1] refused to talk to me: {reply}",
        f"delivery temporarily suspended: host mx.example.org[192.0.2.1] refused to talk to me: {reply}",
        f"SMTP error from remote mail server after pipelined MAIL FROM:<a@lists.test> SIZE=1311: {reply}",
        f"SMTP error from remote mail server after initial connection: {reply}",
    ):
        found = REPLIES.of(text)
        assert found is not None and found.provider == provider
        assert said(text) == reply


@pytest.mark.parametrize("reply", NOT_TOO_FAST)
def test_greylisting_full_mailboxes_and_refused_mails_do_not_say_so(reply: str) -> None:
    for text in (reply, f"host mx.example.org[192.0.2.1] said: {reply} (in reply to RCPT TO command)"):
        assert REPLIES.of(text) is None


def test_every_row_has_a_source_and_is_no_worse_than_an_operators_may_be() -> None:
    for row in TABLE:
        assert row.source and row.provider
        assert re.compile(row.pattern)
        assert not re.search(r"\)[*+]", row.pattern)


def test_operators_patterns_come_first_whatever_the_case() -> None:
    own = TooFastReplies(("come back slower", r"\bXY12\b"))
    for reply in ("451 Come Back Slower please", "450 4.7.1 xy12", TOO_FAST[0][1] + " XY12"):
        found = own.of(reply)
        assert found is not None and found.source in ("mta.too_fast", TABLE[0].source)
    assert REPLIES.of("450 4.7.1 xy12") is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "is empty"),
        ("(", "is no regular expression"),
        (".*", "matches every reply"),
        ("a" * 201, "has 201 characters"),
        ("(a+)+$", "repeats no group"),
        ("(?:a|a)*b", "repeats no group"),
        (".*a.*b.*c", "at most 2"),
        ("(a{1,5}){2,9}", "repeats no group"),
    ],
)
def test_pattern_that_is_wrong_or_may_take_for_ever_is_refused_with_what_would_be_right(pattern: str, why: str) -> None:
    assert why in pattern_trouble(pattern) and "right would be" in pattern_trouble(pattern)
    with pytest.raises(ValueError, match="right would be"):
        MtaSettings.model_validate({"too_fast": [pattern]})


@pytest.mark.parametrize(
    "pattern", [r"4\.7\.28|rate limited", r"[(+)*]+ .*x", r"\(\+\)*", "too many (mails|connections)?"]
)
def test_pattern_of_an_ordinary_kind_is_taken(pattern: str) -> None:
    assert pattern_trouble(pattern) == ""


@given(
    st.lists(
        st.sampled_from(["421", "-", " ", "4.7.28", "\\n", "\n", "said: ", "after RCPT TO:<", ">: ", "x" * 50]),
        max_size=60,
    )
)
def test_any_reply_becomes_one_line_of_bounded_length(parts: list[str]) -> None:
    line = one_line("".join(parts))
    assert len(line) <= LONGEST
    REPLIES.of(line)


def test_code_is_kept_once() -> None:
    text = r"host x[1] said: 421-4.7.28 too fast\n421-4.7.28 by far\n421 4.7.28 bye 450 mails"
    assert one_line(text) == "421-4.7.28 too fast by far bye 450 mails"

"""Whatever an MTA says, in whatever pieces, whenever it hangs up: the replies that were owed, or a loss with its stage."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drainer.feed.outcome import SessionLost, Stage
from drainer.feed.smtp_client import Answer, SmtpClient

MAIL, RCPT, DATA, CONTENT, DOT = Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.CONTENT, Stage.FINAL_DOT
ENVELOPE = (MAIL, RCPT, RCPT)


def asking(*stages: Stage) -> SmtpClient:
    """A session in which these commands were sent at once."""
    client = SmtpClient()
    assert client.sends(stages) is None
    return client


def said(answer: Answer | None) -> list[str]:
    assert answer is not None and not isinstance(answer, SessionLost)
    return [str(reply) for reply in answer]


def lost_at(answer: Answer | None) -> tuple[Stage, str]:
    assert isinstance(answer, SessionLost)
    return answer.stage, answer.detail


def answers(stages: Sequence[Stage], pieces: Sequence[bytes]) -> list[object]:
    """What came of one exchange and of the connection's end; a loss as its stage and text."""
    client = asking(*stages)
    came: list[object] = []
    for answer in [*map(client.receives, pieces), client.ends("hung up")]:
        if isinstance(answer, SessionLost):
            assert str(answer).isprintable()
            came.append((answer.stage, answer.detail))
        elif answer is not None:
            assert all(str(reply).isprintable() for reply in answer)
            came.append([str(reply) for reply in answer])
    return [*came, client.got_421, client.errors]


_WORDS = st.binary(max_size=30) | st.sampled_from(
    [
        b"250 ok\r\n", b"250-a\r\n250 b\r\n", b"25", b"0 x\n", b"\r\n", b"\n", b"999 \xff\r\n", b"550 5.1.1 no\r\n",
        b"421 4.3.2 bye\r\n", b"354 go\r\n", b"250-" * 3000,
    ]
)  # fmt: skip
_OCTETS = st.lists(_WORDS, max_size=12).map(b"".join)


@settings(deadline=None, max_examples=300)
@given(_OCTETS, st.lists(st.integers(0, 200), max_size=6), st.sampled_from([(MAIL,), ENVELOPE, (RCPT,) * 40, (DATA,)]))
@example((b"250-" + b"x" * 8000 + b"\r\n") * 12, [1], ENVELOPE)
@example(b"\0" * 60_000, [9_000], ENVELOPE)
def test_any_octets_give_the_same_answers_however_they_are_cut(
    octets: bytes, cuts: list[int], stages: tuple[Stage, ...]
) -> None:
    owed = _no_more_than_owed(octets, stages)
    whole = answers(stages, [owed])
    edges = [0, *sorted(min(cut, len(owed)) for cut in cuts), len(owed)]
    assert answers(stages, [owed[a:b] for a, b in itertools.pairwise(edges)]) == whole
    if len(owed) < 8192:
        assert answers(stages, [owed[at : at + 1] for at in range(len(owed))]) == whole


def _no_more_than_owed(octets: bytes, stages: tuple[Stage, ...]) -> bytes:
    """The octets up to the end of the exchange."""
    client = asking(*stages)
    for at in range(len(octets)):
        if client.receives(octets[at : at + 1]) is not None:
            return octets[: at + 1]
    return octets


@settings(deadline=None)
@given(_OCTETS, _OCTETS)
def test_octets_that_were_not_asked_for_are_never_the_next_answer(first: bytes, second: bytes) -> None:
    client = SmtpClient()
    assert client.receives(first) is None and client.receives(second) is None
    if first or second:
        assert not client.is_in_step
        stage, detail = lost_at(client.sends((MAIL,)))
        assert stage is MAIL and detail.startswith("a reply to nothing") and len(detail) < 500
    else:
        assert client.is_in_step


def test_replies_to_pipelined_commands_come_in_order() -> None:
    client = asking(*ENVELOPE)
    assert client.receives(b"250 2.1.0 Ok\r\n550 5.1.1 un") is None and client.owed == 2
    assert said(client.receives(b"known\r\n250-2.1.5 more\r\n250 2.1.5 lines\r\n")) == [
        "250 2.1.0 Ok", "550 5.1.1 unknown", "250 2.1.5 more lines",
    ]  # fmt: skip
    assert client.is_in_step and client.errors == 1


@pytest.mark.parametrize("then", [b"250 Ok\r\n", b"2", b"\r\n", b"nonsense\r\n"])
def test_one_reply_too_many_takes_the_answer_back(then: bytes) -> None:
    stage, detail = lost_at(asking(*ENVELOPE).receives(b"250 a\r\n" * 3 + then))
    assert stage is RCPT and "more than one reply" in detail
    stage, detail = lost_at(asking(DOT).receives(b"250 queued\r\n" + then))
    assert stage is DOT


@pytest.mark.parametrize("then", [b"250 Ok\r\n", b"2", b"\r\n", b"nonsense\r\n", b"421 closing\r\n"])
def test_one_reply_too_many_that_comes_late_ends_the_session_before_the_next_command(then: bytes) -> None:
    client = asking(DOT)
    assert said(client.receives(b"250 queued\r\n")) == ["250 queued"]
    assert client.receives(then) is None
    assert not client.is_in_step and lost_at(client.sends((MAIL,)))[0] is MAIL


def test_closing_notice_behind_the_last_reply_does_not_undo_it() -> None:
    client = asking(DOT)
    assert said(client.receives(b"250 queued\r\n421 4.3.2 closing\r\n")) == ["250 queued"]
    assert client.got_421 and not client.refused_a_recipient and not client.is_in_step


@pytest.mark.parametrize(
    ("octets", "came"),
    [
        (b"421 bye\r\n", ["421 bye"]),
        (b"250 a\r\n421 bye\r\n", ["250 a", "421 bye"]),
        (b"250 a\r\n421 bye\r\n503 what\r\n", ["250 a", "421 bye"]),
        (b"250 a\r\n250 b\r\n421 bye\r\n", ["250 a", "250 b", "421 bye"]),
    ],
)
def test_421_ends_the_exchange_wherever_it_comes(octets: bytes, came: list[str]) -> None:
    client = asking(*ENVELOPE)
    assert said(client.receives(octets)) == came
    assert client.got_421 and client.refused_a_recipient is (len(came) > 1)
    assert client.receives(b"250 more\r\n") is None and client.ends("hung up") is None


def test_reply_behind_a_421_to_the_final_dot_makes_both_uncertain() -> None:
    assert lost_at(asking(DOT).receives(b"421 bye\r\n250 queued\r\n"))[0] is DOT


@pytest.mark.parametrize(
    ("stages", "octets", "stage"),
    [
        ((MAIL,), b"", MAIL),
        (ENVELOPE, b"", MAIL),
        (ENVELOPE, b"250 a\r\n", RCPT),
        (ENVELOPE, b"250 a\r\n250 b\r\n25", RCPT),
        ((DATA,), b"", DATA),
        ((CONTENT,), b"", CONTENT),
        ((DOT,), b"250 2.0.0 O", DOT),
    ],
)
def test_hang_up_is_a_loss_at_the_first_command_without_a_reply(
    stages: tuple[Stage, ...], octets: bytes, stage: Stage
) -> None:
    client = asking(*stages)
    assert client.receives(octets) is None
    lost = client.ends("hung up")
    assert lost_at(lost) == (stage, "hung up") and client.lost is lost
    assert lost is not None and lost.in_doubt is (stage is DOT)
    assert client.ends("again") is None and lost_at(client.sends((MAIL,))) == (MAIL, "hung up")


def test_only_what_follows_the_write_of_the_final_dot_is_in_doubt() -> None:
    client = asking(CONTENT)
    client.final_dot_goes()
    lost = client.ends("hung up")
    assert lost is not None and lost.stage is DOT and lost.in_doubt


def test_refusal_in_the_middle_of_the_content_is_its_answer_and_consent_is_none() -> None:
    assert said(asking(CONTENT).receives(b"552 5.3.4 too big\r\n")) == ["552 5.3.4 too big"]
    assert lost_at(asking(CONTENT).receives(b"250 Ok\r\n")) == (CONTENT, "out-of-turn reply: 250 Ok")


@pytest.mark.parametrize(("reply", "is_lost"), [("354 go", False), ("451 later", False), ("250 Ok", True)])
def test_only_354_lets_the_content_follow_data(reply: str, is_lost: bool) -> None:
    answer = asking(DATA).receives(f"{reply}\r\n".encode())
    assert isinstance(answer, SessionLost) is is_lost


@pytest.mark.parametrize(
    ("octets", "detail"),
    [
        (b"what\r\n", "malformed reply: what"),
        (b"2x0 Ok\r\n", "malformed reply: 2x0 Ok"),
        (b"\xff\xfe\r\n", "malformed reply: \\xff\\xfe"),
        (b"099 Ok\r\n", "unparsable reply: no reply code: 99"),
        (b"250-ok\r\nwhat\r\n", "malformed reply: what"),
        (b"250 " + b"x" * 9_000, "reply too long"),
        (b"250 " + b"x" * 9_000 + b"\r\n", "reply too long"),
        (b"250-\r\n" * 9_000, "reply too long"),
    ],
)
def test_what_is_no_reply_is_a_loss_in_words(octets: bytes, detail: str) -> None:
    stage, said_of_it = lost_at(asking(RCPT).receives(octets))
    assert stage is RCPT and said_of_it.replace("\\r", "") == detail


def test_refusals_are_counted_until_a_content_is_accepted() -> None:
    client = asking(*ENVELOPE)
    client.receives(b"250 a\r\n550 b\r\n450 c\r\n")
    assert client.errors == 2
    client.sends((DOT,))
    client.receives(b"451 later\r\n")
    assert client.errors == 3
    client.sends((DOT,))
    client.receives(b"250 queued\r\n")
    assert client.errors == 0


def test_nothing_is_said_of_a_session_that_this_side_closed() -> None:
    client = asking(*ENVELOPE)
    client.closes()
    assert client.receives(b"250 a\r\n" * 3) is None and client.ends("hung up") is None and client.lost is None
    assert not client.is_in_step

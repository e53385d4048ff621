"""What replies mean, for any reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.feed.outcome import (
    Meaning,
    Reply,
    SessionLost,
    Stage,
    after_data,
    after_final_dot,
    after_loss,
    after_mail,
    after_rcpt,
    blames_recipient,
    is_recipient_limit,
    parse_reply,
)
from drainer.ledger.states import State

replies = st.builds(parse_reply, st.integers(200, 599), st.text(max_size=40))


def reply(text: str) -> Reply:
    return parse_reply(int(text[:3]), text[4:])


@given(st.integers(), st.text())
def test_any_code_and_text_give_a_printable_reply_or_a_value_error(code: int, text: str) -> None:
    try:
        parsed = parse_reply(code, text)
    except ValueError:
        assert not 200 <= code <= 599
        return
    assert parsed.code == code and "\n" not in str(parsed) and "\x00" not in str(parsed) and len(str(parsed)) < 520
    str(parsed).encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("550 5.1.1 no such user", Reply(550, "5.1.1", "no such user")),
        ("250 2.0.0 Ok: queued", Reply(250, "2.0.0", "Ok: queued")),
        ("550 no such user", Reply(550, "", "no such user")),
        ("550 2.1.5 contradicts itself", Reply(550, "", "2.1.5 contradicts itself")),
        ("450 4.7.1 first\n4.7.1 second", Reply(450, "4.7.1", "first second")),
        ("421 ", Reply(421, "", "")),
    ],
)
def test_enhanced_status_code_is_separated_from_text(text: str, expected: Reply) -> None:
    assert reply(text) == expected


@pytest.mark.parametrize(
    ("text", "is_limit"),
    [
        ("452 4.5.3 Error: too many recipients", True),  # Postfix, smtpd_recipient_limit
        ("452 too many recipients", True),  # Exim, recipients_max
        ("552 too many recipients", True),  # Exim, recipients_max_reject
        ("452 4.5.3 Too many recipients", True),  # Sendmail, confMAX_RCPTS_PER_MESSAGE; Exchange
        ("452-4.5.3 Your message has too many recipients. For more information regarding", True),
        ("550 5.5.3 Too many recipients", True),
        ("451 4.5.3 Recipient limit exceeded", True),
        ("452 4.3.1 Insufficient system resources", False),  # Exchange, back pressure
        ("452 4.2.2 The email account that you tried to reach is over quota", False),
        ("552 5.2.2 mailbox full", False),
        ("450 4.2.0 greylisted", False),
        ("421 4.5.3 too many recipients", False),  # closes the session
        ("550 5.1.1 no such user", False),
    ],
)
def test_limit_on_recipients_is_distinguished_from_faults_of_recipients(text: str, is_limit: bool) -> None:
    assert is_recipient_limit(parse_reply(int(text[:3]), text[4:])) is is_limit


@given(replies)
def test_only_a_positive_reply_to_the_final_dot_delivers(given_reply: Reply) -> None:
    meaning = after_final_dot(given_reply)
    kinds = {2: {State.DELIVERED, State.IN_DOUBT}, 3: {State.IN_DOUBT}, 4: {State.DEFERRED}, 5: {State.FAILED}}
    assert meaning.state in (kinds[given_reply.code // 100] if given_reply.code != 552 else {State.DEFERRED})


@given(replies, st.sampled_from([after_mail, after_rcpt, after_data]))
def test_nothing_before_the_content_delivers_or_is_in_doubt(given_reply: Reply, after: object) -> None:
    assert callable(after)
    meaning = after(given_reply)
    assert meaning is None or meaning.state in (State.DEFERRED, State.FAILED)
    if meaning is not None and meaning.state is State.FAILED:
        assert 500 <= given_reply.code <= 599 and meaning.blames_entry
    if meaning is None:
        assert given_reply.code in (250, 251, 252, 354)


def test_552_is_temporary_at_every_step_as_for_mailman() -> None:
    for after in (after_mail, after_rcpt, after_data, after_final_dot):
        refused = after(reply("552 5.2.2 mailbox full"))
        assert refused is not None and refused.state is State.DEFERRED and refused.blames_entry


@pytest.mark.parametrize("text", ["421 closing", "503 EHLO first", "530 5.7.0 STARTTLS first", "535 5.7.8 no"])
def test_refusal_of_the_session_blames_no_entry(text: str) -> None:
    for after in (after_mail, after_rcpt, after_data):
        meaning = after(reply(text))
        assert meaning is not None and meaning.state is State.DEFERRED and not meaning.blames_entry


@given(st.sampled_from(Stage))
def test_loss_is_in_doubt_from_the_final_dot_on_and_blameless_before(stage: Stage) -> None:
    meaning = after_loss(SessionLost(stage, "Connection lost"))
    if stage is Stage.FINAL_DOT:
        assert meaning.state is State.IN_DOUBT
    else:
        assert meaning.state is State.DEFERRED and not meaning.blames_entry


@pytest.mark.parametrize(
    "said",
    [
        "554 5.7.1 <ann@example.org>: Relay access denied",
        "550 relay not permitted",
        "550 5.7.1 <ann@example.org>... Relaying denied",
        "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
        "550 5.7.1 Unable to relay",
        "550 5.7.64 TenantAttribution; Relay Access Denied",
        "513 Relaying denied.",
        "550 5.7.0 Authentication required",
    ],
)
def test_refusal_to_relay_defers_whatever_mta_words_it(said: str) -> None:
    assert after_rcpt(reply(said)) == Meaning(State.DEFERRED, str(reply(said)))


@pytest.mark.parametrize(
    "said",
    [
        "550 5.1.1 <ann@relay.example.org>: Recipient address rejected: no relay known",
        "550 5.7.1 <relaying.denied@example.org>: Recipient address rejected: Access denied",
        "554 5.7.1 Message rejected: spam",
        "550 no such user",
    ],
)
def test_refusal_of_a_recipient_fails_it_though_the_word_relay_may_occur(said: str) -> None:
    meaning = after_rcpt(reply(said))
    assert meaning is not None and meaning.state is State.FAILED


@pytest.mark.parametrize(
    ("said", "is_about_recipient"),
    [("450 4.2.0 greylisted", True), ("552 full", True), ("421 4.3.2 closing", False), ("session lost at DATA", False)],
)
def test_only_an_answer_about_the_recipient_lets_it_be_given_up(said: str, is_about_recipient: bool) -> None:
    assert blames_recipient(said) is is_about_recipient

"""No address, parameter or content can end its command or begin another one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.compose.wire import LONGEST_ADDRESS, Envelope
from drainer.feed.smtp_commands import UnsafeAddress, mail_command, on_the_wire, rcpt_commands, unsafe_recipients

_ADDRESS = st.text(max_size=40) | st.from_regex(r"[a-z]{1,9}[ .+'\"]?[a-z]{0,9}@[a-zäö]{1,9}\.example", fullmatch=True)
_OFFERED = st.sampled_from([(), ("smtputf8", "size", "8bitmime", "dsn")])


@given(st.lists(_ADDRESS, min_size=1, max_size=5), _OFFERED)
def test_each_recipient_is_one_command_or_is_refused(recipients: list[str], offered: tuple[str, ...]) -> None:
    unsafe = unsafe_recipients(recipients, offered)
    safe = [recipient for place, recipient in enumerate(recipients) if place not in unsafe]
    if safe:
        commands = rcpt_commands(safe)
        assert commands.split(b"\r\n") == [*(b"RCPT TO:<" + recipient.encode() + b">" for recipient in safe), b""]
        assert commands.count(b"\n") == commands.count(b">") == len(safe)
        assert "smtputf8" in offered or commands.isascii()
    # A recipient is judged alike alone and among others.
    assert [place for place, each in enumerate(recipients) if unsafe_recipients([each], offered)] == sorted(unsafe)


@given(_ADDRESS, st.lists(st.text(max_size=20), max_size=2), _OFFERED)
def test_mail_is_one_line_or_is_refused(address: str, parameters: list[str], offered: tuple[str, ...]) -> None:
    try:
        command = mail_command(Envelope(address, ("ann@example.org",), tuple(parameters)), 10, offered)
    except UnsafeAddress:
        return
    assert command.endswith(b"\r\n") and command.count(b"\n") == command.count(b"\r") == 1
    assert command.startswith(b"MAIL FROM:<" + address.encode() + b">")


@pytest.mark.parametrize("letter", ["a", "ä"])
def test_address_that_is_too_long_for_a_command_line_is_refused(letter: str) -> None:
    octets = len(letter.encode())
    longest = letter * (LONGEST_ADDRESS // octets)
    assert not unsafe_recipients([longest], ("smtputf8",))
    assert unsafe_recipients([longest + letter], ("smtputf8",))


@given(st.lists(st.sampled_from([b".", b"\r\n", b"\n", b"\r", b"text", b".."]), max_size=12).map(b"".join))
def test_content_ends_at_its_final_dot_and_arrives_as_it_was(content: bytes) -> None:
    octets = on_the_wire(content)
    assert octets.endswith(b".\r\n")
    lines = octets[:-3].split(b"\r\n")
    assert b"." not in lines, "a lone dot would end the content"
    arrives = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
    if b"\n." not in content.replace(b"\r\n.", b""):  # behind a bare LF a dot is doubled, for a careless MTA
        assert arrives == content + b"\r\n" * (not content.endswith(b"\r\n"))

"""The co-process's quicker ways through `email` and `smtplib` lead where Python's own do."""

from __future__ import annotations

import copy
import email
import email.policy
import io
import smtplib
from email.generator import BytesGenerator
from email.header import Header
from email.message import Message

from hypothesis import given
from hypothesis import strategies as st

from drainer.compose.coprocess import serialising

_values = st.text(st.sampled_from('ab=?é,;:"<>@.\t\n\r  \udce4') | st.characters(), max_size=90) | st.lists(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30), max_size=5
).map(" ".join)
_lines = st.text(st.sampled_from("a.\n\r \udce4"), max_size=60)
_addresses = st.emails() | st.text(st.sampled_from("ab.@<> \"(),'+-_é"), max_size=12)


@given(st.sampled_from(["To", "X-Long-Name-Of-A-Field", "Subject"]), _values, st.sampled_from([78, 40, 998, 0, None]))
def test_a_field_that_is_taken_for_one_line_is_what_python_makes_of_it(
    name: str, value: str, longest: int | None
) -> None:
    policy = email.policy.compat32.clone(max_line_length=longest, linesep="\r\n")
    if serialising.is_one_line(name, value, longest):
        assert policy.fold_binary(name, value) == f"{name}: {value}\r\n".encode()


@given(_lines, st.sampled_from(["\n", "\r\n"]))
def test_lines_are_written_as_python_writes_them(lines: str, line_end: str) -> None:
    written = []
    for write in (BytesGenerator._write_lines, serialising.write_lines):  # type: ignore[attr-defined]
        stream = io.BytesIO()
        generator = BytesGenerator(stream)
        generator._NL = line_end  # type: ignore[attr-defined]
        write(generator, lines)
        written.append(stream.getvalue())
    assert written[0] == written[1]


@given(_addresses)
def test_an_address_that_is_taken_for_plain_is_written_as_it_is(address: str) -> None:
    if serialising.is_plain_address(address):
        assert smtplib.quoteaddr(address) == f"<{address}>"


@given(st.from_regex(r"[a-z+=]{1,9}(\.[a-z]{1,5})?@[a-z]{1,9}\.[a-z]{2,3}", fullmatch=True))
def test_an_ordinary_address_is_taken_for_plain(address: str) -> None:
    assert serialising.is_plain_address(address)


def _mail() -> Message:
    msg = email.message_from_string(
        'Subject: hello\nContent-Type: multipart/mixed; boundary="b"\n\n--b\n\none\n--b\n\ntwo\n--b--\n'
    )
    msg["X-Header"] = Header("grün", "utf-8")  # type: ignore[assignment]
    msg.original_size = 7  # type: ignore[attr-defined]
    return msg


def test_a_copied_message_is_equal_in_all_parts_and_changes_alone() -> None:
    msg = _mail()
    genuine, copied = copy.deepcopy(msg), serialising.message_copied(msg, {})
    before = msg.as_bytes()
    assert copied.as_bytes() == genuine.as_bytes() == before
    assert copied.__dict__.keys() == genuine.__dict__.keys()
    assert copied.original_size == 7
    del copied["Subject"]
    copied.get_payload()[0].set_payload("changed")
    copied.get_payload().append(Message())
    copied.get_payload()[1]["X-New"] = "field"
    copied.defects.append(ValueError())
    assert msg.as_bytes() == before
    assert msg.defects == []

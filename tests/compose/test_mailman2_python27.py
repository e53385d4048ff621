"""Fields, bodies, mails and addresses, compared with what CPython 2.7.18 made of them (python27_email.json)."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.compose.mailman2_charset import body_in_quoted_printable, charset_named
from drainer.compose.mailman2_envelope import wire_address
from drainer.compose.mailman2_flatten import flattened, invented_boundary, on_the_wire
from drainer.compose.mailman2_header import EncodedHeader, encoded, folded
from drainer.compose.mailman2_part import part_of_plaintext
from drainer.errors import ComposerFailed

_BOUNDARY = re.compile(r"={15}[0-9]{19}==(?:\.[0-9]+)?")


@cache
def _told(kind: str) -> list[Any]:
    found: list[Any] = json.loads(Path(__file__).with_name("python27_email.json").read_text())[kind]
    return found


def _octets(text: str) -> bytes:
    return text.encode("latin-1")


def test_fields_are_folded_as_python_2_folds_them() -> None:
    for name, value, expected in _told("headers"):
        if expected is None:
            with pytest.raises(ComposerFailed):
                folded(_octets(name), _octets(value))
        else:
            assert folded(_octets(name), _octets(value)) == _octets(expected)


def test_header_objects_are_encoded_as_python_2_encodes_them() -> None:
    for length, name, chunks, expected in _told("header_objects"):
        first_length = length - len(name) - 2 if name else length
        pieces = tuple((_octets(text), charset_named(charset)) for text, charset in chunks)
        assert encoded(EncodedHeader(pieces, first_length, length - 1)) == _octets(expected)


def test_bodies_are_put_into_quoted_printable_as_python_2_does() -> None:
    for body, expected in _told("quoted_printable"):
        assert body_in_quoted_printable(_octets(body)) == _octets(expected)


def test_plain_text_mails_are_parsed_and_written_as_python_2_does() -> None:
    for mail, expected in _told("mails"):
        message = flattened(part_of_plaintext(_octets(mail)))
        written = b"".join(line for _, line in message.lines) + b"\n" + message.body
        assert message.size == len(written)
        assert _numbered(written.decode("latin-1")) == expected


def _numbered(text: str) -> str:
    numbers: dict[str, str] = {}
    return _BOUNDARY.sub(lambda match: numbers.setdefault(match[0], f"BOUNDARY{len(numbers)}"), text)


def test_addresses_are_parsed_as_python_2_parses_them() -> None:
    for given_address, expected in _told("addresses"):
        assert wire_address(given_address) == (expected or "")


def test_raw_8_bit_field_goes_out_untouched() -> None:
    value = b"\xe4 " * 60 + b"\n\ttail"
    assert folded(b"Subject", value) == value


@given(st.binary(max_size=400))
def test_any_mail_can_be_written_or_is_refused_with_a_reason(mail: bytes) -> None:
    try:
        content = flattened(part_of_plaintext(mail)).content
    except ComposerFailed:
        return
    assert content.endswith(b"\r\n")
    assert content.replace(b"\r\n", b"").find(b"\n") == -1
    assert content.replace(b"\r\n", b"").find(b"\r") == -1


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"."])))
def test_every_kind_of_line_end_becomes_one_crlf(pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    assert on_the_wire(text).split(b"\r\n") == re.split(rb"\r\n|\r|\n", text)


def test_invented_boundary_has_mailmans_form_and_occurs_in_no_part() -> None:
    first = invented_boundary([b"text"])
    assert re.fullmatch(rb"={15}[0-9]{19}==", first)
    assert first == invented_boundary([b"text"])
    assert first != invented_boundary([b"other text"])

"""Text of strangers is clean once it has passed through one function; whatever is said is made of such text."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import typing
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

import drainer
from drainer.backlog.selection import Selectors
from drainer.control.messages.base import Request
from drainer.control.messages.entries import ShowReply
from drainer.ledger.states import State
from drainer.settings.section import Section
from drainer.text.clean_model import CleanModel
from drainer.text.foreign import MOST, UNPRINTABLE, clean, has_surrogate, printable
from drainer.text.logfmt import logfmt

ANY_TEXT = st.text(st.characters(codec=None)) | st.binary().map(
    lambda octets: octets.decode("utf-8", "surrogateescape")
)


@given(ANY_TEXT, st.integers(0, 60))
@example("x" * 70_000, MOST)
@example("\x1b" * 300, 60)
def test_any_text_becomes_printable_text_of_one_line_within_the_bound_and_stays_so(text: str, most: int) -> None:
    made = clean(text, most)
    assert len(made) <= most and not UNPRINTABLE.search(made) and not has_surrogate(made)
    assert clean(made, most) == made
    assert not has_surrogate(printable(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"serveur momentan\xe9ment indisponible".decode("utf-8", "surrogateescape"),
         "serveur momentan\\xe9ment indisponible"),
        ("a\x1b[2J\x07\0b", "a\\x1b[2J\\x07\\x00b"),
        ("two\r\nlines\tand \u2028 more", "two  lines and   more"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("half \ud83d a bird", "half \\ud83d a bird"),
        ("Grüße, 🐦 und می‌خواهم", "Grüße, 🐦 und می‌خواهم"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_written_out_and_the_rest_stays(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_cut_text_says_how_long_it_was() -> None:
    assert clean("x" * 70_000, 40) == "x" * 18 + "... (70000 characters)"


@given(st.lists(ANY_TEXT, max_size=4))
def test_a_log_line_is_read_back_into_its_fields(values: list[str]) -> None:
    line = logfmt(**{f"f{number}": value for number, value in enumerate(values)})
    assert line.isprintable() and not has_surrogate(line)
    found = re.findall(r'(f[0-9]+)=("(?:[^"\\]|\\.)*"|[^ "=]*)(?: |\Z)', line)
    assert [name for name, _ in found] == [f"f{number}" for number in range(len(values))]
    assert len(line) == sum(len(name) + 1 + len(value) for name, value in found) + max(0, len(found) - 1)


def plainly(value: object) -> str:
    """A value as logfmt is defined: cleaned, and in quotes unless it is plain."""
    if isinstance(value, tuple | list):
        text = ",".join(clean(str(element)) for element in value)
    else:
        text = f"{value:.3f}" if isinstance(value, float) else clean(str(value))
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in escaped) + '"'


_ASCII = st.text(st.characters(min_codepoint=0x1F, max_codepoint=0x7F))
_VALUES = ANY_TEXT | _ASCII | st.sampled_from(State) | st.integers() | st.floats() | st.booleans() | st.binary()


@given(_VALUES | st.lists(ANY_TEXT | _ASCII, max_size=3) | st.tuples(ANY_TEXT), st.none() | _ASCII)
@example("x" * MOST, "x" * (MOST + 1))
@example("x " * (MOST // 2), "x " * MOST)
@example("plain\n", "with a blank\n")
def test_any_value_is_written_as_it_is_defined_and_none_leaves_its_field_out(value: object, other: str | None) -> None:
    rest = "" if other is None else f" other={plainly(other)}"
    assert logfmt(value=value, other=other) == f"value={plainly(value)}{rest}"


def test_no_field_of_a_log_line_is_longer_than_the_bound_and_of_a_hundred_recipients_none_is_lost() -> None:
    recipients = [f"member{number}@example.org" for number in range(100)]
    line = logfmt(message_id="<" + "x" * 70_000 + ">", recipients=(*recipients, "y" * 70_000))
    assert len(line) < 3 * MOST + 3000
    assert all(address in line for address in recipients)


def models() -> Iterator[type[BaseModel]]:
    for found in pkgutil.walk_packages(drainer.__path__, "drainer."):
        if not found.name.startswith(("drainer.compose.coprocess", "drainer.__main__")):
            importlib.import_module(found.name)
    waiting = list(BaseModel.__subclasses__())
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if model.__module__.startswith("drainer."):
            yield model


def holds_text(kind: object) -> bool:
    return kind in (str, typing.Any) or any(map(holds_text, typing.get_args(kind)))


def test_every_model_that_says_a_text_makes_it_clean() -> None:
    """Requests are refused instead (400), and settings are the operator's own."""
    asked = (Request, Selectors, Section)
    bare = {
        model.__name__
        for model in models()
        if not issubclass(model, (CleanModel, *asked))
        and any(holds_text(field.annotation) for field in model.model_fields.values())
    }
    assert bare <= {"Settings"}, f"{bare} would pass on what a stranger wrote: right would be the base CleanModel"


def test_text_in_a_model_is_clean_at_any_depth() -> None:
    foreign = "\x1b\udce9"
    made = ShowReply(
        entry=None,
        others=[foreign],
        headers=[(foreign, foreign)],
        metadata={foreign: [{"a": (foreign,)}]},
    )
    assert json.loads(made.model_dump_json())["metadata"] == {"\\x1b\\xe9": [{"a": ["\\x1b\\xe9"]}]}
    assert "\x1b" not in repr(made.model_dump()) and made.headers == [("\\x1b\\xe9", "\\x1b\\xe9")]

"""Python's email and smtplib, with the same results in less time: what a mail becomes on the wire.

In    the calls of Mailman's delivery code
Out   install(): functions of `email` and `smtplib` are replaced by quicker ones for simple values
Pure  no look-up; runs in Mailman's Python

Each replacement decides by the value whether it knows the result; every other value goes to the genuine function. A header
field is folded once for all messages that have it: the result depends on the field and the policy only. A copy of a message
shares what cannot change: texts, header fields, the policy.
"""

from __future__ import annotations

import copy
import email.charset
import email.generator
import email.message
import email.policy
import functools
import re
import smtplib
from typing import Any

_MOST_FIELDS = 20_000
_LONGEST_FIELD = 2_000  # characters; both bounds together keep this below 50 MB
_WORDS = re.compile(r"[!-~]+(?: [!-~]+)*\Z")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_ATOM}(?:\.{_ATOM})*\Z")

# Nothing in `email` changes a Charset after it was made: a message is given another one.
_UNCHANGED = frozenset((type(None), str, int, bool, type(email.policy.compat32), email.charset.Charset))


def is_plain_address(address: Any) -> bool:
    """Whether smtplib writes <address> for it: it has dots, atoms and one @ only (RFC 5322 §3.4.1)."""
    return type(address) is str and _PLAIN_ADDRESS.match(address) is not None


def is_one_line(name: str, value: str, longest: int | None) -> bool:
    """Whether a header field has nothing to fold and nothing to encode: words with single blanks, of at most that length."""
    return bool(longest) and len(name) + len(value) + 2 <= (longest or 0) and _WORDS.match(value) is not None


def install() -> None:
    """Replace the functions."""
    smtplib.quoteaddr = functools.lru_cache(maxsize=65536)(smtplib.quoteaddr)  # the same subscribers come again
    email.message.Message.__deepcopy__ = message_copied  # type: ignore[attr-defined]
    email.generator.Generator._write_lines = write_lines  # type: ignore[attr-defined]
    parameters = email.message._parseparam  # type: ignore[attr-defined]
    email.message._parseparam = functools.lru_cache(maxsize=1000)(  # type: ignore[attr-defined]
        lambda text: tuple(parameters(text))  # of a Content-Type, read several times for each mail
    )
    _replace_folding()


def _replace_folding() -> None:
    policy_class = type(email.policy.compat32)
    fold = policy_class.fold_binary

    @functools.lru_cache(maxsize=_MOST_FIELDS)
    def folded(settings: tuple[Any, ...], name: str, value: str) -> bytes:
        return fold(policy_class(**dict(settings)), name, value)

    def fold_binary(policy: Any, name: str, value: Any) -> bytes:
        if type(policy) is not policy_class or type(value) is not str or len(value) > _LONGEST_FIELD:
            return fold(policy, name, value)
        if is_one_line(name, value, policy.max_line_length):
            return f"{name}: {value}{policy.linesep}".encode("ascii", "surrogateescape")
        return folded(tuple(policy.__dict__.items()), name, value)

    policy_class.fold_binary = fold_binary  # type: ignore[assignment, method-assign]


def write_lines(generator: Any, lines: str) -> None:
    """All lines with one write; the genuine one writes each line, and each line end."""
    if not lines:
        return
    if "\r" in lines:
        lines = lines.replace("\r\n", "\n").replace("\r", "\n")
    generator.write(lines if generator._NL == "\n" else lines.replace("\n", generator._NL))


def message_copied(msg: Any, memo: dict[int, Any]) -> Any:
    """What copy.deepcopy makes of a message."""
    copied = memo[id(msg)] = object.__new__(type(msg))
    state = copied.__dict__
    for name, value in msg.__dict__.items():
        if type(value) in _UNCHANGED:
            state[name] = value
        elif type(value) is list and (
            not value or (name == "_headers" and {type(field[1]) for field in value} == {str})
        ):
            state[name] = list(value)
        else:
            state[name] = copy.deepcopy(value, memo)
    return copied

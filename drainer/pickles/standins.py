"""Inert classes that take the place of Mailman's and email's own when a queue entry is opened.

In    the attributes a pickle sets, as they are
Out   objects that hold them and can do nothing
Pure  no behaviour beyond attribute storage; nothing in a pickle ever runs

All byte strings of a Python 2 pickle arrive as `str` read with encoding="ascii", errors="surrogateescape": lossless
(`text.encode("ascii", "surrogateescape")` gives the bytes back; genuine unicode has characters above U+007F that are not
surrogates).
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar, cast

_LONGEST_ENCODED_TEXT = 4096
_DATETIME_BYTES = 10


class StandIn:
    """Holds whatever attributes the pickle gave it. `pickled_as` is the name the pickle used, "module Class"."""

    pickled_as = ""

    def __setstate__(self, state: object) -> None:
        if type(state) is not dict or set(map(type, state)) - {str} or not _RESERVED.isdisjoint(state):
            raise TypeError(f"state of {type(self).__name__} is not a dictionary of attributes")
        self.__dict__ = state

    def attribute(self, name: str) -> object:
        """The pickled attribute, None if the pickle had none of that name."""
        return self.__dict__.get(name)


class Message(StandIn):
    """email.message.Message and everything derived from it, Mailman's own included.

    Attributes as the email package has them: `_headers` list of (name, value), value str or Header; `_payload` str,
    list of Message, or None; `_charset`, `preamble`, `epilogue`, `_unixfrom`, `_default_type`, `defects`.
    """


class Header(StandIn):
    """email.header.Header: `_chunks` list of (text, Charset), `_charset`, `_maxlinelen`, `_continuation_ws`."""


class Charset(StandIn):
    """email.charset.Charset: `input_charset`, `output_charset`, `header_encoding`, `body_encoding`, codecs."""


class Opaque(StandIn):
    """Anything else that is allowed but means nothing to us: defects, policies, enumerations, bounce records.

    arguments  what its constructor was given, such as the value of an enumeration's member
    """

    def __init__(self, *arguments: object) -> None:
        self.__dict__ = {"arguments": arguments}


_RESERVED = frozenset(dir(StandIn))


def inert_datetime(state: object = None, *timezone: object) -> datetime | Opaque:
    """The datetime a pickle means; one with a time zone stays opaque.

    state   ten bytes: year (2), month, day, hour, minute, second, microsecond (3); Python 2 wrote them as a `str`
    Raises  TypeError when they are no date. Python itself takes a minute of 99 from a pickle
    Source  datetime.__reduce_ex__
    """
    if isinstance(state, str):
        state = state.encode("ascii", "surrogateescape")
    if type(state) is not bytes or len(state) != _DATETIME_BYTES:
        raise TypeError("state of a datetime is not ten bytes")
    if timezone:
        return Opaque(state, *timezone)
    microsecond = int.from_bytes(state[7:], "big")
    year, month = state[0] << 8 | state[1], state[2] & 0x7F
    try:
        return datetime(year, month, state[3], state[4], state[5], state[6], microsecond)
    except ValueError as exc:
        raise TypeError(str(exc)) from exc


def inert_set(items: object = ()) -> set[object]:
    """The set that protocols 0 to 3 pickle as a call with one list.

    Raises  TypeError for items other than text and bytes: hashing anything else could be made to take for ever
    """
    if not isinstance(items, list | tuple) or not set(map(type, items)) <= {str, bytes}:
        raise TypeError("a set is not made from a list of texts")
    return set(items)


def inert_frozenset(items: object = ()) -> frozenset[object]:
    """As inert_set, for a frozenset."""
    return frozenset(inert_set(items))


def inert_encode(text: object, encoding: object) -> bytes:
    """The bytes that protocols 0 to 2 pickle as `_codecs.encode(text, "latin1")`. Raises TypeError, ValueError."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1") or len(text) > _LONGEST_ENCODED_TEXT:
        raise TypeError("bytes are not pickled as a short latin1 text")
    return text.encode("latin-1")


def inert_bytes(*arguments: object) -> bytes:
    """The empty bytes that protocols 0 to 2 pickle as `bytes()`. Raises TypeError."""
    if arguments:
        raise TypeError("bytes() is given an argument")
    return b""


class InertObject(StandIn):
    """`builtins.object`, named as the base by copyreg._reconstructor; never a value."""


def inert_reconstructor(*arguments: object) -> StandIn:
    """The instance that protocols 0 and 1 pickle as `copyreg._reconstructor(Class, object, None)`. Raises TypeError."""
    made = arguments[0] if len(arguments) == 3 and arguments[1:] == (InertObject, None) else None
    if not (isinstance(made, type) and issubclass(made, StandIn)) or issubclass(made, InertObject):
        raise TypeError("copyreg._reconstructor is given something other than (Class, object, None)")
    return made()


_Kind = TypeVar("_Kind", bound=StandIn)


def stand_in(kind: type[_Kind], module: str, name: str) -> type[_Kind]:
    """A class of its own for one pickled name, so that instances can tell it (`pickled_as`)."""
    return cast(type[_Kind], type(name, (kind,), {"pickled_as": f"{module} {name}", "__module__": __name__}))

"""Inert classes that take the place of Mailman's and email's own when a queue entry is opened.

In    the attributes a pickle sets, as they are
Out   objects that hold them and can do nothing
Pure  no behaviour beyond attribute storage; nothing in a pickle ever runs

All byte strings of a Python 2 pickle arrive as `str` read with encoding="ascii", errors="surrogateescape": lossless
(`text.encode("ascii", "surrogateescape")` gives the bytes back; genuine unicode has characters above U+007F that are not
surrogates).
"""

from __future__ import annotations


class StandIn:
    """Holds whatever attributes the pickle gave it. `pickled_as` is the name the pickle used, "module Class"."""

    pickled_as = ""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or not all(type(key) is str for key in state):
            raise TypeError(f"state of {type(self).__name__} is not a dictionary of attributes")
        self.__dict__.update(state)

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
    """Anything else that is allowed but means nothing to us: defects, policies, enumerations, bounce records."""

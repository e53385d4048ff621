"""Log lines as fixed keys and values: one search finds everything about one message.

Pure  text only
"""

from __future__ import annotations

import re

from drainer.text.foreign import MOST, clean

_PLAIN = re.compile(rf"[!#-<>-\[\]-~]{{1,{MOST}}}").fullmatch
"""Printable ASCII without blank, quote, '=' and backslash: nearly all values, and written as they are."""
_QUOTABLE = re.compile(rf"[ !#-\[\]-~]{{1,{MOST}}}").fullmatch
"""The same with blanks and '=': nearly all others, such as replies."""


def logfmt(**fields: object) -> str:
    """`outcome=deferred filebase=1700000000.1+ab12 reply="451 4.3.0 later"`; fields of None are left out.

    A value with blanks, quotes, '=' or control characters is quoted, and control characters are escaped. So no text of a
    mail or a server can look like another field or another line. Values are cleaned and bounded as in text/foreign.py, in
    a tuple or list (recipients, for example) each element by itself.
    """
    return " ".join([f"{name}={_value(value)}" for name, value in fields.items() if value is not None])


def _value(value: object) -> str:
    if isinstance(value, str):
        text = str(value)
        if _PLAIN(text):
            return text
        if _QUOTABLE(text):
            return f'"{text}"'
        text = clean(text)
    elif isinstance(value, tuple | list):
        text = ",".join(clean(str(element)) for element in value)
    elif isinstance(value, float):
        text = f"{value:.3f}"
    else:
        text = clean(str(value))
    if text and text.isprintable() and not any(character in text for character in ' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in escaped) + '"'

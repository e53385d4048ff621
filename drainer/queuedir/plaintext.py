"""A mail that was pickled as plain text (`_parsemsg`), in the form a pickled message has.

In    the text of the first pickle
Out   the inert Message its parts make, and the bytes of the mail
Pure  no file is touched

Python 3's email parser keeps 8-bit bytes as surrogates, as the unpickler does with a Python 2 `str`, so both forms
can be read by the same code (content.py). Whoever has to reproduce the mail octet by octet starts from the bytes.
"""

from __future__ import annotations

import email.message
import email.parser
import email.policy

from drainer.errors import EntryNotUnderstood
from drainer.pickles.standins import Message, stand_in

_ATTRIBUTES = ("_headers", "_unixfrom", "_charset", "preamble", "epilogue", "_default_type")
_PARSER = email.parser.BytesParser(policy=email.policy.compat32)
_CLASSES = {module: stand_in(Message, module, "Message") for module in ("Mailman.Message", "mailman.email.message")}


def parsed_plaintext(text: str | bytes, module: str) -> tuple[Message, bytes]:
    """The message a plain text is, and its bytes.

    text    as unpickled: ASCII with surrogates for 8-bit bytes, or genuine unicode (Mailman 3), which becomes UTF-8
    module  the module of the Message class that Mailman would make of it
    Raises  EntryNotUnderstood when its parts are nested too deep to be parsed
    """
    plaintext = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    try:
        parsed = _PARSER.parsebytes(plaintext)
        return _inert(parsed, _CLASSES[module]), plaintext
    except RecursionError as exc:
        raise EntryNotUnderstood("the parts of the mail are nested too deep") from exc


def _inert(parsed: email.message.Message, made: type[Message]) -> Message:
    payload = parsed.__dict__["_payload"]
    if isinstance(payload, list):
        payload = [_inert(part, made) for part in payload]
    message = made()
    message.__setstate__({name: parsed.__dict__[name] for name in _ATTRIBUTES} | {"_payload": payload, "defects": []})
    return message

"""Which modules the compiled wheel has as machine code, and which of its classes stay classes of Python.

Pure  a list of names; no module is imported

Source  mypyc's documentation of native classes
"""

from __future__ import annotations

from typing import TypeVar

_Class = TypeVar("_Class")

MODULES = tuple(
    f"drainer.{name}"
    for name in """
    pickles.machine pickles.opcodes pickles.prescan pickles.shapes
    text.foreign
    duplicates.canonical duplicates.decoration duplicates.mail_facts duplicates.fingerprint duplicates.summary
    duplicates.decision
    compose.mailman2 compose.mailman2_charset compose.mailman2_decorate compose.mailman2_envelope
    compose.mailman2_flatten compose.mailman2_header compose.mailman2_part compose.python27_codecs compose.transactions
    feed.outcome feed.refusals feed.smtp_client feed.smtp_commands
    """.split()
)
"""mypyc compiles them."""


def python_class(cls: type[_Class]) -> type[_Class]:
    """The class as it is. mypyc leaves a class with an unknown decorator to Python.

    A dataclass that it compiles itself is slower to make, and cannot be pickled or copied if it is frozen.
    """
    return cls

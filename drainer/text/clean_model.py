"""The base of every model that is shown or sent: snapshot, replies, report, notices, and what the ledger keeps of them.

In    fields, some of them foreign text
Out   the same fields, every text in them clean (foreign.py), so everything made from the model is clean too
Pure  values only
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from drainer.text.foreign import clean

_NO_TEXT = frozenset({int, float, bool, type(None)})


class CleanModel(BaseModel):
    """Frozen. Validation cleans its texts at any depth. `model_copy` does not: use it for our own words only."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _made_clean(cls, fields: Any) -> Any:
        if type(fields) is not dict:
            return cleaned(fields)
        own = cls.model_fields  # a snapshot of a thousand lists has some ten thousand fields, few of them text
        return {
            (name if name in own else cleaned(name)): (value if type(value) in _NO_TEXT else cleaned(value))
            for name, value in fields.items()
        }


def cleaned(value: Any) -> Any:
    """The value with every text in it clean, at any depth of lists, tuples and mappings, keys included."""
    if type(value) in _NO_TEXT:
        return value
    if isinstance(value, str):
        return clean(value) if type(value) is str else value
    if isinstance(value, Mapping):
        return {cleaned(name): cleaned(inner) for name, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(cleaned(inner) for inner in value)
    return value

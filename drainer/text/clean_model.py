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
    kind = type(value)
    if kind in _NO_TEXT:
        return value
    if kind is str:
        return clean(value)
    if kind is list or kind is tuple:
        return kind([cleaned(inner) for inner in value])
    if issubclass(kind, CleanModel | str):
        return value
    if kind is dict or isinstance(value, Mapping):
        return {cleaned(name): cleaned(inner) for name, inner in value.items()}
    return value

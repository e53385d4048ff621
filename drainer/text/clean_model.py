"""The base of every model we say something with: snapshot, replies, report, notices, what the ledger keeps of them.

In    fields, some of which strangers wrote
Out   the same, every text in them clean (foreign.py): whatever is made of the model holds nothing else
Pure  values only
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from drainer.text.foreign import clean


class CleanModel(BaseModel):
    """Frozen; its texts are made clean as it is made, at any depth. Not by `model_copy`, which is for our own words."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _made_clean(cls, fields: Any) -> Any:
        return cleaned(fields)


def cleaned(value: Any) -> Any:
    """The value with every text in it clean, keys too; lists, tuples and mappings at any depth."""
    if isinstance(value, str):
        return clean(value) if type(value) is str else value
    if isinstance(value, Mapping):
        return {cleaned(name): cleaned(inner) for name, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(cleaned(inner) for inner in value)
    return value

"""What is wrong with a value, in words for an operator instead of pydantic's.

In    one of ValidationError.errors()
Out   one clause: what the value has to be, with an example where one helps
Pure  values only
"""

from __future__ import annotations

import json
from typing import Any

_OF_TYPE = {
    "dict_type": "not a table; right would be { NAME = VALUE }",
    "model_type": "not a section; its settings go under a line [{key}]",
    "bool_type": "neither true nor false",
    "bool_parsing": "neither true nor false",
    "int_type": "not a whole number",
    "int_parsing": "not a whole number",
    "int_from_float": "not a whole number",
    "float_type": "not a number",
    "float_parsing": "not a number",
    "string_type": "not a text; right would be in quotes",
    "path_type": 'not a path; right would be in quotes, such as "/var/lib/mailman"',
    "greater_than": "has to be more than {gt:g}",
    "greater_than_equal": "has to be at least {ge:g}",
    "less_than": "has to be less than {lt:g}",
    "less_than_equal": "has to be {le:g} at most",
    "literal_error": "not one of {expected}",
    "missing": "is missing",
}


def what_is_wrong(detail: Any, key: str = "") -> str:
    """detail: pydantic's (type, input, ctx, msg). key: the setting's name. For a type of error that is not listed here,
    pydantic's own words."""
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    if detail["type"] == "tuple_type":
        given = detail["input"]
        return f"not a list; right would be {json.dumps([given] if isinstance(given, str) else ['ONE', 'ANOTHER'])}"
    words = _OF_TYPE.get(detail["type"])
    if words is None:
        return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}"
    return words.format(key=key, **detail.get("ctx", {})) if "{" in words and "{ NAME" not in words else words

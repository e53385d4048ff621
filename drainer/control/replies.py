"""The replies of both listeners, as JSON that any parser reads.

In    a model, or a mapping of anything
Out   an HTTP response
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from drainer.text.foreign import printable

JSON = "application/json; charset=utf-8"


def json_reply(value: BaseModel | Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=as_json(value), status=status, headers={"Content-Type": JSON})


def as_json(value: BaseModel | Mapping[str, Any]) -> bytes:
    shown = value.model_dump() if isinstance(value, BaseModel) else value
    return json.dumps(_plain(shown), allow_nan=False).encode()


def _plain(value: object) -> Any:
    """`value` in types that JSON has. Mail headers and metadata hold other types too, and text that is no UTF-8.

    The plain types first: a snapshot has thousands of values, and an abstract class asks long.
    """
    kind = type(value)
    if kind is str:
        return printable(value)  # type: ignore[arg-type]  # mypy does not narrow by type()
    if kind is dict:
        return {_plain(str(key)): _plain(part) for key, part in value.items()}  # type: ignore[attr-defined]
    if kind is list:
        return [_plain(part) for part in value]  # type: ignore[attr-defined]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return printable(str.__str__(value))
    if isinstance(value, bytes):
        return printable(value.decode("utf-8", "surrogateescape"))
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    return _plain(str(value))

"""Whether some Mailman, whatever is installed there, could open a file: asked of an unpickler that knows every class."""

from __future__ import annotations

import io
import pickle
from typing import Any

_HIGHEST_MEMO = 100_000


class _Anything:
    """Takes the place of every class and function: can be made, called, filled and walked over in every way."""

    def __new__(cls, *_: object, **__: object) -> _Anything:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *_: object, **__: object) -> _Anything:
        return self

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass

    def append(self, _: object) -> None:
        pass

    def extend(self, _: object) -> None:
        pass

    def add(self, _: object) -> None:
        pass


class _OfPython(pickle._Unpickler):
    """Asked first: C's would take gigabytes for a memo index of 2**31."""

    def find_class(self, _module: str, _name: str) -> Any:
        return _Anything

    def persistent_load(self, _pid: object) -> Any:
        return _Anything()

    def get_extension(self, _code: int) -> None:
        self.append(_Anything)  # type: ignore[attr-defined]


class _OfC(pickle.Unpickler):
    """What Mailman 3 uses; it is the stricter one."""

    def find_class(self, _module: str, _name: str) -> Any:
        return _Anything

    def persistent_load(self, _pid: object) -> Any:
        return _Anything()


def some_mailman_could_open(raw: bytes) -> bool:
    """Whether both pickles load, with every class there is, and the second has what Mailman asks of metadata."""
    try:
        stream = io.BytesIO(raw)
        for _ in range(2):
            reader: Any = _OfPython(stream, encoding="latin-1")
            reader.load()
            if max(reader.memo, default=0) > _HIGHEST_MEMO:
                return False
        stream = io.BytesIO(raw)
        _OfC(stream, encoding="latin-1").load()
        return isinstance(_OfC(stream, encoding="latin-1").load(), dict | _Anything)
    except Exception:  # noqa: BLE001 (whatever an unpickler raises, Mailman moves the file to bad/)
        return False

"""What every section of the settings has in common, and the kinds of values.

Pure  no file, no environment
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

from drainer.text.quantities import duration_s, rate_per_s, size_bytes

_URL = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_JOURNAL = re.compile(r"journal(:|\Z)")

Duration = Annotated[float, BeforeValidator(duration_s)]
Rate = Annotated[float | None, BeforeValidator(rate_per_s)]
Size = Annotated[int, BeforeValidator(size_bytes)]


def _domain_name(value: object) -> object:
    """In lower case, as domains are compared; an address or a wildcard would never match anything."""
    if not isinstance(value, str):
        return value
    if not value or any(character in "@*/ " or not character.isprintable() for character in value):
        raise ValueError(f'{value!r} is not the name of a domain; right would be "gmail.com"')
    return value.lower()


DomainName = Annotated[str, BeforeValidator(_domain_name)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @field_validator("*")
    @classmethod
    def _is_a_full_path(cls, value: object, info: ValidationInfo) -> object:
        """A relative path would depend on the directory in which drainer was started."""
        if isinstance(value, Path):
            if info.field_name == "log_file" and _JOURNAL.match(str(value)):
                return value
            if _URL.match(str(value)):
                raise ValueError(
                    "is a URL, not a file; right would be the path of a file with that URL on its first line"
                )
            if not value.is_absolute():
                raise ValueError(f"not a full path; right would begin with /, such as {str('/etc' / value)!r}")
        return value

    @field_validator("*")
    @classmethod
    def _has_no_nul(cls, value: object) -> object:
        """No name of a file or host can contain NUL, and system calls with such a name fail with misleading errors."""
        if isinstance(value, str | Path) and "\0" in str(value):
            raise ValueError("contains a NUL character; right would be a text without it")
        return value

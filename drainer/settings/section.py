"""What every section of the settings has in common, and the kinds of values.

Pure  no file, no environment
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from drainer.text.quantities import duration_s, rate_per_s, size_bytes

_URL = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_ONE_LIST = re.compile(r"[^\s,;@\0]+(@[^\s,;@\0]+)?")
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


def _list_or_domain(value: object) -> object:
    """A list's name, or "@" and a domain in lower case."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text.startswith("@"):
        if not _ONE_LIST.fullmatch(text):
            raise ValueError(
                f'{value!r} is no list; right would be one list or one domain in each text, such as "choir"'
            )
        return text
    domain = text[1:]
    if "*" in domain:
        raise ValueError(f'{value!r} is no domain; right would be each domain by itself, such as "@gmail.com"')
    if "." not in domain.strip("."):
        raise ValueError(f'{value!r} is no domain; right would be the whole domain, such as "@gmail.com"')
    return f"@{_domain_name(domain)}"


ListOrDomain = Annotated[str, BeforeValidator(_list_or_domain)]


def fields_of(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """The settings of a section by their keys in the file. One key, `not`, is no name in Python."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def attribute_of(section: type[BaseModel], key: str) -> str:
    """What a setting is called in Python."""
    return next(name for name, field in section.model_fields.items() if key in (field.alias, name))


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

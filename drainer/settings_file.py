"""Reads the settings: a TOML file, overridden by DRAINER_SECTION__KEY in the environment.

In    a path, or none for /etc/drainer/drainer.toml
Out   Settings
Raises SettingsError with one line per mistake: key, value, what would be right
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as UnreadableEnvironment

from drainer.errors import SettingsError
from drainer.files.access import and_advice
from drainer.files.regular_file import kind_of, read_regular
from drainer.settings import DEFAULT_PATH, Settings
from drainer.text.validation import what_is_wrong

ENVIRONMENT_PREFIX = "DRAINER_"
_MOST_BYTES = 2**20


class _TomlFile(TomlConfigSettingsSource):
    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        assert isinstance(file_path, Path)
        return tomllib.loads(read_regular(file_path, _MOST_BYTES).decode())


def load_settings(path: Path | None = None, *, required: bool = True) -> Settings:
    """Settings from `path` and the environment.

    path      None: /etc/drainer/drainer.toml
    required  False: a missing file counts as an empty one
    Raises SettingsError: the file is missing, is not TOML, or has an unknown key or an impossible value
    """
    chosen = path or DEFAULT_PATH
    _require_regular_file(chosen, required)
    try:
        loaded = _settings_from(chosen)()
        # These values were validated by the same fields just now. To validate them again would build every model twice.
        return Settings.model_construct(**{name: getattr(loaded, name) for name in Settings.model_fields})
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"{chosen}: not TOML: {exc}") from exc
    except RecursionError as exc:
        raise SettingsError(f"{chosen}, or the environment: nested deeper than any setting") from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(f"{chosen}: not UTF-8, as TOML has to be: {exc.reason} at byte {exc.start}") from exc
    except UnreadableEnvironment as exc:
        raise SettingsError(
            f"environment: {exc}: lists and tables are written as JSON, such as "
            f"""{ENVIRONMENT_PREFIX}CUSTODY__QUEUES='["out", "retry"]'"""
        ) from exc
    except OSError as exc:
        raise SettingsError(f"{chosen}: cannot be read: {exc.strerror}{and_advice(chosen)}") from exc
    except ValidationError as exc:
        raise SettingsError(f"{chosen}:\n" + "\n".join(mistakes(exc))) from exc


def _require_regular_file(path: Path, required: bool) -> None:
    try:
        there = kind_of(path.stat().st_mode)
    except FileNotFoundError:
        there = None
    except (OSError, ValueError) as exc:
        raise SettingsError(f"{path}: cannot be read: {getattr(exc, 'strerror', exc)}{and_advice(path)}") from exc
    if there:
        raise SettingsError(f"{path} is {there}; right would be a regular file, which can be read again at SIGHUP")
    if required and there is None:
        raise SettingsError(
            f"no settings file at {path}; name one with --config FILE (config/drainer.toml is a sample)"
        )


def _settings_from(file: Path) -> type[BaseSettings]:
    """The model that reads the file, and the environment over it."""

    class _Loaded(BaseSettings, Settings):
        model_config = SettingsConfigDict(
            env_prefix=ENVIRONMENT_PREFIX,
            env_nested_delimiter="__",
            toml_file=file,
            frozen=True,
            extra="forbid",
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (EnvSettingsSource(settings_cls), _TomlFile(settings_cls))

    return _Loaded


def written(path: Path) -> Mapping[str, Any]:
    """The values in a settings file as they are written: section > key > value. The file has been loaded before."""
    try:
        return tomllib.loads(read_regular(path, _MOST_BYTES).decode())
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read: {exc.strerror}") from exc


def mistakes(error: ValidationError) -> list[str]:
    """One line per mistake: `feed.messages = 'fast': not a rate; right would be ...`."""
    lines = []
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            lines.append(f"  {key}: no such setting; `drainer config --defaults` lists them all")
        elif detail["type"] == "value_error" and isinstance(detail["input"], dict | BaseModel):
            # A mistake of one or more sections: the text itself names the keys and their values.
            lines.append(f"  {key + ': ' if key else ''}{detail['ctx']['error']}")
        elif detail["type"] == "value_error":
            lines.append(f"  {key} = {detail['input']!r}: {detail['ctx']['error']}")
        else:
            lines.append(f"  {key} = {detail['input']!r}: {what_is_wrong(detail, key)}")
    return lines

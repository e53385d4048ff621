"""Any settings file, any environment: settings, or a SettingsError that names what is wrong."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drainer.cli.config import as_toml
from drainer.errors import SettingsError
from drainer.settings import Settings
from drainer.settings.section import fields_of
from drainer.settings_file import load_settings
from drainer.text.quantities import duration_s, rate_per_s, size_bytes

_SECTIONS = {name: fields_of(type(getattr(Settings(), name))) for name in Settings.model_fields}
_KEYS = st.sampled_from(sorted(f"{section}.{key}" for section, keys in _SECTIONS.items() for key in keys))
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["20/s", "5m", "64MiB", "unlimited", "9" * 400 + "s", "\0", "0/s", "1e9/s", "127.0.0.1:1"]
)
_SCALARS = st.booleans() | st.integers() | st.sampled_from([10**400, 2**63, -1, 0]) | st.floats() | _TEXTS
_VALUES = _SCALARS | st.lists(_SCALARS, max_size=3) | st.dictionaries(_TEXTS, _SCALARS, max_size=2)
_AGAIN = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def toml(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    return repr(value).lower()


def loaded(octets: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="drainer-settings-") as directory:
        path = Path(directory) / "drainer.toml"
        path.write_bytes(octets)
        try:
            found = load_settings(path)
        except SettingsError as refused:
            assert str(path) in str(refused)
        else:
            path.write_text("\n".join(as_toml(found, commented=False)), "utf-8")
            assert load_settings(path) == found


@_AGAIN
@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
@example({"feed.messages": 10**400})
@example({"guards.min_free_bytes": "9" * 400 + "TB"})
@example({"ledger.path": "\0"})
def test_any_values_are_settings_that_read_back_or_named_mistakes(chosen: dict[str, object]) -> None:
    sections: dict[str, list[str]] = {}
    for name, value in chosen.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append(f"{key} = {toml(value)}")
    loaded("".join(f"[{section}]\n" + "\n".join(lines) + "\n" for section, lines in sections.items()).encode())


@_AGAIN
@given(st.binary(max_size=60) | st.text('[]{}="\n.#abfeed01\\', max_size=60).map(str.encode))
@example(b"x = " + b"[" * 5000 + b"]" * 5000)
def test_any_file_is_settings_or_a_named_mistake(octets: bytes) -> None:
    loaded(octets)


@_AGAIN
@given(_KEYS | st.sampled_from(["feed", "mta", "nowhere", "feed.domains.x"]), _VALUES | st.just("[" * 5000))
def test_any_environment_is_settings_or_a_named_mistake(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    if "\0" in text:
        return
    with monkeypatch.context() as environment:
        environment.setenv(f"DRAINER_{name.replace('.', '__').upper()}", text)
        try:
            load_settings(Path("/nonexistent/drainer.toml"), required=False)
        except SettingsError as refused:
            assert str(refused)


@given(_TEXTS | _SCALARS | st.none() | st.text("0123456789./smhdKMGTiB ", max_size=12))
def test_any_rate_duration_or_size_is_a_number_in_bounds_or_a_value_error(value: object) -> None:
    for meaning, most in ((duration_s, 36_500 * 86_400.0), (rate_per_s, 1e9), (size_bytes, 2**60)):
        try:
            found = meaning(value)
        except ValueError as refused:
            assert "right would be" in str(refused)
        else:
            assert found is None or 0 <= found <= most

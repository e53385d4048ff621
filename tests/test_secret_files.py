"""The password file: who may read it, and that nothing a server says brings the password into our words."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from drainer.errors import SettingsError
from drainer.secret_files import password, password_warnings, without_secrets
from drainer.settings.mta import MtaSettings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_bytes(b"sesame\r\nnot this\n")
    path.chmod(0o600)
    return path


def test_first_line_is_the_password(file: Path) -> None:
    assert (password(file), password(None)) == ("sesame", "")


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o666], ids=oct)
def test_file_that_every_user_may_read_is_refused_with_advice(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 0600"):
        password(file)


def test_file_that_is_not_text_is_refused_without_its_content(file: Path) -> None:
    file.write_bytes(b"ses\xffame\n")
    with pytest.raises(SettingsError, match="not UTF-8") as refused:
        password(file)
    assert refused.value.__cause__ is None and "ses" not in str(refused.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="none cannot be read"):
        password(tmp_path / "none")


@pytest.mark.parametrize(
    ("mode", "tls", "host", "words"),
    [
        (0o600, "none", "127.0.0.1", []),
        (0o600, "none", "localhost", []),
        (0o600, "starttls", "mail.example.org", []),
        (0o640, "none", "::1", ["its group"]),
        (0o600, "none", "mail.example.org", ["in the clear"]),
        (0o660, "none", "192.0.2.1", ["its group", "in the clear"]),
    ],
)
def test_what_is_unwise_is_said(file: Path, mode: int, tls: str, host: str, words: list[str]) -> None:
    file.chmod(mode)
    said = password_warnings(
        MtaSettings.model_validate({"username": "drainer", "password_file": file, "tls": tls, "host": host})
    )
    assert [word in line for word, line in zip(words, said, strict=True)] == [True] * len(words)


def test_without_a_user_name_the_file_is_not_looked_at(tmp_path: Path) -> None:
    assert password_warnings(MtaSettings(password_file=tmp_path / "none")) == []


@given(
    st.text(st.characters(codec="utf-8"), min_size=8, max_size=30), st.text(st.characters(codec="utf-8"), max_size=9)
)
def test_server_that_repeats_the_password_in_any_form_of_auth_is_not_quoted(secret: str, user: str) -> None:
    assume(secret not in "535 (hidden) (hidden) (hidden)")
    sent = [base64.b64encode(form.encode()).decode() for form in (secret, f"\0{user}\0{secret}")]
    said = without_secrets(f"535 {sent[0]} {secret} {sent[1]}", user, secret)
    assert [form for form in (secret, *sent) if form in said] == []

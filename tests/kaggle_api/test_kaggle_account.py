"""Credentials: found in the client's order, refused when others can read them, never shown."""

from __future__ import annotations

import io
import json
import logging
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from fake_kaggle import SECRET, USER, FakeKaggle, Fault, Timed

from kaggle_kit.errors import ConfigError, DependencyError, KaggleKitError
from kaggle_kit.kaggle_api import session as kaggle_session
from kaggle_kit.kaggle_api.account import find_credentials


def secret_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


KEY_JSON = json.dumps({"username": USER, "key": SECRET})


def test_none_says_how_to_make_them(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"Generate New Token.*KAGGLE_API_TOKEN.*chmod 600"):
        find_credentials()


@pytest.mark.parametrize(
    ("variables", "files", "expected"),
    [
        ({"KAGGLE_API_TOKEN": SECRET}, {}, "KAGGLE_API_TOKEN"),
        ({"KAGGLE_USERNAME": USER, "KAGGLE_KEY": SECRET}, {}, "KAGGLE_USERNAME and KAGGLE_KEY"),
        ({}, {".kaggle/access_token": SECRET}, "{home}/.kaggle/access_token"),
        ({}, {".kaggle/kaggle.json": KEY_JSON}, "{home}/.kaggle/kaggle.json"),
        (
            {},
            {".kaggle/credentials.json": json.dumps({"refresh_token": SECRET, "username": USER})},
            "{home}/.kaggle/credentials.json",
        ),
        (  # the client prefers tokens
            {"KAGGLE_USERNAME": USER, "KAGGLE_KEY": SECRET},
            {".kaggle/access_token": SECRET, ".kaggle/kaggle.json": KEY_JSON},
            "{home}/.kaggle/access_token",
        ),
        (
            {"KAGGLE_CONFIG_DIR": "{home}/own"},
            {"own/kaggle.json": KEY_JSON},
            "{home}/own/kaggle.json",
        ),
    ],
)
def test_places(
    home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], files: dict[str, str], expected: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=home))
    for name, text in files.items():
        secret_file(home / name, text)
    found = find_credentials()
    assert found == expected.format(home=home)
    assert SECRET not in repr(found)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
@pytest.mark.parametrize(("name", "text"), [("kaggle.json", KEY_JSON), ("access_token", SECRET)])
def test_readable_by_others_is_refused(home: Path, mode: int, name: str, text: str) -> None:
    path = secret_file(home / ".kaggle" / name, text, mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}") as caught:
        find_credentials()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", [f'{{"username": "ada", "key": "{SECRET}"', '{"username": "ada"}', f'["{SECRET}"]'])
def test_damaged_file_is_named_and_not_quoted(
    kaggle: FakeKaggle, home: Path, timed: Timed, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / ".kaggle"))
    path = secret_file(home / ".kaggle" / "kaggle.json", text)
    with pytest.raises(ConfigError, match=str(path)) as caught:
        kaggle_session.connect(timed.patience)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # the decoder's error holds the text


def test_key_without_user_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    with pytest.raises(ConfigError, match="KAGGLE_USERNAME is not"):
        find_credentials()


def test_missing_client_says_how_to_install(home: Path, unimported: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
    monkeypatch.setitem(sys.modules, "kagglesdk", None)
    with pytest.raises(DependencyError, match=r"pip install -U 'kaggle-kit\[kaggle\]'"):
        kaggle_session.connect()


def test_module_that_the_client_forgets_to_declare(home: Path, unimported: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kagglesdk")
    monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
    monkeypatch.setitem(sys.modules, "dotenv", None)
    with pytest.raises(DependencyError, match=r"needs 'dotenv', which is not installed.*pip install"):
        kaggle_session.connect()


def test_signs_in_with_a_token(kaggle: FakeKaggle, timed: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
    client = kaggle_session.connect(timed.patience)
    assert client.username == USER
    client.submissions("digits")
    assert kaggle.authorizations[-1] == f"Bearer {SECRET}"


def test_unknown_token_is_said_in_words(kaggle: FakeKaggle, timed: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "revoked-one")
    with pytest.raises(ConfigError, match=r"does not accept the credentials in KAGGLE_API_TOKEN.*settings/api") as caught:
        kaggle_session.connect(timed.patience)
    assert "revoked-one" not in str(caught.value)


def test_secret_is_never_shown(
    kaggle: FakeKaggle,
    timed: Timed,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not even when the client is verbose, all logs are on, and the server sends the header back."""
    from kaggle.api.kaggle_api_extended import KaggleApi

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(KaggleApi, "args", ["--verbose"])
    monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
    kaggle.faults["ListSubmissions"] = [Fault("status", 429, "{authorization}"), Fault("status", 400, "bad {authorization}")]
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(KaggleKitError, match=r"bad Bearer \*\*\*") as caught:
        kaggle_session.connect(timed.patience).submissions("digits")
    printed = "".join(capfd.readouterr()) + out.getvalue()
    for text in (printed, caplog.text, "".join(traceback.format_exception(caught.value))):
        assert SECRET not in text
    assert out.getvalue() == ""

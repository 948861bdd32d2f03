"""Who one is at Kaggle. Secrets are looked at to see that they are there, and never kept, printed or logged."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kaggle_kit.errors import ConfigError

_HOW_TO = (
    "Make an API token at https://www.kaggle.com/settings/api (Generate New Token), then either set the environment variable "
    "KAGGLE_API_TOKEN to it, or save it as ~/.kaggle/access_token and run `chmod 600 ~/.kaggle/access_token`. "
    "A legacy key works too: ~/.kaggle/kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY."
)


@dataclass(frozen=True)
class Credentials:
    """Where the credentials come from; the secret itself is not in here.

    Attributes:
        kind: "token" (an API token), "key" (user name and legacy key) or "oauth" (made by `kaggle auth login`).
        source: the environment variable or file.
        username: None where only Kaggle knows it, which is so for tokens.
    """

    kind: Literal["token", "key", "oauth"]
    source: str
    username: str | None = None


def credentials(environ: Mapping[str, str] | None = None) -> Credentials:
    """The credentials that the official client would use, looked for in its order.

    Args:
        environ: stand-in for ``os.environ``.

    Raises:
        ConfigError: there are none (says how to make them), a file with a secret can be read by others, or is damaged.
    """
    environ = os.environ if environ is None else environ
    for look in _PLACES:
        if found := look(environ):
            return found
    raise ConfigError(f"no Kaggle credentials found. {_HOW_TO}")


def _token_variable(environ: Mapping[str, str]) -> Credentials | None:
    value = environ.get("KAGGLE_API_TOKEN", "")
    if not value:
        return None
    if _is_file(value):  # the client takes a path here, too
        return _token_file(Path(value))
    return Credentials("token", "KAGGLE_API_TOKEN")


def _token_files(environ: Mapping[str, str]) -> Credentials | None:
    for name in ("access_token", "access_token.txt"):
        path = _home(environ) / ".kaggle" / name
        if path.is_file() and (found := _token_file(path)):
            return found
    return None


def _token_file(path: Path) -> Credentials | None:
    return Credentials("token", str(path)) if _read_private(path).strip() else None


def _key_variables(environ: Mapping[str, str]) -> Credentials | None:
    if not environ.get("KAGGLE_KEY"):
        return None
    if not environ.get("KAGGLE_USERNAME"):
        raise ConfigError("KAGGLE_KEY is set, KAGGLE_USERNAME is not; set both.")
    return Credentials("key", "KAGGLE_USERNAME and KAGGLE_KEY", environ["KAGGLE_USERNAME"])


def _key_file(environ: Mapping[str, str]) -> Credentials | None:
    path = _config_dir(environ) / "kaggle.json"
    if not path.is_file():
        return None
    content = _json_object(path)
    lacking = [name for name in ("username", "key") if not content.get(name)]
    if lacking:
        raise ConfigError(f"{path} has no {' and no '.join(lacking)}; expected username and key. {_HOW_TO}")
    return Credentials("key", str(path), str(content["username"]))


def _oauth_file(environ: Mapping[str, str]) -> Credentials | None:
    path = _home(environ) / ".kaggle" / "credentials.json"
    if not path.is_file():
        return None
    content = _json_object(path)
    return Credentials("oauth", str(path), str(content.get("username") or "") or None) if content.get("refresh_token") else None


_PLACES: tuple[Callable[[Mapping[str, str]], Credentials | None], ...] = (
    _token_variable,
    _token_files,
    _key_variables,
    _key_file,
    _oauth_file,
)


def _read_private(path: Path) -> str:
    """Read a file with a secret, provided that nobody else can."""
    try:
        mode = path.stat().st_mode
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"{path} holds a secret and others may read it (mode {stat.S_IMODE(mode):o}, expected 600). "
                f"Run `chmod 600 {path}`; on a shared machine make a new token, too: https://www.kaggle.com/settings/api."
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}). {_HOW_TO}") from None


def _json_object(path: Path) -> dict[str, object]:
    try:
        content = json.loads(_read_private(path))
    except json.JSONDecodeError:
        # "from None": the decoder's exception carries the whole text, and that is the secret.
        raise ConfigError(f"{path} is not valid JSON. Delete it. {_HOW_TO}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} should hold a JSON object. Delete it. {_HOW_TO}")
    return content


def _config_dir(environ: Mapping[str, str]) -> Path:
    """Where the client looks for kaggle.json: its variable, then ~/.kaggle, then the XDG folder."""
    if environ.get("KAGGLE_CONFIG_DIR"):
        return Path(environ["KAGGLE_CONFIG_DIR"])
    home = _home(environ)
    if (home / ".kaggle").exists():
        return home / ".kaggle"
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path.home())


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a token may be longer than a file name can be
        return False

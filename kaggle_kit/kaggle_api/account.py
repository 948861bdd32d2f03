"""Where the credentials for Kaggle lie. That they are there and private is looked at; the secret itself is never read here."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from kaggle_kit.errors import ConfigError

NEW_TOKEN = "https://www.kaggle.com/settings/api"
_HOW_TO = (
    f"Make an API token at {NEW_TOKEN} (Generate New Token), then either set the environment variable "
    "KAGGLE_API_TOKEN to it, or save it as ~/.kaggle/access_token and run `chmod 600 ~/.kaggle/access_token`. "
    "A legacy key works too: ~/.kaggle/kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY."
)


def find_credentials(environ: Mapping[str, str] | None = None) -> str:
    """Return where the official client finds credentials: the name of a variable, or the path of a file.

    Args:
        environ: stand-in for ``os.environ``.

    Raises:
        ConfigError: there are none (says how to make them), or others can read the file.
    """
    environ = os.environ if environ is None else environ
    for place in _places(environ):
        if isinstance(place, str):
            return place
        if _is_file(place):
            _require_private(place)
            return str(place)
    raise ConfigError(f"no Kaggle credentials found. {_HOW_TO}")


def _places(environ: Mapping[str, str]) -> Iterator[str | Path]:
    """Yield variables that are set and files that may exist, in the client's order."""
    kaggle = Path(environ.get("HOME") or Path.home()) / ".kaggle"
    if token := environ.get("KAGGLE_API_TOKEN"):
        yield Path(token) if _is_file(Path(token)) else "KAGGLE_API_TOKEN"  # the client takes a path here, too
    yield kaggle / "access_token"
    yield kaggle / "access_token.txt"
    if environ.get("KAGGLE_KEY"):
        if not environ.get("KAGGLE_USERNAME"):
            raise ConfigError("KAGGLE_KEY is set, KAGGLE_USERNAME is not; set both.")
        yield "KAGGLE_USERNAME and KAGGLE_KEY"
    own = environ.get("KAGGLE_CONFIG_DIR")
    elsewhere = Path(environ.get("XDG_CONFIG_HOME") or kaggle.parent / ".config") / "kaggle"
    yield (Path(own) if own else kaggle if kaggle.exists() else elsewhere) / "kaggle.json"
    yield kaggle / "credentials.json"


def _require_private(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"{path} holds a secret and others may read it (mode {mode:o}, expected 600). "
            f"Run `chmod 600 {path}`; on a shared machine make a new token, too: {NEW_TOKEN}."
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0
    except (OSError, ValueError):  # a token may be longer than a file name can be
        return False

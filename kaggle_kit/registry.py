"""Looking a choice up by name, and saying which names there are when it is not found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from kaggle_kit.errors import ConfigError

T = TypeVar("T")


def suggest(name: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of ``choices``, or an empty string when none is near."""
    near = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return ``table[name]``.

    Raises:
        ConfigError: there is no such entry; the message names the ``kind`` of choice, the nearest name and all names.
    """
    try:
        return table[name]
    except KeyError:
        raise ConfigError(f"unknown {kind} {name!r}.{suggest(name, table)} Choose one of: {', '.join(table)}.") from None

"""Choices by name: what each is, in one line, and which names there are when one is not found.

A registry is a mapping from names to functions or values. Its entries carry their one-line help, so that `--help`,
`kk config`, the comments of kk.yaml, docs and error messages list the same names with the same words.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kaggle_kit.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A choice.

    Attributes:
        help: what it is, as one plain sentence without a full stop.
        value: what the name stands for.
    """

    name: str
    help: str
    value: T


@dataclass(frozen=True)
class Lazy:
    """A choice whose value is imported when it is first used, so that its name is known without, say, PyTorch.

    Attributes:
        source: where the value is, as ``module:attribute``.
    """

    name: str
    help: str
    source: str

    @property
    def value(self) -> Any:
        module, _, attribute = self.source.partition(":")
        return getattr(importlib.import_module(module), attribute)


class Registry(Mapping[str, T]):
    """The choices of one kind, in the order in which they are listed.

    Args:
        kind: what a name names, for messages: "loss", "fold scheme".
        entries: the choices.
    """

    def __init__(self, kind: str, entries: Iterable[Entry[T] | Lazy]) -> None:
        self.kind = kind
        self._entries = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> T:
        return self._entries[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:  # Mapping's own would import the value
        return name in self._entries

    def __repr__(self) -> str:
        return f"<{self.kind}: {self.listed}>"

    @property
    def helps(self) -> dict[str, str]:
        """Name -> its help."""
        return {name: entry.help for name, entry in self._entries.items()}

    @property
    def listed(self) -> str:
        """The names as a sentence lists them: ``mean, gmean or max``."""
        *first, last = self._entries
        return f"{', '.join(first)} or {last}" if first else last

    def require(self, name: str) -> str:
        """Return ``name`` if it is known; nothing is imported.

        Raises:
            ConfigError: it is not; the message names the kind, the nearest name and all names.
        """
        if name not in self._entries:
            raise unknown(name, self._entries, self.kind)
        return name

    def lookup(self, name: str) -> T:
        """Return what ``name`` stands for; raises as :meth:`require`."""
        return self[self.require(name)]

    def with_auto(self, help: str) -> Registry[T | None]:
        """Return these choices after "auto", which stands for None: what is right is found out later."""
        entries: list[Any] = [Entry("auto", help, None), *self._entries.values()]
        return Registry(self.kind, entries)

    def without(self, name: str) -> Registry[T]:
        """Return these choices but one."""
        return Registry(self.kind, [entry for entry in self._entries.values() if entry.name != name])


def suggest(name: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of ``choices``, or an empty string when none is near."""
    near = difflib.get_close_matches(name[:100], list(choices), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def unknown(name: str, choices: Iterable[str], kind: str) -> ConfigError:
    """Return the error for a name that is not among ``choices``."""
    names = list(choices)
    return ConfigError(f"unknown {kind} {shortened(name)}.{suggest(name, names)} Choose one of: {', '.join(names)}.")


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return ``table[name]`` of a plain mapping; raises ConfigError as :meth:`Registry.lookup`."""
    if name not in table:
        raise unknown(name, table, kind)
    return table[name]


def shortened(value: object, most: int = 80) -> str:
    """Return ``repr(value)`` on one line of at most ``most`` characters, for messages that quote what was found."""
    text = repr(value if not isinstance(value, str) else value[: most + 1])
    return text if len(text) <= most else f"{text[: most - 1]}…"

"""YAML and other plain values of unknown origin, within bounds: whatever is wrong with them is a ConfigError of one line.

Bounded are the size of a file, how deep values nest, how much aliases repeat, and the numbers; text must be text that can be
written to a file.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from kaggle_kit.errors import ConfigError, MissingFileError
from kaggle_kit.registry import shortened

MOST_BYTES = 50_000_000
DEEPEST = 50
MOST_REPEATED = 10_000
"""Values that aliases may repeat in all."""
MOST_VALUES = 5_000_000
LARGEST = 2**63
QUOTES = "'\""


class BoundedLoader(yaml.SafeLoader):
    """A safe loader that refuses deep nesting, and aliases that repeat much or refer to what they lie in."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = self._repeated = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node as SafeLoader does, and count."""
        alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.YAMLError(f"it nests deeper than {DEEPEST} levels")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if alias:
            self._repeated += self._sizes.get(node, MOST_REPEATED + 1)  # no size yet: it lies in what it refers to
            if self._repeated > MOST_REPEATED:
                raise yaml.YAMLError(f"aliases repeat more than {MOST_REPEATED:,} values")
        else:
            self._sizes[node] = 1 + sum(self._sizes.get(inner, 0) for inner in _inside(node))
        return node


def _inside(node: yaml.Node) -> Iterator[yaml.Node]:
    """The nodes directly in a node."""
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def load_yaml(text: str) -> Any:
    """Return the plain values that ``text`` holds.

    Raises:
        ValueError: it is not YAML, nests too deeply, or its aliases repeat too much; the message is one line.
    """
    try:
        return yaml.load(text, BoundedLoader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # ValueError: a date such as 2020-99-99
        raise ValueError(_line(error)) from error


def read_yaml(path: Path) -> Any:
    """Return the plain values of a YAML file.

    Raises:
        MissingFileError: there is none.
        ConfigError: it is no regular file, cannot be read, is not YAML, or beyond the bounds.
    """
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
        if not stat.S_ISREG(mode):  # to open a named pipe would wait for ever
            raise ConfigError(f"{path} should be a file, found {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}.")
        if size > MOST_BYTES:
            raise ConfigError(f"{path} has {size:,} bytes; a configuration has at most {MOST_BYTES:,}.")
        return load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist. Run `kk init DATA_DIR` first, or go to your workspace.") from None
    except OSError as error:
        raise ConfigError(f"{shortened(str(path), 200)} cannot be read: {error.strerror or error}.") from error
    except ConfigError:
        raise
    except ValueError as error:  # not UTF-8, or a path that no file can have
        raise ConfigError(f"{shortened(str(path), 200)} is not valid YAML: {_line(error)}.") from error


def require_plain(value: Any, what: str) -> Any:
    """Return ``value`` if text in it can be written to a file, numbers are finite and not huge, and it is not too deep.

    Raises:
        ConfigError: it is not so; the message says where.
    """
    left, seen = [("", value, 0)], 0
    while left:
        key, inner, depth = left.pop()
        seen += 1
        problem = _problem(inner, depth) if seen <= MOST_VALUES else f"more than {MOST_VALUES:,} values"
        if problem:
            raise ConfigError(f"{what}{f': {key}' if key else ''} holds {problem}.")
        if isinstance(inner, dict):
            for name, one in inner.items():
                below = f"{key}.{shortened(name).strip(QUOTES)}".removeprefix(".")[:100]
                left += [(key, name, depth + 1), (below, one, depth + 1)]
        elif isinstance(inner, list | tuple):
            left += [(key, one, depth + 1) for one in inner]
    return value


def _problem(value: Any, depth: int) -> str:
    """What a configuration cannot hold, or an empty text."""
    if depth > DEEPEST:
        return f"values nested deeper than {DEEPEST} levels"
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)):
        return f"text with a zero byte or half a character: {shortened(value)}"
    if isinstance(value, int) and abs(value) >= LARGEST:
        return "a number of more than 18 digits"
    if isinstance(value, float) and not math.isfinite(value):
        return f"the number {value}; numbers must be finite"
    return ""


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"

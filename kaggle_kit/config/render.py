"""The text of a new kk.yaml: every key that counts, with its description beside it, and every name quoted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from kaggle_kit.config.competition import CompetitionConfig
from kaggle_kit.config.describe import Key, key_of, section_of
from kaggle_kit.config.fields import Section
from kaggle_kit.config.sections import Config, FoldsConfig

_WIDE = 2**31
_PLAIN = re.compile(r"[a-z][a-z0-9_-]*")
_LONGEST_KEY = 200  # YAML takes up to 1,024; a longer one is written as "? key"


def quote(text: str) -> str:
    """Return ``text`` as a double-quoted YAML scalar on one line, so that yes, 0001 and #x stay text."""
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=_WIDE)).rstrip("\n")


def render(config: CompetitionConfig, folds: FoldsConfig) -> str:
    """Return the whole file."""
    whole = Config(competition=config, folds=folds)
    lines = ["# Written by `kk init`. Keep names quoted: YAML reads no as false. `kk config KEY` tells more about a key."]
    for name, field in Config.model_fields.items():
        lines += ["", f"# {name}: {field.description}", f"{name}:", *_section(getattr(whole, name), f"{name}.", 2)]
    return "\n".join(lines) + "\n"


def _section(section: Section, prefix: str, indent: int) -> Iterator[str]:
    """The lines of a section, without keys that do not count with what others say."""
    space = " " * indent
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield f"{space}{name}:  # {field.description}"
            yield from _section(value, f"{prefix}{name}.", indent + 2)
        elif section_of(field) and not isinstance(value, list):
            yield f"{space}{name}: null  # {field.description}"
        else:
            key = key_of(field, f"{prefix}{name}")
            if key.when is None or getattr(section, key.when.key) in key.when.values:
                yield from _entry(name, value, key, space)


def _entry(name: str, value: Any, key: Key, space: str) -> Iterator[str]:
    """The lines of one key with its comment."""
    if isinstance(value, dict) and value:
        yield f"{space}{name}:  # {key.comment}"
        yield from (f"{space}  {line}" for line in _pairs(value))
    elif isinstance(value, list) and any(isinstance(one, Section) for one in value):
        yield f"{space}{name}:  # {key.comment}"
        yield from (f"{space}  - {_scalar(one.model_dump(mode='json'))}" for one in value)
    elif isinstance(value, list) and any(isinstance(one, str) for one in value):
        yield f"{space}{name}:  # {key.comment}"
        yield from (f"{space}  - {_scalar(one)}" for one in value)
    else:
        yield f"{space}{name}: {_scalar(value, plain=bool(key.choices))}  # {key.comment}"


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if len(key) < _LONGEST_KEY:
            yield f"{quote(key)}: {_scalar(value)}"
        else:
            yield from (f"? {quote(key)}", f": {_scalar(value)}")


def _scalar(value: Any, *, plain: bool = False) -> str:
    """A value on one line; text is quoted unless ``plain`` allows it and YAML would read it back as it is."""
    if isinstance(value, str):
        return value if plain and _PLAIN.fullmatch(value) and yaml.safe_load(value) == value else quote(value)
    if isinstance(value, Sequence):
        value = list(value)
    return str(yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=_WIDE)).removesuffix("...\n").strip()

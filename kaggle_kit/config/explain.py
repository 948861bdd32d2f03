"""What is wrong with a configuration, in the words of this package."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from kaggle_kit.errors import ConfigError
from kaggle_kit.registry import shortened, suggest

_TYPE_TAG = re.compile(r"int|str|bool|float|(?:tuple|list|dict|literal|constrained-\w+)\[.*\]|constrained-(?:int|str|float)")


def explain(model: type[BaseModel], problem: Any, aliases: Mapping[type[BaseModel], Mapping[str, str]]) -> str:
    """One line of what is wrong with one key, in the words of this package rather than pydantic's.

    Args:
        problem: one of ``ValidationError.errors()`` of ``model``.
        aliases: section -> short names that may be set on the command line, and what they stand for.
    """
    # Of a choice of types, pydantic also names the one that it tried: model.pretrained.bool
    path = [str(part) for part in problem["loc"] if not _TYPE_TAG.fullmatch(str(part))]
    where = ".".join(path) or "the file"
    if problem["type"] == "extra_forbidden":
        section = _section(model, path[:-1])
        names = list(section.model_fields) if section else []
        short = aliases.get(section, {}) if section else {}
        if path[-1] in short:  # as an option it would do
            return f"unknown key {where!r}. In a file it is {short[path[-1]]!r}."
        inner = _inside(section, path[-1]) if section else []
        if inner:
            return f"unknown key {where!r}. Did you mean {' or '.join(map(repr, inner))}?"
        known = ", ".join(names) + (f"; short: {', '.join(short)}" if short else "")
        return f"unknown key {shortened(where)}.{suggest(path[-1], [*names, *short])} Known here: {known}."
    if problem["type"] == "missing":
        return f"{where} is missing."
    if isinstance(problem.get("ctx", {}).get("error"), ConfigError):  # it says what was found
        return f"{where}: {problem['ctx']['error']}" if path else str(problem["ctx"]["error"])
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}, got {shortened(problem['input'])}."


def _section(model: type[BaseModel], path: Sequence[str]) -> type[BaseModel] | None:
    for part in path:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        found = [candidate for candidate in candidates if isinstance(candidate, type) and issubclass(candidate, BaseModel)]
        if not found:
            return None
        model = found[0]
    return model


def _inside(section: type[BaseModel], name: str) -> list[str]:
    """Dotted keys of this name in the sections of a section."""
    parts = {part: _section(section, [part]) for part in section.model_fields}
    return [f"{part}.{name}" for part, inner in parts.items() if inner and name in inner.model_fields]

"""Reading a configuration: YAML and ``key=value`` entries become frozen sections, or an error that names the key."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from kaggle_kit.config.entries import ALIASES, resolve, with_entry
from kaggle_kit.config.explain import explain
from kaggle_kit.config.fields import Section
from kaggle_kit.config.recipes import located
from kaggle_kit.config.run import RunConfig
from kaggle_kit.config.safe_yaml import load_yaml, read_yaml, require_plain
from kaggle_kit.config.sections import Config
from kaggle_kit.errors import ConfigError
from kaggle_kit.own_code import is_own, require_file
from kaggle_kit.registry import shortened

S = TypeVar("S", bound=Section)
logger = logging.getLogger(__name__)

RETIRED: dict[tuple[str, str], str] = {("augment", "where"): "images are augmented by the loader processes"}
"""Entries of the run section that earlier versions wrote and this one ignores, and what holds instead."""


def load_config(path: Path, overrides: Sequence[str] = (), *, run_file: Path | None = None) -> Config:
    """Read ``kk.yaml`` and set entries of its ``run`` section from ``key=value`` strings.

    Args:
        run_file: a run configuration (``recipe:NAME``, or what ``kk tune`` wrote) to take instead of the ``run`` section.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: it is not YAML, or a key or value is wrong; the message names the key and the nearest valid one.
    """
    path = Path(path)
    content = _read_sections(path)
    config = _build(Config, content, str(path))
    if run_file is not None or overrides:
        entries = content.get("run", {}) if run_file is None else _read_sections(located(run_file))
        run = _changed_run(entries, overrides, "options" if overrides else str(run_file))
        config = config.model_copy(update={"run": run})
    for kind, name in {"metric": config.competition.metric, "model": config.run.model.name}.items():
        if is_own(name):
            require_file(name, kind, path.parent)
    return config


def changed(section: S, changes: Mapping[str, Any]) -> S:
    """A copy of ``section`` with some entries changed; those that are None stay. Same errors as :func:`load_config`."""
    kept = {key: value for key, value in changes.items() if value is not None}
    return _build(type(section), {**section.model_dump(), **kept}, "options")


def derive(config: RunConfig, overrides: Sequence[str] = (), *, source: str = "overrides") -> RunConfig:
    """A new configuration with ``key=value`` entries changed.

    Raises:
        ConfigError: an override is malformed, or its key or value is wrong.
    """
    return _changed_run(config.model_dump(mode="json"), overrides, source)


def build_run_config(content: Mapping[str, Any], *, source: str) -> RunConfig:
    """A run configuration from plain values, as stored in ``run.json``; same errors as :func:`load_config`."""
    return _build(RunConfig, content, source)


def build_config(content: Mapping[str, Any], *, source: str) -> Config:
    """A whole configuration from plain values; same errors as :func:`load_config`."""
    return _build(Config, content, source)


def override(content: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Copy ``content`` with entries set from ``dotted.key=value`` strings; values are YAML.

    Raises:
        ConfigError: a string has no ``=`` or its value is not YAML.
    """
    result: dict[str, Any] = dict(content)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"expected key=value, got {shortened(text)}; for example epochs=5 or optimizer.weight_decay=0.01."
            )
        try:
            parsed = load_yaml(value) if value else ""
        except ValueError as error:
            raise ConfigError(f"the value of {shortened(key)} is not YAML: {shortened(value)} ({error}).") from error
        result = with_entry(result, resolve(key).split("."), parsed, key)
    return result


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Return ``key=value`` strings as :func:`override` takes them: the opposite of reading them."""
    return [f"{key}={_yaml(str(value) if isinstance(value, Path) else value)}" for key, value in values.items()]


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True).removesuffix("...\n").strip()


def _changed_run(content: Mapping[str, Any], overrides: Sequence[str], source: str) -> RunConfig:
    """Return a run configuration with entries changed; refuse a change that no stage, given elsewhere, would see."""
    run = _build(RunConfig, override(content, overrides), source)
    keys = {resolve(text.partition("=")[0]): text for text in overrides}
    for key, text in keys.items():
        if run.is_shadowed(key) and "stages" not in keys:
            raise ConfigError(f"{text} would change nothing: every stage of `stages` sets {key} itself. Change it there.")
    return run


def _read_sections(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} should hold sections such as `competition:`, found {type(content).__name__}.")
    return content


def _build(model: type[S], content: Mapping[str, Any], source: str) -> S:
    content = _without_retired(model, require_plain(content, source), source)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = dict.fromkeys(explain(model, problem, {RunConfig: ALIASES}) for problem in error.errors())
        raise ConfigError(f"{source}: " + "\n  ".join(lines)) from error


def _without_retired(model: type[S], content: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """Return ``content`` without the entries of ``RETIRED``; the log says once a source what is ignored."""
    if model is Config and isinstance(content.get("run"), Mapping):
        return {**content, "run": _without_retired(RunConfig, content["run"], source)}
    if model is not RunConfig:
        return content
    for (section, key), instead in RETIRED.items():
        entries = content.get(section)
        if isinstance(entries, Mapping) and key in entries:
            _say_retired(source, f"{section}.{key}", instead)
            content = {**content, section: {name: value for name, value in entries.items() if name != key}}
    return content


@lru_cache(maxsize=1024)
def _say_retired(source: str, key: str, instead: str) -> None:
    logger.info("%s: %s is of an earlier version and ignored: %s", source, key, instead)

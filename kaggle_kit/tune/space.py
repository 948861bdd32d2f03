"""What is searched: entries of a run configuration with their ranges, from YAML or from :mod:`kaggle_kit.tune.defaults`.

A space file maps keys to ranges; short keys such as ``lr`` do as well as ``optimizer.lr``::

    optimizer.lr: {log: [1.0e-5, 1.0e-2]}
    model.drop_path_rate: {float: [0, 0.4], step: 0.1}
    schedule.epochs: {int: [5, 20]}
    model.name: {categorical: [resnet50, convnext_tiny]}
    optimizer.layer_decay: {float: [0.6, 1.0], when: {model.name: convnext_tiny}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.config import ALIASES, RunConfig, as_overrides, derive
from kaggle_kit.config.safe_yaml import read_yaml, require_plain
from kaggle_kit.errors import ConfigError, MissingFileError
from kaggle_kit.registry import suggest
from kaggle_kit.tables import shown

if TYPE_CHECKING:
    from optuna import Trial

Values = dict[str, Any]
"""Dotted key of a run configuration -> value."""

Label = str | int | float | bool | None
_FIXED = ("folds", "hardware")
"""What must not differ between trials: scores on other folds do not compare, and hardware is not meant to matter."""


@dataclass(frozen=True)
class Dimension:
    """One entry that is searched.

    Attributes:
        key: dotted, such as ``optimizer.lr``.
        kind: an entry of ``KINDS``.
        values: (low, high), or the choices of a categorical.
        when: key of a categorical -> its choices for which this entry is searched; otherwise it keeps its present value.
    """

    key: str
    kind: str
    values: tuple[Any, ...]
    step: float | None = None
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def labels(self) -> list[Label]:
        """Choices as Optuna stores them: lists and sections as JSON text."""
        return [_label(value) for value in self.values]

    def applies(self, chosen: Mapping[str, Any]) -> bool:
        """Whether the choices made so far make this entry one to search."""
        return all(key in chosen and chosen[key] in values for key, values in self.when.items())

    def to_dict(self) -> dict[str, Any]:
        """As in a space file."""
        entry: dict[str, Any] = {self.kind: list(self.values)}
        if self.step is not None:
            entry["step"] = self.step
        if self.when:
            entry["when"] = {key: list(values) for key, values in self.when.items()}
        return entry


@dataclass(frozen=True)
class Kind:
    """A kind of range.

    Attributes:
        draw: ask a trial for a value.
        contains: whether a trial could draw this value.
    """

    draw: Callable[[Trial, Dimension], Any]
    contains: Callable[[Dimension, Any], bool]


def _draw_choice(trial: Trial, dimension: Dimension) -> Any:
    labels = dimension.labels
    return dimension.values[labels.index(trial.suggest_categorical(dimension.key, labels))]


def _within(dimension: Dimension, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = dimension.values
    steps = (value - low) / dimension.step if dimension.step else 0.0
    return bool(low <= value <= high and math.isclose(steps, round(steps), abs_tol=1e-6))


KINDS: dict[str, Kind] = {
    "float": Kind(lambda trial, its: trial.suggest_float(its.key, *its.values, step=its.step), _within),
    "log": Kind(lambda trial, its: trial.suggest_float(its.key, *its.values, log=True), _within),
    "int": Kind(lambda trial, its: trial.suggest_int(its.key, *its.values, step=int(its.step or 1)), _within),
    "log-int": Kind(lambda trial, its: trial.suggest_int(its.key, *its.values, log=True), _within),
    "categorical": Kind(_draw_choice, lambda its, value: _label(value) in its.labels),
}
_LOG, _INT = ("log", "log-int"), ("int", "log-int")

_EQUIVALENT: dict[str, Callable[[RunConfig], Any]] = {
    "optimizer.head_lr": lambda run: run.optimizer.lr,
    "optimizer.layer_decay": lambda _run: 1.0,
}
"""Entries that may be none, and the number that then means the same."""


@dataclass(frozen=True)
class Space:
    """Dimensions, those that others depend on first."""

    dimensions: tuple[Dimension, ...]

    def draw(self, trial: Trial, only: Collection[str] | None = None) -> Values:
        """Values of a trial, of the entries that its choices make searched; of ``only`` some of them, if given."""
        chosen: Values = {}
        for its in self.dimensions:
            if its.applies(chosen) and (only is None or its.key in only):
                chosen[its.key] = KINDS[its.kind].draw(trial, its)
        return chosen

    def locate(self, run: RunConfig) -> Values:
        """The values of a configuration, those that lie within the space, as Optuna stores them."""
        chosen: Values = {}
        for its in self.dimensions:
            value = value_of(run, its.key)
            if its.applies(chosen) and KINDS[its.kind].contains(its, value):
                chosen[its.key] = value
        return {key: _label(value) for key, value in chosen.items()}

    def largest(self, key: str, present: float) -> float:
        """The largest number that ``key`` can have: in the space, or at present."""
        return max([present, *(float(value) for its in self.dimensions if its.key == key for value in its.values)])

    def to_dict(self) -> dict[str, Any]:
        """As in a space file."""
        return {its.key: its.to_dict() for its in self.dimensions}


def read_space(path: Path, run: RunConfig) -> Space:
    """Read a space file for trials that start from ``run``.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: it is not YAML, or an entry is wrong; names the key.
    """
    try:
        content = require_plain(read_yaml(Path(path)), str(path))
    except MissingFileError:
        raise MissingFileError(f"{path} does not exist; expected the YAML file of a space to search.") from None
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path} should map keys to ranges, such as `lr: {{log: [1.0e-5, 1.0e-2]}}`; it does not.")
    return build_space(content, run, source=str(path))


def build_space(content: Mapping[str, Any], run: RunConfig, *, source: str) -> Space:
    """A space from plain values, each tried on ``run``; same errors as :func:`read_space`."""
    dimensions = [_dimension(_key(key, source), entry, f"{source}: {key}") for key, entry in content.items()]
    keys = [its.key for its in dimensions]
    twice = [key for key in dict.fromkeys(keys) if keys.count(key) > 1]
    if twice:
        raise ConfigError(f"{source}: {shown(twice)} stands there twice, under a short and a full name.")
    return Space(tuple(_in_order(_checked(dimensions, run, source), source)))


def apply_values(run: RunConfig, values: Mapping[str, Any], *, source: str = "trial") -> RunConfig:
    """``run`` with entries changed; raises ConfigError that names the key."""
    return derive(run, as_overrides(values), source=source)


def value_of(run: RunConfig, key: str) -> Any:
    """The entry at a dotted key as a plain value; for one that is none, the number that means the same, if any does."""
    value: Any = run.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return _EQUIVALENT[key](run) if value is None and key in _EQUIVALENT else value


def _key(key: Any, source: str) -> str:
    full = ALIASES.get(str(key), str(key))
    if full.split(".")[0] in _FIXED:
        raise ConfigError(f"{source}: {key} must be the same for all trials and cannot be searched; set it in kk.yaml.")
    return full


def _dimension(key: str, entry: Any, where: str) -> Dimension:
    """Check one entry of a space file."""
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where}: expected a range such as {{log: [1.0e-5, 1.0e-2]}}, got {entry!r}.")
    kinds = [name for name in entry if name in KINDS]
    unknown = [str(name) for name in entry if name not in (*KINDS, "step", "when")]
    if unknown:
        raise ConfigError(
            f"{where}: unknown {unknown[0]!r}.{suggest(unknown[0], KINDS)} Known: {', '.join(KINDS)}, step, when."
        )
    if len(kinds) != 1:
        raise ConfigError(f"{where}: expected exactly one of {', '.join(KINDS)}, got {shown(map(str, entry)) or 'none'}.")
    kind, when = kinds[0], _conditions(entry.get("when") or {}, where)
    values = entry[kind]
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ConfigError(f"{where}: expected a list after {kind}, got {values!r}.")
    if kind == "categorical":
        return Dimension(key, kind, _choices(values, entry, where), None, when)
    return _numeric(Dimension(key, kind, tuple(values), entry.get("step"), when), where)


def _choices(values: Sequence[Any], entry: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    if not values or "step" in entry:
        raise ConfigError(f"{where}: categorical takes a list of choices and no step, got {dict(entry)!r}.")
    labels = [_label(value) for value in values]
    if any(labels.count(label) > 1 for label in labels):
        raise ConfigError(f"{where}: choices must differ, got {list(values)!r}.")
    return tuple(values)


def _numeric(its: Dimension, where: str) -> Dimension:
    whole = its.kind in _INT
    if len(its.values) != 2:
        raise ConfigError(f"{where}: {its.kind} takes [low, high], got {list(its.values)!r}.")
    low, high = (_number(value, whole, where) for value in its.values)
    step = None if its.step is None else _number(its.step, whole, where)
    if low > high:
        raise ConfigError(f"{where}: low must not exceed high, got [{low}, {high}].")
    if its.kind in _LOG and low <= 0:
        raise ConfigError(f"{where}: a logarithmic range must lie above 0, got [{low}, {high}].")
    if step is not None and (its.kind in _LOG or step <= 0):
        raise ConfigError(f"{where}: step must be above 0 and is for float and int only, got {step} with {its.kind}.")
    return Dimension(its.key, its.kind, (low, high), step, its.when)


def _number(value: Any, whole: bool, where: str) -> float:
    """A number; YAML reads 1e-5 as text, and people write that."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (whole and number != int(number)):
        raise ConfigError(f"{where}: expected {'a whole number' if whole else 'a number'}, got {value!r}.")
    return int(number) if whole else number


def _conditions(when: Any, where: str) -> dict[str, tuple[Any, ...]]:
    if not isinstance(when, Mapping):
        raise ConfigError(f"{where}: when takes a choice of another entry, such as {{model.name: resnet50}}, got {when!r}.")
    return {
        ALIASES.get(str(key), str(key)): tuple(value) if isinstance(value, list) else (value,) for key, value in when.items()
    }


def _checked(dimensions: Sequence[Dimension], run: RunConfig, source: str) -> list[Dimension]:
    """The same dimensions, if each value is one that the configuration takes and each condition can be met."""
    by_key = {its.key: its for its in dimensions}
    for its in dimensions:
        for value in its.values:
            apply_values(run, {its.key: value}, source=source)
        for key, values in its.when.items():
            where = f"{source}: {its.key}: when"
            if key not in by_key:
                raise ConfigError(f"{where}: {key!r} is not in the space.{suggest(key, by_key)} It has: {', '.join(by_key)}.")
            if by_key[key].kind != "categorical":
                raise ConfigError(f"{where}: {key!r} is no categorical; a condition is on a choice.")
            other = [value for value in values if _label(value) not in by_key[key].labels]
            if other:
                raise ConfigError(f"{where}: {other[0]!r} is no choice of {key}; choose from {list(by_key[key].values)!r}.")
    return list(dimensions)


def _in_order(dimensions: Iterable[Dimension], source: str) -> list[Dimension]:
    """Each dimension after those that it depends on."""
    left, ordered = list(dimensions), list[Dimension]()
    while left:
        placed = {its.key for its in ordered}
        ready = [its for its in left if set(its.when) <= placed]
        if not ready:
            raise ConfigError(f"{source}: {shown(its.key for its in left)} depend on each other in a circle.")
        ordered += ready
        left = [its for its in left if its not in ready]
    return ordered


def _label(value: Any) -> Label:
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)

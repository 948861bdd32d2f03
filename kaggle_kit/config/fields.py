"""What the keys of a configuration are made of: sections, ranges, choices by name, and names that become file names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from kaggle_kit.registry import Registry
from kaggle_kit.workspace import plain_name


class Section(BaseModel):
    """A frozen part of the configuration that refuses unknown keys. Every field has a description; it is said nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


@dataclass(frozen=True)
class OneOf:
    """Marks a text that must be a name of a registry.

    Attributes:
        names: returns the registry; called when a value is checked or the choices are listed.
        check: a function of the text that raises ConfigError; by default whether the registry has it.
    """

    names: Callable[[], Registry[Any]]
    check: Callable[[str], str] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check or self._require, handler(source))

    def _require(self, name: str) -> str:
        return self.names().require(name)


@dataclass(frozen=True, init=False)
class When:
    """Marks a key that counts only where the key ``key`` of the same section is one of ``values``."""

    key: str
    values: tuple[str, ...]

    def __init__(self, key: str, *values: str) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "values", values)


@dataclass(frozen=True)
class Later:
    """Marks a key that came after version 0.1.0.

    While it stands at its default it does not count in the fingerprint of a run, so that what was trained before the key
    existed is still current; its default must therefore mean what held before, and never change.
    """


def as_before(section: Section, values: dict[str, Any]) -> dict[str, Any]:
    """Return ``values``, the plain values of ``section``, without keys marked :class:`Later` that stand at their default."""
    kept = {}
    for key, value in values.items():
        own, field = getattr(section, key), type(section).model_fields[key]
        if own == field.default and any(isinstance(mark, Later) for mark in field.metadata):
            continue
        kept[key] = as_before(own, value) if isinstance(own, Section) else value
    return kept


def one_of(registry: Registry[Any]) -> OneOf:
    """Return the mark of a text that must be a name of ``registry``."""
    return OneOf(lambda: registry)


def described(text: str) -> Any:
    """Return the field of a required key."""
    return Field(description=text)


Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
InnerShare = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Factor = Annotated[str, Field(pattern=r"^\d{1,4}(\.\d{1,4})?x$")]
FewCount = Annotated[int, Field(ge=1, le=1000)]
Whole = Annotated[int, Field(ge=0, le=1_000_000)]
ImageSize = int | tuple[int, int]
Name = Annotated[str, AfterValidator(lambda name: plain_name(name, "its"))]
StopOrSkip = Literal["stop", "skip"]

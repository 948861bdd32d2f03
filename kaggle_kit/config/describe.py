"""The keys of kk.yaml with what they mean: for `kk config`, for docs/configuration.md and for the comments of a new kk.yaml.

All of it comes from the fields' descriptions and the registries; nothing is written here again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from kaggle_kit.config.entries import ALIASES
from kaggle_kit.config.fields import OneOf, Section, When
from kaggle_kit.config.load import load_config
from kaggle_kit.config.sections import Config
from kaggle_kit.errors import ConfigError
from kaggle_kit.registry import shortened, suggest
from kaggle_kit.results import Result

if TYPE_CHECKING:
    import pandas as pd

SHORT = {f"run.{key}": short for short, key in ALIASES.items()}
"""Dotted key -> its short name on the command line."""
MOST_IN_LINE = 8
"""Longer lists of choices are not repeated in a line; `kk config KEY` shows them."""
_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    NoneType: "null",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True)
class Key:
    """A key of the configuration.

    Attributes:
        name: dotted, from the top of kk.yaml: ``run.optimizer.lr``.
        short: what it may be called in ``key=value``; empty when there is no such name.
        kind: the values it takes, in words.
        default: its value where kk.yaml says nothing; None also where it must be given.
        choices: name -> help, where it takes one of several names.
        when: the key and value of the same section with which it counts; None: always.
    """

    name: str
    short: str
    kind: str
    required: bool
    default: Any
    choices: Mapping[str, str]
    when: When | None
    description: str

    @property
    def comment(self) -> str:
        """The description with the choices that it does not name itself, on one line."""
        new = [name for name in self.choices if name not in self.description]
        if not new:
            return self.description
        if len(self.choices) > MOST_IN_LINE:
            return f"{self.description} (`kk config {self.short or self.name}` lists them)"
        return f"{self.description} ({listed(list(self.choices))})"


@dataclass(frozen=True, repr=False)
class Keys(Result):
    """Keys of the configuration with their values in a workspace.

    Attributes:
        here: dotted key -> value, where there is a kk.yaml.
    """

    keys: tuple[Key, ...]
    here: Mapping[str, Any]

    def table(self) -> pd.DataFrame | None:
        """Return a row for each key; of a single one its choices."""
        import pandas as pd

        if len(self.keys) == 1:
            return pd.DataFrame(list(self.keys[0].choices.items()), columns=["choice", "what it is"])
        rows = [
            (
                key.name,
                self.shown(key, 24),
                _text(key.default, 24) if self.value(key) != key.default and not key.required else "",
                key.short,
                key.comment,
            )
            for key in self.keys
        ]
        frame = pd.DataFrame(rows, columns=["key", "here", "default", "short", "what it is"])
        frame.attrs["optional"] = ["short", "default"]
        return frame

    def describe(self) -> str:
        """Return all that is known of a single key, or how to see that."""
        if len(self.keys) != 1:
            return "`kk config KEY` tells more about a key, by its full or its short name."
        key = self.keys[0]
        here = self.shown(key) or "nothing, since there is no kk.yaml"
        lines = [f"{key.name}: {key.description}", f"here: {here}"]
        lines.append("must be given" if key.required else f"default: {_text(key.default)}")
        lines.append(f"takes: {key.kind}")
        if key.when:
            lines.append(f"counts where {key.when.key} is {listed(key.when.values)}")
        if key.name.startswith("run."):
            lines.append(f"for one run: kk train {key.short or key.name.removeprefix('run.')}=VALUE")
        return "\n".join(lines)

    def value(self, key: Key) -> Any:
        """Return the value of a key here: that of kk.yaml, else the default."""
        return self.here.get(key.name, key.default)

    def shown(self, key: Key, most: int = 200) -> str:
        """Return the value here as text; nothing for a key that must be given where there is no kk.yaml."""
        return "" if key.required and key.name not in self.here else _text(self.value(key), most)

    def to_dict(self) -> dict[str, Any]:
        """Return the keys by name, each with value, default, choices and description."""
        return {
            key.name: {
                "here": self.value(key),
                "default": key.default,
                "short": key.short,
                "kind": key.kind,
                "choices": dict(key.choices),
                "description": key.description,
            }
            for key in self.keys
        }


def describe_config(name: str = "", path: Path | None = None) -> Keys:
    """Return the keys that ``name`` means, with their values in the file at ``path``.

    Args:
        name: a section, a dotted key with or without ``run.`` in front, or a short name; empty: all keys.
        path: kk.yaml; None, or where there is none: the defaults are shown.

    Raises:
        ConfigError: there is no such key, or kk.yaml is wrong.
    """
    found = find(name)
    here = _values(load_config(path).model_dump(mode="json")) if path is not None and path.is_file() else {}
    return Keys(tuple(found), here)


def find(name: str) -> list[Key]:
    """Return the keys that ``name`` means; see :func:`describe_config`."""
    known = list(keys())
    names = [ALIASES.get(name, name), name]
    for wanted in (prefix + one for one in names for prefix in ("run.", "")):
        exact = [key for key in known if key.name == wanted]
        if exact:
            return exact
    below = [key for key in known if not name or key.name.startswith((f"{name}.", f"run.{name}."))]
    if not below:
        choices = [*(key.name for key in known), *(key.name.removeprefix("run.") for key in known), *ALIASES]
        raise ConfigError(f"unknown key {shortened(name)}.{suggest(name, choices)} `kk config` lists them all.")
    return below


def keys(section: type[Section] = Config, prefix: str = "") -> Iterator[Key]:
    """Yield the keys of a section and of the sections in it, in their order."""
    for name, field in section.model_fields.items():
        inner = section_of(field)
        if inner is None:
            yield key_of(field, f"{prefix}{name}")
        else:
            yield from keys(inner, f"{prefix}{name}.")


def key_of(field: FieldInfo, name: str) -> Key:
    """Return what is known of a field."""
    default = None if field.default is PydanticUndefined else field.default
    when = next((mark for mark in field.metadata if isinstance(mark, When)), None)
    return Key(
        name=name,
        short=SHORT.get(name, ""),
        kind=_kind(field.annotation, field.metadata),
        required=field.is_required(),
        default=default,
        choices=_choices(field),
        when=when,
        description=field.description or "",
    )


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field holds, or None when it holds a value."""
    kinds = [field.annotation, *(get_args(field.annotation) if _is_union(field.annotation) else ())]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def _choices(field: FieldInfo) -> dict[str, str]:
    for mark in field.metadata:
        if isinstance(mark, OneOf):
            return mark.names().helps
    return dict.fromkeys(_literals(field.annotation), "")


def _literals(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return [name for inner in get_args(annotation) for name in _literals(inner)] if _is_union(annotation) else []


def _kind(annotation: Any, metadata: Sequence[Any]) -> str:
    """The values that an annotation allows, in words."""
    if metadata and get_origin(annotation) is None and any(isinstance(mark, OneOf) for mark in metadata):
        return "a name"
    if hasattr(annotation, "__metadata__"):  # Annotated
        return _kind(annotation.__origin__, [mark for one in annotation.__metadata__ for mark in _marks(one)])
    if _is_union(annotation):
        return " or ".join(dict.fromkeys(_kind(inner, []) for inner in get_args(annotation)))
    if get_origin(annotation) is Literal:
        return listed([str(value) for value in get_args(annotation)])
    found = [(word, _bound(mark, name)) for mark in metadata for name, word in _BOUNDS.items()]
    bounds = [f"{word} {value:,}" for word, value in found if value is not None]
    return " ".join([_KINDS.get(get_origin(annotation) or annotation, str(annotation)), " and ".join(bounds)]).strip()


def _marks(mark: Any) -> list[Any]:
    return list(mark.metadata) if isinstance(mark, FieldInfo) else [mark]


def _bound(mark: Any, name: str) -> float | None:
    value = getattr(mark, name, None)
    return value if isinstance(value, int | float) else None


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: ``a, b or c``."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def _text(value: Any, most: int = 200) -> str:
    """A value as kk.yaml writes it, on one short line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple | dict) and len(value) > 4:
        return f"{len(value)} entries"
    text = str(value)
    return text if text.strip() and len(text) <= most else shortened(value, most)


def _values(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; mappings that are values stay whole as well."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        found[f"{prefix}{name}"] = value
        if isinstance(value, dict):
            found.update(_values(value, f"{prefix}{name}."))
    return found

"""docs/configuration.md, made of the fields' descriptions and the registries. ``make docs`` writes it."""

from __future__ import annotations

from collections.abc import Iterator

from kaggle_kit.config.describe import Key, key_of, listed, section_of
from kaggle_kit.config.fields import Section
from kaggle_kit.config.sections import Config

MOST_LISTED = 20
_OPENING = """# Configuration

<!-- Made by `make docs` from the descriptions in kaggle_kit/config and the registries. Edit those. -->

`kk init` writes `kk.yaml` with all keys that count for the competition. `kk train key=value` sets a key of the section `run`
for one run, by its dotted key or its short name. `kk config KEY` prints a key with its value here and its choices.
"""


def document() -> str:
    """Return the text of docs/configuration.md."""
    return "\n".join([_OPENING, *_section(Config, "", "")]).rstrip() + "\n"


def _section(section: type[Section], prefix: str, text: str) -> Iterator[str]:
    """The keys of a section as a table, their choices, and then the sections in it."""
    fields = section.model_fields
    own = [key_of(field, f"{prefix}{name}") for name, field in fields.items() if section_of(field) is None]
    if prefix:
        yield f"## `{prefix.removesuffix('.')}`\n\n{text[:1].upper()}{text[1:]}.\n"
    if own:
        yield "| key | short | default | takes | what it is |\n| --- | --- | --- | --- | --- |"
        yield "\n".join(map(_row, own)) + "\n"
        yield from (line for key in own for line in _choices(key))
    for name, field in fields.items():
        inner = section_of(field)
        if inner is not None:
            yield from _section(inner, f"{prefix}{name}.", field.description or "")


def _row(key: Key) -> str:
    when = f" (where `{key.when.key}` is `{listed(key.when.values)}`)" if key.when else ""
    default = "must be given" if key.required else f"`{key.default!r}`".replace("'", '"')
    default = {"`None`": "`null`", "`True`": "`true`", "`False`": "`false`"}.get(default, default)
    cells = [f"`{key.name}`", f"`{key.short}`" if key.short else "", default, key.kind, f"{key.description}{when}"]
    return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"


def _choices(key: Key) -> Iterator[str]:
    """The choices of a key with their helps; those of a long list are left to `kk config`, since they are timm's."""
    if not any(key.choices.values()):
        return
    if len(key.choices) > MOST_LISTED:
        yield f"`kk config {key.name}` lists the choices of `{key.name}`.\n"
        return
    yield f"Choices of `{key.name}`:\n"
    yield "\n".join(f"- `{name}`: {help}" for name, help in key.choices.items()) + "\n"

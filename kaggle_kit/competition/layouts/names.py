"""Labels in the names of files: cat.0.jpg, dog_0017.png. The pattern is found, or given as {label} and {number}."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from kaggle_kit.competition.layouts.base import Layout, Material
from kaggle_kit.competition.layouts.labels import mapped
from kaggle_kit.competition.matching import inside
from kaggle_kit.competition.records import ImageRow, TrainReading
from kaggle_kit.competition.scan import is_below, role_folders, scan, without_suffix
from kaggle_kit.config import CompetitionConfig, TrainDataConfig
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.tables import shown

KNOWN = (
    "{label}.{number}",
    "{label}_{number}",
    "{label}-{number}",
    "{label} ({number})",
    "{label} {number}",
    "{number}_{label}",
    "{label}{number}",
)
"""Patterns that are looked for, the likeliest first."""
_PARTS = {"label": r"(?P<label>[^\W\d_](?:.*[^\W\d_])?)", "number": r"\d+", "any": r".*"}
_LEAST = 3
"""Images that a class has on average; else the names are names."""


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern of {label}, {number} and {any}.

    Raises:
        ConfigError: it has no label, or another part.
    """
    parts = re.split(r"\{(\w+)\}", pattern)
    unknown = [name for name in parts[1::2] if name not in _PARTS]
    if unknown or parts[1::2].count("label") != 1:
        raise ConfigError(f"a pattern of file names has {{label}} once, and else {{number}} and {{any}}; got {pattern!r}.")
    pieces = [re.escape(part) if at % 2 == 0 else _PARTS[part] for at, part in enumerate(parts)]
    return re.compile("".join(pieces))


def label_of(path: str, pattern: str) -> str | None:
    """Return the label in a file's name; None when it does not fit."""
    found = compiled(pattern).fullmatch(without_suffix(path.rpartition("/")[2]))
    return found["label"] if found else None


def _folders(material: Material) -> list[str]:
    given = material.asker.given_folders("train_dirs", material.tree.folders)
    roles = role_folders(material.tree)
    return given or roles.get("train", []) or ["."]


def _images(material: Material, folders: Sequence[str]) -> list[str]:
    tests = role_folders(material.tree).get("test", [])
    return [
        path
        for path in material.tree.images
        if any(is_below(path, folder) for folder in folders) and not any(is_below(path, folder) for folder in tests)
    ]


def _pattern(paths: Sequence[str], patterns: Iterable[str] = KNOWN) -> str | None:
    """The first pattern that all names fit and that makes classes of several images each."""
    for pattern in patterns:
        labels = [label_of(path, pattern) for path in paths]
        counts = Counter(label for label in labels if label is not None)
        if paths and None not in labels and len(counts) > 1 and len(paths) >= _LEAST * len(counts):
            return pattern
    return None


def _offers(material: Material) -> str | None:
    given = material.asker.given("pattern")
    pattern = given or _pattern(_images(material, _folders(material)))
    return f"the names of the files tell the class: {pattern}" if pattern else None


def _infer(material: Material) -> TrainReading:
    folders = _folders(material)
    paths = _images(material, folders)
    pattern = material.asker.given("pattern") or _pattern(paths) or ""
    labels = {path: label for path in paths if (label := label_of(path, pattern)) is not None}
    if len(labels) < len(paths):
        rest = [path for path in paths if path not in labels]
        material.asker.find(f"{len(rest):,} images have names that do not fit {pattern!r} and are left out: {shown(rest)}.")
    counts = Counter(labels.values())
    example = next(iter(labels), "")
    material.asker.find(
        f"labels are in the names of the files in {shown(folders)}, by the pattern {pattern}: of {example} it is "
        f"{labels.get(example, '')!r}; {len(counts)} classes, {len(labels):,} images."
    )
    config = TrainDataConfig(layout="names", dirs=folders, pattern=pattern)
    return TrainReading(config, tuple(counts), frozenset(labels), count=len(labels))


def _read(data_dir: Path, config: CompetitionConfig, own: Sequence[str]) -> list[ImageRow]:
    """Rows of all images whose names fit; ids are paths below their folder.

    Raises:
        DataError: none fits.
    """
    train = config.train
    rows = []
    for folder in (inside(data_dir, one, key="competition.train.dirs") for one in train.dirs):
        tests = [one for one in (config.test.dirs if config.test else []) if one != folder and is_below(one, folder)]
        start = 0 if folder == "." or len(train.dirs) > 1 else len(folder) + 1
        for path in scan(data_dir, folder, skip=[*tests, *own]).images:
            label = label_of(path, train.pattern or "")
            named = None if label is None else mapped(label, train.label_map)
            if named is not None:
                rows.append(ImageRow(path[start:], data_dir / path, (named,)))
    if not rows:
        raise DataError(f"no file in {shown(train.dirs)} has a name that fits {train.pattern!r}; correct kk.yaml.")
    return rows


NAMES = Layout(_offers, _infer, _read)

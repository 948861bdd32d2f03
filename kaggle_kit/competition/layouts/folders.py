"""The layout of a folder per class: finding the folders, and reading them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from kaggle_kit.competition.layouts.base import Layout, Material, note_held_out
from kaggle_kit.competition.layouts.labels import mapped
from kaggle_kit.competition.matching import inside
from kaggle_kit.competition.questions import Asker
from kaggle_kit.competition.records import ImageRow, TrainReading
from kaggle_kit.competition.sample import Sample
from kaggle_kit.competition.scan import Tree, around, common_folder, is_below, parent, role_folders, scan
from kaggle_kit.config import CompetitionConfig, TrainDataConfig
from kaggle_kit.errors import DataError
from kaggle_kit.registry import lookup
from kaggle_kit.tables import shown

logger = logging.getLogger(__name__)

LEVELS: dict[str, Callable[[Sequence[str]], str]] = {
    "first": lambda folders: folders[0],
    "last": lambda folders: folders[-1],
    "path": lambda folders: "/".join(folders),
}
"""Which of the folders between a root and an image names the class."""


def class_folders(tree: Tree, chosen: Sequence[str] = ()) -> dict[str, list[str]]:
    """For each role the folders that hold a folder per class; empty without any.

    Without a folder called train or the like, it is the deepest folder around all images that no other role claims.
    """
    roles = role_folders(tree)
    if chosen:
        roles["train"] = list(chosen)
    elif "train" not in roles:
        taken = [folder for folders in roles.values() for folder in folders]
        parents = {parent(path) for path in tree.images if not any(is_below(path, folder) for folder in taken)}
        # Images beside the class folders are no class: they may be the test images.
        inner = parents - {outer for folder in parents for outer in around(folder) if outer != folder}
        nested = inner if len(inner) > 1 else parents
        roles["train"] = [common_folder(nested)] if len(nested) > 1 else []
    holds = {
        folder: any(levels for _, levels in _levels(tree.images, folder)) for folders in roles.values() for folder in folders
    }
    kept = {
        role: [folder for folder in folders if holds[folder]]
        for role, folders in roles.items()
        if role in ("train", "val", "extra")
    }
    return {role: folders for role, folders in kept.items() if folders} if kept.get("train") else {}


def roots_of(material: Material) -> dict[str, list[str]]:
    """:func:`class_folders` of the data, with the training folders that were chosen."""
    return class_folders(material.tree, material.asker.given_folders("train_dirs", material.tree.folders))


def _offers(material: Material) -> str | None:
    roots = roots_of(material)
    return f"the folders in {shown(roots['train'])} are the classes" if roots else None


def _infer(material: Material) -> TrainReading:
    """Read the classes from a folder per class."""
    asker, tree, sample, roots = material.asker, material.tree, material.sample, roots_of(material)
    train, val, extra = (roots.get(role, []) for role in ("train", "val", "extra"))
    taken = [folder for folders in role_folders(tree).values() for folder in folders]
    parts = {
        role: [
            (path, levels)
            for folder in folders
            for path, levels in _levels(tree.images, folder, [other for other in taken if other != folder])
            if levels
        ]
        for role, folders in (("train", train), ("val", val), ("extra", extra))
    }
    found = [one for part in parts.values() for one in part]
    level = _class_level(asker, [levels for _, levels in found], sample)
    names = dict.fromkeys(LEVELS[level](levels) for _, levels in found)
    counts = Counter(LEVELS[level](levels) for _, levels in parts["train"])
    config = TrainDataConfig.model_validate(
        {"layout": "folders", "dirs": [*train, *val], "val_dirs": val, "train_only_dirs": extra, "class_level": level}
    )
    rare, common = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
    asker.find(
        f"{shown(train)} holds a folder per class: {len(counts)} classes, {counts.total():,} images, from {counts[rare]:,} "
        f"({rare!r}) to {counts[common]:,} ({common!r}) a class."
    )
    if val:
        note_held_out(asker, f"{shown(val)} holds {len(parts['val']):,} validation images", "the others")
    if extra:
        count = len(parts["extra"])
        asker.find(
            f"{shown(extra)} looks like additional data of {count:,} images: trained on (train_only_dirs), never validated on."
        )
    _note_empty(asker, tree, train, names)
    return TrainReading(config, tuple(names), frozenset(path for path, _ in found), count=len(found))


def _read(data_dir: Path, config: CompetitionConfig, own: Sequence[str]) -> list[ImageRow]:
    """Rows of all images in class folders."""
    return read_folders(data_dir, config, config.train.dirs, train_only=False, skip=own)


def read_folders(
    data_dir: Path, config: CompetitionConfig, dirs: Sequence[str], *, train_only: bool, skip: Sequence[str] = ()
) -> list[ImageRow]:
    """Rows of all images in class folders below ``dirs``; ids are paths relative to their root.

    With several roots, and for additional data, ids start with the root, since class folders repeat between roots.

    Raises:
        DataError: there are no images, or a root lies outside the data folder.
    """
    train, test = config.train, config.test
    roots = [inside(data_dir, folder, key="competition.train.dirs") for folder in dirs]
    others = [*train.dirs, *train.train_only_dirs, *(test.dirs if test else [])]
    prefixed = train_only or len(train.dirs) > 1
    name_class = lookup(LEVELS, train.class_level, "class level")
    rows: list[ImageRow] = []
    for folder in roots:
        nested = [other for other in others if other != folder and is_below(other, folder)]
        # Links need no resolving: a path below the data folder is good enough to open.
        tree = scan(data_dir, folder, skip=[*nested, *skip])
        start = 0 if prefixed or folder == "." else len(folder) + 1
        fold = 0 if folder in train.val_dirs else None
        loose = 0
        for path, levels in _levels(tree.images, folder):
            if not levels:
                loose += 1
                continue
            label = mapped(name_class(levels), train.label_map)
            if label is not None:
                rows.append(ImageRow(path[start:], data_dir / path, (label,), None, train_only, fold))
        if loose:
            logger.warning("%d images lie in %s itself, in no class folder; they are left out", loose, data_dir / folder)
    if not rows:
        raise DataError(f"no images in class folders below {shown(str(data_dir / folder) for folder in roots)}.")
    return rows


def _levels(images: Sequence[str], folder: str, without: Collection[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """Images below ``folder``, each with the folders between the two."""
    start = 0 if folder == "." else len(folder) + 1
    nested = [other for other in without if is_below(other, folder)]
    for path in images:
        if is_below(path, folder) and not any(is_below(path, other) for other in nested):
            yield path, path[start:].split("/")[:-1]


def _class_level(asker: Asker, found: Sequence[Sequence[str]], sample: Sample | None) -> str:
    depths = {len(levels) for levels in found}
    text = (
        "class folders are nested. Which folder names the class? (If the outer ones are parts of the data, such as training "
        "and test images, name them with train_dirs=FOLDER and test_dirs=FOLDER instead.)"
    )
    names = {level: dict.fromkeys(name(levels) for levels in found) for level, name in LEVELS.items()}
    meanings = {
        "first": "the outermost one, whatever lies below",
        "last": "the one that the image lies in",
        "path": "all of them, joined by /",
    }
    options = {level: f"{meanings[level]}: {len(names[level])} classes, {shown(map(repr, names[level]))}" for level in LEVELS}
    if depths == {1}:
        asker.given("class_level")
        return "first"
    stated = set(sample.named) if sample else set()
    fits = [level for level in LEVELS if stated and stated <= set(names[level])]
    if len(fits) == 1:
        why = f"class folders are nested; the class is {meanings[fits[0]]}, for the sample submission has these names."
        return asker.ask("class_level", text, options, default=fits[0], settled=why)
    # Images beside sub-folders of a class: with "last" a class would be inside another.
    return asker.ask("class_level", text, options, default="first" if 1 in depths else None)


def _note_empty(asker: Asker, tree: Tree, roots: Sequence[str], counts: Collection[str]) -> None:
    empty = [
        name
        for folder in tree.folders
        if parent(folder) in roots
        and (name := folder.rpartition("/")[2]) not in counts
        and not any(is_below(path, folder) for path in tree.images)
    ]
    if empty:
        asker.find(
            f"the folders {shown(map(repr, empty))} hold no images; they are no classes unless the sample submission says so."
        )


FOLDERS = Layout(_offers, _infer, _read)

"""``kk init``: what a folder of competition data says about itself, every step a finding or a question."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kaggle_kit.choices import CONTAINERS, LAYOUTS
from kaggle_kit.competition.channels import infer_channels
from kaggle_kit.competition.containers import Progress, find_containers
from kaggle_kit.competition.form import infer_goal, infer_metric, infer_open_class, two_classes
from kaggle_kit.competition.known import recognise
from kaggle_kit.competition.layouts import Layout, Material, columns
from kaggle_kit.competition.layouts.columns import CsvTable
from kaggle_kit.competition.layouts.csv import labelled
from kaggle_kit.competition.layouts.folders import roots_of
from kaggle_kit.competition.matching import ImageIndex
from kaggle_kit.competition.places import candidate_dirs, infer_test
from kaggle_kit.competition.questions import Asker, Inference, quoted
from kaggle_kit.competition.records import TrainReading
from kaggle_kit.competition.sample import find_sample
from kaggle_kit.competition.scan import IMAGE_SUFFIXES, own_folders, parent, scan, what_lies_there
from kaggle_kit.config import CompetitionConfig, FoldsConfig
from kaggle_kit.errors import DataError
from kaggle_kit.metrics import Metric, get_metric, is_of_numbers
from kaggle_kit.tables import shown

_NULL_WORDS = frozenset({"na", "n/a", "none", "null", "nan"})


@dataclass(frozen=True)
class Told:
    """What a user says of a competition; None where nothing."""

    metric: Metric | None
    name: str | None
    competition: str | None


def infer_competition(
    data_dir: Path,
    *,
    workspace_root: Path,
    choices: Mapping[str, str] | None = None,
    metric: str | None = None,
    name: str | None = None,
    competition: str | None = None,
    progress: Progress | None = None,
) -> Inference:
    """Look at ``data_dir`` and conclude what the competition is.

    No image is opened. Containers of images are unpacked into the workspace; nothing else is written.

    Args:
        workspace_root: where kk.yaml will lie; ``data_dir`` is stored relative to it where that is sensible.
        choices: answers to questions, by their keys.
        metric: how Kaggle scores; without it the usual metric of the form of submission.
        name: of the competition; without it the folder's.
        competition: its address at Kaggle, of which something may be known; without it the folder's name may tell.
        progress: told how many pictures of a container are unpacked.

    Raises:
        AmbiguousDataError: there are several readings and no safe default; lists them and how to choose.
        DataError: the data cannot be read as any layout, or contradicts itself.
        ConfigError: a choice that is not on offer, or an unknown metric.
    """
    asker = Asker(choices or {})
    asker.command = f"kk init {quoted(str(data_dir))}"
    try:
        told = Told(None if metric is None else get_metric(metric, Path(workspace_root)), name, competition)
        config, folds = _infer(asker, Path(data_dir), Path(workspace_root), told, progress)
    except DataError:
        # What follows from a provisional answer may be wrong; the question comes first.
        if asker.unanswered:
            raise asker.ambiguity() from None
        raise
    asker.settle()
    return Inference(config, asker.findings, asker.questions, folds)


def _infer(
    asker: Asker, data_dir: Path, root: Path, told: Told, progress: Progress | None
) -> tuple[CompetitionConfig, FoldsConfig]:
    own = own_folders(data_dir, root)
    containers, folder = find_containers(asker, data_dir, root, own, progress)
    tree = scan(folder, skip=own)
    if not tree.images:
        raise DataError(
            f"no images in {data_dir}: {what_lies_there(tree)}. Expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}, "
            f"or a container of images: {'; '.join(CONTAINERS.helps.values())}."
        )
    index = ImageIndex(tree.images, candidate_dirs(tree))
    sample = find_sample(asker, folder, tree, index)
    known = recognise(asker, told.competition, data_dir.resolve().name, sample)
    metric = told.metric
    if known is not None and metric is None:
        if is_of_numbers(known.metric):
            raise DataError(f"{known.slug} is a regression: it wants a number, and kaggle_kit classifies images.")
        metric = get_metric(known.metric)
    tables = columns.read_tables(asker, folder, tree, sample, index)
    material = Material(asker, folder, tree, index, sample, tables)
    train = _infer_train(material)
    if len(train.names) < 2:
        raise DataError(f"only one class ({train.names[0]!r}) was found in {data_dir}; a classification needs two or more.")
    _note_names(asker, train.names)
    train = two_classes(asker, train, sample, metric)
    test = infer_test(material, sample, train)
    goal = infer_goal(asker, folder, tree, train, sample, metric)
    asker.find(f"the task is {goal.task} with {len(goal.classes)} classes, in this order: {shown(map(repr, goal.classes))}.")
    config = CompetitionConfig.model_validate(
        {
            "name": told.name or data_dir.resolve().name or "competition",
            "data_dir": stored_path(data_dir, root),
            "containers": [one.model_dump() for one in containers],
            "task": goal.task,
            "metric": infer_metric(asker, goal, metric, given=told.metric is not None),
            "classes": goal.classes,
            "channels": infer_channels(asker, folder, sorted(train.images), containers),
            "open_class": infer_open_class(asker, goal),
            "train": train.config,
            "test": test,
            "submission": goal.submission,
        }
    )
    stated = bool(train.config.val_dirs or train.config.val_csv)
    return config, FoldsConfig(scheme="column" if stated else "auto")


def stored_path(data_dir: Path, workspace_root: Path) -> str:
    """``data_dir`` relative to the workspace unless that is longer or climbs more than three folders."""
    absolute = data_dir.resolve()
    try:
        relative = Path(os.path.relpath(absolute, workspace_root.resolve()))
    except ValueError:  # another drive
        return absolute.as_posix()
    climbs = sum(part == ".." for part in relative.parts)
    short = climbs <= 3 and len(relative.as_posix()) <= len(absolute.as_posix())
    return (relative if short else absolute).as_posix()


def _infer_train(material: Material) -> TrainReading:
    offers = {name: text for name in LAYOUTS if (text := LAYOUTS[name].offers(material))}
    if len(offers) > 1:  # the names of files are read where nothing else tells the classes
        offers.pop("names", None)
    if not offers:
        asker, tree = material.asker, material.tree
        aside = [finding for finding in asker.findings if "left aside" in finding]
        raise DataError(
            f"found {len(tree.images):,} images in {shown(sorted(set(map(parent, tree.images))))}, but no labels: neither a "
            "folder per class nor a CSV with an image column and a label column, nor JSON with annotations, nor names such as "
            f"cat.0.jpg (besides images {what_lies_there(tree)}). If a folder per class has an unusual name, give the one "
            "around it with --choose train_dirs=FOLDER; if the names tell the class, say how with "
            "--choose 'pattern={label}.{number}'. " + " ".join(aside)
        )
    layout: Layout = LAYOUTS[_layout(material, offers)]
    return layout.infer(material)


def _layout(material: Material, offers: Mapping[str, str]) -> str:
    """Where labels come from, if several sources look possible."""
    asker = material.asker
    if len(offers) == 1:
        asker.given("layout")
        return next(iter(offers))
    text = "several sources could hold the labels. Which do?"
    if "coco" in offers:
        why = f"labels come from {offers['coco']}."
        return asker.ask("layout", text, offers, default="coco", settled=why)
    place = shown(roots_of(material)["train"])
    agreement = max(_agreement(table, material.index) for table in labelled(material.tables))
    if agreement in (0.0, 1.0):
        why = "folders and table agree" if agreement else f"the folders in {place} are not called like any label there"
        return asker.ask("layout", text, offers, default="csv", settled=f"{offers['csv']}; {why}.")
    return asker.ask("layout", text, offers)


def _agreement(table: CsvTable, index: ImageIndex) -> float:
    """The largest share of rows, over the columns, whose cell is a folder around the row's image."""
    found = [index.find(cell) for cell in table.frame[table.image_columns[0]]]
    around = [set(paths[0].split("/")[:-1]) if len(paths) == 1 else set() for paths in found]
    known = [bool(folders) for folders in around]
    if not any(known):
        return 0.0
    rest = table.rest(table.image_columns[0])
    return max(
        (
            sum(cell in folders for cell, folders in zip(table.frame[column], around, strict=True)) / sum(known)
            for column in rest
        ),
        default=0.0,
    )


def _note_names(asker: Asker, names: Iterable[str]) -> None:
    """Say which class names are easily taken for something else; they are kept as they stand."""
    alike = defaultdict(list)
    for name in names:
        alike[" ".join(name.casefold().split())].append(name)
    for group in alike.values():
        if len(group) > 1:
            asker.find(
                f"the classes {', '.join(map(repr, group))} differ only by case or blanks, and are kept apart; to join them, "
                "use label_map in kk.yaml."
            )
    null = [name for name in names if name.lower() in _NULL_WORDS]
    if null:
        asker.find(f"{shown(map(repr, null))} is read as the name of a class, not as a missing value.")

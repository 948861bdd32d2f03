"""``kk init``: what a folder of competition data says about itself, every step a finding or a question."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from kaggle_kit.competition import columns
from kaggle_kit.competition.columns import CsvTable
from kaggle_kit.competition.folders import class_folders, infer_folders
from kaggle_kit.competition.form import infer_goal, infer_metric
from kaggle_kit.competition.labels import mapped, split_cell
from kaggle_kit.competition.matching import ImageIndex, leaves_folder
from kaggle_kit.competition.places import choose_dirs, infer_test, train_places
from kaggle_kit.competition.questions import Asker, Inference
from kaggle_kit.competition.records import TrainReading
from kaggle_kit.competition.sample import Sample, find_sample
from kaggle_kit.competition.scan import IMAGE_SUFFIXES, Tree, own_folders, parent, scan
from kaggle_kit.config import CompetitionConfig, FoldsConfig, TrainDataConfig
from kaggle_kit.errors import DataError
from kaggle_kit.metrics import Metric, get_metric
from kaggle_kit.tables import shown

_NULL_WORDS = frozenset({"na", "n/a", "none", "null", "nan"})


def infer_competition(
    data_dir: Path,
    *,
    workspace_root: Path,
    choices: Mapping[str, str] | None = None,
    metric: str | None = None,
    name: str | None = None,
) -> Inference:
    """Look at ``data_dir`` and conclude what the competition is; nothing is written and no image is opened.

    Args:
        workspace_root: where kk.yaml will lie; ``data_dir`` is stored relative to it where that is sensible.
        choices: answers to questions, by their keys.
        metric: how Kaggle scores; without it the usual metric of the form of submission.
        name: of the competition; without it the folder's.

    Raises:
        AmbiguousDataError: there are several readings and no safe default; lists them and how to choose.
        DataError: the data cannot be read as any layout, or contradicts itself.
        ConfigError: a choice that is not on offer, or an unknown metric.
    """
    asker = Asker(choices or {})
    try:
        known = None if metric is None else get_metric(metric, Path(workspace_root))
        config, folds = _infer(asker, Path(data_dir), Path(workspace_root), known, name)
    except DataError:
        # What follows from a provisional answer may be wrong; the question comes first.
        if asker.unanswered:
            raise asker.ambiguity() from None
        raise
    asker.settle()
    return Inference(config, asker.findings, asker.questions, folds)


def _infer(
    asker: Asker, data_dir: Path, workspace_root: Path, metric: Metric | None, name: str | None
) -> tuple[CompetitionConfig, FoldsConfig]:
    tree = scan(data_dir, skip=own_folders(data_dir, workspace_root))
    if not tree.images:
        raise DataError(f"no images in {data_dir}; expected files that end in {', '.join(sorted(IMAGE_SUFFIXES))}.")
    index = ImageIndex(tree.images)
    sample = find_sample(asker, data_dir, tree, index)
    tables = columns.read_tables(asker, data_dir, tree, sample, index)
    train = _infer_train(asker, tree, tables, sample, index)
    if len(train.names) < 2:
        raise DataError(f"only one class ({train.names[0]!r}) was found in {data_dir}; a classification needs two or more.")
    _note_names(asker, train.names)
    test = infer_test(asker, tree, sample, tables, train)
    goal = infer_goal(asker, data_dir, tree, train, sample, metric)
    asker.find(f"the task is {goal.task} with {len(goal.classes)} classes, in this order: {shown(map(repr, goal.classes))}.")
    config = CompetitionConfig.model_validate(
        {
            "name": name or data_dir.resolve().name or "competition",
            "data_dir": stored_path(data_dir, workspace_root),
            "task": goal.task,
            "metric": infer_metric(asker, goal, metric),
            "classes": goal.classes,
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


def _infer_train(
    asker: Asker, tree: Tree, tables: Sequence[CsvTable], sample: Sample | None, index: ImageIndex
) -> TrainReading:
    roots = class_folders(tree, asker.given_folders("train_dirs", tree.folders))
    labelled = [table for table in tables if table.role not in ("test", "val") and table.rest(table.image_columns[0])]
    if not labelled and not roots:
        aside = [finding for finding in asker.findings if "left aside" in finding]
        raise DataError(
            f"found {len(tree.images):,} images in {shown(sorted(set(map(parent, tree.images))))}, but no labels: neither a "
            f"folder per class nor a CSV with an image column and a label column (CSV files: {shown(tree.tables) or 'none'}). "
            "If a folder per class has an unusual name, give the one around it with --choose train_dirs=FOLDER. "
            + " ".join(aside)
        )
    layout = _layout(asker, labelled, roots, index)
    if layout == "csv":
        return _infer_csv(asker, tree, labelled, tables, sample, index)
    return infer_folders(asker, tree, roots, sample)


def _layout(asker: Asker, labelled: Sequence[CsvTable], roots: Mapping[str, Sequence[str]], index: ImageIndex) -> str:
    """Whether labels come from folders or from a table, where both look possible."""
    if not labelled or not roots:
        asker.given("layout")
        return "csv" if labelled else "folders"
    files, place = shown(table.file for table in labelled), shown(roots["train"])
    options = {"csv": f"labels from {files}", "folders": f"the folders in {place} are the classes"}
    text = "both a table and the folders could hold the labels. Which do?"
    agreement = max(_agreement(table, index) for table in labelled)
    if agreement in (0.0, 1.0):
        why = "folders and table agree" if agreement else f"the folders in {place} are not called like any label there"
        return asker.ask("layout", text, options, default="csv", settled=f"labels come from {files}; {why}.")
    return asker.ask("layout", text, options)


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


def _infer_csv(
    asker: Asker,
    tree: Tree,
    labelled: Sequence[CsvTable],
    tables: Sequence[CsvTable],
    sample: Sample | None,
    index: ImageIndex,
) -> TrainReading:
    table = columns.choose_table(asker, labelled)
    image_column = columns.choose_image_column(asker, table, index, sample)
    label_columns = columns.choose_label_columns(asker, table, image_column, sample)
    held_out = _held_out(asker, table, tables, [image_column, *label_columns])
    frame = pd.concat([table.frame, held_out.frame], ignore_index=True) if held_out else table.frame
    cells = list(frame[image_column])
    if any(map(leaves_folder, cells)):
        index.require(cells, source=table.file)
    dirs, found = choose_dirs(asker, "train_dirs", cells, train_places(tree), source=table.file)
    missing = [cell for cell, paths in zip(cells, found, strict=True) if not paths]
    asker.find(f"{len(cells) - len(missing):,} of {len(cells):,} rows of {table.file} name images in {shown(dirs)}.")
    if missing:
        asker.find(f"{len(missing):,} rows have no image ({shown(map(repr, missing))}); until that is mended nothing loads.")
    names, fields, multilabel = _infer_labels(asker, frame, label_columns, table.file, sample)
    taken = [image_column, *label_columns]
    fold_column = columns.fold_column(asker, table, taken)
    config = TrainDataConfig.model_validate(
        {
            "layout": "csv",
            "dirs": dirs or ["."],
            "csv": table.file,
            "val_csv": held_out.file if held_out else None,
            "image_column": image_column,
            "label_columns": label_columns,
            "group_column": columns.choose_group(asker, table, [*taken, fold_column] if fold_column else taken),
            "fold_column": fold_column,
            **fields,
        }
    )
    images = frozenset(path for paths in found for path in paths)
    return TrainReading(config, tuple(names), images, multilabel, True, len(cells))


def _held_out(asker: Asker, table: CsvTable, tables: Sequence[CsvTable], needed: Sequence[str]) -> CsvTable | None:
    fitting = [other for other in tables if other.role == "val" and set(needed) <= set(other.frame.columns)]
    if len(fitting) != 1 or fitting[0] is table:
        return None
    asker.find(
        f"{fitting[0].file} holds validation rows: they get fold 0, and `kk folds` (scheme column) makes that one fold; the "
        f"rows of {table.file} are only trained on. To cross-validate over all of them, set scheme: auto in kk.yaml."
    )
    return fitting[0]


def _infer_labels(
    asker: Asker, frame: pd.DataFrame, label_columns: Sequence[str], file: str, sample: Sample | None
) -> tuple[list[str], dict[str, object], bool]:
    """Classes by first appearance, entries for the ``train`` section, and whether rows have several labels or none."""
    if len(label_columns) > 1:
        exclusive = columns.is_exclusive(frame, label_columns)
        options = {"multiclass": "one class each", "multilabel": "any number of classes, by chance never but one"}
        if not exclusive:
            asker.find(f"the 0/1 columns of {file} have rows with several labels or none: the task is multilabel.")
            return list(label_columns), {}, True
        why = f"every row of {file} has exactly one 1: one class each."
        task = asker.ask(
            "task", f"rows of {file} have one label each. Is that the rule?", options, default="multiclass", settled=why
        )
        return list(label_columns), {}, task == "multilabel"
    cells = list(frame[label_columns[0]])
    source = f"column {label_columns[0]!r} of {file}"
    separator = columns.choose_separator(asker, cells, source, sample)
    label_map = columns.choose_missing(asker, cells, source, several=separator is not None)
    kept = [cell for cell in (mapped(cell, label_map) for cell in dict.fromkeys(cells)) if cell is not None]
    names = list(dict.fromkeys(label for cell in kept for label in split_cell(cell, separator)))
    fields: dict[str, object] = {"label_separator": separator, "label_map": label_map}
    return names, fields, separator is not None


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

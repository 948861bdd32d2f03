"""``kk evaluate``: what runs score on labelled images that none of their models has seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaggle_kit import diagnosis, files, runs
from kaggle_kit.competition.layouts.labels import YES, is_switch
from kaggle_kit.competition.tabular import read_frame
from kaggle_kit.errors import ClassMappingError, ConfigError, DataError, MissingFileError
from kaggle_kit.fold_names import fold_text
from kaggle_kit.images.decode import Progress
from kaggle_kit.metrics import METRICS, Metric, get_metric
from kaggle_kit.registry import suggest
from kaggle_kit.report.blocks import Notes, Section, Table
from kaggle_kit.report.make import REPORT, ReportResult, write_subject
from kaggle_kit.report.subjects import Subject
from kaggle_kit.results import Result, plain
from kaggle_kit.runs.plots import Plots
from kaggle_kit.runs.scored import Scored
from kaggle_kit.tables import Classes, Labels, shown
from kaggle_kit.workspace import Workspace

Array = npt.NDArray[Any]
USUAL = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "log_loss")
IMAGE_COLUMNS = ("image", "path", "file", "filename", "file_name", "image_path", "id", "image_id")
LABEL_COLUMNS = ("label", "labels", "class", "classes", "target", "category")
SEPARATORS = ("|", ";", ",", " ")
"""Between the labels of a multi-label cell; the first that occurs counts."""


@dataclass(frozen=True)
class Wanted:
    """What is to be evaluated.

    Attributes:
        runs: names with commas between them, or a path; None: the newest run.
        metrics: none: :data:`USUAL` and that of the run.
    """

    runs: str | None = None
    metrics: tuple[str, ...] = ()
    tta: str = "none"
    merge: str = "mean"


@dataclass(frozen=True, repr=False)
class Evaluation(Result, Plots):
    """What came out.

    Attributes:
        path: the CSV of predictions beside the truth.
        scores: a row a fold, a run and, where there are several models, the ensemble; a column a metric.
        page: the page about the ensemble's mean.
        unreadable: id -> why an image has no row.
    """

    path: Path
    scores: pd.DataFrame
    page: ReportResult
    unreadable: dict[str, str]
    _rows: Scored = field(compare=False)

    def scored(self) -> Scored:
        """Return the rows as the mean of all models predicts them."""
        return self._rows

    def table(self) -> pd.DataFrame:
        """Return the scores."""
        return self.scores

    def describe(self) -> str:
        """Return the score of the mean, and where its rows and its page lie."""
        left = f"; {len(self.unreadable)} images cannot be read and are left out" if self.unreadable else ""
        score = f"{self._rows.metric.name} {self._rows.score:.4f} over {len(self._rows):,} images"
        return f"{score} by the mean of all models{left}\nwrote {self.path} and {self.page.path}"

    def to_dict(self) -> dict[str, Any]:
        """Return the scores, and where rows and page lie."""
        facts = {"path": self.path, "page": self.page.path, "n": len(self._rows), "unreadable": self.unreadable}
        return {**plain(facts), "scores": plain(self.scores)}


def evaluate(
    workspace: Workspace, data: Path, out: Path, wanted: Wanted | None = None, *, progress: Progress | None = None
) -> Evaluation:
    """Predict labelled images and score each fold, each run, and the ensemble as mean and as vote.

    Args:
        data: a folder with a folder for each class, or a CSV with a column of image files and one of labels, several with ``|``
            between them, or a 0/1 column for each class.
        out: the CSV to write; the page is ``report/evaluation-<data>.html`` in the workspace.

    Raises:
        MissingFileError: there are no such data or runs.
        ClassMappingError: labels are none of the models' classes; names them.
        ConfigError: there is no such metric, or it is not for this task.
        DataError, ImageError: the data cannot be read.
    """
    if not data.exists():  # before PyTorch is imported
        raise MissingFileError(f"there is no {data}; expected a folder with a folder for each class, or a CSV of labels.")
    from kaggle_kit.inference.folder import find_models, predict_each, run_paths, thresholds_of
    from kaggle_kit.inference.predict import Compute
    from kaggle_kit.models import read_header

    wanted = wanted or Wanted()
    paths = run_paths(workspace, wanted.runs)
    models = [find_models(path) for path in paths]
    header = read_header(models[0][0])
    classes, multilabel = Classes(tuple(header["classes"])), header["task"] == "multilabel"
    metrics = _metrics(wanted.metrics, _metric_of(paths[0]), len(classes), multilabel=multilabel, root=workspace.root)
    rows = read_labelled(data, classes, multilabel=multilabel)
    images = [(row_id, path) for row_id, path, _ in rows]
    compute = Compute(cache_dir=workspace.cache_dir)
    said = predict_each(models, images, tta=wanted.tta, merge=wanted.merge, compute=compute, progress=progress)
    labels = {row_id: own for row_id, _, own in rows}
    own = [labels[row_id] for row_id in said.ids]
    truth = classes.encode_rows(own) if multilabel else classes.encode(row[0] for row in own)
    names = [path.name for path in paths]
    threshold = thresholds_of(workspace, names, len(classes))[0] if multilabel else 0.5
    scores, mean = _score_all(names, said.models, said.of_runs, truth, metrics, threshold)
    scored = Scored(said.ids, truth, mean, classes, metrics[0], np.full(len(truth), -1), np.arange(len(truth)), threshold)
    _write_rows(out, scored)
    subject = Subject(data.stem, "evaluation", scored, dict(images))
    place = workspace.root / REPORT / f"evaluation-{data.resolve().stem}.html"
    first = [Section("models-scores", "Models and ensemble", [Table(scores), Notes([_ABOUT])])]
    page = write_subject(workspace, subject, place, first=first)
    return Evaluation(out, scores, page, said.unreadable, scored)


_ABOUT = (
    "mean: of the probabilities of each run's folds, then over runs; vote: the label that most models name, ties by the mean."
)


def _metric_of(path: Path) -> str | None:
    """Return the metric of the run at ``path``; None for a model file of no run."""
    return runs.record.read_run_record(path).metric if (path / runs.RUN_RECORD).is_file() else None


def _metrics(asked: Sequence[str], own: str | None, n_classes: int, *, multilabel: bool, root: Path) -> list[Metric]:
    """Return the metrics that were asked for, else the usual ones after that of the run.

    Raises:
        ConfigError: one is unknown, or not for this task.
    """
    if asked:
        found = [get_metric(name, root) for name in dict.fromkeys(asked)]
        wrong = [one.name for one in found if not _fits(one, n_classes, multilabel=multilabel)]
        if wrong:
            kind = "multi-label rows" if multilabel else f"rows of {n_classes} classes"
            raise ConfigError(f"metric {shown(wrong)} is not for {kind}. Choose others of: {METRICS.listed}.")
        return found
    known = [get_metric(name, root) for name in dict.fromkeys([*([own] if own else []), *USUAL])]
    return [one for one in known if _fits(one, n_classes, multilabel=multilabel)]


def _fits(metric: Metric, n_classes: int, *, multilabel: bool) -> bool:
    if metric.two_classes and n_classes != 2:
        return False
    return metric.multilabel if multilabel else metric.single_label


def read_labelled(data: Path, classes: Classes, *, multilabel: bool) -> list[tuple[str, Path, Labels]]:
    """Return id, file and labels of each image of a folder of class folders, or of a CSV.

    Raises:
        MissingFileError: there are no such data, or image files of the CSV are missing; names them.
        ClassMappingError: labels are none of ``classes``; names them with the nearest class.
        DataError: a row has no label or several where it needs one, or the columns cannot be told.
    """
    rows = _from_csv(data, classes, multilabel=multilabel) if data.suffix.lower() == ".csv" else _from_folders(data)
    unknown = Counter(label for _, _, labels in rows for label in labels if label not in classes)
    if unknown:
        listed = shown(f"{name!r} ({count} images){suggest(name, classes)}" for name, count in unknown.most_common())
        raise ClassMappingError(
            f"{data}: {len(unknown)} labels are none of the {len(classes)} classes that the models know: {listed}. The classes "
            f"are {shown(map(repr, classes))}. Correct the labels, or leave those images out."
        )
    wrong = [row_id for row_id, _, labels in rows if not multilabel and len(labels) != 1]
    if wrong:
        raise DataError(f"{data}: {len(wrong)} rows do not have exactly one label: {shown(wrong)}.")
    return rows


def _from_folders(data: Path) -> list[tuple[str, Path, Labels]]:
    from kaggle_kit.inference.folder import find_images

    found = find_images(data)
    loose = [row_id for row_id, _ in found if "/" not in row_id]
    if loose:
        raise DataError(
            f"{len(loose)} images lie in {data} itself: {shown(loose)}. Expected a folder for each class, or a CSV of labels."
        )
    return [(row_id, path, (row_id.split("/")[0],)) for row_id, path in found]


def _from_csv(data: Path, classes: Classes, *, multilabel: bool) -> list[tuple[str, Path, Labels]]:
    frame = read_frame(data)
    image = _column(frame, IMAGE_COLUMNS, "images", data)
    switches = [name for name in frame.columns if name in classes and name != image and is_switch(frame[name])]
    if len(switches) > 1 or set(switches) == set(classes):
        on = frame[switches].isin(YES).to_numpy()
        labels: list[Labels] = [tuple(name for name, flag in zip(switches, row, strict=True) if flag) for row in on]
    else:
        cells = frame[_column(frame.drop(columns=image), LABEL_COLUMNS, "labels", data)]
        separator = next((sign for sign in SEPARATORS if cells.str.contains(sign, regex=False).any()), None)
        split = separator if multilabel else None
        labels = [tuple(part for part in map(str.strip, cell.split(split)) if part) if split else (cell,) for cell in cells]
    paths = [data.parent / name for name in frame[image]]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise MissingFileError(f"{data}: {len(missing)} of {len(paths)} images are missing: {shown(missing)}.")
    return list(zip(frame[image], paths, labels, strict=True))


def _column(frame: pd.DataFrame, usual: Sequence[str], what: str, data: Path) -> str:
    """Return the column with a usual name, or the only one."""
    named = [str(name) for name in frame.columns if str(name).lower() in usual]
    if named:
        return named[0]
    if len(frame.columns) == 1:
        return str(frame.columns[0])
    raise DataError(f"{data}: no column of {what} among {shown(map(repr, frame.columns))}; call it {usual[0]!r}.")


def _score_all(
    names: Sequence[str],
    models: Sequence[Sequence[Any]],
    of_runs: Sequence[Array],
    truth: Array,
    metrics: Sequence[Metric],
    threshold: npt.ArrayLike,
) -> tuple[pd.DataFrame, Array]:
    """Return a row of scores for each model, run and ensemble, and what the mean of all says, (N, C)."""
    rows: list[list[Any]] = []

    def add(name: str, what: str, probs: Array, *, hard: bool = False) -> None:
        scores = [
            math.nan if hard and one.needs == "probs" else one(truth, probs, threshold=0.5 if hard else threshold)
            for one in metrics
        ]
        rows.append([name, what, *scores])

    means = [part.mean(axis=0, dtype=np.float64) for part in of_runs]
    for name, some, part, mean in zip(names, models, of_runs, means, strict=True):
        for model, probs in zip(some, part, strict=True):
            add(name, fold_text(int(model.meta["fold"])) if "fold" in model.meta else "fold ?", probs)
        if len(part) > 1:
            add(name, "mean of folds", mean)
    mean = np.mean(means, axis=0)
    if len(means) > 1:
        add("ensemble", "mean", mean)
    if sum(map(len, of_runs)) > 1:
        add(
            "ensemble",
            "vote",
            diagnosis.votes(np.concatenate(list(of_runs)), mean, threshold, multilabel=truth.ndim == 2),
            hard=True,
        )
    return pd.DataFrame(rows, columns=["run", "what", *(one.name for one in metrics)]), mean


def _write_rows(out: Path, scored: Scored) -> None:
    """Write id, truth, predicted, right, probability, and a probability for each class."""
    right, sure = scored.sureness
    numbers = range(len(scored))

    named = (["|".join(scored.labels_of(row, predicted=predicted)) for row in numbers] for predicted in (False, True))
    columns: list[Any] = [
        *(scored.ids, *named),
        *(np.where(right, "yes", "no"), sure.round(6).astype(str), *scored.probs.T.round(6).astype(str)),
    ]
    names = ["id", "truth", "predicted", "right", "probability", *(f"p_{name}" for name in scored.classes)]
    files.write_table(out, pd.DataFrame(list(zip(*columns, strict=True)), columns=names))

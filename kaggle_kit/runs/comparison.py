"""Runs beside each other: the table of all, what two of them differ in and by how much, and deleting one. No torch here."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kaggle_kit import files
from kaggle_kit.errors import ConfigError, KaggleKitError, LockedError
from kaggle_kit.metrics import Metric, get_metric
from kaggle_kit.results import Done, Result, plain
from kaggle_kit.runs.blend_record import blend_records
from kaggle_kit.runs.files import FoldRun, Run, choose_runs, image_size, list_runs, predictions_held, read_oof, read_run
from kaggle_kit.runs.record import RUN_RECORD
from kaggle_kit.tables import read_folds, shown
from kaggle_kit.workspace import Workspace

LOCK = ".lock"
"""File in a run's folder that whoever trains the run keeps locked."""
COLUMNS = (
    *("run", "model", "strategy", "image_size", "lr", "epochs", "folds", "metric", "score", "spread", "seconds"),
    *("state", "created"),
)
_OPTIONAL = ("seconds", "metric", "spread", "state", "folds")


def runs_table(workspace: Workspace) -> pd.DataFrame:
    """Return a row for each run, the best score first, those without a score last.

    Columns: run, model, strategy, image_size, lr (none where stages differ), epochs (neither for a probe), folds ("3/5"),
    metric, score (mean of the finished folds), spread (their standard deviation; NaN for one fold), seconds, state ("finished",
    "partial": some folds are done, "begun" or "empty"), created (UTC).
    """
    listed = (_row(read_run(workspace, name)) for name in list_runs(workspace))
    rows = sorted(listed, key=lambda row: _standing(row, workspace.root))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["epochs"] = pd.Series([row["epochs"] for row in rows], dtype=object)  # whole numbers, beside none
    frame["created"] = pd.to_datetime(frame["created"], utc=True, errors="coerce")
    frame.attrs["optional"], frame.attrs["shortened"] = _OPTIONAL, ("run", "model")
    return frame


def _row(run: Run) -> dict[str, Any]:
    folds = run.folds
    done = [fold for fold in folds if fold.finished]
    scores = fold_scores(done)
    config = run.record.config
    probe, rates = config.strategy == "probe", {stage.optimizer.lr for stage in config.stage_configs}
    begun = "begun" if any(fold.record.state != "empty" for fold in folds) else "empty"
    return {
        "run": run.name,
        "model": config.model.name,
        "strategy": config.strategy,
        "image_size": _size(run),
        "lr": math.nan if probe or len(rates) > 1 else rates.pop(),
        "epochs": None if probe else config.total_epochs,
        "folds": f"{len(done)}/{len(folds)}{' + full' if run.full.finished else ''}",
        "metric": run.record.metric,
        "score": mean(scores.values()),
        "spread": float(np.std(list(scores.values()), ddof=1)) if len(scores) > 1 else math.nan,
        "seconds": float(sum(fold.record.seconds for fold in folds)),
        "state": "finished" if len(done) == len(folds) else "partial" if done else begun,
        "created": run.record.created,
    }


def _size(run: Run) -> str:
    """Return the size that the models see, "224" for squares."""
    size = image_size(run)
    return "model's own" if size is None else "x".join(map(str, dict.fromkeys(size)))


def _standing(row: Mapping[str, Any], root: Path) -> tuple[bool, float]:
    """Return what to sort by: the better, the smaller."""
    score = row["score"]
    if math.isnan(score):
        return True, 0.0
    return False, -score if _greater_is_better(row["metric"], root) else score


def _greater_is_better(metric: str, root: Path) -> bool:
    """Return the direction of a metric; an own one that is not at hand counts as most do."""
    try:
        return get_metric(metric, root).greater_is_better
    except KaggleKitError:
        return True


def fold_scores(folds: Sequence[FoldRun]) -> dict[int, float]:
    """Return the score of each finished fold; NaN where the metric was not defined."""
    return {fold.fold: fold.record.score for fold in folds if fold.finished}


def mean(values: Any) -> float:
    """Return the mean of some numbers; NaN for none."""
    numbers = list(values)
    return float(np.mean(numbers)) if numbers else math.nan


@dataclass(frozen=True, repr=False)
class Paired:
    """A run against the first one, on the folds that both have finished.

    Attributes:
        mean, spread: of the differences, this run less the first; the spread is their standard deviation.
        better: on how many of ``folds`` folds this run is better.
    """

    run: str
    mean: float
    spread: float
    better: int
    folds: int


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Runs beside each other.

    Attributes:
        differences: key of the configuration -> its value in each run; only keys that differ.
        scores: fold -> the score of each run; None where a run has not finished it.
        paired: the second run and those after it against the first.
        notes: why numbers may not compare.
    """

    runs: tuple[str, ...]
    metric: str
    differences: Mapping[str, tuple[Any, ...]]
    scores: Mapping[int, tuple[float | None, ...]]
    paired: tuple[Paired, ...]
    notes: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """Return what differs, a row a key, then a row a fold with the difference to the first run."""
        texts = {key: [_text(value) for value in values] for key, values in self.differences.items()}
        rows = [[key, *values] for key, values in texts.items()]
        for fold, scores in self.scores.items():
            rows.append([f"fold {fold}", *(self._cell(scores[0], score) for score in scores)])
        return pd.DataFrame(rows, columns=["", *self.runs])

    def _cell(self, first: float | None, score: float | None) -> str:
        if score is None:
            return ""
        return f"{score:.4f}" if first is None or score is first else f"{score:.4f} ({score - first:+.4f})"

    def describe(self) -> str:
        """Return the paired differences: mean, spread and how many folds are better."""
        lines = [
            f"{one.run} against {self.runs[0]}: {self.metric} {one.mean:+.4f}"
            + ("" if math.isnan(one.spread) else f" ± {one.spread:.4f}")
            + f", better on {one.better} of {one.folds} folds"
            for one in self.paired
            if one.folds
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)]) or "no fold is finished in both runs"

    def to_dict(self) -> dict[str, Any]:
        """Return the differences of the configurations, the scores of the folds and the paired differences."""
        scores = [{"fold": fold, "scores": plain(values)} for fold, values in self.scores.items()]
        return {**super().to_dict(), "scores": scores}


def compare_runs(workspace: Workspace, names: Sequence[str]) -> Comparison:
    """Compare the runs called ``names`` with the first of them.

    Raises:
        ConfigError: fewer than two are named, or one twice.
        MissingFileError: there is no such run.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(
            f"expected two different runs or more to compare, got {shown(names) or 'none'}. Run `kk runs RUN RUN`."
        )
    runs = choose_runs(workspace, names)
    metric = get_metric(runs[0].record.metric, workspace.root)
    configs = [flat(run.record.config.model_dump(mode="json")) for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    values = {key: tuple(config.get(key) for config in configs) for key in keys}
    differences = {key: each for key, each in values.items() if any(value != each[0] for value in each)}
    by_run = [fold_scores(run.folds) for run in runs]
    folds = sorted({fold for scores in by_run for fold in scores})
    notes = []
    if len({run.record.folds_fingerprint for run in runs}) > 1:
        notes.append("the runs were trained on different fold tables: fold by fold they cannot be compared")
        pairs: tuple[Paired, ...] = ()
    else:
        pairs = tuple(_paired(run.name, by_run[0], scores, metric) for run, scores in zip(runs[1:], by_run[1:], strict=True))
    if len({run.record.metric for run in runs}) > 1:
        notes.append(f"the runs were scored by different metrics: {shown(run.record.metric for run in runs)}")
    table = {fold: tuple(scores.get(fold) for scores in by_run) for fold in folds}
    return Comparison(tuple(names), metric.name, differences, table, pairs, tuple(notes))


def _paired(run: str, first: Mapping[int, float], other: Mapping[int, float], metric: Metric) -> Paired:
    both = [fold for fold in first if fold in other and not math.isnan(first[fold] + other[fold])]
    gaps = [other[fold] - first[fold] for fold in both]
    better = sum(metric.better(other[fold], first[fold]) for fold in both)
    return Paired(run, mean(gaps), float(np.std(gaps, ddof=1)) if len(gaps) > 1 else math.nan, better, len(both))


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested sections as dotted keys."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def remove_runs(workspace: Workspace, names: Sequence[str], *, force: bool = False) -> Done:
    """Delete the runs called ``names`` with all their folds.

    Args:
        force: delete them although a submission rests on them.

    Raises:
        ConfigError: none is named, or a submission rests on one; names both.
        MissingFileError: there is no such run; nothing was deleted.
        LockedError: one is being trained, predicted or blended.
    """
    if not names:
        raise ConfigError("name the runs to delete: kk runs --rm RUN …; `kk runs` lists them.")
    runs = [read_run(workspace, name) for name in dict.fromkeys(names)]
    with _alone(runs):
        # Once more, since somebody else may have deleted one of them meanwhile.
        return _remove(workspace, [read_run(workspace, run.name) for run in runs], force=force)


def _remove(workspace: Workspace, runs: Sequence[Run], *, force: bool) -> Done:
    used = {run.name: found for run in runs if (found := resting_on(workspace, run.name))}
    if used and not force:
        listed = "; ".join(f"run {name}: {shown(found)}" for name, found in used.items())
        raise ConfigError(
            f"submissions rest on what would be deleted ({listed}). `kk check` could not judge them any more, nor could "
            "`kk kernel build` repeat them. --force deletes it anyway."
        )
    sizes = {}
    for run in runs:
        sizes[run.name] = sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
        (run.path / RUN_RECORD).unlink()  # first, so that half a run is none
        shutil.rmtree(run.path)
    text = "\n".join(f"deleted {workspace.runs_dir / name} ({size / 1e6:,.1f} MB)" for name, size in sizes.items())
    return Done(text, {"deleted": list(sizes), "bytes": sum(sizes.values())})


def resting_on(workspace: Workspace, run: str) -> list[str]:
    """Return the submissions that were blended of a run, those that were sent marked."""
    return [
        f"{path.stem}{' (sent)' if record.kaggle else ''}"
        for path, record in blend_records(workspace.submissions_dir)
        if any(entry.name == run for entry in record.runs)
    ]


@contextlib.contextmanager
def _alone(runs: Sequence[Run]) -> Iterator[None]:
    """Hold all locks of runs, those of training and of predictions."""
    with contextlib.ExitStack() as held:
        for run in sorted(runs, key=lambda run: run.name):
            try:
                held.enter_context(files.folder_lock(run.path, name=LOCK, patience=0.2))
            except LockedError:
                raise LockedError(f"run {run.name!r} is being trained. Stop that, then delete it.") from None
        held.enter_context(predictions_held(runs, patience=0.2))
        yield


def oof_table(workspace: Workspace, name: str, *, tta: str = "none") -> pd.DataFrame:
    """Return the out-of-fold rows of a run: id, fold, label (several with "|"), and the columns of ``Predictions.to_frame``."""
    run = read_run(workspace, name)
    folds = read_folds(workspace.folds_path(run.record.folds))
    oof = read_oof(run, tta=tta).to_frame()
    truth = pd.DataFrame(
        {"id": folds.ids, "fold": folds.assignments[0], "label": ["|".join(labels) for labels in folds.labels]}
    )
    return truth.merge(oof, on="id", validate="one_to_one")

"""What is to be predicted of one run, and the files that it leaves in the run's folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kaggle_kit import files, runs
from kaggle_kit.choices import MERGES
from kaggle_kit.competition.contents import Contents, contents_of, describe_change, keep_contents, training_contents
from kaggle_kit.competition.records import Competition, ImageRow
from kaggle_kit.errors import ConfigError, DataError, FoldError, MissingFileError
from kaggle_kit.fold_names import FULL, fold_name, fold_text
from kaggle_kit.inference.control import CONTROL_ROWS, sample_control
from kaggle_kit.inference.predict import Compute, Probs
from kaggle_kit.inference.several import MEAN, Owners, merged
from kaggle_kit.models import LoadedModel, load_model
from kaggle_kit.runs import FoldRun, Run
from kaggle_kit.runs.view_record import read_views
from kaggle_kit.tables import FoldTable, Predictions, read_prediction_meta, read_predictions, shown
from kaggle_kit.views import NO_VIEWS, as_seen, is_auto, require_views
from kaggle_kit.workspace import Workspace


@dataclass(frozen=True)
class PredictOptions:
    """What is predicted of each run.

    Attributes:
        tta: the views of each image, see :mod:`kaggle_kit.views`; "auto": those that were chosen for the run.
        merge: how the views' probabilities become one.
        control: training rows that are hidden among the test rows; 0 for none.
        oof: whether to predict the out-of-fold rows again when there are views, or in 8-bit integers.
        engine: what computes logits; "auto" leaves the choice to each run's configuration.
    """

    tta: str = NO_VIEWS
    merge: str = "mean"
    control: int = CONTROL_ROWS
    oof: bool = True
    engine: str = "auto"


@dataclass(frozen=True)
class RunJob:
    """One run to predict, the same for all its folds.

    Attributes:
        folds: the table that the run was trained on; None where there are only test images, as at Kaggle.
        tta, merge: what each model sees of an image, and how it becomes one row.
        compute: where and how.
        control_ids: training rows to hide among the test rows.
        with_oof: whether out-of-fold rows are predicted again when there are views, or in 8-bit integers.
        weight: the run's share of a blend; what weighs least is left out first when time is short.
        contents: part ("test", "train") -> what its images hold; nothing where that is not looked at.
        mixes: fold -> its views, where they were chosen for each fold; ``tta`` is a name for all.
    """

    competition: Competition
    run: Run
    folds: FoldTable | None
    tta: str
    merge: str
    compute: Compute
    control_ids: tuple[str, ...] = ()
    with_oof: bool = True
    weight: float = 1.0
    contents: Mapping[str, Contents] = field(default_factory=dict)
    mixes: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def train_rows(self) -> dict[str, ImageRow]:
        """Training id -> its row."""
        return {row.id: row for row in self.competition.train}

    @cached_property
    def todo(self) -> tuple[FoldRun, ...]:
        """The finished models whose files are not what would be written now."""
        return tuple(fold for fold in self.run.finished_models() if not self._is_current(fold))

    def file_names(self, tta: str) -> dict[str, str]:
        """Return the kind of rows -> the file that a fold folder is to hold."""
        names = {"test": runs.TEST}
        if self.control_ids:
            names["control"] = runs.CONTROL
        if self.with_oof and self.folds is not None and as_seen(tta, self.compute.engine) != NO_VIEWS:
            names["oof"] = runs.OOF_VIEWS
        return names

    def meta(self, fold: FoldRun, kind: str, tta: str) -> dict[str, Any]:
        """Return what a prediction file is made from; equal to what a file says exactly when that file is current."""
        contents = self.contents.get("test" if kind == "test" else "train")
        return {
            "kind": kind,
            "competition": self.competition.name,
            "competition_fingerprint": self.competition.fingerprint,
            "test_fingerprint": self.competition.test_fingerprint,
            "run": self.run.name,
            "fold": fold.fold,
            "views": as_seen(tta, self.compute.engine),
            "merge": self.merge,
            "task": self.competition.task,
            "seed": self.run.record.config.seed,
            "model_fingerprint": _model_fingerprint(fold),
            "folds_fingerprint": self.run.record.folds_fingerprint,
            "control_fingerprint": files.fingerprint(list(self.control_ids)),
            **({"contents": contents.fingerprint} if contents is not None else {}),
        }

    def keep_contents(self, say: Callable[[str], None]) -> None:
        """Keep the lists of what the images hold beside the run, and say which test images changed since it was predicted."""
        for change in dict.fromkeys(filter(None, map(self._changed_images, self.todo))):
            say(f"run {self.run.name} is predicted again: {change}")
        for part in self.contents.values():
            keep_contents(self.run.path, part)

    def _changed_images(self, fold: FoldRun) -> str:
        """Say which test images changed since ``fold`` was predicted; empty when none did, or nothing is known of them."""
        try:
            before = read_prediction_meta(fold.path / runs.TEST).get("contents")
        except DataError:
            return ""
        now = self.contents.get("test")
        return "" if now is None else describe_change(now, self.run.path, before, what="test images")

    def _is_current(self, fold: FoldRun) -> bool:
        """Return whether all files of ``fold`` hold what would be written now."""
        return all(self.holds(fold, kind) for kind in self.file_names(self.tta) if (kind, fold.fold) != ("oof", FULL))

    def holds(self, fold: FoldRun, kind: str) -> bool:
        """Return whether one file of ``fold`` holds what would be written now."""
        path = fold.path / self.file_names(self.tta)[kind]
        try:
            meta = read_prediction_meta(path)
            if kind == "test":
                read_predictions(path)  # a file that is cut off has its meta all the same
        except DataError:
            return False
        return all(meta.get(key) == value for key, value in self.meta(fold, kind, self.tta).items())

    def write(self, fold: FoldRun, kind: str, predictions: Predictions, *, tta: str, about: Mapping[str, Any]) -> None:
        """Write one file of a fold."""
        meta = {**self.meta(fold, kind, tta), **about, "versions": files.versions()}
        named = Predictions(predictions.ids, predictions.probs, predictions.classes, meta, predictions.pixels)
        named.write(fold.path / self.file_names(tta)[kind])

    def load(self, fold: FoldRun) -> LoadedModel:
        """Return the fold's model.

        Raises:
            DataError: it is damaged, or not the one that this run trained.
            ClassMappingError: it has other classes than the competition.
        """
        path, competition = fold.path / runs.MODEL, self.competition
        loaded = load_model(path)
        competition.classes.require_same(loaded.classes, here=f"competition {competition.name}", there=str(path))
        expected = {
            "folds_fingerprint": self.run.record.folds_fingerprint,
            "fold": fold.fold,
            "competition": competition.name,
            "model_fingerprint": fold.record.model_fingerprint or loaded.fingerprint,
        }
        found = {**loaded.meta, "model_fingerprint": loaded.fingerprint}
        wrong = [key for key, value in expected.items() if found.get(key, value) != value]
        if wrong or loaded.task != competition.task:
            raise DataError(
                f"{path} is not the model that run {self.run.name} trained for {fold_text(fold.fold)}: another "
                f"{shown(wrong or ['task'])}. Run `kk train --run {self.run.name} --fold {fold_name(fold.fold)}` again."
            )
        return loaded

    def oof_rows(self, fold: FoldRun) -> list[tuple[str, Path]]:
        """Return the images that training validated on: those of the fold, less what could not be read; none of all data.

        Raises:
            DataError: the out-of-fold file is missing or damaged, or holds rows that the competition lacks.
        """
        if fold.fold == FULL:
            return []
        oof = read_predictions(fold.path / runs.OOF)
        unknown = [row_id for row_id in oof.ids if row_id not in self.train_rows]
        if unknown:
            raise DataError(
                f"{fold.path / runs.OOF} holds rows that the competition lacks: {shown(unknown)}. Train the fold again."
            )
        return [(row_id, path) for row_id in oof.ids for path in self.train_rows[row_id].paths]

    def merged(self, fold: FoldRun, probs: Probs, owners: Owners) -> Probs:
        """Return what a fold's model says of images (M, C) as rows of ids (N, C), by the rule that training settled."""
        return merged(probs, owners, fold.record.several or MEAN, self.competition.task)


def make_job(
    workspace: Workspace,
    competition: Competition,
    run: Run,
    folds: FoldTable,
    options: PredictOptions,
    *,
    compute: Compute,
) -> RunJob:
    """Return what to predict of ``run``, all of it checked before any model is loaded.

    Raises:
        ConfigError: there are no such views, none were chosen for the models as they are, or there is no such merge.
        DataError: the run has no finished fold, or there is no test image.
        ClassMappingError, FoldError: run, competition and fold table do not belong together.
    """
    require_views(options.tta, options.merge)
    MERGES.require(options.merge)
    _require_same_origin(competition, run, folds)
    left_out = {row_id for fold in run.finished_models() for row_id in fold.record.left_out}
    control_ids = tuple(sample_control(folds, options.control, left_out=left_out))
    contents = {
        "test": contents_of(competition.test, workspace.cache_dir),
        "train": training_contents(competition, folds, workspace.cache_dir),
    }
    tta, mixes = _chosen_views(run) if is_auto(options.tta) else (options.tta, {})
    merge, oof = options.merge, options.oof
    return RunJob(competition, run, folds, tta, merge, compute, control_ids, oof, contents=contents, mixes=mixes)


def _chosen_views(run: Run) -> tuple[str, dict[int, str]]:
    """Return what the views that were chosen for ``run`` are called, and fold -> views where folds differ in them.

    Raises:
        ConfigError: none were chosen, or the run was trained further since.
    """
    record = read_views(run.path)
    if record.models != {fold.fold: _model_fingerprint(fold) for fold in run.finished_folds()}:
        raise ConfigError(
            f"run {run.name} was trained further since its views were chosen. Run `kk predict --run {run.name} --tta auto`."
        )
    return record.name, record.of_all_models if len(set(record.mixes.values())) > 1 else {}


def control_paths(jobs: Sequence[RunJob]) -> dict[str, tuple[Path, ...]]:
    """Return the control rows of all jobs, id -> images."""
    return {row_id: job.train_rows[row_id].paths for job in jobs for row_id in job.control_ids}


def _require_same_origin(competition: Competition, run: Run, folds: FoldTable) -> None:
    """Refuse competition, run and fold table unless they belong together, and every image is still listed."""
    run.classes.require_same(competition.classes, here=f"run {run.name}", there=f"competition {competition.name}")
    if run.record.folds_fingerprint != folds.fingerprint:
        raise FoldError(
            f"run {run.name} was trained on other folds than the table given "
            f"({run.record.folds_fingerprint[:12]} and {folds.fingerprint[:12]}). Train it again, or restore the fold table."
        )
    if not competition.test:
        raise DataError(
            f"competition {competition.name} has no test images (kk.yaml: competition.test). "
            "Add them, or predict any folder with `kk predict --images DIR`."
        )
    known = {row.id for row in competition.train}
    gone = [row_id for row_id in folds.ids if row_id not in known]
    if gone:
        raise FoldError(f"{len(gone)} training images of the fold table are not in the data any more: {shown(gone)}.")


def _model_fingerprint(fold: FoldRun) -> str:
    path = fold.path / runs.MODEL
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist. Run `kk train --run {fold.path.parent.name} --fold {fold.fold}` again.")
    return files.file_fingerprint(path)

"""What a training run leaves on disk, and how later commands read it. No torch here.

``runs/<run>/run.json`` says what the run is, ``train.log`` how each training of it went; ``runs/<run>/fold<k>/`` holds
``fold.json`` (state and score), ``history.csv``, ``oof.parquet``, ``model.safetensors``, and after ``kk predict`` also
``test.parquet``, ``control.parquet`` and, when views were used, ``oof_views.parquet``.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kaggle_kit import files
from kaggle_kit.errors import DataError, KaggleKitError, MissingFileError
from kaggle_kit.fold_names import FULL, fold_folder, fold_text
from kaggle_kit.runs.model_header import read_model_record
from kaggle_kit.runs.record import RUN_RECORD, FoldRecord, RunRecord, read_fold_record, read_run_record
from kaggle_kit.sparse import SparseRows, combined, together
from kaggle_kit.tables import Classes, Predictions, read_prediction_meta, read_predictions, require_unique, shown
from kaggle_kit.workspace import Workspace

OOF, OOF_VIEWS, TEST, CONTROL = "oof.parquet", "oof_views.parquet", "test.parquet", "control.parquet"
IN_SAMPLE = "in_sample.parquet"
"""What a fold's model says of the rows that it was trained on; made when another run learns from that."""
TRAIN_LOG = "train.log"
PREDICT_LOCK = ".predict.lock"
HISTORY, MODEL, LAST, BEST = "history.csv", "model.safetensors", "last.ckpt", "best.ckpt"


@dataclass(frozen=True)
class FoldRun:
    """One fold of a run: its folder and the content of ``fold.json``."""

    fold: int
    path: Path
    record: FoldRecord

    @property
    def finished(self) -> bool:
        return self.record.finished


@dataclass(frozen=True)
class Run:
    """A run's folder and the content of ``run.json``."""

    name: str
    path: Path
    record: RunRecord

    @property
    def classes(self) -> Classes:
        return Classes(self.record.classes)

    @property
    def folds(self) -> list[FoldRun]:
        """All folds of the run in order, begun or not."""
        return [read_fold(self.path / fold_folder(fold), fold) for fold in range(self.record.n_splits)]

    @property
    def full(self) -> FoldRun:
        """The model that is trained on all rows, begun or not."""
        return read_fold(self.path / fold_folder(FULL), FULL)

    def finished_folds(self) -> list[FoldRun]:
        """The finished folds.

        Raises:
            DataError: there are none.
        """
        finished = [fold for fold in self.folds if fold.finished]
        if not finished:
            raise DataError(f"run {self.name!r} has no finished fold. Run `kk train --run {self.name}` first.")
        return finished

    def finished_models(self) -> list[FoldRun]:
        """The finished folds, and the model of all data where there is one; what predicts test images.

        Raises:
            DataError: there are none.
        """
        full = self.full
        if full.finished and not any(fold.finished for fold in self.folds):  # in a kernel that cannot use the others
            return [full]
        return [*self.finished_folds(), *([full] if full.finished else [])]


def read_fold(path: Path, fold: int) -> FoldRun:
    """Read one fold folder.

    Raises:
        DataError: its record is damaged.
    """
    return FoldRun(fold, path, read_fold_record(path, fold))


def read_run(workspace: Workspace, name: str) -> Run:
    """Read one run.

    Raises:
        MissingFileError: there is no such run; names those that exist.
        DataError: its record is damaged.
    """
    path = workspace.run_dir(name)
    if not (path / RUN_RECORD).exists():
        known = list_runs(workspace)
        raise MissingFileError(f"no run {name!r} in {workspace.runs_dir}. {_known(known)}")
    return Run(name, path, read_run_record(path))


def list_runs(workspace: Workspace) -> list[str]:
    """Names of all runs, oldest first."""
    records = workspace.runs_dir.glob(f"*/{RUN_RECORD}")
    return [
        record.parent.name for record in sorted(records, key=lambda record: (record.stat().st_mtime_ns, record.parent.name))
    ]


def choose_runs(workspace: Workspace, names: Sequence[str] = ()) -> list[Run]:
    """The runs called ``names``, or all runs when none are named.

    Raises:
        MissingFileError: a named run does not exist, or there is no run at all.
    """
    chosen = list(names) or list_runs(workspace)
    if not chosen:
        raise MissingFileError(f"no runs in {workspace.runs_dir}. Run `kk train` first.")
    return [read_run(workspace, name) for name in chosen]


@contextlib.contextmanager
def predictions_held(runs: Sequence[Run], *, patience: float = 60.0) -> Iterator[None]:
    """Let no other process change what ``kk predict`` writes of ``runs`` while inside: the files of all folds are of one pass.

    Raises:
        LockedError: another process predicts, blends or deletes one of them for more than ``patience`` seconds.
        StorageError: a run's folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        for run in sorted(runs, key=lambda run: run.name):  # in one order, so that no two wait for each other
            held.enter_context(files.folder_lock(run.path, name=PREDICT_LOCK, patience=patience))
        yield


def image_size(run: Run) -> tuple[int, int] | None:
    """Return height and width that a run's models see; None while neither its configuration nor a model says so."""
    done = [fold for fold in run.folds if fold.finished]
    for fold in done:
        if fold.record.image_size is not None:
            return fold.record.image_size
    asked = run.record.config.last_stage.data.image_size
    if asked is not None:
        return (asked, asked) if isinstance(asked, int) else (asked[0], asked[1])
    for fold in done:  # records of 0.1.0 do not say it, but the model does
        try:
            spec = read_model_record(fold.path / MODEL)["spec"]
            return int(spec["height"]), int(spec["width"])
        except (KaggleKitError, KeyError, TypeError, ValueError):
            continue
    return None


def read_predictions_of(run: Run, fold: FoldRun, file_name: str) -> Predictions:
    """Read a prediction file of a run's fold.

    Raises:
        MissingFileError, DataError: it is missing or damaged.
        ClassMappingError: its classes are not the run's.
    """
    path = fold.path / file_name
    found = read_predictions(path)
    run.classes.require_same(found.classes, here=f"run {run.name}", there=str(path))
    return found


def read_oof(run: Run, *, tta: str = "none") -> Predictions:
    """Out-of-fold probabilities of a run's finished folds, one row an id; over repeats of the folds they are averaged.

    Args:
        tta: "none" for what training wrote, else the views with which ``kk predict`` made them.

    Raises:
        MissingFileError, DataError: a file is missing, damaged, or was made with other views.
        ClassMappingError: a fold's classes are not the run's.
    """
    parts: list[Predictions] = []
    for fold in run.finished_folds():
        path = fold.path / (OOF if tta == "none" else OOF_VIEWS)
        part = read_predictions_of(run, fold, path.name)
        if part.meta.get("views", "none") != tta:
            raise DataError(f"{path} was made with views {part.meta.get('views')!r}, expected {tta!r}. Run `kk predict` again.")
        parts.append(part)
    return average_by_id(parts, run.classes)


def predicted_folds(run: Run) -> list[FoldRun]:
    """Return those of :func:`predicted_models` that have out-of-fold rows."""
    return [fold for fold in predicted_models(run) if fold.fold != FULL]


def predicted_models(run: Run) -> list[FoldRun]:
    """Return the finished models, less those that `kk predict` left out for lack of time and said so.

    Raises:
        DataError: there is no finished fold.
    """
    finished = run.finished_models()
    present = [fold for fold in finished if (fold.path / TEST).is_file()]
    if len(present) == len(finished):
        return finished
    left_out = {number for fold in present for number in _left_out(fold.path / TEST)}
    return [fold for fold in finished if fold in present or fold.fold not in left_out]


def _left_out(path: Path) -> list[int]:
    """Return the folds that a prediction file says were left out; none where it is damaged, which its reader reports."""
    try:
        stated = read_prediction_meta(path).get("left_out")
    except DataError:
        return []
    return list(stated.get("folds", ())) if isinstance(stated, dict) else []


def read_test(run: Run, file_name: str = TEST) -> list[Predictions]:
    """Test (or control) probabilities, one entry a finished model, rows in the order of the first one's file.

    Raises:
        MissingFileError, DataError: a file is missing, damaged, made with other views, or holds other ids.
        ClassMappingError: a fold's classes are not the run's.
    """
    parts: list[Predictions] = []
    folds = predicted_models(run)
    for fold in folds:
        path, part = fold.path / file_name, read_predictions_of(run, fold, file_name)
        if parts and set(parts[0].ids) != set(part.ids):
            differing = set(parts[0].ids) ^ set(part.ids)
            raise DataError(
                f"{path} and {fold_text(folds[0].fold)} hold other ids: {shown(differing)}. Run `kk predict` again."
            )
        if parts and parts[0].meta.get("views") != part.meta.get("views"):
            raise DataError(
                f"{path} was made with other views than the folds before it. Run `kk predict --run {run.name}` again."
            )
        parts.append(part.take(parts[0].ids) if parts else part)
    return parts


def rows_fingerprint(ids: Sequence[str], probs: npt.NDArray[np.float32]) -> str:
    """sha256 of what is said of each id, whatever the order of rows; ``probs`` is (N, C).

    ``kk predict`` takes it of the test rows as the pass gave them and writes it into both the test and the control file, so
    that ``kk check`` sees when the two are not of one pass, or when rows were exchanged after it.
    """
    digest = hashlib.sha256()
    cells = probs.packed if isinstance(probs, SparseRows) else np.ascontiguousarray(probs, dtype=np.float32)
    for row in np.argsort(np.array(ids, dtype=object)):
        digest.update(ids[row].encode() + b"\0")
        digest.update(cells[row].tobytes())
    return digest.hexdigest()


def average_by_id(parts: Sequence[Predictions], classes: Classes) -> Predictions:
    """Return one row an id: its mean over the parts, such as repeats of the folds, that hold it."""
    for part in parts:
        require_unique(part.ids, "out-of-fold rows of one fold")
    ids = tuple(dict.fromkeys(row_id for part in parts for row_id in part.ids))
    if len(ids) == sum(len(part) for part in parts):  # nothing to average
        return Predictions(ids, together([part.probs for part in parts]), classes, parts[0].meta)
    where = {row_id: row for row, row_id in enumerate(ids)}
    rows = [np.array([where[row_id] for row_id in part.ids], dtype=np.int64) for part in parts]
    total = combined(np.add, [(own, part.probs) for own, part in zip(rows, parts, strict=True)], len(ids))
    count = np.bincount(np.concatenate(rows), minlength=len(ids))
    return Predictions(ids, (total / count[:, None]).astype(np.float32), classes, parts[0].meta)


def _known(names: Sequence[str]) -> str:
    return f"There are: {shown(names)}." if names else "There are none; run `kk train` first."

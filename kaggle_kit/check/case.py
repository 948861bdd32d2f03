"""What there is to judge a submission by. Each piece is read when first asked for, and once.

A piece that is not there raises :class:`Unavailable`: the checks that need it become "inconclusive", and say why. A piece that
is there and wrong raises its own error: the check fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import runs
from kaggle_kit.check.readback import Answers, Cells, read_answers, read_cells, widened, without_index
from kaggle_kit.competition import IMAGE_SUFFIXES, Competition, load_competition
from kaggle_kit.competition.containers import data_folder
from kaggle_kit.competition.tabular import read_frame
from kaggle_kit.config import Config
from kaggle_kit.errors import DataError, KaggleKitError, MissingFileError
from kaggle_kit.machine.host import available_memory
from kaggle_kit.metrics import Metric, get_metric
from kaggle_kit.runs import BlendRecord, FoldRun, Run
from kaggle_kit.tables import Classes, FoldTable, Predictions, read_folds, read_predictions
from kaggle_kit.workspace import Workspace

Array = npt.NDArray[Any]
MOST_KEPT = 1 << 30
_BYTES_OF_AN_ID = 100  # with the hashes of its pixels, about


class Unavailable(KaggleKitError):
    """Evidence that is not there; no fault of the submission's."""


@dataclass
class Case:
    """A submission and everything around it. Threads may read tables beside each other; then a table more may be kept.

    Attributes:
        path: the submission.
        given_competition: the competition when the caller has loaded it already.
        answers_path: a CSV with the true labels.
        read: the files that were read, for the record.
        room: bytes of prediction files that may be kept, so that each is read once; others are read when they are asked for.
    """

    path: Path
    workspace: Workspace
    config: Config
    given_competition: Competition | None = None
    answers_path: Path | None = None
    read: set[Path] = field(default_factory=set)
    room: int = field(default_factory=lambda: min(available_memory() // 4, MOST_KEPT))
    _kept: dict[Path, Predictions] = field(default_factory=dict, repr=False)

    @cached_property
    def classes(self) -> Classes:
        return Classes(tuple(self.config.competition.classes))

    @property
    def multilabel(self) -> bool:
        return self.config.competition.task == "multilabel"

    @cached_property
    def metric(self) -> Metric:
        return get_metric(self.config.competition.metric, self.workspace.root)

    @cached_property
    def data_dir(self) -> Path:
        return data_folder(self.workspace.root, self.config.competition)

    @cached_property
    def cells(self) -> Cells:
        """The submission's cells as text."""
        return self.wide(read_cells(self.note(self.path)))

    def wide(self, cells: Cells) -> Cells:
        """Cells with a column a class, of the long form, too."""
        form = self.config.competition.submission
        return widened(cells, form) if form.form == "long" else cells

    @cached_property
    def answers(self) -> Answers:
        """The submission as a grader understands it."""
        return read_answers(self.cells, self.config.competition.submission, self.classes)

    @cached_property
    def sample(self) -> Cells | None:
        """The sample submission, if the competition has one."""
        name = self.config.competition.submission.sample
        if name is None:
            return None
        path = self.data_dir / name
        if not path.is_file():
            raise Unavailable(f"the sample submission {path} is not here")
        return self.wide(without_index(read_cells(self.note(path))))

    @cached_property
    def test_images(self) -> tuple[str, ...] | None:
        """Paths of the test images relative to their folder, or the cells of test.csv; None when kk.yaml names neither."""
        test = self.config.competition.test
        if test is None:
            return None
        if test.csv and test.image_column:
            table = read_frame(self.data_dir / test.csv)
            return tuple(dict.fromkeys(table[test.id_column or test.image_column]))
        folders = [self.data_dir / name for name in test.dirs]
        missing = [str(folder) for folder in folders if not folder.is_dir()]
        if missing:
            raise Unavailable(f"the test images are not here: {', '.join(missing)}")
        return tuple(
            path.relative_to(folder).as_posix()
            for folder in folders
            for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in IMAGE_SUFFIXES
        )

    @cached_property
    def competition(self) -> Competition:
        """The competition as its data say."""
        if self.given_competition is not None:
            return self.given_competition
        try:
            return load_competition(self.workspace, self.config.competition)
        except MissingFileError as error:
            raise Unavailable(f"the competition's data are not here ({error})") from error

    @cached_property
    def record(self) -> BlendRecord:
        """How the submission was made."""
        path = runs.blend_record_path(self.path)
        if not path.is_file():
            raise Unavailable(f"no record {path.name} beside the submission, so nothing is known of how it was made")
        record = runs.read_blend_record(self.path)
        self.note(path)
        if not record.runs:
            raise Unavailable(f"{path.name} names no runs, so nothing is known of how the submission was made")
        return record

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The runs that the record names."""
        names = [run.name for run in self.record.runs]
        missing = [name for name in names if not (self.workspace.run_dir(name) / runs.RUN_RECORD).is_file()]
        if missing:
            raise Unavailable(f"the runs {', '.join(missing)} are not in {self.workspace.runs_dir}")
        found = tuple(runs.read_run(self.workspace, name) for name in names)
        for run in found:
            self.note(run.path / runs.RUN_RECORD)
        return found

    @cached_property
    def folds(self) -> FoldTable:
        """The fold table of the runs; its labels are the truth that out-of-fold rows are judged by."""
        names = {run.record.folds for run in self.runs}
        if len(names) != 1:
            raise DataError(
                f"the runs were trained on different fold tables: {', '.join(sorted(names))}; blend runs of one table."
            )
        path = self.workspace.folds_path(names.pop())
        if not path.is_file():
            raise Unavailable(f"the fold table {path} is not here")
        return read_folds(self.note(path))

    @cached_property
    def blended(self) -> Predictions:
        """The blend's test probabilities, from which the submission was written."""
        return self.beside(".probs.parquet")

    @cached_property
    def blended_oof(self) -> Predictions:
        """The blend's cross-fitted out-of-fold probabilities."""
        return self.beside(".oof.parquet")

    def beside(self, suffix: str) -> Predictions:
        """A prediction file beside the submission, with columns in the competition's order."""
        path = self.path.with_suffix(suffix)
        if not path.is_file():
            raise Unavailable(f"no {path.name} beside the submission")
        return read_predictions(self.note(path)).align(self.classes, here="kk.yaml", there=path.name)

    def predictions(self, fold: FoldRun, file_name: str) -> Predictions:
        """One prediction file of a fold, with columns in the competition's order."""
        path = fold.path / file_name
        if not path.is_file():
            raise Unavailable(f"{self.relative(path)} is not here")
        return self.table(path).align(self.classes, here="kk.yaml", there=self.relative(path))

    def table(self, path: Path) -> Predictions:
        """One prediction file as it is; the several checks that need it share what was read, as long as there is room."""
        self.note(path)
        if path not in self._kept:
            found = read_predictions(path)
            size = found.probs.size * 4 + len(found) * _BYTES_OF_AN_ID
            if size > self.room:
                return found
            self.room -= size
            self._kept[path] = found
        return self._kept[path]

    def hot(self, ids: Sequence[str]) -> Array:
        """Labels of training rows as a 0/1 matrix, (N, C)."""
        rows = np.array([self._training_rows.get(row_id, -1) for row_id in ids], dtype=np.int64)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            raise DataError(f"{len(unknown)} rows are no training rows of the fold table, e.g. {ids[unknown[0]]!r}.")
        return self._every_hot[rows]

    def hot_of(self, labels: Iterable[Iterable[str]]) -> Array:
        """Rows of labels as a 0/1 matrix, (N, C)."""
        return self.classes.encode_rows(labels) if self.multilabel else self.classes.hot(labels)

    @cached_property
    def _every_hot(self) -> Array:
        return self.hot_of(self.folds.labels)

    @cached_property
    def _training_rows(self) -> dict[str, int]:
        self.classes.require_same(self.folds.classes, here="kk.yaml", there="the fold table")
        return {row_id: row for row, row_id in enumerate(self.folds.ids)}

    def score(self, hot: Array, values: Array) -> float:
        """The competition's metric of (N, C) probabilities, or of named classes as 0/1."""
        truth = hot if self.multilabel else hot.argmax(axis=1)
        return self.metric(truth, values)

    def note(self, path: Path) -> Path:
        """Remember that ``path`` was read."""
        self.read.add(path)
        return path

    def relative(self, path: Path) -> str:
        """``path`` as a user in the workspace would write it."""
        return path.relative_to(self.workspace.root).as_posix() if path.is_relative_to(self.workspace.root) else str(path)


def rows_at(frame: Predictions, ids: Sequence[str]) -> Array:
    """Probabilities of ``ids`` as float64, in that order."""
    return frame.take(ids).probs.astype(np.float64)

"""What one fold of a run is trained from, all in one frozen object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import files
from kaggle_kit.competition import Competition
from kaggle_kit.competition.contents import Contents, keep_contents
from kaggle_kit.config import RunConfig
from kaggle_kit.errors import FoldError
from kaggle_kit.images.dataset import PixelSource
from kaggle_kit.models import Weights
from kaggle_kit.runs.model_header import read_model_record
from kaggle_kit.runs.provenance import seen_by, to_entries
from kaggle_kit.tables import FoldTable, shown
from kaggle_kit.workspace import Workspace


@dataclass(frozen=True)
class FoldJob:
    """One fold of a run.

    Attributes:
        weights: the pretrained weights to start from, found once for the run.
        left_out: ids of images that cannot be read and are neither trained nor validated on.
        source: where pixels come from instead of the files.
        contents: what the images of the fold table hold; None where nobody asked.
        initial: a whole state dict to start from instead of the pretrained weights and a new head.
    """

    workspace: Workspace
    config: RunConfig
    competition: Competition
    folds: FoldTable
    run: str
    fold: int
    weights: Weights
    left_out: tuple[str, ...] = ()
    source: PixelSource | None = None
    contents: Contents | None = None
    initial: Mapping[str, Any] | None = None

    @property
    def folder(self) -> Path:
        """Where the fold's files go."""
        return self.workspace.fold_dir(self.run, self.fold)

    @cached_property
    def inputs(self) -> str:
        """Fingerprint of all that the result depends on; a finished fold with the same one is current."""
        return files.fingerprint(
            {
                "config": self.config.fingerprint,
                "folds": self.folds.fingerprint,
                "fold": self.fold,
                "task": self.competition.task,
                "metric": self.competition.metric,
                "weights": self.weights.fingerprint,
                "left_out": sorted(self.left_out),
            }
        )

    @cached_property
    def train_rows(self) -> npt.NDArray[np.int64]:
        """Positions in the fold table of the rows to train on."""
        return self._readable(self.folds.split(self.fold)[0], "train")

    @cached_property
    def valid_rows(self) -> npt.NDArray[np.int64]:
        """Positions in the fold table of the rows to validate on."""
        return self._readable(self.folds.split(self.fold)[1], "validate")

    @property
    def eval_batch_size(self) -> int:
        """Images of a batch that is only predicted, which takes less than half the memory of a step."""
        return self.config.data.eval_batch_size or 2 * self.config.data.batch_size

    def keep_contents(self) -> str | None:
        """Keep the list of what the training images hold beside the run; return its fingerprint, None without such a list."""
        return None if self.contents is None else keep_contents(self.folder.parent, self.contents)

    @cached_property
    def starts_trained(self) -> bool:
        """Whether the model begins with a classifier of these very classes, so that epoch 0 is a result like any other."""
        if self.initial is not None:
            return True
        if self.weights.path is None or not seen_by(self.weights.path):
            return False
        return tuple(read_model_record(self.weights.path).get("classes", ())) == self.folds.classes.names

    def files_of(self, rows: npt.NDArray[np.int64]) -> list[tuple[str, Path]]:
        """Id and path of each of ``rows``.

        Raises:
            FoldError: the competition has no such rows.
        """
        ids = [self.folds.ids[row] for row in rows]
        return list(zip(ids, paths_of(self.competition, ids), strict=True))

    def about(self) -> dict[str, Any]:
        """What every file of the fold says about its origin, and what the weights that it began from have seen."""
        seen = () if self.weights.path is None else seen_by(self.weights.path)
        return {
            "competition": self.competition.name,
            "competition_fingerprint": self.competition.fingerprint,
            "task": self.competition.task,
            "run": self.run,
            "fold": self.fold,
            "seed": self.config.seed,
            "folds_fingerprint": self.folds.fingerprint,
            "config_fingerprint": self.config.fingerprint,
            "inputs_fingerprint": self.inputs,
            **({"seen": to_entries(seen)} if seen else {}),
        }

    def _readable(self, rows: npt.NDArray[np.int64], purpose: str) -> npt.NDArray[np.int64]:
        out = set(self.left_out)
        kept = rows[[self.folds.ids[row] not in out for row in rows]] if out else rows
        if len(kept) == 0:
            raise FoldError(
                f"fold {self.fold} has no rows to {purpose} on ({len(rows)} in the table, {len(rows) - len(kept)} of them "
                "unreadable). Make other folds with `kk folds`."
            )
        return kept


def paths_of(competition: Competition, ids: Sequence[str]) -> list[Path]:
    """Path of each training id.

    Raises:
        FoldError: the competition has no such rows.
    """
    paths = {row.id: row.path for row in competition.train}
    gone = [row_id for row_id in ids if row_id not in paths]
    if gone:
        raise FoldError(f"{len(gone)} rows of the fold table are not in the data: {shown(gone)}. Run `kk folds` again.")
    return [paths[row_id] for row_id in ids]

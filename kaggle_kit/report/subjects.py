"""What a page of ``kk report`` is about: a run, a blend, or predictions of a labelled folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit import runs
from kaggle_kit.competition import Setup
from kaggle_kit.errors import KaggleKitError, MissingFileError
from kaggle_kit.runs import BlendRecord, Run, read_blend_record
from kaggle_kit.runs.comparison import resting_on
from kaggle_kit.runs.history import read_history
from kaggle_kit.runs.scored import Scored, scored_blend, scored_run
from kaggle_kit.tables import shown
from kaggle_kit.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Subject:
    """Rows with their truth, and where they come from.

    Attributes:
        kind: "run", "blend" or "evaluation".
        paths: id -> image file.
        run: of a run.
        record: of a blend, what ``kk blend`` wrote; else None.
        views: of the out-of-fold rows.
        submissions: stems of the submissions that rest on it.
    """

    name: str
    kind: str
    scored: Scored
    paths: Mapping[str, Path]
    run: Run | None = None
    record: BlendRecord | None = None
    views: str = "none"
    submissions: tuple[str, ...] = ()

    @cached_property
    def histories(self) -> dict[int, pd.DataFrame]:
        """Fold -> the table of its ``history.csv``; empty for what is no run."""
        found = {} if self.run is None else {fold.fold: read_history(fold.path) for fold in self.run.folds}
        return {fold: history for fold, history in found.items() if history is not None}


def find_subjects(setup: Setup, names: Sequence[str]) -> list[Subject]:
    """Return the runs and blends called ``names``; without names the newest blend, else the newest run.

    Raises:
        MissingFileError: there is no such run or blend; names those that exist.
        DataError, FoldError: its files cannot be used.
    """
    workspace = setup.workspace
    known_runs, known_blends = runs.list_runs(workspace), list_blends(workspace)
    if not names:
        newest = known_blends[-1:] or known_runs[-1:]
        if not newest:
            raise MissingFileError(f"no run and no blend in {workspace.root}. Run `kk train` first.")
        names = newest
    paths = {row.id: row.path for row in setup.competition.train}
    threshold = setup.config.competition.submission.score_threshold
    found = []
    for name in dict.fromkeys(Path(name).stem if name.endswith(".csv") else name for name in names):
        if name in known_runs:
            run = runs.read_run(workspace, name)
            scored = scored_run(workspace, run, threshold=threshold)
            found.append(Subject(name, "run", scored, paths, run=run, submissions=_resting(workspace, name)))
        elif name in known_blends:
            record = read_blend_record(workspace.submission_path(name))
            found.append(Subject(name, "blend", scored_blend(workspace, name), paths, record=record, submissions=(name,)))
        else:
            there = f"runs {shown(known_runs) or 'none'} and blends {shown(known_blends) or 'none'}"
            raise MissingFileError(f"there is no run or blend {name!r}, but {there}.")
    return found


def list_blends(workspace: Workspace) -> list[str]:
    """Return the names of blends whose record and out-of-fold rows are there, oldest first."""
    found = []
    for path in workspace.submissions_dir.glob("*.oof.parquet"):
        record = path.with_name(path.name.removesuffix(".oof.parquet") + ".json")
        if record.is_file():
            found.append((record.stat().st_mtime_ns, record.stem))
    return [name for _, name in sorted(found)]


def _resting(workspace: Workspace, run: str) -> tuple[str, ...]:
    return tuple(name.removesuffix(" (sent)") for name in resting_on(workspace, run))


def oof_with_views(workspace: Workspace, run: Run, threshold: Any) -> tuple[str, Scored] | None:
    """Return the views that ``kk predict`` made out-of-fold rows with, and those rows; None where it made none."""
    from kaggle_kit.tables import read_prediction_meta

    try:
        views = str(read_prediction_meta(run.finished_folds()[0].path / runs.OOF_VIEWS).get("views"))
        return views, scored_run(workspace, run, tta=views, threshold=threshold)
    except KaggleKitError:
        return None

"""What a blend is made from: runs, their common fold table, and their rows aligned, read from the runs' files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import runs as run_files
from kaggle_kit.blending.alignment import Aligned, align_runs
from kaggle_kit.blending.crossfit import parts_of
from kaggle_kit.competition import Competition
from kaggle_kit.errors import ConfigError, DataError, FoldError
from kaggle_kit.folds import rests_on_pairs, table_like
from kaggle_kit.machine.ahead import ahead
from kaggle_kit.runs import Run
from kaggle_kit.runs.provenance import require_unseen, seen_by_fold
from kaggle_kit.tables import FoldTable, Predictions, read_folds, read_prediction_meta, shown
from kaggle_kit.workspace import Workspace


@dataclass(frozen=True)
class OutOfFoldRows:
    """The out-of-fold rows that all runs of a blend have.

    Attributes:
        aligned: R runs' probabilities of the same N rows.
        truth: (N,) class positions, or (N, C) of 0 and 1 for multi-label.
        parts: (N,) the part of the cross-fit that each row belongs to.
        oof_views: the views that each run's rows were made with.
    """

    aligned: Aligned
    truth: npt.NDArray[Any]
    parts: npt.NDArray[np.int64]
    oof_views: dict[str, str]


def usable_runs(workspace: Workspace, names: Sequence[str]) -> tuple[list[Run], list[str]]:
    """The runs to blend, and notes on folds that are not finished. A run that was named must have a finished fold."""
    twice = [name for name in dict.fromkeys(names) if list(names).count(name) > 1]
    if twice:
        raise ConfigError(f"runs may be named once, found twice: {shown(twice)}.")
    found = run_files.choose_runs(workspace, names)
    usable = found if names else [run for run in found if any(fold.finished for fold in run.folds)]
    if not usable:
        raise DataError(f"none of the runs ({shown(run.name for run in found)}) has a finished fold. Run `kk train` first.")
    notes = [f"run {run.name} is left out: it has no finished fold" for run in found if run not in usable]
    on_pairs = [] if names else [run for run in usable if rests_on_pairs(workspace, run)]
    if 0 < len(on_pairs) < len(usable):
        usable = [run for run in usable if run not in on_pairs]
        notes += [f"run {run.name} is left out: it rests on pairs of folds, for others to learn from" for run in on_pairs]
    for run in usable:
        missing = [str(fold.fold) for fold in run.folds if not fold.finished]
        run.finished_folds()  # raises when there is none
        if missing:
            notes.append(f"run {run.name} takes part with the folds that are finished; not finished: {shown(missing)}")
        if any(fold.record.fitted for fold in run.finished_folds()):
            notes.append(f"run {run.name}: its soups were chosen by the very rows that score them, so that its score flatters")
        if run.full.finished:
            notes.append(
                f"run {run.name}: the model of all data takes part in the test rows; it has no score of its own, weights and "
                "scores are those of the folds"
            )
    return usable, notes


def common_folds(workspace: Workspace, chosen: Sequence[Run]) -> FoldTable:
    """The fold table that all runs were trained on; other folds would let a weight be fitted on rows a run has seen."""
    prints = {run.record.folds_fingerprint for run in chosen}
    if len(prints) > 1:
        made_on = ", ".join(f"{run.name}: {run.record.folds} ({run.record.folds_fingerprint[:8]})" for run in chosen)
        raise FoldError(
            f"runs of one blend must share one fold table, found {made_on}. Train them on the same folds, or "
            "choose with --runs."
        )
    path = workspace.folds_path(chosen[0].record.folds)
    folds = read_folds(path)
    expected = prints.pop()
    if folds.fingerprint != expected:
        kept = table_like(workspace, expected)
        where = f" (it is kept as {kept}: copy that and its .json)" if kept else ""
        raise FoldError(
            f"{path} is not the table that the runs ({shown(run.name for run in chosen)}) were trained on: its fingerprint is "
            f"{folds.fingerprint[:8]}, theirs {expected[:8]}. Put the old table back{where}, or train again."
        )
    return folds


def require_unseen_rows(workspace: Workspace, competition: Competition, chosen: Sequence[Run], folds: FoldTable) -> None:
    """Refuse runs of which a model has seen rows that its fold is validated on, through the weights that it began from.

    Raises:
        FoldError: names run and folds.
    """
    for run in chosen:
        for fold in run.finished_models():
            seen = seen_by_fold(run, fold, workspace)
            try:
                require_unseen(seen, workspace, competition.name, folds, fold=fold.fold)
            except FoldError as error:
                raise FoldError(f"run {run.name} cannot be blended; leave it out with --runs: {error}") from error


def test_rows(workspace: Workspace, competition: Competition, chosen: Sequence[Run]) -> tuple[Aligned | None, dict[str, str]]:
    """Test rows of the runs as :func:`align_test` gives them; none where the competition has no test images, and then the views
    are those of the out-of-fold rows."""
    if not competition.test:
        return None, views_out_of_fold(chosen)
    return align_test(workspace, competition, chosen, run_files.TEST)


def views_out_of_fold(chosen: Sequence[Run]) -> dict[str, str]:
    """Return run -> the views that all its folds were last predicted with out of fold; "none" where they were not."""
    found = {}
    for run in chosen:
        paths = [fold.path / run_files.OOF_VIEWS for fold in run.finished_folds()]
        views = {str(read_prediction_meta(path).get("views")) if path.exists() else "none" for path in paths}
        found[run.name] = views.pop() if len(views) == 1 else "none"
    return found


def align_test(
    workspace: Workspace, competition: Competition, chosen: Sequence[Run], file_name: str, *, common: bool = False
) -> tuple[Aligned, dict[str, str]]:
    """Test or control rows: each run's mean over its folds, and the views that each was made with."""
    views: dict[str, str] = {}

    def mean(run: Run) -> tuple[str, Predictions]:
        parts = run_files.read_test(run, file_name)
        same_data = all(competition.is_state(part.meta.get("competition_fingerprint")) for part in parts)
        tests = {part.meta.get("test_fingerprint", competition.test_fingerprint) for part in parts}
        if not same_data or tests != {competition.test_fingerprint}:
            raise DataError(
                f"the {file_name} files of run {run.name} were made for another state of the competition's data or of "
                f"kk.yaml. Run `kk predict --run {run.name}` again."
            )
        views[run.name] = str(parts[0].meta.get("views", "none"))
        total = sum((part.probs for part in parts[1:]), start=parts[0].probs.astype(np.float64))
        probs = (total / len(parts)).astype(np.float32)
        return run.name, Predictions(parts[0].ids, probs, parts[0].classes, parts[0].meta)

    means = ahead(mean, chosen)
    aligned = align_runs(means, competition.classes, common=common, n_runs=len(chosen), scratch=workspace.cache_dir)
    return aligned, {run.name: views[run.name] for run in chosen}


def gather(
    workspace: Workspace,
    competition: Competition,
    chosen: Sequence[Run],
    folds: FoldTable,
    views: dict[str, str],
    seed: int,
    notes: list[str],
) -> OutOfFoldRows:
    """Out-of-fold rows of all runs, made with the views of the test rows where ``kk predict`` made such."""
    oof_views = {run.name: views[run.name] if _has_oof_views(run, views[run.name]) else "none" for run in chosen}
    tables = ahead(lambda run: (run.name, run_files.read_oof(run, tta=oof_views[run.name])), chosen)
    # Folds still to come, or unreadable images that were left out, are the sound reasons for runs of one table to differ.
    partial = any(not fold.finished or fold.record.left_out for run in chosen for fold in run.folds)
    aligned = align_runs(tables, competition.classes, common=partial, n_runs=len(chosen), scratch=workspace.cache_dir)
    for run_name, own in oof_views.items():
        if own != views[run_name]:
            notes.append(
                f"run {run_name}: unlike views, the test rows were made with {views[run_name]!r} and the out-of-fold rows "
                f"with {own!r}; its score is not that of what is submitted. `kk predict` makes out-of-fold rows with views, too"
            )
    if aligned.dropped:
        notes.append(f"{aligned.dropped} out-of-fold rows are left out of all scores: not every run has them yet")
    rows = folds.rows_of(aligned.ids)
    labels = [folds.labels[row] for row in rows]
    classes = competition.classes
    truth = classes.encode_rows(labels) if folds.multilabel else classes.encode(row[0] for row in labels)
    return OutOfFoldRows(aligned, truth, parts_of(folds, rows, seed=seed), oof_views)


def _has_oof_views(run: Run, views: str) -> bool:
    """Whether every finished fold has out-of-fold rows made with ``views``."""
    if views == "none":
        return True
    paths = [fold.path / run_files.OOF_VIEWS for fold in run.finished_folds()]
    return all(path.exists() and read_prediction_meta(path).get("views") == views for path in paths)

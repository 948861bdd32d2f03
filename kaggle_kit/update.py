"""``kk update``: labelled data have grown. New rows join the folds, old ones stay where they are, and runs are trained further.

Each fold of a run goes on from its own model, which has not seen what the fold is validated on. Names are made of the rows, so
that the same call goes on after a kill, and one on data that have not grown does nothing.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from kaggle_kit import files, runs
from kaggle_kit.blending.blend import BlendResult
from kaggle_kit.competition import Setup, open_setup
from kaggle_kit.config import derive
from kaggle_kit.errors import ConfigError, DataError, FoldError
from kaggle_kit.metrics import get_metric
from kaggle_kit.results import Result
from kaggle_kit.runs import Run
from kaggle_kit.runs.scored import score
from kaggle_kit.tables import FoldTable, Predictions, read_folds, shown
from kaggle_kit.workspace import Workspace

_UPDATED = re.compile(r"-u[0-9a-f]{8}$")
_DATA_DIR = re.compile(r"^(\s+data_dir:)[^\n#]*(#[^\n]*)?$", re.MULTILINE)


class Commands(Protocol):
    """What an update is made of: a :class:`~kaggle_kit.project.Project`, whose methods are the commands."""

    @property
    def workspace(self) -> Workspace: ...

    def folds(self, *, name: str, extend: str) -> FoldTable: ...

    def train(self, *, config: Path, run: str, **options: Any) -> Any: ...

    def predict(self, *, run: str) -> Any: ...

    def blend(self, runs: Sequence[str], *, name: str, force: bool) -> BlendResult: ...


@dataclass(frozen=True, repr=False)
class UpdateResult(Result):
    """What an update changed.

    Attributes:
        folds: name of the table, the one before where nothing is new.
        added: rows that are new, and ``relabelled`` rows that have other labels than before.
        metric: that scores are of.
        rows: a row a run: run, its new name, the score of both on the old out-of-fold rows, and the new one's on new rows.
        blend: of the updated runs, where one was asked for and is not there yet.
    """

    folds: str
    added: int
    relabelled: int
    metric: str
    rows: pd.DataFrame
    blend: BlendResult | None = None

    @property
    def parts(self) -> tuple[Result, ...]:
        return () if self.blend is None else (self.blend,)

    @property
    def exit_code(self) -> int:
        """What ``kk update`` ends with: as the blend does."""
        return 0 if self.blend is None else self.blend.exit_code

    def table(self) -> pd.DataFrame:
        """Return a row a run."""
        return self.rows

    def describe(self) -> str:
        """Return how many rows joined, and what the columns are."""
        if not self.changed:
            return f"nothing is new: folds/{self.folds}.csv holds all labelled rows."
        return (
            f"{self.added:,} new rows and {self.relabelled:,} new labels, in folds/{self.folds}.csv\n"
            f"{self.metric} out of fold, before and after on the rows that both have, by the labels as they are now"
        )

    @property
    def changed(self) -> bool:
        """Whether anything is new."""
        return bool(self.added or self.relabelled)


def update(
    project: Commands,
    data: Path,
    names: Sequence[str],
    overrides: Sequence[str],
    *,
    blend: str | None = None,
    **training: Any,
) -> UpdateResult:
    """Let the rows of ``data`` join the folds and train runs further.

    Args:
        data: holds the old rows and the new ones, laid out as before; ``kk.yaml`` names it from then on.
        names: of runs, or of those that they were updated from; none: the newest run.
        overrides: entries of the runs' configurations, such as fewer epochs.
        blend: name of a submission to make of the updated runs; one of that name is replaced unless it is of these very runs.
        training: further arguments of :meth:`~kaggle_kit.project.Project.train`.

    Raises:
        FoldError: the data lack rows of the fold table, or the runs rest on several tables.
        ConfigError, DataError: see ``kk folds`` and ``kk train``.
    """
    workspace = project.workspace
    chosen = [_newest(workspace, name) for name in names or _last(workspace)]
    before = _table_of(workspace, chosen)
    setup = _setup_with(workspace, data, before)
    labels = dict(zip(before.ids, before.labels, strict=True))
    now = {row.id: row.labels for row in setup.competition.train}
    added = [row_id for row_id in now if row_id not in labels]
    relabelled = sum(now[row_id] != labels[row_id] for row_id in labels)
    metric = setup.competition.metric
    if not added and not relabelled:
        made = _blended(project, [run.name for run in chosen], blend)
        return UpdateResult(chosen[0].record.folds, 0, 0, metric, pd.DataFrame(), made)
    mark = f"-u{files.fingerprint(sorted(now.items()))[:8]}"
    folds = _UPDATED.sub("", chosen[0].record.folds) + mark
    project.folds(name=folds, extend=chosen[0].record.folds)
    rows = []
    for run in chosen:
        after = _UPDATED.sub("", run.name) + mark
        config = derive(run.record.config, [*_further(run), f"folds={folds}", *overrides])
        with tempfile.TemporaryDirectory() as folder:
            files.write_json(path := Path(folder, "run.yaml"), config.model_dump(mode="json"))
            project.train(config=path, run=after, **training)
        rows.append(_compared(setup, run, runs.read_run(workspace, after), read_folds(workspace.folds_path(folds)), added))
    made = _blended(project, [row["updated"] for row in rows], blend)
    return UpdateResult(folds, len(added), relabelled, metric, pd.DataFrame(rows), made)


def _blended(project: Commands, names: Sequence[str], blend: str | None) -> BlendResult | None:
    """Predict the test images with the updated runs and blend them, unless that is done."""
    if blend is None:
        return None
    path = project.workspace.submission_path(blend)
    if path.is_file() and {run.name for run in runs.read_blend_record(path).runs} == set(names):
        return None
    for name in names:
        project.predict(run=name)
    return project.blend(names, name=blend, force=True)


def _last(workspace: Workspace) -> list[str]:
    known = runs.list_runs(workspace)
    if not known:
        raise DataError("there is no run to update. Run `kk train` first.")
    return known[-1:]


def _newest(workspace: Workspace, name: str) -> Run:
    """Return the last finished update of a run, or the run itself."""
    stem = _UPDATED.sub("", name)
    alike = [one for one in runs.list_runs(workspace) if _UPDATED.sub("", one) == stem and one != stem]
    read = (runs.read_run(workspace, one) for one in alike)
    updated = [run for run in read if all(fold.finished for fold in run.folds)]
    return updated[-1] if updated else runs.read_run(workspace, stem)


def _table_of(workspace: Workspace, chosen: Sequence[Run]) -> FoldTable:
    """Return the table that all runs were trained on."""
    tables = dict.fromkeys(run.record.folds for run in chosen)
    if len(tables) > 1:
        raise FoldError(f"the runs rest on the fold tables {shown(tables)}; update those of one table at a time, with --runs.")
    table = read_folds(workspace.folds_path(next(iter(tables))))
    for run in chosen:
        run.finished_folds()
        if run.record.folds_fingerprint != table.fingerprint:
            raise FoldError(f"run {run.name} was trained on another table than folds/{run.record.folds}.csv is now.")
        if run.record.config.strategy == "specialists":
            raise ConfigError(f"run {run.name} is of specialists; update the run that it began from, and train them anew.")
    return table


def _setup_with(workspace: Workspace, data: Path, before: FoldTable) -> Setup:
    """Return the workspace with ``data``; where it lacks rows of the table, ``kk.yaml`` is as it was."""
    text = files.read_bytes(workspace.config_path).decode()
    there = open_setup(workspace)
    if not data.is_dir():
        raise DataError(f"{data} is no folder; expected one with the old and the new data.")
    if data.resolve() != (workspace.root / there.config.competition.data_dir).resolve():
        line = json.dumps(data.resolve().as_posix(), ensure_ascii=False)
        pointed = _DATA_DIR.sub(lambda found: f"{found[1]} {line}  {found[2] or ''}".rstrip(), text, count=1)
        files.write_text(workspace.config_path, pointed)
    try:
        setup = open_setup(workspace)
        known = {row.id for row in setup.competition.train}
        gone = [row_id for row_id in before.ids if row_id not in known]
        if gone:
            raise FoldError(
                f"{data} lacks {len(gone):,} of {len(before.ids):,} rows of the fold table: {shown(gone)}. It must hold the "
                "old data and the new, laid out as before."
            )
    except BaseException:
        files.write_text(workspace.config_path, text)
        raise
    return setup


def _further(run: Run) -> list[str]:
    """Return the entries that let a run be trained further: a probe's head is fitted anew, on features that stay."""
    return [] if run.record.config.strategy == "probe" else [f"init_from={run.name}"]


def _compared(setup: Setup, before: Run, after: Run, folds: FoldTable, added: Sequence[str]) -> dict[str, Any]:
    """Return the scores of a run and of its update on the rows that both have, and of the update on new rows."""
    old, new = runs.read_oof(before), runs.read_oof(after)
    metric, there = get_metric(before.record.metric, setup.workspace.root), set(new.ids)
    both, fresh = [one for one in old.ids if one in there], [one for one in added if one in there]

    def of(rows: Predictions, ids: Sequence[str]) -> float:
        return score(rows.take(ids), folds, metric).score if ids else math.nan

    return {
        "run": before.name,
        "updated": after.name,
        "before": of(old, both),
        "after": of(new, both),
        "new rows": of(new, fresh),
    }

"""How a study stands: a row a trial, the best one, and what pruning spared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from kaggle_kit import files
from kaggle_kit.config import RunConfig, as_overrides, override
from kaggle_kit.metrics import Metric
from kaggle_kit.results import Result, plain
from kaggle_kit.tune.space import Values
from kaggle_kit.tune.study import ERROR
from kaggle_kit.units import format_duration

ALL_FOLDS, CHANGES, EPOCHS, SCORES, SECONDS = "all_folds", "changes", "epochs", "scores", "seconds"
"""Attributes of a trial: mean over all folds, entries changed, (done, planned) epochs, score a fold, time."""


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    Attributes:
        state: complete, pruned, failed, running, waiting, or interrupted (another trial goes on with it).
        score: mean over the folds that every trial trains; of a pruned one what it last reported; NaN when there is none.
        all_folds: mean over all folds, for a trial that earned the others; else NaN.
        scores: fold -> score.
        epochs: (done, planned) on the folds that every trial trains.
        changes: the entries in which it differs from the present configuration.
    """

    number: int
    state: str
    score: float
    all_folds: float
    scores: Mapping[str, float]
    epochs: tuple[int, int]
    seconds: float
    changes: Values
    error: str | None


@dataclass(frozen=True, repr=False)
class TuneResult(Result):
    """What ``kk tune`` ended with.

    Attributes:
        path: the study's folder.
        best: the best trial by its mean over all folds if any trial earned those, else by its score; None when all failed.
        best_path: a run configuration for ``kk train --config``; None without a best trial.
        page: the HTML page of plots.
        seconds_saved: what the pruned trials would still have cost, each at its own pace.
        stopped: why the search ended before its number of trials, or None.
    """

    study: str
    path: Path
    metric: str
    rows: tuple[TrialRow, ...]
    best: TrialRow | None
    best_path: Path | None
    page: Path
    seconds_saved: float
    stopped: str | None

    def count(self, state: str) -> int:
        """How many trials are in a state."""
        return sum(row.state == state for row in self.rows)

    def table(self) -> pd.DataFrame:
        """A row a trial: trial, state, score under the metric's name, all folds, epochs, time, changes."""
        columns = ["trial", "state", self.metric, "all folds", "epochs", "time", "changes"]
        return pd.DataFrame([_cells(row) for row in self.rows], columns=columns)

    def describe(self) -> str:
        """The best trial and the number of trials, on some lines."""
        states = ("complete", "pruned", "failed", "interrupted", "running", "waiting")
        counts = ", ".join(f"{self.count(state)} {state}" for state in states if self.count(state))
        lines = [f"study {self.study}: {counts or 'no trials'}; pruning saved about {format_duration(self.seconds_saved)}"]
        if self.best is not None:
            changes = changes_text(self.best.changes)
            lines.append(f"best: trial {self.best.number}, {self.metric} {_best_text(self.best)}: {changes}")
        if self.stopped:
            lines.append(f"stopped early: {self.stopped}. The same command goes on from there.")
        if self.best_path is not None:
            lines.append(f"best configuration: {self.best_path}; plots: {self.page}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the study, its trials and the number of the best one."""
        fields = super().to_dict()
        return {**fields, "best": None if self.best is None else self.best.number, "rows": plain(self.rows)}


def changes_text(changes: Mapping[str, Any]) -> str:
    """Entries as ``key=value`` with few digits."""
    rounded = {key: float(f"{value:.3g}") if isinstance(value, float) else value for key, value in changes.items()}
    return " ".join(as_overrides(rounded)) or "the present configuration"


def trial_row(trial: FrozenTrial) -> TrialRow:
    """What a trial's record says."""
    attrs = trial.user_attrs
    done, planned = attrs.get(EPOCHS) or (0, 0)
    return TrialRow(
        number=trial.number,
        state=_state(trial),
        score=_score(trial),
        all_folds=float(attrs.get(ALL_FOLDS, math.nan)),
        scores=dict(attrs.get(SCORES) or {}),
        epochs=(int(done), int(planned)),
        seconds=float(attrs.get(SECONDS, 0.0)),
        changes=dict(attrs.get(CHANGES) or {}),
        error=attrs.get(ERROR),
    )


def study_rows(study: optuna.Study) -> tuple[TrialRow, ...]:
    """All trials in order."""
    return tuple(trial_row(trial) for trial in study.get_trials(deepcopy=False))


def best_row(rows: Sequence[TrialRow], metric: Metric) -> TrialRow | None:
    """The best complete trial.

    Trials that earned all folds are compared by all of them: on one fold the luckiest of many looks better than it is.
    """
    complete = [row for row in rows if row.state == "complete" and not math.isnan(row.score)]
    earned = [row for row in complete if not math.isnan(row.all_folds)]
    best: TrialRow | None = None
    for row in earned or complete:
        if best is None or metric.better(_standing(row), _standing(best)):
            best = row
    return best


def seconds_saved(rows: Sequence[TrialRow]) -> float:
    """What the pruned trials would still have cost, each at its own pace."""
    pruned = [row for row in rows if row.state == "pruned" and row.epochs[0]]
    return sum(row.seconds * (planned - done) / done for row in pruned for done, planned in [row.epochs])


def write_best(path: Path, run: RunConfig, best: TrialRow, *, study: str, metric: str) -> None:
    """A run configuration for ``kk train --config``: the present one with the best trial's entries.

    What has its default is left out, but for entries that were searched.
    """
    import yaml

    content = override(run.model_dump(mode="json", exclude_defaults=True), as_overrides(best.changes))
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    changes = "".join(f"#   {entry}\n" for entry in as_overrides(best.changes)) or "#   nothing\n"
    head = f"# Trial {best.number} of study {study}: {metric} {_best_text(best)}. Changed from the configuration then:\n"
    files.write_text(path, f"{head}{changes}# Train with it: kk train --config tune/{study}/{path.name}\n{text}")


def _standing(row: TrialRow) -> float:
    return row.score if math.isnan(row.all_folds) else row.all_folds


def _best_text(row: TrialRow) -> str:
    folds = f"{len(row.scores)} folds" if len(row.scores) > 1 else f"fold {next(iter(row.scores), '?')}"
    return f"{_standing(row):.4f} on {folds}"


def _state(trial: FrozenTrial) -> str:
    if trial.state == TrialState.FAIL:
        # Without a reason it was killed or stopped; whatever could be queued again, was.
        return "failed" if ERROR in trial.user_attrs else "interrupted"
    return trial.state.name.lower()


def _score(trial: FrozenTrial) -> float:
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return float(trial.value)
    last = trial.last_step
    return math.nan if last is None else float(trial.intermediate_values[last])


def _cells(row: TrialRow) -> list[Any]:
    done, planned = row.epochs
    changes = row.error or changes_text(row.changes)
    return [row.number, row.state, row.score, row.all_folds, f"{done}/{planned}", format_duration(row.seconds), changes]

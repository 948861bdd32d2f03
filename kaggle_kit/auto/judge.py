"""Whether another run, or another way of blending, is better than what there is: paired, on out-of-fold rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.blending import cross_fit, get_blender
from kaggle_kit.blending.open_class import opened
from kaggle_kit.blending.sources import OutOfFoldRows, common_folds, gather, usable_runs
from kaggle_kit.competition import Setup
from kaggle_kit.diagnosis import deal_groups, jackknife_error
from kaggle_kit.metrics import Metric
from kaggle_kit.runs import TEST, Run
from kaggle_kit.scores import log_loss
from kaggle_kit.tables.predictions import read_prediction_meta

Array = npt.NDArray[Any]
_BLOCKS = 25
"""Parts of the rows that are left out in turn, for the error of a difference."""


@dataclass(frozen=True)
class Judgement:
    """How much better ``after`` is than ``before``.

    Attributes:
        difference: of the scores; positive is better, whatever the metric.
        error: its standard error, by leaving out parts of the rows in turn (jackknife), groups whole.
        gain: share of the error that is gone: the mean of that of 1 - score, or of the score where small ones are good, and of
            that of the log loss, which tells runs apart that are right on the same rows.
        better: whether to keep it.
        why: in words.
    """

    before: float
    after: float
    difference: float
    error: float
    gain: float
    better: bool
    why: str

    @property
    def facts(self) -> dict[str, float]:
        """The numbers that a journal tells."""
        return {"before": self.before, "after": self.after, "difference": self.difference, "error": self.error}


@dataclass(frozen=True)
class Rows:
    """Out-of-fold rows of several runs, with what is needed to judge blends of them.

    Attributes:
        open_column: of the class without an appearance of its own, which blends rank by a threshold; None: there is none.
    """

    names: tuple[str, ...]
    rows: OutOfFoldRows
    metric: Metric
    groups: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int64]
    threshold: float
    open_column: int | None = None

    def blended(self, names: Sequence[str], method: str = "mean") -> Array:
        """Return the cross-fitted probabilities (N, C) of a blend of some of the runs."""
        stack = [self.rows.aligned.stack[self.names.index(name)] for name in names]
        blender = get_blender(method)
        if self.open_column is not None:
            blender = opened(blender, self.open_column)
        elif len(stack) == 1 and not blender.learns_scale:
            return np.asarray(stack[0])
        fitted = cross_fit(blender, stack, self.rows.truth, self.rows.parts, self.metric, threshold=self.threshold)
        return fitted.probs

    def score(self, probs: Array) -> float:
        """Return the metric over all rows."""
        return self.metric(self.rows.truth, probs, threshold=self.threshold)

    def no_worse(self, before: Array, after: Array) -> bool:
        """Whether the score of ``after`` is not worse, without which nothing is better; :meth:`judge` takes far longer."""
        gain = self.score(after) - self.score(before)
        return (gain if self.metric.greater_is_better else -gain) >= 0

    def judge(self, before: Array, after: Array, *, fold: int | None = None) -> Judgement:
        """Compare two blends on all rows, or on those of one fold."""
        chosen = np.flatnonzero(self.folds == fold) if fold is not None else np.arange(len(self.folds))
        return compare(
            self.metric, self.rows.truth[chosen], before[chosen], after[chosen], self.groups[chosen], threshold=self.threshold
        )


def read_rows(setup: Setup, names: Sequence[str]) -> Rows:
    """Read the out-of-fold rows of runs, made with the views that their test rows were made with, or none before that."""
    chosen, notes = usable_runs(setup.workspace, names)
    folds = common_folds(setup.workspace, chosen)
    views = {run.name: _views(run) for run in chosen}
    rows = gather(setup.workspace, setup.competition, chosen, folds, views, 0, notes)
    at = folds.rows_of(rows.aligned.ids)
    threshold = setup.competition.submission.score_threshold
    competition = setup.competition
    column = None if competition.open_class is None else competition.classes.index(competition.open_class)
    return Rows(tuple(names), rows, setup.metric, folds.groups[at], folds.assignments[0, at], threshold, column)


def better_changes(
    rows: Rows,
    kept: tuple[str, ...],
    method: str,
    changes: Callable[[tuple[str, ...]], Mapping[str, tuple[str, ...]]],
    in_time: Callable[[], bool],
) -> Iterator[tuple[str, tuple[str, ...], Judgement]]:
    """Change a blend by one run after another, the most useful one first, as long as it is shown to be better for it.

    Each run changes at most once, so that this ends.

    Args:
        rows: of all runs that may take part.
        kept: the runs of the blend.
        changes: returns run -> the runs of the blend that it would change to.
        in_time: asked before each comparison; when it says no, nothing more changes.

    Yields:
        The run, the runs of the blend after it, and how much better that is.
    """
    done = set[str]()
    while True:
        before, found = rows.blended(kept, method), {}
        for run, names in changes(kept).items():
            if not in_time():
                return
            if run in done or not rows.no_worse(before, after := rows.blended(names, method)):
                continue
            if (judged := rows.judge(before, after)).better:
                found[run] = names, judged
        if not found:
            return
        best = max(found, key=lambda run: found[run][1].difference)
        kept, judged = found[best]
        done.add(best)
        yield best, kept, judged


def one_run_changed(kept: tuple[str, ...], others: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return run -> the blend with it, of ``others`` that are not in it, or without it, as long as two are left."""
    more = {run: (*kept, run) for run in others if run not in kept}
    return more | {run: tuple(one for one in kept if one != run) for run in kept if len(kept) > 2}


def _views(run: Run) -> str:
    path = run.finished_folds()[0].path / TEST
    return str(read_prediction_meta(path).get("views", "none")) if path.exists() else "none"


def compare(
    metric: Metric, truth: Array, before: Array, after: Array, groups: Array, *, threshold: npt.ArrayLike = 0.5
) -> Judgement:
    """Judge ``after`` against ``before``, both (N, C) for the same rows.

    It is better when its score is, by more than the standard error of the difference. Scores that count right rows are coarse,
    though, and one run more shows in the likelihood first: it is also better when its score is not worse and its log loss lower
    by more than two standard errors.
    """
    sign = 1.0 if metric.greater_is_better else -1.0

    def gain(rows: npt.NDArray[np.int64]) -> float:
        now, then = (metric(truth[rows], probs[rows], threshold=threshold) for probs in (after, before))
        return sign * (now - then)

    def likelier_by(rows: npt.NDArray[np.int64]) -> float:
        return log_loss(truth[rows], before[rows]) - log_loss(truth[rows], after[rows])

    blocks, everything = deal_groups(groups, _BLOCKS), np.arange(len(truth))
    old, new = (metric(truth, probs, threshold=threshold) for probs in (before, after))
    difference, error = sign * (new - old), jackknife_error(gain, blocks)
    likelier, spread = likelier_by(everything), jackknife_error(likelier_by, blocks)
    if difference > 0 and difference > error:
        better, why = True, f"better by {difference:.4f}, more than its standard error of {error:.4f}"
    elif difference >= 0 and likelier > 2 * spread:
        better, why = True, f"no worse ({difference:+.4f}), and log loss lower by {likelier:.4f} ± {spread:.4f}"
    else:
        better, why = False, f"difference {difference:+.4f}, standard error {error:.4f}: not shown to be better"
    gone = _share(difference, 1.0 - old if metric.greater_is_better else old), _share(likelier, log_loss(truth, before))
    return Judgement(old, new, difference, error, sum(gone) / 2, better, why)


def _share(difference: float, whole: float) -> float:
    return difference / whole if whole > 0 and math.isfinite(difference) else 0.0

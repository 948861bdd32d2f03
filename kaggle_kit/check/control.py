"""Training images that went through the test path in disguise: did they come out as they should?

Sharp: fold k's model, on rows that it was validated on, must say in the test pass what it said out of fold. End to end: the
control rows, blended and written by the same writer and read back as a grader would, must score what they score out of fold.
Together they see what out-of-fold rows alone cannot: another preprocessing at test time, rows that lost their ids, views undone
wrongly, a writer that decodes wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kaggle_kit import files, runs
from kaggle_kit.check.assignment import best_assignment
from kaggle_kit.check.case import Case, Unavailable, rows_at
from kaggle_kit.check.chance import LEVEL, more_lost_than_won
from kaggle_kit.check.readback import read_answers, read_cells
from kaggle_kit.check.report import FAILED, INCONCLUSIVE, PASSED, WARNING, Check
from kaggle_kit.choices import EXACT_FORMS
from kaggle_kit.machine.ahead import ahead
from kaggle_kit.runs import FoldRun, Run
from kaggle_kit.sparse import SparseRows, ranking

Array = npt.NDArray[Any]
TOLERANCE = 5e-3
"""Largest difference of a probability between the test pass and validation: engines and batch sizes round differently."""
HALF_TOLERANCE = 3e-2
"""The same when either was computed in 16 bits or fewer."""
_COARSE = ("bf16", "fp16", "int8")
MOST_COLUMNS = 800
"""Of more classes the likeliest are compared to see which were exchanged."""
FEW = 20
SMALL_LOSS = 0.02
"""A mean of models is a little less certain than one of them, a power or rank mean more so."""
VIEWS_MAY_COST = 0.1
AGAIN = "Run `kk predict` again, then `kk blend`."
DRAWS = 20_000
SEED = 21


def check_control(case: Case) -> Iterator[Check]:
    """Views against none, the sharp test of each fold, then the end-to-end test of the submission."""
    for name, check in (("control: views", _views), ("control: sharp", _sharp), ("control: end to end", _end_to_end)):
        try:
            yield check(case, name)
        except Unavailable as error:
            yield Check(name, INCONCLUSIVE, str(error), "Run `kk predict` with control rows, then `kk blend`.")


@dataclass(frozen=True)
class Pair:
    """The same rows of one fold twice, (N, C): as they came through the test path, and out of fold."""

    unit: str
    ids: tuple[str, ...]
    control: Array
    oof: Array
    tolerance: float

    @property
    def largest(self) -> float:
        """The largest difference of a probability."""
        return float(np.abs(self.control - self.oof).max())

    @property
    def off(self) -> Array:
        """(N,) bool: rows that differ."""
        return np.asarray(np.abs(self.control - self.oof).max(axis=1) > self.tolerance)


def _sharp(case: Case, name: str) -> Check:
    folds = [(run, fold) for run in case.runs for fold in runs.predicted_folds(run)]
    pairs = [pair for pair in ahead(lambda one: _pair(case, *one), folds) if pair.ids]
    rows = sum(len(pair.ids) for pair in pairs)
    if not rows:
        return Check(name, INCONCLUSIVE, "no control row was validated on by the fold that predicted it")
    broken = [pair for pair in pairs if pair.off.any()]
    if broken:
        worst = max(broken, key=lambda pair: float(pair.off.mean()))
        text = f"{worst.unit}: {int(worst.off.sum())} of {len(worst.ids)} control rows differ from their out-of-fold rows "
        text += f"by more than {worst.tolerance:g} (up to {worst.largest:.3f}); {_diagnosis(case, worst)}"
        text += f"; {len(broken)} of {len(pairs)} folds differ" if len(broken) > 1 else ""
        return Check(name, FAILED, text, "Test images did not go the way that validation images went. " + AGAIN)
    tolerance, largest = max(pair.tolerance for pair in pairs), max(pair.largest for pair in pairs)
    text = f"{rows} rows of {len(pairs)} folds equal their out-of-fold rows within {tolerance:g} (furthest {largest:.1g})"
    if rows < FEW:
        return Check(name, INCONCLUSIVE, f"{text}; fewer than {FEW} rows prove little", "Predict with more control rows.")
    return Check(name, PASSED, text, shows=("rows",))


def _pair(case: Case, run: Run, fold: FoldRun) -> Pair:
    control = case.predictions(fold, runs.CONTROL)
    views = control.meta.get("views", "none")
    oof = case.predictions(fold, runs.OOF if views == "none" else runs.OOF_VIEWS)
    if oof.meta.get("views", "none") != views:
        raise Unavailable(f"{run.name} fold {fold.fold}: out-of-fold rows were not predicted with views {views!r}")
    known = set(oof.ids)
    ids = tuple(row_id for row_id in control.ids if row_id in known)
    half = any(str(table.meta.get("precision", "fp32")) in _COARSE for table in (control, oof))
    return Pair(
        f"{run.name} fold {fold.fold}", ids, rows_at(control, ids), rows_at(oof, ids), HALF_TOLERANCE if half else TOLERANCE
    )


def _diagnosis(case: Case, pair: Pair) -> str:
    """What kind of fault explains the difference."""
    some = np.sort(np.argsort(-pair.oof.sum(axis=0), kind="stable")[:MOST_COLUMNS])
    closeness = -np.stack([np.abs(pair.oof[:, [column]] - pair.control[:, some]).mean(axis=0) for column in some])
    order = np.arange(pair.oof.shape[1])
    order[some] = some[best_assignment(closeness)]
    moved = np.flatnonzero(order != np.arange(len(order)))
    if len(moved) and np.abs(pair.control[:, order] - pair.oof).max() <= pair.tolerance:
        names = case.classes.names
        return f"columns are exchanged: column {names[order[moved[0]]]!r} holds {names[moved[0]]!r}"
    hot = case.hot(pair.ids)
    through, before = float(_right(hot, pair.control).mean()), float(_right(hot, pair.oof).mean())
    shares = f"{through:.3f} of them are right, {before:.3f} out of fold"
    if through < before / 2:
        return f"{shares}: rows have lost their ids, or the images are hardly recognisable"
    return f"{shares}: the images were preprocessed or viewed in another way, or another model predicted them"


def _views(case: Case, name: str) -> Check:
    """Out-of-fold rows with the views of the test pass against those without: views may cost a little, never much."""
    units = [_unit_of_views(case, run) for run in case.runs]
    worst = min((unit for unit in units if unit is not None), key=lambda unit: unit.gain, default=None)
    if worst is None:
        return Check(name, PASSED, "the test rows were predicted without views")
    shares = f"{worst.after:.3f} right with views {worst.views!r}, {worst.before:.3f} without"
    text = f"{worst.run}: {shares}, on {worst.rows:,} out-of-fold rows"
    if worst.p_value > LEVEL / len(units) or worst.gain >= 0:
        return Check(name, PASSED, text)
    remedy = "Choose other views with `kk predict --tta`, or none."
    if worst.gain < -VIEWS_MAY_COST:
        return Check(name, FAILED, f"{text}: these views do not suit the images, or are undone wrongly", remedy)
    return Check(name, WARNING, f"{text}: these views cost more than chance explains", remedy)


@dataclass(frozen=True)
class ViewsUnit:
    """How right a run's out-of-fold rows are without views (before) and with them (after)."""

    run: str
    views: str
    rows: int
    before: float
    after: float
    p_value: float

    @property
    def gain(self) -> float:
        return self.after - self.before


def _unit_of_views(case: Case, run: Run) -> ViewsUnit | None:
    """None for a run predicted without views. The p-value is McNemar's, exact, of as many rows lost by the views."""
    from scipy.stats import binom

    folds = runs.predicted_folds(run)
    if case.predictions(folds[0], runs.TEST).meta.get("views", "none") == "none":
        return None
    before, after = [], []
    for fold in folds:
        plain, viewed = case.predictions(fold, runs.OOF), case.predictions(fold, runs.OOF_VIEWS)
        hot = case.hot(plain.ids)
        before.append(_right(hot, rows_at(plain, plain.ids)))
        after.append(_right(hot, rows_at(viewed, plain.ids)))
    without, with_views = np.concatenate(before), np.concatenate(after)
    lost, won = int((with_views < without).sum()), int((with_views > without).sum())
    p_value = float(binom.sf(lost - 1, lost + won, 0.5)) if lost else 1.0
    return ViewsUnit(
        run.name, str(viewed.meta.get("views")), len(without), float(without.mean()), float(with_views.mean()), p_value
    )


def _end_to_end(case: Case, name: str) -> Check:
    path = case.path.with_suffix(".control.csv")
    if not path.is_file():
        raise Unavailable(f"no {path.name} beside the submission")
    if case.record.control is not None and case.record.control.sha256 != files.file_fingerprint(path):
        return Check(name, FAILED, f"{path.name} is not the file that the record describes", "Run `kk blend` again.")
    answers = read_answers(case.wide(read_cells(case.note(path))), case.config.competition.submission, case.classes)
    oof = _oof_as_written(case)
    known = {row_id: row for row, row_id in enumerate(oof.ids)}
    ids = [row_id for row_id in answers.ids if row_id in known]
    if len(ids) < FEW:
        return Check(name, INCONCLUSIVE, f"{len(ids)} control rows were validated on; fewer than {FEW} prove little")
    hot, through, before = case.hot(ids), answers.take(ids), oof.values[[known[row_id] for row_id in ids]]
    right, was_right = _right(hot, through), _right(hot, before)
    loss, worse = own_labels_lost(hot, through, before), shares_fell(was_right, right)
    scores = f"{case.score(hot, through):.4f} through the test path and the writer, {case.score(hot, before):.4f} out of fold"
    text = f"{len(ids)} control rows: {case.metric.name} {scores}; {right.mean():.3f} right, {was_right.mean():.3f} out of fold"
    text += f" (the same rows; false-alarm rate {2 * LEVEL:.2g})"
    if not worse and not loss:
        return Check(name, PASSED, text, shows=("rows",))
    text += f"; own labels lost {loss:.3f} on average, more than chance explains" if loss else ""
    return Check(name, FAILED, text, "Between the models and the file, rows or classes were exchanged. " + AGAIN)


@dataclass(frozen=True)
class Written:
    """Rows as a submission holds them: (N, C) probabilities, or 1 for each class that is named."""

    ids: tuple[str, ...]
    values: Array


def _oof_as_written(case: Case) -> Written:
    """Out-of-fold rows of the blend, in the values that the submission's form can hold."""
    table = case.blended_oof
    probs, form = table.probs.astype(np.float64), case.config.competition.submission
    if form.form in EXACT_FORMS:
        return Written(table.ids, probs)
    if form.form == "ranked":
        return Written(table.ids, ranked(probs, form.guesses))
    if form.form == "labels":
        thresholds = case.record.thresholds
        limit = form.threshold if thresholds is None else np.asarray(thresholds, dtype=np.float64)
        named = case.classes.above(probs, limit, at_least_one=form.empty_label is None)
    else:
        named = [(label,) for label in case.classes.top(probs)]
    return Written(table.ids, case.hot_of(named).astype(np.float64))


def ranked(probs: Array, guesses: int) -> Array:
    """(N, C): 1 for the most probable class, 1/2 for the second …, 0 beyond the ``guesses`` that a cell holds."""
    best = ranking(probs, guesses)
    if isinstance(probs, SparseRows):
        return cast(Array, SparseRows.named(best.tolist(), probs.width, (1 / np.arange(1.0, best.shape[1] + 1)).tolist()))
    values = np.zeros_like(probs)
    np.put_along_axis(values, best, 1 / np.arange(1.0, best.shape[1] + 1)[None, :], axis=1)
    return values


def _right(hot: Array, values: Array) -> Array:
    """(N,) in 0..1: whether the most probable class is right; for several labels, Jaccard's index of those named and true."""
    if (hot.sum(axis=1) == 1).all() and (values.sum(axis=1) > 0).all():
        return np.asarray(hot[np.arange(len(hot)), values.argmax(axis=1)], dtype=np.float64)
    named = values >= 0.5
    both, either = (named & (hot == 1)).sum(axis=1), (named | (hot == 1)).sum(axis=1)
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def shares_fell(before: Array, after: Array) -> bool:
    """Return whether the same rows, (N,) in 0..1, are less often right through the test path, beyond chance and by more than
    SMALL_LOSS. Without a fault most models of the test path were trained on these rows, so that it is right more often."""
    return float((before - after).mean()) > SMALL_LOSS and more_lost_than_won(before, after, LEVEL)


def own_labels_lost(hot: Array, through: Array, before: Array) -> float:
    """Mean loss of the own labels' values against the other classes' when it is neither small nor chance; else 0.

    The rows are the same, so differences are paired, and without a fault their signs are as likely either way or in favour of
    the test path, most of whose models were trained on these rows.
    """
    counts, change = hot.sum(axis=1), through - before
    own = (change * hot).sum(axis=1)
    gain = own / np.maximum(counts, 1) - (change.sum(axis=1) - own) / np.maximum(hot.shape[1] - counts, 1)
    drawn = (np.random.default_rng(SEED).choice([-1.0, 1.0], size=(DRAWS, len(gain))) * gain).mean(axis=1)
    significant = gain.mean() < np.quantile(drawn, LEVEL)
    return -float(gain.mean()) if significant and gain.mean() < -SMALL_LOSS else 0.0

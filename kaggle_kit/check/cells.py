"""Do the submission's cells say what the models said of the same ids? The way from test predictions to the file, done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kaggle_kit import runs
from kaggle_kit.check.assignment import Mapping, best_assignment, judge_mapping
from kaggle_kit.check.case import Case, Unavailable, rows_at
from kaggle_kit.check.chance import LEVEL, fewer_than_explained, least_share
from kaggle_kit.check.report import FAILED, INCONCLUSIVE, PASSED, Check
from kaggle_kit.machine.ahead import ahead
from kaggle_kit.runs import Run
from kaggle_kit.sparse import SparseRows, combined, ranking, with_column
from kaggle_kit.tables import shown

Array = npt.NDArray[Any]
TOLERANCE = 1e-4
"""Largest difference of a probability that rounding in the file or in float32 explains."""
LINEAR = ("mean", "weights", "coordinate", "hill-climb")
"""Methods that are weighted means, which is all that needs to be known to do them again."""
SHIFT = 0.1
"""Test rows may be this much harder than out-of-fold rows before a blend that differs from the mean is suspect."""
SEED = 22
REMEDY = "The file does not hold what the models predicted. Run `kk blend` again; if it stays, run `kk predict` first."


def check_cells(case: Case) -> Iterator[Check]:
    """The runs' test predictions against the blend's, and the blend's against the file."""
    for name, check in (("cells: blend", _blend), ("cells: file", _file)):
        try:
            yield check(case, name)
        except Unavailable as error:
            yield Check(name, INCONCLUSIVE, str(error))


def _blend(case: Case, name: str) -> Check:
    ids = case.blended.ids
    stored = rows_at(case.blended, ids)
    weights = _weights(case)
    shares = np.full(len(case.runs), 1 / len(case.runs)) if weights is None else weights
    means = ahead(lambda run: _mean_of_folds(case, run, ids), case.runs)
    mean = cast(Array, sum(share * one for share, one in zip(shares, means, strict=True)))
    if weights is not None:
        expected = _with_open_class(case, mean)
        if not case.multilabel:
            expected = expected / np.maximum(expected.sum(axis=1, keepdims=True), 1e-12)
        off = _furthest(expected, stored) > TOLERANCE
        if off.any():
            text = (
                f"{int(off.sum()):,} of {len(ids):,} rows of the blend are not the weighted mean of the runs' test predictions"
            )
            return Check(name, FAILED, text + _explain(case, stored, expected, ids), REMEDY)
        return Check(name, PASSED, f"{len(ids):,} rows equal the weighted mean of {len(case.runs)} runs within {TOLERANCE:g}")
    return _resembles(case, name, stored, mean)


def _furthest(expected: Array, stored: Array) -> Array:
    """(N,) the largest difference of a probability; of many classes, of those that are stored."""
    if isinstance(stored, SparseRows) and isinstance(expected, SparseRows):
        rows = np.arange(len(stored))[:, None]
        return np.asarray(np.abs(expected[rows, stored.columns] - stored.cells[:, :-1]).max(axis=1))
    return np.asarray(np.abs(expected - stored).max(axis=1))


def _with_open_class(case: Case, probs: Array) -> Array:
    """``probs`` (N, C) with the record's threshold for the class of kk.yaml that is none of the others, if there is one."""
    name, stated = case.config.competition.open_class, case.record.blend.get("parameters", {})
    if name is None or "open_threshold" not in stated:
        return probs
    column, threshold = case.classes.index(name), float(stated["open_threshold"])
    others = with_column(probs, column, 0.0)
    return with_column(others / np.maximum(others.sum(axis=1, keepdims=True), 1e-12), column, threshold)


def _resembles(case: Case, name: str, stored: Array, mean: Array) -> Check:
    """A blend that is not linear cannot be done again here; yet it may not exchange rows or classes.

    How far it goes from the runs' mean by its nature, out-of-fold rows tell.
    """
    verdict, usual = _against(case, stored, mean), _against(case, *_out_of_fold(case))
    text = f"method {case.record.method!r}; {verdict.hits:.1%} of rows have the most probable class of the runs' plain mean"
    text += f", out of fold {usual.hits:.1%}"
    moved = [(column, label) for column, label in verdict.moved if label not in usual.unproved]
    if moved:
        column, label = moved[0]
        return Check(name, FAILED, f"{text}; column {column!r} holds what the runs call {label!r}", REMEDY)
    if is_another_blend(verdict, usual):
        return Check(name, FAILED, f"{text}: these are not the rows of the runs", REMEDY)
    if not verdict.above_chance:
        return Check(name, INCONCLUSIVE, f"{text}, not distinguishable from chance")
    return Check(name, PASSED, text)


def is_another_blend(test: Mapping, out_of_fold: Mapping) -> bool:
    """Return whether a blend follows its runs' mean on test rows less than it does out of fold, beyond chance and SHIFT."""
    usual = least_share(round(out_of_fold.hits * out_of_fold.rows), out_of_fold.rows, LEVEL / 2)
    return fewer_than_explained(round(test.hits * test.rows), test.rows, max(usual - SHIFT, 0.0), LEVEL / 2)


def _against(case: Case, probs: Array, mean: Array) -> Mapping:
    """Whether the columns of ``probs`` hold what ``mean`` names."""
    named = case.classes.above(mean, at_least_one=True) if case.multilabel else [(label,) for label in case.classes.top(mean)]
    return judge_mapping(case.hot_of(named), probs, case.classes, level=LEVEL, rng=np.random.default_rng(SEED))


def _out_of_fold(case: Case) -> tuple[Array, Array]:
    """The blend's cross-fitted rows and the plain mean of the runs' on the same ids, (N, C) each."""
    ids = case.blended_oof.ids
    parts: list[tuple[npt.NDArray[np.int64], Array]] = []
    where = {row_id: row for row, row_id in enumerate(ids)}
    for run in case.runs:
        for fold in runs.predicted_folds(run):
            table = case.predictions(fold, runs.OOF)
            known = [row_id for row_id in table.ids if row_id in where]
            parts.append((np.array([where[row_id] for row_id in known], dtype=np.int64), rows_at(table, known)))
    count = np.bincount(np.concatenate([rows for rows, _ in parts]), minlength=len(ids))
    return rows_at(case.blended_oof, ids), combined(np.add, parts, len(ids)) / np.maximum(count, 1)[:, None]


def _mean_of_folds(case: Case, run: Run, ids: Sequence[str]) -> Array:
    """(N, C): a run's test probabilities, the mean of its folds; joined by id."""
    folds = runs.predicted_models(run)
    total = sum(rows_at(case.predictions(fold, runs.TEST), ids) for fold in folds)
    return cast(Array, total / len(folds))


def _weights(case: Case) -> Array | None:
    """Share of each run, summing to 1; None for a method that is no weighted mean."""
    record, count = case.record, len(case.record.runs)
    if record.method not in LINEAR:
        return None
    stated = record.blend.get("parameters", {}).get("weights") or [1.0] * count
    weights = np.asarray(stated, dtype=np.float64)
    return np.asarray(weights / weights.sum())


def _file(case: Case, name: str) -> Check:
    ids = case.answers.ids
    expected, found = rows_at(case.blended, ids), case.answers.values
    lost = len(case.blended) - len(ids)
    wrong = WRONG[case.config.competition.submission.form](case, found, expected)
    if wrong.any():
        text = f"{int(wrong.sum()):,} of {len(ids):,} rows do not say what the blend says of their id"
        return Check(name, FAILED, text + _explain(case, found, expected, ids), REMEDY)
    if lost:
        return Check(name, FAILED, f"{lost:,} rows of the blend are not in the file", REMEDY)
    return Check(name, PASSED, f"{len(ids):,} rows say what the blend says of their id", shows=("file",))


def _wrong_numbers(case: Case, found: Array, expected: Array) -> Array:  # noqa: ARG001
    return np.asarray(np.abs(found - expected).max(axis=1) > TOLERANCE)


def _wrong_label(case: Case, found: Array, expected: Array) -> Array:  # noqa: ARG001
    """Rows that name a class which is not the most probable one, ties aside."""
    return np.asarray((found * expected).sum(axis=1) < expected.max(axis=1) - 1e-6)


def _wrong_labels(case: Case, found: Array, expected: Array) -> Array:
    form = case.config.competition.submission
    stated = case.record.thresholds
    threshold = np.broadcast_to(form.threshold if stated is None else np.asarray(stated, dtype=np.float64), expected.shape[1:])
    wrong = ((found == 1) != (expected >= threshold)) & (np.abs(expected - threshold) > 1e-6)
    none = ~(expected >= threshold).any(axis=1)
    if form.empty_label is None:  # then such a row names its most probable class
        alone = (found.sum(axis=1) == 1) & ((found * expected).sum(axis=1) >= expected.max(axis=1) - 1e-6)
        return np.asarray(np.where(none, ~alone, wrong.any(axis=1)))
    return np.asarray(wrong.any(axis=1))


def _wrong_ranked(case: Case, found: Array, expected: Array) -> Array:
    """Rows whose guesses are not the most probable classes in their order, ties aside."""
    most, rows = min(case.config.competition.submission.guesses, len(case.classes)), np.arange(len(found))[:, None]
    if isinstance(found, SparseRows):
        most = min(most, found.columns.shape[1])
    order = ranking(found, most)
    said, best = expected[rows, order], expected[rows, ranking(expected, most)]
    named = found[rows, order] > 0
    return np.asarray(((said < best - 1e-6) & named).any(axis=1))


Wrong = Callable[[Case, Array, Array], Array]
WRONG: dict[str, Wrong] = {
    "label": _wrong_label,
    "index": _wrong_label,
    "labels": _wrong_labels,
    "ranked": _wrong_ranked,
    "probability": _wrong_numbers,
    "long": _wrong_numbers,
    "positive": _wrong_numbers,
}
"""Which rows contradict the blend, by the form of the submission: (found, expected) (N, C) -> (N,) bool."""


def _explain(case: Case, found: Array, expected: Array, ids: Sequence[str]) -> str:
    """The simplest exchange of rows or columns that makes the two agree; empty when none does."""
    for what, order in row_orders(ids).items():
        if _distance(found, expected[order], case) < 0.1 * _distance(found, expected, case):
            return f"; the rows are {what}"
    if found.size < 2e7 and not isinstance(found, SparseRows):
        closeness = -np.abs(found[:, :, None] - expected[:, None, :]).mean(axis=0).T
        order = best_assignment(closeness)
        moved = [position for position, column in enumerate(order) if column != position]
        if moved and _distance(found[:, order], expected, case) < 0.2 * _distance(found, expected, case):
            names = case.classes.names
            return "; " + shown(f"column {names[order[position]]!r} holds {names[position]!r}" for position in moved)
    return ""


def row_orders(ids: Sequence[str]) -> dict[str, Array]:
    """Mistakes of order that have been seen: what stands at row r is what belongs to row order[r]."""
    rows = np.arange(len(ids))
    by_text = np.array(sorted(range(len(ids)), key=lambda row: ids[row]))
    by_length = np.array(sorted(range(len(ids)), key=lambda row: (len(ids[row]), ids[row])))
    orders = {
        "shifted down by one": np.roll(rows, 1),
        "shifted up by one": np.roll(rows, -1),
        "in reverse order": rows[::-1],
        "in the order of ids sorted as text": by_text,
        "in the order of ids sorted as numbers": by_length,
        "in another order than ids sorted as text": np.argsort(by_text),
        "in another order than ids sorted as numbers": np.argsort(by_length),
    }
    return {what: order for what, order in orders.items() if not np.array_equal(order, rows)}


def _distance(found: Array, expected: Array, case: Case) -> float:
    """Mean disagreement; of what is written where the file holds names, of the numbers otherwise."""
    if case.answers.exact:
        return float(np.abs(found - expected).mean())
    return float(WRONG[case.config.competition.submission.form](case, found, expected).mean())

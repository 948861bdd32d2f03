"""Does each column hold its class? Out-of-fold rows tell for the blend, each run and each fold; test rows for each fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import runs
from kaggle_kit.check.assignment import Mapping, judge_mapping
from kaggle_kit.check.case import Case, Unavailable
from kaggle_kit.check.chance import LEVEL, fewer_than_explained, least_share
from kaggle_kit.check.report import FAILED, INCONCLUSIVE, PASSED, Check, Status
from kaggle_kit.fold_names import FULL, fold_text
from kaggle_kit.machine.ahead import ahead
from kaggle_kit.runs import FoldRun, Run
from kaggle_kit.sparse import together
from kaggle_kit.tables import Predictions, shown

Array = npt.NDArray[Any]
TEST_ROWS = 5000
HARDER = 0.1
"""Test rows may be this much harder than out-of-fold rows before models that agree by chance only are suspect."""
SEED = 20
REMEDY = "Find which file has its columns in another order and make it again: `kk train`, `kk predict`, then `kk blend`."


@dataclass(frozen=True)
class Unit:
    """One table of probabilities with the labels of its rows, (N, C) each."""

    name: str
    hot: Array
    probs: Array


def check_permutation(case: Case) -> Iterator[Check]:
    """The blend, then the single runs and folds, then each fold's test rows against the other models'."""
    for name, check in (
        ("permutation: blend", _blend),
        ("permutation: runs", _runs),
        ("permutation: folds", _folds),
        ("permutation: test rows", _test_rows),
    ):
        try:
            yield check(case, name)
        except Unavailable as error:
            yield Check(name, INCONCLUSIVE, str(error))


def _blend(case: Case, name: str) -> Check:
    table = case.blended_oof
    verdict = _judge(case, Unit("the blend", case.hot(table.ids), table.probs.astype(np.float64)), LEVEL)
    return _line(case, name, [("the blend's out-of-fold rows", verdict)])


def _runs(case: Case, name: str) -> Check:
    units = (_unit(case, run.name, [case.predictions(fold, runs.OOF) for fold in run.finished_folds()]) for run in case.runs)
    return _judge_all(case, name, units, len(case.runs))


def _folds(case: Case, name: str) -> Check:
    """Out-of-fold rows as trained and, where views were used, as predicted again."""
    found = []
    for run in case.runs:
        for fold in run.finished_folds():
            found.append((f"{run.name} fold {fold.fold}", fold, runs.OOF))
            if (fold.path / runs.OOF_VIEWS).is_file():
                found.append((f"{run.name} fold {fold.fold} with views", fold, runs.OOF_VIEWS))
    units = (_unit(case, label, [case.predictions(fold, file_name)]) for label, fold, file_name in found)
    return _judge_all(case, name, units, len(found))


def _unit(case: Case, name: str, tables: list[Predictions]) -> Unit:
    ids = [row_id for table in tables for row_id in table.ids]
    return Unit(name, case.hot(ids), together([table.probs for table in tables]))


def _judge(case: Case, unit: Unit, level: float) -> Mapping:
    return judge_mapping(unit.hot, unit.probs, case.classes, level=level, rng=np.random.default_rng(SEED))


def _judge_all(case: Case, name: str, units: Iterable[Unit], count: int) -> Check:
    return _line(case, name, _judge_each(case, units, LEVEL / max(count, 1)))


def _judge_each(case: Case, units: Iterable[Unit], level: float) -> list[tuple[str, Mapping]]:
    """Judge units beside each other, each with its name."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):  # the units already keep every CPU busy
        return list(ahead(lambda unit: (unit.name, _judge(case, unit, level)), units))


def _line(case: Case, name: str, verdicts: list[tuple[str, Mapping]]) -> Check:
    """One line of the table; it shows which class each column stands for when every table confirms most of its classes."""
    confirmed = all(verdict.mostly_proved for _, verdict in verdicts)
    return Check(name, *_reading(case, verdicts, LEVEL), shows=("classes",) if confirmed else ())


def _reading(case: Case, verdicts: list[tuple[str, Mapping]], level: float) -> tuple[Status, str, str]:
    """Status, evidence and remedy of several tables at once."""
    refuted = sorted((pair for pair in verdicts if pair[1].refuted), key=lambda pair: pair[1].p_value)
    if refuted:
        return (
            FAILED,
            "; ".join(_refutation(unit, verdict) for unit, verdict in refuted[:3]) + _others(len(refuted) - 3),
            REMEDY,
        )
    blind = [(unit, verdict) for unit, verdict in verdicts if not verdict.above_chance]
    rate = f"false-alarm rate {level:.2g}"
    if blind:
        unit, verdict = blind[0]
        text = (
            f"{unit}: {verdict.rows:,} rows, {verdict.hits:.3f} right: not distinguishable from chance, so no order can be told"
        )
        return INCONCLUSIVE, f"{text}{_others(len(blind) - 1)} ({rate})", "Train longer or on more rows."
    lacking = max((verdict for _, verdict in verdicts), key=lambda verdict: len(verdict.unproved))
    right = [verdict.hits for _, verdict in verdicts]
    text = f"{_span(right)} right as named, {_span([verdict.best_hits for _, verdict in verdicts])} in the best other order"
    rows = _span([verdict.rows for _, verdict in verdicts])
    if lacking.unproved:
        unit = next(unit for unit, verdict in verdicts if verdict is lacking)
        proved = len(case.classes) - len(lacking.unproved)
        text += f"; {rows} rows prove {proved} of {len(case.classes)} classes for {unit}: too few or too confusable rows of "
        return INCONCLUSIVE, f"{text}{shown(lacking.unproved)} to rule out a swap ({rate})", ""
    return PASSED, f"{text}; {rows} rows; a swap of any two classes would have been seen ({rate})", ""


def _refutation(unit: str, verdict: Mapping) -> str:
    pairs = shown(f"column {column!r} holds what is labelled {label!r}" for column, label in verdict.moved)
    shares = f"{verdict.hits:.3f} right as named, {verdict.best_hits:.3f} in the best other order"
    return f"{unit}: {pairs} ({verdict.rows:,} rows, {shares}, p = {verdict.p_value:.1g})"


def _others(count: int) -> str:
    return f"; and {count} more" if count > 0 else ""


def _span(values: list[float] | list[int]) -> str:
    low, high = min(values), max(values)
    if isinstance(low, int):
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"


def _test_rows(case: Case, name: str) -> Check:
    """Each fold's test probabilities against what the other models say of the same rows: models of one task agree."""
    folds = [(run, fold) for run in case.runs for fold in runs.predicted_models(run)]
    if len(folds) < 2:
        return Check(name, INCONCLUSIVE, "there is one model only; its test rows have nothing to be compared with")
    every = case.predictions(folds[0][1], runs.TEST).ids
    ids = [every[row] for row in _thin(len(every))]
    tables = ahead(lambda one: case.predictions(one[1], runs.TEST).take(ids).probs, folds)
    stack = {f"{run.name} {fold_text(fold.fold)}": probs for (run, fold), probs in zip(folds, tables, strict=True)}
    total, level = sum((probs.astype(np.float64) for probs in stack.values()), start=0.0), LEVEL / len(stack)
    consensus = ((unit, probs, (total - probs) / (len(stack) - 1)) for unit, probs in stack.items())
    verdicts = _judge_each(case, (Unit(unit, _named(case, others), probs) for unit, probs, others in consensus), level)
    refuted = [pair for pair in verdicts if pair[1].refuted]
    if refuted:
        status, text, remedy = _reading(case, refuted, LEVEL)
        return Check(name, status, "against the other models' test rows, " + text, remedy)
    return _agreement(name, verdicts, list(ahead(lambda one: _right_out_of_fold(case, *one), folds)))


def _right_out_of_fold(case: Case, run: Run, fold: FoldRun) -> tuple[int, int]:
    """How many of a fold's out-of-fold rows have one of their labels as their most probable class, and how many rows it has.

    The model of all data has no such rows; it is taken to be as good as its run's folds, and no surer than one of them.
    """
    if fold.fold == FULL:
        counts = [_right_out_of_fold(case, run, one) for one in runs.predicted_folds(run)]
        return sum(right for right, _ in counts) // len(counts), sum(rows for _, rows in counts) // len(counts)
    table = case.predictions(fold, runs.OOF)
    hot = case.hot(table.ids)
    return int(hot[np.arange(len(hot)), table.probs.argmax(axis=1)].sum()), len(hot)


def strangers(verdicts: Sequence[Mapping], right: Sequence[tuple[int, int]], level: float) -> list[int]:
    """Positions of models that agree with the others on test rows no more than chance, though all are mostly right.

    A model that is right on a share ``a`` of the rows and others on ``b`` agree on at least ``a + b - 1`` of them, whatever
    their errors have in common. Both shares are taken at the lower end of what their out-of-fold rows allow, and the test rows
    may be harder by HARDER.

    Args:
        verdicts: of each model's test rows against the consensus of the other models.
        right: of each model, how many of its out-of-fold rows are right, and how many there are.
    """
    each = level / max(len(verdicts), 1) / 3
    total = np.sum(right, axis=0)
    found = []
    for at, (verdict, (hits, rows)) in enumerate(zip(verdicts, right, strict=True)):
        own, others = least_share(hits, rows, each), least_share(total[0] - hits, total[1] - rows, each)
        expected = max(own + others - 1 - HARDER, 0.0)
        agreed = round(verdict.hits * verdict.rows)
        if not verdict.above_chance and fewer_than_explained(agreed, verdict.rows, expected, each):
            found.append(at)
    return found


def _agreement(name: str, verdicts: list[tuple[str, Mapping]], right: list[tuple[int, int]]) -> Check:
    """Models that are mostly right out of fold agree on test rows, unless these are other rows."""
    rows, agree = verdicts[0][1].rows, [verdict.hits for _, verdict in verdicts]
    shares = _span([hits / max(count, 1) for hits, count in right])
    strange = [verdicts[at][0] for at in strangers([verdict for _, verdict in verdicts], right, LEVEL)]
    if strange:
        text = f"{shown(strange)}: agreement with the other models on {rows:,} test rows is {_span(agree)}, "
        remedy = "The rows of these files are not those of their ids. Run `kk predict` and `kk blend` again."
        return Check(name, FAILED, f"{text}no more than chance, though {shares} are right out of fold", remedy)
    blind = [unit for unit, verdict in verdicts if not verdict.above_chance]
    if blind:
        text = f"{shown(blind)}: agreement with the other models on {rows:,} test rows is {_span(agree)}"
        return Check(name, INCONCLUSIVE, f"{text}: not distinguishable from chance, with {shares} right out of fold")
    return Check(name, PASSED, f"{rows:,} rows; each fold agrees with the other models on {_span(agree)} of them")


def _thin(rows: int) -> Array:
    if rows <= TEST_ROWS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(SEED).choice(rows, size=TEST_ROWS, replace=False))


def _named(case: Case, probs: Array) -> Array:
    """What a consensus of models would answer, (N, C) 0/1."""
    named = case.classes.above(probs, at_least_one=True) if case.multilabel else [(name,) for name in case.classes.top(probs)]
    return case.hot_of(named)

"""How each competition scores, written from its page's formula in plain numpy: none of it is the package's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

Answers = Mapping[str, str]
"""Test id -> what is right: a label, labels parted by blanks, or 0/1."""
Grader = Callable[[pd.DataFrame, Answers], float]
"""A submission as text, indexed by its ids; and the answers."""


def read(path: Path, answers: Answers, rows_per_id: int = 1) -> pd.DataFrame:
    """Return a submission as text, if Kaggle would take it: each id once, none missing, no empty cell."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    ids = frame.iloc[:, 0]
    assert ids.is_unique
    assert len(frame) == rows_per_id * len(answers)
    assert not (frame == "").any().any()
    return frame.set_index(frame.columns[0])


def _single(frame: pd.DataFrame, answers: Answers) -> tuple[list[str], list[str]]:
    assert frame.shape[1] == 1
    assert set(frame.index) == set(answers)
    return [answers[row_id] for row_id in frame.index], list(frame.iloc[:, 0])


def accuracy(frame: pd.DataFrame, answers: Answers) -> float:
    truth, said = _single(frame, answers)
    return float(np.mean([one == other for one, other in zip(truth, said, strict=True)]))


def accuracy_of_known(frame: pd.DataFrame, answers: Answers) -> float:
    """Of the rows that count: those with an answer."""
    known = {row_id: label for row_id, label in answers.items() if label}
    return accuracy(frame.loc[list(known)], known)


def top_1_error(frame: pd.DataFrame, answers: Answers) -> float:
    return 1 - accuracy(frame, answers)


def auc(frame: pd.DataFrame, answers: Answers) -> float:
    truth, said = _single(frame, answers)
    return _auc(np.array(truth) == "1", np.array(said, float))


def _auc(truth: np.ndarray, score: np.ndarray) -> float:
    """The share of pairs of a positive and a negative row that are in order, ties a half."""
    ahead = score[truth][:, None] - score[~truth][None, :]
    return float(np.mean((ahead > 0) + 0.5 * (ahead == 0)))


def weighted_auc(frame: pd.DataFrame, answers: Answers) -> float:
    """Below a true positive rate of 0.4 the area counts twice; divided by the largest area."""
    truth, said = _single(frame, answers)
    positive, score = np.array(truth) == "1", np.array(said, float)
    limits = np.r_[np.inf, np.unique(score)[::-1]]
    tpr = np.array([(score[positive] >= limit).mean() for limit in limits])
    fpr = np.array([(score[~positive] >= limit).mean() for limit in limits])
    grid = np.linspace(0, 1, 200_001)
    curve = np.interp(grid, fpr, tpr)  # at a jump the upper end, on a set of measure 0
    area = 2 * np.minimum(curve, 0.4).mean() + np.maximum(curve - 0.4, 0).mean()
    return float(area / (2 * 0.4 + 0.6))


def log_loss_of_positive(frame: pd.DataFrame, answers: Answers) -> float:
    truth, said = _single(frame, answers)
    p = np.clip(np.array(said, float), 1e-15, 1 - 1e-15)
    return float(-np.mean(np.where(np.array(truth) == "1", np.log(p), np.log(1 - p))))


def probabilistic_f1(frame: pd.DataFrame, answers: Answers) -> float:
    truth, said = _single(frame, answers)
    y, p = np.array(truth) == "1", np.array(said, float)
    precision, recall = p[y].sum() / p.sum(), p[y].sum() / y.sum()
    return float(2 * precision * recall / (precision + recall))


def quadratic_kappa(frame: pd.DataFrame, answers: Answers) -> float:
    truth, said = _single(frame, answers)
    size = 1 + max(map(int, [*truth, *said]))
    observed = np.zeros((size, size))
    for one, other in zip(truth, said, strict=True):
        observed[int(one), int(other)] += 1
    weight = (np.arange(size)[:, None] - np.arange(size)[None, :]) ** 2
    expected = np.outer(observed.sum(1), observed.sum(0)) / observed.sum()
    return float(1 - (weight * observed).sum() / (weight * expected).sum())


def macro_f1(frame: pd.DataFrame, answers: Answers) -> float:
    truth, said = _single(frame, answers)
    scores = []
    for name in {*truth, *said}:
        hit = sum(one == other == name for one, other in zip(truth, said, strict=True))
        scores.append(2 * hit / (truth.count(name) + said.count(name)))
    return float(np.mean(scores))


def _sets(frame: pd.DataFrame, answers: Answers) -> list[tuple[set[str], set[str]]]:
    truth, said = _single(frame, answers)
    return [(set(one.split()), set(other.split())) for one, other in zip(truth, said, strict=True)]


def macro_f1_of_sets(frame: pd.DataFrame, answers: Answers) -> float:
    rows = _sets(frame, answers)
    scores = []
    for name in set().union(*(one | other for one, other in rows)):
        hit = sum(name in one & other for one, other in rows)
        scores.append(2 * hit / sum((name in one) + (name in other) for one, other in rows))
    return float(np.mean(scores))


def micro_f1(frame: pd.DataFrame, answers: Answers) -> float:
    rows = _sets(frame, answers)
    return 2 * sum(len(one & other) for one, other in rows) / sum(len(one) + len(other) for one, other in rows)


def mean_f(beta: float) -> Grader:
    """Return the mean over rows of F-beta."""

    def score(frame: pd.DataFrame, answers: Answers) -> float:
        scores = []
        for truth, said in _sets(frame, answers):
            hit = len(truth & said)
            scores.append((1 + beta**2) * hit / (beta**2 * len(truth) + len(said)))
        return float(np.mean(scores))

    return score


def map_at(k: int) -> Grader:
    """Return the mean over rows of 1/rank of the right guess among the first ``k``."""

    def score(frame: pd.DataFrame, answers: Answers) -> float:
        truth, said = _single(frame, answers)
        guesses = [cell.split() for cell in said]
        assert all(len(row) == len(set(row)) <= k for row in guesses)
        return float(np.mean([1 / (1 + row.index(one)) if one in row else 0 for one, row in zip(truth, guesses, strict=True)]))

    return score


def log_loss_of_columns(frame: pd.DataFrame, answers: Answers) -> float:
    assert set(frame.index) == set(answers)
    p = np.clip(frame.to_numpy(float), 1e-15, 1 - 1e-15)
    p /= p.sum(axis=1, keepdims=True)
    return float(-np.mean([np.log(p[row, frame.columns.get_loc(answers[one])]) for row, one in enumerate(frame.index)]))


def column_auc(frame: pd.DataFrame, answers: Answers) -> float:
    """Mean over the columns that hold both outcomes."""
    assert set(frame.index) == set(answers)
    scores = []
    for name in frame.columns:
        truth = np.array([name in answers[row_id].split("|") for row_id in frame.index])
        if truth.any() and not truth.all():
            scores.append(_auc(truth, frame[name].to_numpy(float)))
    return float(np.mean(scores))

"""Dealing units to folds: complete, balanced, deterministic."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.folds.stratify import Units, stratify


def make_units(truth: np.ndarray, groups: np.ndarray) -> tuple[Units, np.ndarray]:
    """Units of rows with 0/1 labels ``truth`` (N, C), and their counts (U, C + 1)."""
    counts = np.zeros((groups.max() + 1, truth.shape[1] + 1), dtype=int)
    np.add.at(counts[:, :-1], groups, truth)
    np.add.at(counts[:, -1], groups, truth.sum(axis=1) == 0)
    sparse = tuple(tuple((int(c), int(row[c])) for c in np.flatnonzero(row)) for row in counts)
    return Units(tuple(np.bincount(groups).tolist()), sparse), counts


def chi_square(counts: np.ndarray, folds: np.ndarray, n_folds: int) -> float:
    table = np.stack([counts[folds == fold].sum(axis=0) for fold in range(n_folds)])
    expected = table.sum(axis=0) / n_folds
    there = expected > 0
    return float(((table - expected)[:, there] ** 2 / expected[there]).sum())


labels = st.lists(st.integers(0, 4), min_size=5, max_size=60)


@given(labels, st.integers(2, 5), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_single_rows_are_balanced_to_one(labels: list[int], n_folds: int, seed: int) -> None:
    units = Units((1,) * len(labels), tuple(((label, 1),) for label in labels))
    folds = stratify(units, [1 / n_folds] * n_folds, np.random.default_rng(seed))
    sizes = np.bincount(folds, minlength=n_folds)
    assert np.ptp(sizes) <= 1
    for label in set(labels):
        assert np.ptp(np.bincount(folds[np.array(labels) == label], minlength=n_folds)) <= 1


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=4, max_size=30), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_no_fold_is_empty(groups: list[list[int]], seed: int) -> None:
    counts = tuple(tuple((label, group.count(label)) for label in sorted(set(group))) for group in groups)
    folds = stratify(Units(tuple(map(len, groups)), counts), [0.25] * 4, np.random.default_rng(seed))
    assert set(folds.tolist()) == {0, 1, 2, 3}


def test_shares_are_kept() -> None:
    units = Units((1,) * 100, tuple(((row % 4, 1),) for row in range(100)))
    folds = stratify(units, (0.2, 0.8), np.random.default_rng(0))
    assert [np.count_nonzero((folds == 0) & (np.arange(100) % 4 == label)) for label in range(4)] == [5, 5, 5, 5]


def test_seed_decides() -> None:
    units = Units((1,) * 60, tuple(((row % 3, 1),) for row in range(60)))
    first, again, other = (stratify(units, [0.2] * 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_rows_of_a_class_are_shuffled() -> None:
    """A class whose rows come in a series, such as frames, must not be dealt in turn."""
    units = Units((1,) * 100, (((0, 1),),) * 100)
    folds = stratify(units, [0.5, 0.5], np.random.default_rng(0))
    assert 20 < np.count_nonzero(np.diff(folds)) < 80


@pytest.mark.parametrize("seed", range(3))
def test_groups_are_balanced_better_than_by_scikit_learn(seed: int) -> None:
    from sklearn.model_selection import StratifiedGroupKFold

    rng = np.random.default_rng(seed)
    label = rng.choice(8, 600, p=rng.dirichlet(np.ones(8)))
    groups = np.unique(rng.choice(50, 600, p=rng.dirichlet(np.ones(50))), return_inverse=True)[1]
    units, counts = make_units(np.eye(8, dtype=int)[label], groups)
    ours = stratify(units, [0.2] * 5, np.random.default_rng(seed))
    theirs = np.zeros(len(units), dtype=int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for fold, (_, valid) in enumerate(StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(label, label, groups)):
            theirs[groups[valid]] = fold
    assert chi_square(counts, ours, 5) <= chi_square(counts, theirs, 5)


@pytest.mark.parametrize("seed", range(3))
def test_multilabel_is_balanced_better_than_by_iterative_stratification(seed: int) -> None:
    iterstrat = pytest.importorskip("iterstrat.ml_stratifiers")
    rng = np.random.default_rng(seed)
    truth = (rng.random((500, 10)) < rng.uniform(0.01, 0.4, 10)).astype(int)
    units, counts = make_units(truth, np.arange(500))
    ours = stratify(units, [0.2] * 5, np.random.default_rng(seed))
    theirs = np.zeros(500, dtype=int)
    splits = iterstrat.MultilabelStratifiedKFold(5, shuffle=True, random_state=seed).split(truth, truth)
    for fold, (_, valid) in enumerate(splits):
        theirs[valid] = fold
    assert chi_square(counts, ours, 5) <= chi_square(counts, theirs, 5)


def test_time_is_linear() -> None:
    """20,000 rows of 153 classes take a fraction of a second; the bound leaves room for a busy machine."""
    label = np.random.default_rng(0).integers(0, 153, 20_000).tolist()
    units = Units((1,) * len(label), tuple(((position, 1),) for position in label))
    start = time.perf_counter()
    stratify(units, [0.2] * 5, np.random.default_rng(0))
    assert time.perf_counter() - start < 10

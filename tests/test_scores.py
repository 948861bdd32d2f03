"""Metrics of single competitions against their formulas, written out; and what pages call them."""

from __future__ import annotations

import numpy as np
import pytest

from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.metrics import ALIASES, METRICS, get_metric, require_metric

RNG = np.random.default_rng(3)
TRUTH = RNG.integers(0, 2, 60)
PROBS = np.clip(0.3 * TRUTH + RNG.uniform(0, 0.7, 60), 0, 1)
TWO = np.stack([1 - PROBS, PROBS], axis=1)
CLASSES = RNG.integers(0, 7, 80)
MANY = RNG.dirichlet(np.ones(7), 80) + 0.3 * np.eye(7)[CLASSES]
SETS = RNG.integers(0, 2, (40, 5))
SAID = np.clip(SETS * 0.4 + RNG.uniform(0, 0.6, (40, 5)), 0, 1)


def curve() -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the ROC curve of TWO, by counting."""
    limits = [np.inf, *sorted(PROBS, reverse=True)]
    tpr = [(PROBS[TRUTH == 1] >= limit).mean() for limit in limits]
    fpr = [(PROBS[TRUTH == 0] >= limit).mean() for limit in limits]
    return np.array(fpr), np.array(tpr)


def area(low: float, high: float) -> float:
    """Return the area under the curve between two rates, by a fine grid."""
    fpr, tpr = curve()
    grid = (np.arange(400_000) + 0.5) / 400_000
    return float(np.clip(np.interp(grid, fpr, tpr), low, high).mean() - low)


def test_weighted_auc_counts_low_rates_twice() -> None:
    expected = (2 * area(0, 0.4) + area(0.4, 1)) / 1.4
    assert get_metric("weighted_auc")(TRUTH, TWO) == pytest.approx(expected, abs=1e-4)
    assert get_metric("weighted_auc")(TRUTH, np.eye(2)[TRUTH]) == pytest.approx(1)


@pytest.mark.parametrize("above", [80, 50])
def test_partial_auc_is_that_of_isic(above: int) -> None:
    """The page's own code: AUC of the exchanged classes below the false positive rate, rescaled back."""
    from sklearn.metrics import roc_auc_score

    largest = 1 - above / 100
    scaled = roc_auc_score(1 - TRUTH, -PROBS, max_fpr=largest)
    expected = 0.5 * largest**2 + (largest - 0.5 * largest**2) / 0.5 * (scaled - 0.5)
    assert get_metric(f"pauc_{above}")(TRUTH, TWO) == pytest.approx(expected)


def test_probabilistic_f1() -> None:
    true, false = PROBS[TRUTH == 1].sum(), PROBS[TRUTH == 0].sum()
    precision, recall = true / (true + false), true / TRUTH.sum()
    assert get_metric("pf1")(TRUTH, TWO) == pytest.approx(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("k", [1, 3, 5, 6])
def test_ranked_guesses(k: int) -> None:
    guesses = np.argsort(-MANY, axis=1)[:, :k].tolist()
    places = [row.index(label) + 1 if label in row else 0 for row, label in zip(guesses, CLASSES, strict=True)]
    assert get_metric(f"map_{k}")(CLASSES, MANY) == pytest.approx(np.mean([1 / place if place else 0 for place in places]))
    assert get_metric(f"top_{k}")(CLASSES, MANY) == pytest.approx(np.mean([place > 0 for place in places]))
    assert get_metric(f"top_{k}_error")(CLASSES, MANY) == pytest.approx(np.mean([place == 0 for place in places]))
    assert get_metric(f"map_{k}").guesses == k


@pytest.mark.parametrize("beta", [2.0, 0.5])
def test_f_beta_a_row(beta: float) -> None:
    said = SAID >= 0.5
    scores = []
    for truth, row in zip(SETS == 1, said, strict=True):
        hit, weight = (truth & row).sum(), beta**2
        scores.append((1 + weight) * hit / (weight * truth.sum() + row.sum()) if (truth | row).any() else 1.0)
    assert get_metric(f"f{beta:g}_samples")(SETS, SAID) == pytest.approx(np.mean(scores))


def test_sets() -> None:
    said = SAID >= 0.5
    unions = [(row & (truth == 1)).sum() / max((row | (truth == 1)).sum(), 1) for row, truth in zip(said, SETS, strict=True)]
    empty = [not (row | (truth == 1)).any() for row, truth in zip(said, SETS, strict=True)]
    assert get_metric("jaccard_samples")(SETS, SAID) == pytest.approx(np.mean(np.where(empty, 1, unions)))
    assert get_metric("hamming")(SETS, SAID) == pytest.approx((said != SETS).mean())


def test_matthews_is_the_correlation_of_two_classes() -> None:
    assert get_metric("mcc")(TRUTH, TWO) == pytest.approx(np.corrcoef(TRUTH, PROBS > 0.5)[0, 1])


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("qwk", "quadratic_kappa"),
        ("Quadratic Weighted Kappa", "quadratic_kappa"),
        ("mAP@5", "map_5"),
        ("MAP@7", "map_7"),
        ("mean F1", "f1_samples"),
        ("AUC", "roc_auc"),
        ("LogLoss", "log_loss"),
        ("top-5 error", "top_5_error"),
        ("F0.5 macro", "f0.5_macro"),
        ("Mean Column-wise ROC AUC", "roc_auc_columns"),
        ("Categorization Accuracy", "accuracy"),
    ],
)
def test_names_as_pages_write_them(said: str, meant: str) -> None:
    assert require_metric(said) == meant
    assert get_metric(said).name == meant


def test_aliases_lead_to_metrics_and_to_one_each() -> None:
    assert set(ALIASES) <= set(METRICS)
    assert all(require_metric(alias) == name for name, aliases in ALIASES.items() for alias in aliases)


def test_what_is_no_metric_of_classes() -> None:
    with pytest.raises(ConfigError, match="that is regression"):
        require_metric("RMSE")
    with pytest.raises(ConfigError, match="unknown metric 'map_0'"):
        require_metric("map_0")
    with pytest.raises(DataError, match="for two classes"):
        get_metric("pf1")(CLASSES, MANY)

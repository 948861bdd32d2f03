"""Each number against an independent formula: scikit-learn, scipy, or a loop that anybody can follow."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from kaggle_kit.diagnosis import (
    calibrate,
    class_table,
    confused_pairs,
    confusion_counts,
    deal_groups,
    jackknife_error,
    least_sure_right,
    most_confused,
    paired_difference,
    score_interval,
    sureness,
    surest_mistakes,
)
from kaggle_kit.metrics import METRICS
from kaggle_kit.tables import Classes

CLASSES = Classes(("b", "a", "<script>", "d"))


@pytest.fixture
def rows():
    """200 rows of four classes, 70 % right."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 200)
    probs = rng.dirichlet(np.ones(4), 200)
    probs[np.arange(200), truth] += np.where(rng.random(200) < 0.6, 1.0, 0.0)
    return truth, probs / probs.sum(axis=1, keepdims=True)


@pytest.fixture
def cells():
    """150 multi-label rows of four labels."""
    rng = np.random.default_rng(1)
    truth = (rng.random((150, 4)) < 0.3).astype(np.uint8)
    return truth, np.clip(0.5 + (truth - 0.5) * rng.normal(0.6, 0.5, truth.shape), 0, 1)


def test_confusion_is_that_of_scikit_learn(rows):
    truth, probs = rows
    counts = confusion_counts(truth, probs.argmax(axis=1), 4)
    np.testing.assert_array_equal(counts, confusion_matrix(truth, probs.argmax(axis=1), labels=range(4)))


def test_the_most_confused_classes_come_with_their_partners():
    counts = np.diag([9, 9, 9, 9, 9, 9])
    counts[1, 4], counts[4, 1], counts[0, 5] = 3, 2, 4
    assert most_confused(counts, 2).tolist() == [1, 4]
    assert most_confused(counts, 6).tolist() == [1, 4, 0, 5]  # 2 and 3 are in no confusion
    assert confused_pairs(counts, 9) == [(0, 5, 4), (1, 4, 3), (4, 1, 2)]
    assert most_confused(np.diag([1, 2]), 5).tolist() == []


def test_classes_are_scored_as_scikit_learn_does(rows):
    truth, probs = rows
    labels = probs.argmax(axis=1)
    table = class_table(truth, labels, CLASSES).set_index("class").loc[list(CLASSES)]
    expected = precision_recall_fscore_support(truth, labels, labels=range(4))
    for name, values in zip(("precision", "recall", "F1", "rows"), expected, strict=True):
        np.testing.assert_allclose(table[name], values)
    assert list(class_table(truth, labels, CLASSES)["F1"]) == sorted(expected[2])
    assert table["missed"].sum() == table["false alarms"].sum() == (labels != truth).sum()


def test_multilabel_classes_are_scored_column_by_column(cells):
    truth, probs = cells
    said = (probs >= 0.5).astype(np.uint8)
    table = class_table(truth, said, CLASSES).set_index("class").loc[list(CLASSES)]
    np.testing.assert_allclose(table["F1"], precision_recall_fscore_support(truth, said)[2])
    assert "mostly taken for" not in table


def test_a_class_that_never_occurs_comes_last_and_has_no_score():
    table = class_table(np.array([0, 0, 1]), np.array([0, 1, 1]), CLASSES)
    assert list(table["class"][2:]) == ["<script>", "d"]
    assert table["F1"][2:].isna().all()
    assert table["recall"][2:].isna().all()


def test_calibration_is_counted_bin_by_bin(rows):
    truth, probs = rows
    found = calibrate(truth, probs, bins=10)
    error = 0.0
    for number in range(10):
        inside = [
            row
            for row in range(200)
            if number / 10 <= probs[row].max() < (number + 1) / 10 or (number == 9 and probs[row].max() == 1)
        ]
        assert found.counts[number] == len(inside)
        if inside:
            gap = np.mean([probs[row].max() for row in inside]) - np.mean([probs[row].argmax() == truth[row] for row in inside])
            error += len(inside) / 200 * abs(gap)
    assert found.error == pytest.approx(error)


def test_calibration_of_cells_and_of_the_positive_class(cells):
    truth, probs = cells
    assert calibrate(truth, probs).counts.sum() == truth.size
    two = np.stack([1 - probs[:, 0], probs[:, 0]], axis=1)
    found = calibrate(truth[:, 0].astype(int), two, bins=5)
    inside = (probs[:, 0] >= 0.2) & (probs[:, 0] < 0.4)
    assert found.accuracy[1] == pytest.approx(truth[inside, 0].mean())


def test_a_sure_liar_is_called_too_sure():
    probs = np.tile([0.9, 0.1, 0.0], (10, 1))
    found = calibrate(np.array([0] * 5 + [1] * 5), probs)
    assert found.error == pytest.approx(0.4)
    assert "too sure of itself, by 0.400" in found.describe()


def test_the_interval_of_an_accuracy_is_that_of_the_binomial_test(rows):
    from scipy.stats import binomtest

    truth, probs = rows
    found = score_interval(METRICS["accuracy"], truth, probs)
    right = int((probs.argmax(axis=1) == truth).sum())
    expected = binomtest(right, 200).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    ten = score_interval(METRICS["accuracy"], np.zeros(10, dtype=int), np.tile([0.9, 0.1], (10, 1)))
    assert ten.low == pytest.approx(0.69, abs=0.01)  # ten right ones are not known to be perfect
    assert ten.high == 1


def test_other_scores_are_bootstrapped(rows):
    truth, probs = rows
    found = score_interval(METRICS["log_loss"], truth, probs)
    losses = -np.log(probs[np.arange(200), truth])
    half = 1.96 * losses.std(ddof=1) / np.sqrt(200)  # by the central limit theorem
    assert found.low == pytest.approx(losses.mean() - half, abs=0.25 * half)
    assert found.high == pytest.approx(losses.mean() + half, abs=0.25 * half)
    assert "bootstrap" in found.how


def test_groups_are_drawn_whole_and_widen_the_interval(rows):
    truth, probs = rows
    twins = np.repeat(np.arange(200), 4)  # every row four times
    found = score_interval(METRICS["accuracy"], truth[twins], probs[twins], groups=twins)
    alone = score_interval(METRICS["accuracy"], truth[twins], probs[twins])
    assert found.high - found.low > 1.6 * (alone.high - alone.low)


def test_what_cannot_be_known_has_no_interval():
    truth, probs = np.zeros(30, dtype=int), np.tile([0.9, 0.1], (30, 1))
    assert score_interval(METRICS["roc_auc"], truth, probs) is None
    assert score_interval(METRICS["f1_macro"], truth, probs) is None  # every sample scores the same
    assert score_interval(METRICS["log_loss"], truth[:1], probs[:1]) is None


def test_mistakes_are_found_by_how_sure_they_are():
    truth = np.array([0, 1, 2, 1])
    probs = np.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1]])
    right, sure = sureness(truth, probs, probs.argmax(axis=1))
    assert right.tolist() == [True, False, False, True]
    assert surest_mistakes(right, sure, 5).tolist() == [1, 2]
    assert least_sure_right(right, sure, 5).tolist() == [0, 3]
    assert surest_mistakes(right, sure, 1).tolist() == [1]


def test_multilabel_rows_are_as_sure_as_their_surest_wrong_label():
    truth = np.array([[1, 0], [1, 1], [0, 0]])
    probs = np.array([[0.9, 0.95], [0.6, 0.8], [0.2, 0.4]])
    right, sure = sureness(truth, probs, (probs >= 0.5).astype(int))
    assert right.tolist() == [False, True, True]
    assert sure.tolist() == pytest.approx([0.95, 0.6, 0.6])


def test_a_paired_difference_knows_less_than_two_intervals_would_say(rows):
    truth, probs = rows
    better = probs.copy()
    wrong = np.flatnonzero(probs.argmax(axis=1) != truth)[:10]
    better[wrong] = np.eye(4)[truth[wrong]]
    gap, low, high = paired_difference(METRICS["accuracy"], truth, probs, better)
    assert gap == pytest.approx(10 / 200)
    assert 0 < low < gap < high < 0.1  # both err on the same other rows


def test_confused_classes_are_found_as_groups():
    from kaggle_kit.diagnosis import confused_groups

    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(7), 40)
    said = np.full((7, 7), 0.004)
    for group in ((0, 4), (2, 3, 6)):
        for one in group:
            said[one, list(group)] = 0.2
    np.fill_diagonal(said, 0)
    np.fill_diagonal(said, 1 - said.sum(axis=1))
    probs = said[truth] * np.exp(rng.normal(0, 0.1, (280, 7)))
    probs /= probs.sum(axis=1, keepdims=True)
    assert confused_groups(truth, probs, largest=4, least=0.05) == [[2, 3, 6], [0, 4]]
    assert sorted(map(len, confused_groups(truth, probs, largest=2, least=0.05))) == [2, 2]
    assert confused_groups(truth, probs, largest=4, least=0.9) == []
    several = np.eye(7, dtype=np.uint8)[truth]
    assert confused_groups(several, probs, largest=4, least=0.05) == [[2, 3, 6], [0, 4]]
    several[:, 0] = several[:, 4] = np.maximum(several[:, 0], several[:, 4])  # labels that stand together are not confused
    assert confused_groups(several, probs, largest=4, least=0.05) == [[2, 3, 6]]
    assert confused_groups(truth[:40], probs[:40, :1], largest=4, least=0.05) == []


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=50)
    error = jackknife_error(lambda rows: float(values[rows].mean()), np.arange(50))
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(50))
    assert jackknife_error(lambda rows: 0.0, np.zeros(5)) == np.inf
    assert jackknife_error(lambda rows: np.nan, np.arange(5)) == np.inf


def test_groups_are_dealt_whole_and_evenly():
    groups = np.repeat(np.arange(20), 3)
    parts = deal_groups(groups, 5, seed=1)
    assert all(len(set(parts[groups == group])) == 1 for group in range(20))
    assert np.bincount(parts).tolist() == [12] * 5
    assert not np.array_equal(parts, deal_groups(groups, 5, seed=2))

from __future__ import annotations

import itertools

import numpy as np
import pytest
from factories import fake_probabilities

from kaggle_kit.check import assignment
from kaggle_kit.check.assignment import Labelled, best_assignment, cycles, judge_mapping, swap_tails
from kaggle_kit.tables import Classes


def names(count: int) -> Classes:
    return Classes(tuple(f"c{position}" for position in range(count)))


def judge(truth, probs, *, level=0.001, seed=0):
    count = probs.shape[1]
    hot = np.eye(count, dtype=np.uint8)[truth] if truth.ndim == 1 else truth
    return judge_mapping(hot, probs, names(count), level=level, rng=np.random.default_rng(seed))


def draw(count, per_class, accuracy=0.9, seed=0):
    truth = np.repeat(np.arange(count), per_class)
    return truth, fake_probabilities(truth, count, accuracy, multilabel=False, rng=np.random.default_rng(seed))


@pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 3), (3, 3), (4, 2)])
def test_the_exact_distribution_is_that_of_all_orders(first: int, second: int) -> None:
    """Against brute force over every way in which the rows of two labels can be ranked."""
    outcomes = []
    for chosen in itertools.combinations(range(first + second), first):
        others = [rank for rank in range(first + second) if rank not in chosen]
        outcomes.append(sum(high > low for high in others for low in chosen))
    for u in range(first * second + 1):
        expected = np.mean([outcome <= u for outcome in outcomes])
        assert assignment._mann_whitney_tail(u, first, second) == pytest.approx(expected)


def test_the_normal_tail_continues_the_exact_one() -> None:
    at = assignment.EXACT_UP_TO
    exact = assignment._mann_whitney_tail(0.35 * at * at, at, at)
    normal = assignment._mann_whitney_tail(0.35 * (at + 1) ** 2, at + 1, at + 1)
    assert normal == pytest.approx(exact, rel=0.3)


def test_sound_probabilities_are_proved() -> None:
    verdict = judge(*draw(6, 40))
    assert not verdict.refuted
    assert verdict.above_chance
    assert verdict.unproved == ()
    assert verdict.hits == verdict.best_hits


def test_two_swapped_columns_are_named() -> None:
    truth, probs = draw(8, 30)
    verdict = judge(truth, probs[:, [0, 1, 5, 3, 4, 2, 6, 7]])
    assert set(verdict.moved) == {("c2", "c5"), ("c5", "c2")}
    assert verdict.p_value < 1e-6


@pytest.mark.parametrize("count", [3, 10, 40])
def test_columns_shifted_by_one_are_named(count: int) -> None:
    truth, probs = draw(count, 12)
    verdict = judge(truth, np.roll(probs, 1, axis=1))
    assert set(verdict.moved) == {(f"c{(position + 1) % count}", f"c{position}") for position in range(count)}


def test_a_wrong_order_shows_even_where_no_class_has_rows_enough() -> None:
    """153 classes in lexical order, five rows each: no pair alone could be told, the order as a whole can."""
    truth, probs = draw(153, 5, accuracy=0.6)
    lexical = np.argsort([str(number) for number in range(1, 154)])
    verdict = judge(truth, probs[:, lexical])
    assert verdict.refuted
    assert verdict.best_hits > 0.4 > 0.1 > verdict.hits


def test_permuted_columns_of_several_labels_are_named() -> None:
    rng = np.random.default_rng(0)
    hot = (rng.random((300, 5)) < 0.4).astype(np.uint8)
    probs = fake_probabilities(hot, 5, 0.85, multilabel=True, rng=rng)
    assert not judge(hot, probs).refuted
    assert set(judge(hot, probs[:, [0, 1, 2, 4, 3]]).moved) == {("c3", "c4"), ("c4", "c3")}


class TestManyClasses:
    """Of more classes than are compared, the most frequent are."""

    def draw(self, monkeypatch):
        monkeypatch.setattr(assignment, "MOST_CLASSES", 8)
        truth = np.concatenate([np.repeat(np.arange(0, 16, 2), 30), np.arange(3, 16, 2)])  # of class 1 there are none
        return truth, fake_probabilities(truth, 16, 0.9, multilabel=False, rng=np.random.default_rng(1))

    def test_the_others_are_not_proved(self, monkeypatch) -> None:
        verdict = judge(*self.draw(monkeypatch))
        assert not verdict.refuted
        assert verdict.above_chance
        assert verdict.unproved == tuple(f"c{at}" for at in range(1, 16, 2))
        assert (verdict.classes, verdict.rows) == (16, 240)
        assert verdict.hits == verdict.best_hits > 0.8
        assert verdict.mostly_proved

    def test_exchanged_columns_are_named(self, monkeypatch) -> None:
        truth, probs = self.draw(monkeypatch)
        order = np.arange(16)
        order[[2, 10]] = order[[10, 2]]
        verdict = judge(truth, probs[:, order])
        assert set(verdict.moved) == {("c2", "c10"), ("c10", "c2")}
        assert verdict.best_hits > verdict.hits


def test_few_rows_prove_nothing() -> None:
    truth, probs = draw(5, 3)
    verdict = judge(truth, probs)
    assert not verdict.refuted
    assert len(verdict.unproved) == 5


def test_a_class_without_rows_is_not_proved() -> None:
    truth, probs = draw(4, 40)
    kept = truth != 2
    assert judge(truth[kept], probs[kept]).unproved == ("c2",)


@pytest.mark.parametrize("several", [False, True])
def test_what_chance_scores_is_that_of_all_ways_of_dealing(several: bool) -> None:
    """Against brute force over all orders of six rows, the last class without a row."""
    rng = np.random.default_rng(3)
    hot = np.eye(4, dtype=bool)[[0, 0, 1, 2, 2, 2]]
    hot[[0, 3], [1, 0]] |= several
    scores = rng.normal(size=(6, 4))
    scale = hot / np.maximum(hot.sum(axis=0), 1)
    sums = [(scale[list(order)] * scores).sum() for order in itertools.permutations(range(6))]
    assert assignment.dealt_anew(Labelled.of(hot), scores) == pytest.approx((np.mean(sums), np.std(sums)))


@pytest.mark.parametrize("rows", [assignment.MANY_ROWS // 4 - 1, assignment.MANY_ROWS])
def test_few_and_many_rows_are_told_from_chance_alike(rows: int) -> None:
    truth, probs = draw(4, rows // 4 + 1, accuracy=0.4)
    assert judge(truth, probs).above_chance
    assert not judge(np.random.default_rng(1).permutation(truth), probs).above_chance


def test_labels_give_the_rows_that_have_them() -> None:
    hot = np.array([[0, 1, 1], [0, 0, 0], [0, 1, 0]])
    labelled = Labelled.of(hot)
    assert labelled.counts.tolist() == [0, 2, 1]
    assert [labelled.rows_of(label).tolist() for label in range(3)] == [[], [0, 2], [0]]
    assert labelled.first().tolist() == [1, 0, 1]
    assert labelled.where(np.array([False, True, True])).counts.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(labelled.mean_of(np.array([[1.0], [5.0], [2.0]])), [[0], [1.5], [1]])


def test_chance_is_not_above_chance() -> None:
    truth, probs = draw(10, 30)
    assert not judge(np.random.default_rng(1).permutation(truth), probs).above_chance


def confusable(seed: int, *, per_class: int, weights: bool) -> tuple[np.ndarray, np.ndarray]:
    """Twelve classes; of the first eight, pairs that nothing tells apart, under class weights that favour one of the two."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(12), rng.integers(per_class, 6 * per_class, 12))
    seen = np.where((truth < 8) & (rng.random(len(truth)) < 0.5), truth ^ 1, truth)
    probs = fake_probabilities(seen, 12, 0.8, multilabel=False, rng=rng).astype(np.float64)
    if weights:
        probs = probs * np.exp(rng.normal(0, 1.5, 12))
    return truth, probs / probs.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("weights", [False, True], ids=["plain", "class weights"])
def test_classes_that_nothing_tells_apart_raise_no_alarm(weights: bool) -> None:
    """At a level of 1 in 20 about two alarms in 40 would be expected; ten have a chance below 1 in 10,000."""
    alarms = sum(judge(*confusable(seed, per_class=8, weights=weights), level=0.05, seed=seed).refuted for seed in range(40))
    assert alarms < 10


def test_swapped_confusable_classes_are_seen_with_rows_enough() -> None:
    truth, probs = draw(4, 300, accuracy=0.6)
    assert set(judge(truth, probs[:, [1, 0, 2, 3]]).moved) == {("c0", "c1"), ("c1", "c0")}


def test_swapping_two_columns_mirrors_the_pair_test() -> None:
    truth, probs = draw(5, 20, accuracy=0.7)
    hot, evidence = np.eye(5, dtype=bool)[truth], np.log(probs)
    labelled = Labelled.of(hot)
    right, wrong = (swap_tails(labelled, scores, 1, 3) for scores in (evidence, evidence[:, [0, 3, 2, 1, 4]]))
    assert wrong.auc == pytest.approx(1 - right.auc)
    assert wrong.below == pytest.approx(right.above)


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_pair_test_counts_pairs_of_rows_and_ties_half(multilabel: bool) -> None:
    rng = np.random.default_rng(3)
    hot = rng.random((90, 3)) < 0.5 if multilabel else np.eye(3, dtype=bool)[rng.integers(0, 3, 90)]
    evidence = rng.integers(0, 4, (90, 3)).astype(np.float32)  # many ties
    one, two = hot[:, 0] & ~hot[:, 2], hot[:, 2] & ~hot[:, 0]  # rows with exactly one of the labels
    contrast = evidence[:, 2] - evidence[:, 0]
    pairs = np.sign(contrast[two][:, None] - contrast[one][None, :])
    assert swap_tails(Labelled.of(hot), evidence, 0, 2).auc == pytest.approx(float(pairs.mean() + 1) / 2)


def test_class_weights_do_not_move_the_pair_test() -> None:
    truth, probs = draw(5, 20, accuracy=0.7)
    labelled, evidence = Labelled.of(np.eye(5, dtype=bool)[truth]), np.log(probs.astype(np.float64))
    assert swap_tails(labelled, evidence + np.array([3, 0, -2, 1, 0]), 0, 2) == swap_tails(labelled, evidence, 0, 2)


def test_many_rows_of_a_class_are_thinned() -> None:
    truth = np.repeat([0, 1], [20_000, 50])
    probs = fake_probabilities(truth, 2, 0.9, multilabel=False, rng=np.random.default_rng(0))
    assert judge(truth, probs).rows == assignment.ROWS_PER_CLASS + 50


def test_the_identity_wins_ties() -> None:
    assert best_assignment(np.ones((4, 4))).tolist() == [0, 1, 2, 3]


def test_cycles_leave_out_what_stays() -> None:
    assert cycles(np.array([1, 0, 2, 4, 5, 3])) == [[0, 1], [3, 4, 5]]

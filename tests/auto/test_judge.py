"""Judgements: sound on chance, sharp on what is better."""

import numpy as np
import pytest

from kaggle_kit.auto.judge import Judgement, better_changes, compare
from kaggle_kit.metrics import get_metric

ACCURACY, LOSS = get_metric("accuracy"), get_metric("log_loss")


def probabilities(truth, share_right, rng):
    shown = np.where(rng.random(len(truth)) < share_right, truth, (truth + 1) % 3)
    probs = np.full((len(truth), 3), 0.2)
    probs[np.arange(len(truth)), shown] = 0.6
    return probs


def test_a_better_blend_is_kept_and_a_worse_one_is_not():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    old, new = probabilities(truth, 0.8, rng), probabilities(truth, 0.9, rng)
    rows = np.arange(400)
    for metric in (ACCURACY, LOSS):
        assert compare(metric, truth, old, new, rows).better
        assert not compare(metric, truth, new, old, rows).better
        assert not compare(metric, truth, old, old, rows).better
    found = compare(ACCURACY, truth, old, new, rows)
    assert found.difference == pytest.approx(found.after - found.before)
    lower = compare(LOSS, truth, old, new, rows)
    assert lower.difference == pytest.approx(lower.before - lower.after)
    assert lower.difference > 0
    assert lower.gain == pytest.approx(lower.difference / lower.before)
    assert found.gain == pytest.approx(0.5 * found.difference / (1 - found.before) + 0.5 * lower.gain)


def test_of_blends_that_are_right_on_the_same_rows_the_likelier_gains_more():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 300)
    old = probabilities(truth, 0.9, rng)
    found = [
        compare(ACCURACY, truth, old, share * np.eye(3)[truth] + (1 - share) * old, np.arange(300)) for share in (0.05, 0.1)
    ]
    assert [one.difference for one in found] == [0.0, 0.0]
    assert 0 < found[0].gain < found[1].gain


def test_equally_good_blends_are_seldom_taken_for_better():
    rng, kept = np.random.default_rng(1), 0
    for _ in range(200):
        truth = rng.integers(0, 3, 200)
        kept += compare(ACCURACY, truth, *(probabilities(truth, 0.8, rng) for _ in range(2)), np.arange(200)).better
    assert kept < 200 * 0.24  # more than a standard error by chance: 16 %


def test_the_error_is_that_of_groups_where_rows_are_not_independent():
    rng = np.random.default_rng(2)
    truth = np.repeat(rng.integers(0, 3, 100), 10)
    old, new = (np.repeat(probabilities(truth[::10], share, rng), 10, axis=0) for share in (0.8, 0.85))
    apart, together = (compare(ACCURACY, truth, old, new, groups) for groups in (np.arange(1000), np.arange(1000) // 10))
    assert together.error > 2 * apart.error


class Sums:
    """Rows of runs whose blend is worth the sum of what they are worth."""

    def __init__(self, worth, better=lambda difference: difference > 0):
        self.worth, self.better = worth, better

    def blended(self, names, method):
        return sum(self.worth[name] for name in names)

    def no_worse(self, before, after):
        return self.better(after - before)

    def judge(self, before, after):
        return Judgement(before, after, after - before, 0.0, 0.0, self.better(after - before), "")


def changes_of(runs):
    return lambda kept: {run: tuple(one for one in (*kept, run) if one != run or run not in kept) for run in runs}


def test_a_blend_changes_by_the_run_that_helps_most_until_none_helps():
    rows = Sums({"good": 3, "bad": -2, "better": 5, "worse": -4, "first": 1})
    found = list(better_changes(rows, ("first", "bad", "worse"), "mean", changes_of(rows.worth), lambda: True))
    assert [run for run, *_ in found] == ["better", "worse", "good", "bad"]
    assert set(found[-1][1]) == {"first", "better", "good"}
    assert [judged.difference for *_, judged in found] == [5, 4, 3, 2]


def test_changes_end_even_where_each_is_for_the_better_and_stop_with_the_time():
    always = Sums({"a": 1, "b": 2, "c": 3}, better=lambda difference: True)
    assert [run for run, *_ in better_changes(always, ("a",), "mean", changes_of(always.worth), lambda: True)] == [
        "c",
        "b",
        "a",
    ]
    asked = iter([True] * 4 + [False] * 9)
    assert len(list(better_changes(always, ("a",), "mean", changes_of(always.worth), lambda: next(asked)))) == 1

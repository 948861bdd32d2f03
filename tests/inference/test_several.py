"""Ids with several images: one row each, by the mean or the largest, whatever the order in which images come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kaggle_kit.inference.several import Merger, merged, merged_pixels, owners_of
from kaggle_kit.metrics import METRICS

ROWS = [("a", Path("1")), ("b", Path("2")), ("a", Path("3")), ("c", Path("4")), ("a", Path("5"))]
PROBS = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3], [0.7, 0.3]], dtype=np.float32)


def test_rows_are_those_of_the_ids_in_the_order_of_their_first_images():
    owners = owners_of(ROWS)
    assert owners.ids == ("a", "b", "c")
    means = merged(PROBS, owners, "mean", "multiclass")
    assert means == pytest.approx(np.array([[0.6, 0.4], [0.4, 0.6], [0.7, 0.3]]))


@pytest.mark.parametrize(
    ("task", "of_a"), [("binary", [0.2, 0.8]), ("multiclass", [0.9 / 1.7, 0.8 / 1.7]), ("multilabel", [0.9, 0.8])]
)
def test_the_surest_image_speaks_for_its_id(task, of_a):
    largest = merged(PROBS, owners_of(ROWS), "max", task)
    assert largest[0] == pytest.approx(np.array(of_a))
    assert largest[1] == pytest.approx(PROBS[1])


@pytest.mark.parametrize("rule", ["mean", "max"])
def test_the_order_of_images_does_not_matter(rule):
    order = np.array([4, 0, 3, 2, 1])
    pixels = np.arange(10, dtype=np.uint64).reshape(5, 2) * np.uint64(2**61)  # sums run over 64 bits
    one, other = owners_of(ROWS), owners_of([ROWS[at] for at in order])
    back = [other.ids.index(row_id) for row_id in one.ids]
    assert merged(PROBS[order], other, rule, "binary")[back] == pytest.approx(merged(PROBS, one, rule, "binary"))
    assert (merged_pixels(pixels[order], other)[back] == merged_pixels(pixels, one)).all()


def test_ids_with_one_image_are_left_as_they_are():
    owners = owners_of(ROWS[1:3])
    assert merged(PROBS[1:3], owners, "max", "multiclass") is not None
    assert (merged(PROBS[1:3], owners, "max", "multiclass") == PROBS[1:3]).all()


def test_the_better_rule_is_taken_and_of_equals_the_mean():
    owners = owners_of([("a", Path("1")), ("a", Path("2")), ("b", Path("3")), ("b", Path("4"))])
    one_shows_it = np.array([[0.9, 0.1], [0.1, 0.9], [0.55, 0.45], [0.55, 0.45]], dtype=np.float32)  # one view of a tumour
    truth = np.array([1, 0])
    mean = Merger(owners, "best", "binary", truth, METRICS["accuracy"])
    assert mean.settled(one_shows_it) == "max"
    assert mean(one_shows_it).argmax(axis=1).tolist() == [1, 0]
    agreeing = np.array([[0.1, 0.9]] * 2 + [[0.9, 0.1]] * 2, dtype=np.float32)
    assert mean.settled(agreeing) == "mean"
    assert Merger(owners, "max", "binary", truth, METRICS["accuracy"]).settled(agreeing) == "max"

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.inference.control import disguise, sample_control
from kaggle_kit.tables import Classes, FoldTable


def table(sizes, n_folds=4, *, train_only=0):
    """``sizes``: rows a class; rows are dealt to folds in turn, the last ``train_only`` are never validated on."""
    labels = [(f"class {number}",) for number, size in enumerate(sizes) for _ in range(size)]
    assignments = np.arange(len(labels)) % n_folds
    if train_only:
        assignments[-train_only:] = -1
    classes = Classes(tuple(f"class {number}" for number in range(len(sizes))))
    ids = tuple(f"t{row}" for row in range(len(labels)))
    return FoldTable(ids, tuple(labels), np.arange(len(labels)), assignments, n_folds, classes)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(0, 300))
@settings(max_examples=40, deadline=None)
def test_a_sample_is_spread_in_proportion(sizes, count):
    folds = table(sizes)
    chosen = sample_control(folds, count)
    assert len(chosen) == len(set(chosen)) == min(count, len(folds))
    by_class = Counter(folds.labels[folds.ids.index(row_id)][0] for row_id in chosen)
    for number, size in enumerate(sizes):
        assert abs(by_class[f"class {number}"] - size * len(chosen) / len(folds)) <= 1


def test_every_fold_has_its_share():
    folds = table([200, 200])
    chosen = set(sample_control(folds, 80))
    of_fold = Counter(int(fold) for row_id, fold in zip(folds.ids, folds.assignments[0], strict=True) if row_id in chosen)
    assert set(of_fold) == {0, 1, 2, 3}
    assert all(abs(number - 20) <= 2 for number in of_fold.values())


def test_rows_never_validated_on_and_unreadable_ones_are_left_out():
    folds = table([30, 30], train_only=10)
    chosen = sample_control(folds, 1000, left_out={"t3"})
    assert len(chosen) == 49
    assert "t3" not in chosen
    assert not {f"t{row}" for row in range(50, 60)} & set(chosen)


def test_same_seed_same_sample():
    folds = table([50, 70])
    assert sample_control(folds, 20) == sample_control(folds, 20)
    assert sample_control(folds, 20) != sample_control(folds, 20, seed=1)
    assert sample_control(folds, 0) == []


@pytest.mark.parametrize(
    ("test_ids", "pattern"),
    [
        ([f"test_{number:05}" for number in range(40)], r"test_\d{5}"),
        ([f"Test_{number}.jpg" for number in range(400)], r"Test_\d{1,3}\.jpg"),
        ([f"{number * 7919:08x}" for number in range(1, 90)], r"[0-9a-f]{8}"),
        ([f"test/ab/{number:06}.png" for number in range(90)], r"test/ab/\d{6}\.png"),
    ],
    ids=["padded", "counted", "hexadecimal", "folders"],
)
def test_disguises_look_like_test_ids(test_ids, pattern):
    real = [f"bedroom/image_{number}.jpg" for number in range(60)]
    found = disguise(real, test_ids)
    assert list(found) == real
    assert len(set(found.values())) == 60
    assert not set(found.values()) & {*real, *test_ids}
    assert all(re.fullmatch(pattern, made) for made in found.values())


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12, unique=True), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_disguises_never_collide_whatever_the_ids(test_ids, count):
    real = [f"train {number}" for number in range(count)]
    found = disguise(real, test_ids)
    assert len(set(found.values())) == count
    assert not set(found.values()) & {*real, *test_ids}
    assert found == disguise(real, test_ids)

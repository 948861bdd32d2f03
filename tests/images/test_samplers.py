"""Which rows an epoch sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.choices import SAMPLERS
from kaggle_kit.config import DataConfig
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.images.samplers import make_sampler, rank_share, row_classes, row_weights, sampler_for
from kaggle_kit.seeds import generator
from kaggle_kit.tables import Classes


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize("size", [None, 1, 7, 45])
@pytest.mark.parametrize("multilabel", [False, True])
def test_every_sampler(name: str, size: int | None, multilabel: bool) -> None:
    targets = np.arange(20) % 3
    if multilabel:
        targets = np.eye(3, dtype=np.float32)[targets]
    sampler = make_sampler(name, targets, seed=4, samples_per_epoch=size)
    rows = sampler.rows(2)
    assert rows.shape == (size or 20,) == (len(sampler),)
    assert rows.dtype == np.int64
    assert rows.min() >= 0
    assert rows.max() < 20
    np.testing.assert_array_equal(rows, make_sampler(name, targets, seed=4, samples_per_epoch=size).rows(2))
    if len(rows) > 5:
        assert not np.array_equal(rows, sampler.rows(3))
        assert not np.array_equal(rows, make_sampler(name, targets, seed=5, samples_per_epoch=size).rows(2))


@given(st.integers(1, 30), st.integers(1, 100), st.integers(-3, 5))
@settings(max_examples=30, deadline=None)
def test_shuffle_takes_every_row_equally_often(n_rows: int, size: int, seed: int) -> None:
    sampler = make_sampler("shuffle", np.zeros(n_rows, np.int64), seed=seed, samples_per_epoch=size)
    counts = np.bincount(sampler.rows(0), minlength=n_rows)
    assert counts.max() - counts.min() <= 1


def test_weighted_balances_classes() -> None:
    targets = np.repeat([0, 1, 2], [1000, 100, 10])
    rows = make_sampler("weighted", targets, seed=0, samples_per_epoch=6000).rows(0)
    assert np.all(np.abs(np.bincount(targets[rows]) / 6000 - 1 / 3) < 0.03)


def test_row_weights_take_the_rarest_label() -> None:
    targets = np.array([[1, 0], [1, 1], [1, 0], [1, 0], [0, 0]], np.float32)
    np.testing.assert_allclose(row_weights(targets), [0.25, 1.0, 0.25, 0.25, 1.0])
    np.testing.assert_allclose(row_weights(np.array([3, 0, 3])), [0.5, 1.0, 0.5])


@given(st.integers(1, 50), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_ranks_take_equal_shares_that_cover_the_epoch(size: int, world: int) -> None:
    shares = [rank_share(size, rank, world) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert set(np.concatenate(shares).tolist()) == set(range(size))
    assert len(shares[0]) * world - size < world


def test_generators_are_independent_by_purpose_and_index() -> None:
    draws = {
        float(generator(seed, purpose, *indices).random())
        for seed, purpose, indices in [(0, "a", (0,)), (0, "b", (0,)), (0, "a", (1,)), (1, "a", (0,)), (-1, "a", (0, 0))]
    }
    assert len(draws) == 5


def test_errors() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'weighted'"):
        make_sampler("weigthed", np.zeros(3, np.int64), seed=0)
    with pytest.raises(DataError, match="no training rows"):
        make_sampler("shuffle", np.zeros(0, np.int64), seed=0)
    with pytest.raises(ConfigError, match="samples_per_epoch"):
        make_sampler("shuffle", np.zeros(3, np.int64), seed=0, samples_per_epoch=0)


@pytest.mark.parametrize(("said", "size"), [(None, 10), (7, 7), ("2x", 20), ("0.5x", 5), ("1.25x", 12)])
def test_an_epoch_is_as_long_as_said(said, size):
    assert len(make_sampler("shuffle", np.zeros(10, np.int64), seed=0, samples_per_epoch=said).rows(1)) == size


def test_a_multiple_that_leaves_no_image_is_refused():
    with pytest.raises(ConfigError, match=r"at least 1 image, got 0\.01x of 10"):
        make_sampler("shuffle", np.zeros(10, np.int64), seed=0, samples_per_epoch="0.01x")


def drawn(data: DataConfig, targets: np.ndarray, names: Sequence[str] = "abc", epoch: int = 0) -> np.ndarray:
    return sampler_for(data, targets, Classes(tuple(names)), seed=3).rows(epoch)


def test_a_cap_takes_other_images_of_large_classes_in_each_epoch() -> None:
    targets = np.repeat([0, 1, 2], [100, 20, 5])
    data = DataConfig(samples_per_class=20)
    rows = [drawn(data, targets, epoch=epoch) for epoch in range(2)]
    for some in rows:
        assert np.bincount(targets[some]).tolist() == [20, 20, 5]
        assert len(set(some.tolist())) == len(some)
        assert not np.array_equal(targets[some], np.sort(targets[some]))  # classes are mixed
    assert set(rows[0][targets[rows[0]] == 0]) != set(rows[1][targets[rows[1]] == 0])


def test_multiples_see_each_image_of_a_class_as_often() -> None:
    targets = np.repeat([0, 1, 2], [10, 10, 4])
    rows = drawn(DataConfig(class_multiples={"c": 3, "b": 0.5, "a": 0}), targets)
    assert np.bincount(targets[rows], minlength=3).tolist() == [0, 5, 12]
    assert set(np.bincount(rows, minlength=24)[20:]) == {3}
    capped = drawn(DataConfig(class_multiples={"c": 3}, samples_per_class=8), targets)
    assert np.bincount(targets[capped]).tolist() == [8, 8, 8]


def test_of_several_labels_the_rarest_counts_and_rows_without_any_are_a_class_of_their_own() -> None:
    targets = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [0, 0], [0, 0]], np.float32)
    np.testing.assert_array_equal(row_classes(targets), [0, 0, 0, 1, 2, 2])
    rows = drawn(DataConfig(class_multiples={"b": 4}, samples_per_class=3), targets, "ab")
    assert np.bincount(row_classes(targets)[rows]).tolist() == [3, 3, 2]


def test_what_an_epoch_cannot_be_made_of() -> None:
    with pytest.raises(ConfigError, match=r"classes that do not exist: bb\. Did you mean"):
        drawn(DataConfig(class_multiples={"bb": 2}), np.zeros(3, np.int64), ("bbb", "x"))
    with pytest.raises(ConfigError, match="leaves no image"):
        drawn(DataConfig(class_multiples={"a": 0}), np.zeros(3, np.int64))
    for other in ({"sampler": "weighted"}, {"samples_per_epoch": 5}):
        with pytest.raises(ValueError, match="need sampler: shuffle and no samples_per_epoch"):
            DataConfig(samples_per_class=3, **other)

"""The store of decoded images in training and prediction: used where it pays, and never seen in what comes out."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from kaggle_kit import runs
from kaggle_kit.competition import ImageRow, Setup
from kaggle_kit.config import CacheConfig
from kaggle_kit.errors import ImageError
from kaggle_kit.images.store import list_stores, store_pays
from kaggle_kit.inference import predict_runs
from kaggle_kit.tables import read_predictions
from kaggle_kit.training import TrainOptions, train_run

FEW = ("epochs=4", "hardware.engine=torch")


def setup_with(tiny, cache, *overrides):
    config = tiny.whole(*FEW, *overrides).model_copy(update={"cache": cache or CacheConfig()})
    return Setup(tiny.workspace, config, tiny.competition)


def train(tiny, *overrides, run, cache=None, **options):
    return train_run(setup_with(tiny, cache, *overrides), TrainOptions(run, "0"), folds=tiny.folds, **options)


def oof(tiny, run):
    return read_predictions(tiny.workspace.fold_dir(run, 0) / runs.OOF).probs


def test_a_run_is_the_same_with_and_without_the_store(tiny):
    train(tiny, run="with")
    assert [store.images for store in list_stores(tiny.workspace.cache_dir)] == [36]
    train(tiny, run="without", cache=CacheConfig(enabled=False))
    assert np.array_equal(oof(tiny, "with"), oof(tiny, "without"))


def test_a_second_run_decodes_nothing(tiny, monkeypatch):
    train(tiny, run="a")

    def never(*_args, **_options):
        raise AssertionError("decoded again")

    monkeypatch.setattr("kaggle_kit.images.shards.decode_bytes", never)
    monkeypatch.setattr("kaggle_kit.images.dataset.decode_image", never)
    train(tiny, "lr=1e-3", run="b")


def test_test_images_join_the_store_that_training_filled(tiny):
    path = tiny.workspace.root / "data" / "test.png"
    cv2.imwrite(str(path), np.random.default_rng(1).integers(0, 256, (40, 36, 3), dtype=np.uint8))
    row = ImageRow("t", path, (), None, False, None)
    tiny = dataclasses.replace(tiny, competition=dataclasses.replace(tiny.competition, test=(row,)))
    tiny.folds.write(tiny.workspace.folds_path("folds"))
    train(tiny, run="a")
    predict_runs(setup_with(tiny, CacheConfig()))
    assert [store.images for store in list_stores(tiny.workspace.cache_dir)] == [37]
    stored = read_predictions(tiny.workspace.fold_dir("a", 0) / runs.TEST).probs
    (tiny.workspace.fold_dir("a", 0) / runs.TEST).unlink()
    predict_runs(setup_with(tiny, CacheConfig(enabled=False)))
    np.testing.assert_array_equal(read_predictions(tiny.workspace.fold_dir("a", 0) / runs.TEST).probs, stored)


@pytest.mark.parametrize("reads", [("epochs=1",), ("strategy=probe", "model=resnet10t")])
def test_images_that_are_read_once_are_not_stored(tiny, reads):
    train(tiny, *reads, run="a")
    assert not list_stores(tiny.workspace.cache_dir)


def test_unreadable_images_are_told_by_the_store_as_well(tiny):
    tiny.competition.train[4].path.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"(?s)1 of 36 training images.*004\.png"):
        train(tiny, run="a")
    train(tiny, "data.bad_images=skip", run="b")
    assert "004.png" not in read_predictions(tiny.workspace.fold_dir("b", 0) / runs.OOF).ids


def test_large_images_pay_sooner(tmp_path):
    large, small = tmp_path / "large.jpg", tmp_path / "small.jpg"
    cv2.imwrite(str(large), np.zeros((2672, 4000, 3), np.uint8))
    cv2.imwrite(str(small), np.zeros((250, 250, 3), np.uint8))
    assert not store_pays([large], (256, 256), reads=1)
    assert store_pays([large], (256, 256), reads=2)
    assert store_pays([small], (256, 256), reads=10)
    assert not store_pays([small], (256, 256), reads=2)

"""Samples by row, and where their pixels come from."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from kaggle_kit.config import AugmentConfig
from kaggle_kit.errors import DataError, ImageError
from kaggle_kit.images.dataset import FileSource, ImageDataset, as_targets, prepare_size_for, source_for
from kaggle_kit.images.decode import decode_image
from kaggle_kit.images.transforms import ImageSpec, eval_transform, prepare, train_transform

SPEC = ImageSpec(16, 24)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    result = []
    for number in range(4):
        path = tmp_path / f"{number}.jpg"
        image = cv2.resize(rng.integers(0, 255, (3, 4, 3), dtype=np.uint8), (160, 120))
        cv2.imwrite(str(path), image)
        result.append(path)
    return result


def test_samples(paths: list[Path]) -> None:
    targets = np.array([2, 0, 1, 2])
    targets.flags.writeable = False
    dataset = ImageDataset(paths, eval_transform(SPEC), source=source_for(SPEC), targets=targets)
    assert len(dataset) == 4
    image = dataset.pixels(3)
    assert image.shape == (16, 24, 3)
    assert image.dtype == np.uint8
    assert dataset.targets is not None
    assert dataset.targets.tolist() == [2, 0, 1, 2]
    assert dataset.targets.dtype == torch.int64
    reduced = decode_image(paths[3], min_size=SPEC.prepare_size)
    assert reduced.shape[0] < 120
    expected = eval_transform(SPEC)(prepare(reduced, SPEC.prepare_size))
    np.testing.assert_array_equal(image, expected)


def test_a_seed_decides_the_augmentation(paths: list[Path]) -> None:
    dataset = ImageDataset(paths, train_transform(SPEC, AugmentConfig(preset="medium")), source=source_for(SPEC))
    assert np.array_equal(dataset.pixels(1, 5), dataset.pixels(1, 5))
    assert not np.array_equal(dataset.pixels(1, 5), dataset.pixels(1, 6))
    assert dataset.targets is None


def test_the_source_can_be_replaced() -> None:
    asked: list[Path] = []

    def black(path: Path) -> np.ndarray:
        asked.append(path)
        return np.zeros((30, 30, 3), np.uint8)

    dataset = ImageDataset([Path("nowhere")], eval_transform(SPEC), source=black)
    assert dataset.pixels(0).sum() == 0
    assert asked == [Path("nowhere")]


def test_targets() -> None:
    assert as_targets(np.eye(3, dtype=np.float32)).dtype == torch.float32
    assert as_targets(np.array([[0, 1]], np.int64)).dtype == torch.float32
    for wrong in (np.array([0.5, 1.0]), np.zeros((2, 2, 2)), np.array(["a"])):
        with pytest.raises(DataError, match="expected targets"):
            as_targets(wrong)
    with pytest.raises(DataError, match="2 targets for 1 images"):
        ImageDataset([Path("a")], eval_transform(SPEC), source=FileSource((8, 8)), targets=np.array([0, 1]))


def test_one_source_for_several_specs(paths: list[Path]) -> None:
    small, wide = ImageSpec(16, 16), ImageSpec(8, 64)
    size = prepare_size_for(small, wide)
    assert size == (small.prepare_size[0], wide.prepare_size[1])
    image = source_for(small, wide)(paths[0])
    assert image.shape[0] >= size[0]
    assert image.shape[1] >= size[1]


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    dataset = ImageDataset([tmp_path / "gone.png"], eval_transform(SPEC), source=source_for(SPEC))
    with pytest.raises(ImageError, match=r"gone\.png"):
        dataset.pixels(0)

"""Sizes, agreement of the two ways to the model, and augmentation that depends on its seed alone."""

from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest

from kaggle_kit.choices import AUGMENTATIONS
from kaggle_kit.config import AugmentConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.images.transforms import ImageSpec, describe, eval_transform, prepare, resize, train_transform

SPEC = ImageSpec(24, 32)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def test_spec_round_trip_and_errors() -> None:
    spec = ImageSpec(224, 192, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 0.95, "pad")
    assert ImageSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(ConfigError, match="bicubic"):
        ImageSpec(8, 8, interpolation="bicubik")
    with pytest.raises(ConfigError, match="fit must be one of"):
        ImageSpec(8, 8, fit="stretch")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="image spec"):
        ImageSpec.from_dict({"height": 3})


def test_the_usual_sizes() -> None:
    assert ImageSpec(224, 224).resize_size == (256, 256)
    assert ImageSpec(224, 224).prepare_size == (256, 256)
    assert ImageSpec(224, 224, crop_pct=1.0).resize_size == (224, 224)
    assert ImageSpec(224, 224, crop_pct=1.0).prepare_size == (256, 256)


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("shape", [(24, 32), (100, 300), (300, 100), (5, 7), (1, 1), (24, 500), (500, 32), (27, 36)])
@pytest.mark.parametrize("preset", list(AUGMENTATIONS))
def test_output_is_exactly_the_models_size(fit: str, shape: tuple[int, int], preset: str) -> None:
    spec = ImageSpec(24, 32, fit=fit)  # type: ignore[arg-type]
    for result in (
        eval_transform(spec)(photo(*shape)),
        train_transform(spec, AugmentConfig(preset=preset))(photo(*shape), 3),
    ):
        assert result.shape == (24, 32, 3)
        assert result.dtype == np.uint8
        assert result.flags.c_contiguous


def test_prepare_covers_and_never_enlarges() -> None:
    assert prepare(photo(200, 300), (50, 50)).shape == (50, 75, 3)
    assert prepare(photo(300, 200), (50, 60)).shape == (90, 60, 3)
    small = photo(30, 300)
    assert prepare(small, (50, 50)) is small
    once = prepare(photo(201, 333), (50, 60))
    np.testing.assert_array_equal(prepare(once, (50, 60)), once)


@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 0.95, 1.0])
def test_evaluation_of_a_prepared_image_is_close_to_that_of_the_original(crop_pct: float) -> None:
    spec = ImageSpec(32, 32, crop_pct=crop_pct)
    image = photo(307, 420)
    direct = eval_transform(spec)(image)
    prepared = eval_transform(spec)(prepare(image, spec.prepare_size))
    difference = np.abs(direct.astype(int) - prepared.astype(int))
    assert difference.mean() < (0.01 if crop_pct == 0.875 else 3)


def test_fits() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 100:] = 255
    cropped, squashed, padded = (
        eval_transform(ImageSpec(40, 40, crop_pct=1.0, fit=fit))(image)  # type: ignore[arg-type]
        for fit in ("crop", "squash", "pad")
    )
    assert [cropped[20, 0, 0], cropped[20, -1, 0]] == [0, 255]
    assert [squashed[0, 0, 0], squashed[-1, -1, 0]] == [0, 255]
    np.testing.assert_array_equal(padded[0, 0], ImageSpec(40, 40).fill)
    np.testing.assert_array_equal(padded[20, 0], [0, 0, 0])


def test_resize_averages_where_it_shrinks() -> None:
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    shrunk = resize(np.repeat(checkers[:, :, None], 3, 2), (16, 16))
    assert np.abs(shrunk.astype(int) - 127).max() <= 1


@pytest.mark.parametrize("preset", [name for name in AUGMENTATIONS if name != "none"])
def test_presets_change_images_and_depend_on_the_seed_alone(preset: str) -> None:
    image = photo(40, 60)
    transform = train_transform(SPEC, AugmentConfig(preset=preset))
    first = [transform(image, seed) for seed in range(12)]
    assert len({result.tobytes() for result in first}) > 4
    other = copy.deepcopy(transform)
    np.random.seed(99)
    for seed in reversed(range(12)):
        np.testing.assert_array_equal(other(image, seed), first[seed])


def test_none_is_the_evaluation_transform() -> None:
    image = photo(50, 70)
    transform = train_transform(SPEC, AugmentConfig(preset="none"))
    np.testing.assert_array_equal(transform(image, 1), eval_transform(SPEC)(image))


def test_transforms_are_applied_independently_of_each_other() -> None:
    """With one seed for every transform both flips would always come together."""
    flips = AugmentConfig(preset="none", transforms=[{"name": "HorizontalFlip", "p": 0.5}, {"name": "VerticalFlip", "p": 0.5}])
    transform = train_transform(SPEC, flips)
    image = photo(24, 32)
    assert len({transform(image, seed).tobytes() for seed in range(40)}) == 4


def test_shift_never_mirrors() -> None:
    image = np.zeros((24, 32, 3), np.uint8)
    image[:, :16] = 255
    transform = train_transform(SPEC, AugmentConfig(preset="shift"))
    assert all(result[:, :10].mean() > result[:, -10:].mean() for result in (transform(image, seed) for seed in range(30)))


def test_own_transforms_nested_and_with_lists() -> None:
    entries = [
        {"name": "CLAHE", "clip_limit": [1.0, 3.0], "p": 0.3},
        {"name": "OneOf", "p": 1.0, "transforms": [{"name": "GaussianBlur"}, {"name": "MedianBlur", "blur_limit": 3}]},
        {"name": "Transpose", "p": 1.0},
    ]
    transform = train_transform(SPEC, AugmentConfig(preset="none", transforms=entries))
    assert transform(photo(30, 40), 0).shape == (24, 32, 3)
    assert any("MedianBlur" in line for line in transform.describe())


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([{"name": "CLAHEE"}], "Did you mean 'CLAHE'"),
        ([{"name": "CLAHE", "clip_limits": 2}], "has no argument 'clip_limits'. Did you mean 'clip_limit'"),
        ([{"name": "GaussianBlur", "sigma_limit": "wide"}], "GaussianBlur"),
        ([{"p": 0.5}], "needs a name"),
        ([{"name": "RandomCrop", "height": 4000, "width": 4000}], "RandomCrop fails"),
        ([{"name": "Normalize"}], "must return 8 bits of 3 channels"),
        ([{"name": "OneOf", "transforms": [{"name": "Blurr"}]}], "Did you mean 'Blur'"),
    ],
)
def test_wrong_transforms_are_errors(entries: list[dict[str, object]], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        train_transform(SPEC, AugmentConfig(preset="none", transforms=entries))


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match="Did you mean 'heavy'"):
        train_transform(SPEC, AugmentConfig(preset="heavyy"))


@pytest.mark.parametrize("preset", list(AUGMENTATIONS))
def test_describe_names_what_runs(preset: str) -> None:
    lines = describe(AugmentConfig(preset=preset, mixup=0.2), SPEC)
    assert len(lines) == 2 + len(AUGMENTATIONS[preset](__import__("albumentations"), SPEC))
    assert "mixup" in lines[-1]
    assert "24" in describe(AugmentConfig(preset="none"), SPEC)[0]

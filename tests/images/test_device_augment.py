"""Augmentation as operations on a batch: the same crops, flips and colours as in the loader processes, pixel by pixel."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from kaggle_kit.choices import AUGMENTATIONS
from kaggle_kit.config import AugmentConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.images import transforms
from kaggle_kit.images.dataset import ImageDataset, source_for
from kaggle_kit.images.device_augment import DEVICE_STEPS, DeviceTransform, Drawing, device_obstacle
from kaggle_kit.images.loaders import Batch, TrainLoader
from kaggle_kit.images.samplers import make_sampler
from kaggle_kit.images.transforms import ImageSpec, TrainTransform, describe, eval_transform, train_transform

SPEC = ImageSpec(64, 48)
PRESETS = list(AUGMENTATIONS)
SEEDS = range(60)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth, and coloured as photographs are."""
    rng = np.random.default_rng(seed)
    grey = rng.integers(40, 215, (6, 8, 1))
    coarse = np.clip(grey + rng.normal(0, 25, (6, 8, 3)), 0, 255).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def on_device(transform: DeviceTransform, image: np.ndarray, seeds: range | list[int]) -> np.ndarray:
    """(N, height, width, 3) float."""
    canvas = np.stack([transform(image, seed) for seed in seeds])
    moves = transform.stack([transform.draw(image.shape[:2], seed) for seed in seeds])
    return transform.apply(torch.from_numpy(canvas).permute(0, 3, 1, 2), moves).permute(0, 2, 3, 1).numpy()


def by_workers(preset: str, spec: ImageSpec, image: np.ndarray, seeds: range | list[int]) -> np.ndarray:
    transform = train_transform(spec, AugmentConfig(preset=preset))
    return np.stack([transform(image, seed) for seed in seeds]).astype(np.float64)


def is_exact(drawing: Drawing) -> bool:
    """Whether nothing was drawn that the two ways do differently: no rotation by less than a right angle, no other hue."""
    colour = drawing.colour[:3, :3]
    return bool(np.sum(drawing.view[:2, :2] == 0) == 2 and np.array_equal(colour, np.diag(np.diag(colour))))


def device(preset: str, spec: ImageSpec = SPEC) -> DeviceTransform:
    return DeviceTransform(spec, AugmentConfig(preset=preset))


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("shape", [(90, 130), (130, 90), (20, 30)])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_same_seed_gives_the_same_image_as_in_the_workers(preset: str, shape: tuple[int, int], fit: str) -> None:
    spec = ImageSpec(64, 48, fit=fit)  # type: ignore[arg-type]
    image = photo(*shape)
    ours, theirs = on_device(device(preset, spec), image, SEEDS), by_workers(preset, spec, image, SEEDS)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    assert ours.min() >= 0
    assert ours.max() <= 255
    away = np.abs(ours - theirs)
    # Beyond the crop, a rotation shows the image instead of its reflection; heavy's hue and saturation are an approximation.
    assert np.mean(away < 4) > {"medium": 0.93, "heavy": 0.6}.get(preset, 0.97)
    exact = [is_exact(device(preset, spec).draw(shape, seed)) for seed in SEEDS]
    if preset != "shift":  # which nearly always rotates, and by the same rule
        assert sum(exact) > 4
        assert np.mean(away[exact] < 4) > 0.97
    assert abs(ours.mean() - theirs.mean()) < 3
    assert abs(ours.std() / theirs.std() - 1) < 0.03


@pytest.mark.parametrize("preset", PRESETS)
def test_without_chance_the_frame_is_that_of_evaluation(preset: str) -> None:
    """With nothing drawn but the crop of evaluation, whose box lies in the middle."""
    image, spec = photo(100, 150), ImageSpec(64, 64, crop_pct=0.8)
    transform = device(preset, spec)
    drawing = Drawing((100, 150))
    if transform.canvas != spec.size:
        crop = next(step for step in transform.steps if hasattr(step, "ratio"))
        DEVICE_STEPS["RandomResizedCrop"](drawing, crop, {"crop_coords": (35, 10, 115, 90)})
    canvas = torch.from_numpy(transform(image)).permute(2, 0, 1)[None]
    result = transform.apply(canvas, transform.stack([drawing]))[0].permute(1, 2, 0).numpy()
    away = np.abs(result - eval_transform(spec)(image))
    assert away.mean() < 1
    assert away.max() < 8


def test_a_circle_stays_a_circle_in_crops_of_an_image_that_is_not_square() -> None:
    image = np.zeros((120, 300, 3), np.uint8)
    cv2.circle(image, (150, 60), 20, (255, 255, 255), -1, cv2.LINE_AA)
    spec = ImageSpec(96, 96)
    transform, whole = device("light", spec), 0
    crops = by_workers("light", spec, image, SEEDS)
    for ours, theirs in zip(on_device(transform, image, SEEDS), crops, strict=True):
        mask = (ours[..., 0] > 127).astype(np.uint8)
        if mask[[0, -1]].any() or mask[:, [0, -1]].any() or not mask.any():
            continue
        sides = [np.ptp(places) + 1 for places in mask.nonzero()]
        expected = [np.ptp(places) + 1 for places in (theirs[..., 0] > 127).nonzero()]
        assert np.abs(np.subtract(sides, expected)).max() <= 2
        assert 0.7 < sides[0] / sides[1] < 1.42  # the crop's own limits of aspect
        whole += 1
    assert whole > 10


def test_crops_and_flips_are_distributed_as_configured() -> None:
    transform, shape = device("light"), (100, 100)
    views = np.stack([transform.draw(shape, seed).view for seed in range(2000)])
    areas, mirrored = np.abs(views[:, 0, 0] * views[:, 1, 1]), views[:, 0, 0] < 0
    assert areas.min() > 0.49
    assert areas.max() > 0.95
    # Uniform in 0.5..1, but for boxes that do not fit into the image and are drawn again.
    assert abs(np.quantile(areas, 0.25) - 0.57) < 0.03
    assert abs(mirrored.mean() - 0.5) < 0.04


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "none"])
def test_a_drawing_depends_on_the_seed_alone(preset: str) -> None:
    transform, image = device(preset), photo(70, 90)
    first = on_device(transform, image, SEEDS)
    again = on_device(copy.deepcopy(transform), image, list(reversed(SEEDS)))[::-1]
    np.testing.assert_array_equal(first, again)
    assert len({image.tobytes() for image in first}) > 40


def test_images_of_a_batch_do_not_depend_on_each_other() -> None:
    transform, image = device("heavy"), photo(70, 90)
    together = on_device(transform, image, range(12))
    alone = np.concatenate([on_device(transform, image, [seed]) for seed in range(12)])
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_holes_have_the_mean_colour_and_blur_smooths() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, *SPEC.prepare_size), dtype=np.uint8)
    transform = device("heavy")
    plain, holed, blurred = (Drawing((64, 48)) for _ in range(3))
    holed.holes = np.array([[5, 10, 25, 20], [0, 60, 48, 64]])
    blurred.kernel = np.array([0.25, 0.5, 0.25])
    images = torch.from_numpy(noise).expand(3, -1, -1, -1)
    first, second, third = transform.apply(images, transform.stack([plain, holed, blurred]))
    inside = (second != first).any(0)
    assert inside[10:20, 5:25].all()
    assert inside[60:].all()
    assert int(inside.sum()) == 10 * 20 + 4 * 48
    assert second[:, 12, 7].tolist() == list(SPEC.fill)
    expected = cv2.sepFilter2D(first.permute(1, 2, 0).numpy(), -1, blurred.kernel, blurred.kernel)
    np.testing.assert_allclose(third.permute(1, 2, 0), expected, atol=1e-3)


def test_greys_stay_grey_and_hues_turn_as_in_hsv() -> None:
    drawing = Drawing((1, 1))
    DEVICE_STEPS["HueSaturationValue"](drawing, None, {"hue_shift": 10.0, "sat_shift": 0.0})
    np.testing.assert_allclose(drawing.colour @ [90, 90, 90, 1], [90, 90, 90, 1], atol=1e-9)
    turned = (drawing.colour @ [160, 100, 100, 1])[:3]
    hue, _, _ = cv2.cvtColor(np.uint8([[turned]]), cv2.COLOR_RGB2HSV)[0, 0]
    assert abs(int(hue) - 10) <= 2


def test_what_the_device_cannot_do_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"without augment.transforms. Set augment.where to workers or auto"):
        DeviceTransform(SPEC, AugmentConfig(transforms=[{"name": "HorizontalFlip"}]))
    monkeypatch.setattr(transforms, "light_preset", lambda alb, spec: [alb.RandomFog(), alb.HorizontalFlip()])
    assert "RandomFog" in device_obstacle(SPEC, AugmentConfig(preset="light"))
    with pytest.raises(ConfigError, match=r"cannot do \(RandomFog\); it can .*HorizontalFlip"):
        DeviceTransform(SPEC, AugmentConfig(preset="light"))
    assert not device_obstacle(SPEC, AugmentConfig(preset="heavy"))


def test_describe_says_that_it_is_the_device() -> None:
    augment = AugmentConfig(preset="light", mixup=0.2)
    first, *steps, mixing = describe(augment, SPEC, DeviceTransform(SPEC, augment))
    assert "squashed to 73x54" in first
    assert [step.partition("(")[0] for step in steps] == ["RandomResizedCrop", "HorizontalFlip"]
    assert all("on the device" in step for step in steps)
    assert "mixup" in mixing


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    result = [folder / f"{number}.png" for number in range(11)]
    for number, path in enumerate(result):
        cv2.imwrite(str(path), photo(40 + 5 * number, 70, number))
    return result


def batches(paths: list[Path], transform: TrainTransform, *, workers: int = 0, start: int = 0) -> list[Batch]:
    targets = np.arange(len(paths)) % 3
    dataset = ImageDataset(paths, transform, source=source_for(SPEC), targets=targets)
    with TrainLoader(dataset, make_sampler("shuffle", targets, seed=1), batch_size=4, seed=5, workers=workers) as loader:
        return list(loader.batches(2, start=start))


def test_batches_carry_the_moves_of_their_rows_however_they_are_read(paths: list[Path]) -> None:
    transform = device("medium")
    here = batches(paths, transform)
    augmented = batches(paths, train_transform(SPEC, AugmentConfig(preset="medium")))
    for batch, reference in zip(here, augmented, strict=True):
        assert batch.images.shape[2:] == transform.canvas
        assert batch.moves is not None
        assert reference.moves is None
        result = transform.apply(batch.images, batch.moves)
        assert torch.mean(((result - reference.images).abs() < 4).float()) > 0.9
    for others, expected in ((batches(paths, transform, workers=2), here), (batches(paths, transform, start=1), here[1:])):
        for one, other in zip(others, expected, strict=True):
            assert torch.equal(one.images, other.images)
            assert all(torch.equal(a, b) for a, b in zip(one.moves or (), other.moves or (), strict=True))

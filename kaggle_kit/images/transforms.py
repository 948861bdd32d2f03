"""From decoded pixels to the model's input: uint8 (H, W, C) in, uint8 of exactly the model's size out. C is 3 for colours.

Both ways to the model, from files and from the image store, begin with :func:`prepare`, so their pixels agree. What follows is
:class:`EvalTransform`, or :class:`TrainTransform`, whose randomness comes from the seed of each call alone: neither the number
of loader processes nor an interruption changes what a sample looks like. Normalisation happens on the device.

Shrinking always averages over areas (``INTER_AREA``): the filter a model names is used for enlarging, since OpenCV's versions
of it do not smooth before they drop pixels.
"""

from __future__ import annotations

import math
import os
import random
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from inspect import signature
from typing import Any, Literal, get_args

import cv2
import numpy as np

from kaggle_kit.choices import AUGMENTATIONS
from kaggle_kit.config import AugmentConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.images.decode import Pixels
from kaggle_kit.registry import lookup, suggest

Fit = Literal["crop", "squash", "pad"]

INTERPOLATIONS: dict[str, int] = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
    "area": cv2.INTER_AREA,
}
_ROOM = 8 / 7  # the usual 256 for 224: random crops of training keep about the model's resolution


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """What a model wants to see.

    Attributes:
        mean, std: per channel, for pixels scaled to [0, 1].
        interpolation: an entry of ``INTERPOLATIONS``, for enlarging.
        crop_pct: crop and squash: the share of the resized image that the centre crop keeps. Ignored by pad.
        fit: crop keeps the aspect and cuts what is too long; squash changes the aspect; pad keeps the aspect and adds a
            border of the mean colour.
    """

    height: int
    width: int
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        lookup(INTERPOLATIONS, self.interpolation, "interpolation")
        if self.fit not in get_args(Fit):
            raise ConfigError(f"fit must be one of {', '.join(get_args(Fit))}, got {self.fit!r}.")
        if self.height < 1 or self.width < 1 or not 0 < self.crop_pct <= 1:
            raise ConfigError(
                f"an image spec needs a positive size and 0 < crop_pct <= 1, got {self.height}x{self.width}, {self.crop_pct}."
            )
        if len(self.mean) != len(self.std):
            raise ConfigError(f"an image spec needs a mean and a std a channel, got {len(self.mean)} and {len(self.std)}.")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the model's input."""
        return self.height, self.width

    @property
    def resize_size(self) -> tuple[int, int]:
        """(height, width) before the centre crop."""
        if self.fit == "pad":
            return self.size
        return int(self.height / self.crop_pct + 1e-6), int(self.width / self.crop_pct + 1e-6)

    @property
    def prepare_size(self) -> tuple[int, int]:
        """(height, width) that :func:`prepare` keeps: enough for evaluation and for random crops of training."""
        return max(self.resize_size[0], int(self.height * _ROOM)), max(self.resize_size[1], int(self.width * _ROOM))

    def scaled(self, factor: float) -> ImageSpec:
        """The same for images larger by ``factor``; sides that are multiples of 32, a network's usual stride, stay such."""
        if factor == 1:
            return self
        height, width = (
            32 * math.ceil(side * factor / 32 - 1e-9) if side % 32 == 0 else round(side * factor) for side in self.size
        )
        return replace(self, height=height, width=width)

    @property
    def channels(self) -> int:
        """C, the channels of an image."""
        return len(self.mean)

    @property
    def fill(self) -> tuple[int, ...]:
        """The mean colour in 0..255, which is zero after normalisation."""
        return tuple(round(255 * value) for value in self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageSpec:
        """The opposite of :meth:`to_dict`.

        Raises:
            ConfigError: a key is missing or unknown.
        """
        try:
            return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
        except (TypeError, KeyError) as error:
            raise ConfigError(f"not an image spec: {error}; expected the keys {', '.join(cls.__slots__)}.") from error


def prepare(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Shrink an image, keeping its aspect, until it only just covers ``size`` (height, width); never enlarge it."""
    height, width = image.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    return image if scale >= 1 else resize(image, (round(height * scale), round(width * scale)))


def resize(image: Pixels, size: tuple[int, int], interpolation: int = cv2.INTER_CUBIC) -> Pixels:
    """To exactly ``size`` (height, width): averaging over areas where it shrinks, ``interpolation`` where it grows."""
    height, width = size
    shrunk = (min(height, image.shape[0]), min(width, image.shape[1]))
    if shrunk != image.shape[:2]:
        image = _resized(image, shrunk, cv2.INTER_AREA)
    if shrunk != size:
        image = _resized(image, (height, width), interpolation)
    return image


def _resized(image: Pixels, size: tuple[int, int], interpolation: int) -> Pixels:
    """By OpenCV, which resizes up to four channels at once."""
    parts = [image[:, :, start : start + 4] for start in range(0, image.shape[2], 4)]
    made = [cv2.resize(part, size[::-1], interpolation=interpolation).reshape(*size, -1) for part in parts]
    return made[0] if len(made) == 1 else np.concatenate(made, axis=2)


@dataclass(frozen=True, slots=True)
class EvalTransform:
    """The fixed way to the model's size. ``seed`` is ignored; it is there so that both transforms are called alike."""

    spec: ImageSpec

    def __call__(self, image: Pixels, seed: int = 0) -> Pixels:  # noqa: ARG002
        """(H, W, C) uint8 of any size → (spec.height, spec.width, C) uint8, contiguous."""
        return centre_crop(_frame(image, self.spec), self.spec.size)


def eval_transform(spec: ImageSpec) -> EvalTransform:
    """The transform for validation and prediction."""
    return EvalTransform(spec)


def centre_crop(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Cut (height, width) out of the middle; the image must be at least that large."""
    top, left = ((have - want) // 2 for have, want in zip(image.shape[:2], size, strict=True))
    return np.ascontiguousarray(image[top : top + size[0], left : left + size[1]])


def _frame(image: Pixels, spec: ImageSpec) -> Pixels:
    """Bring an image to the aspect that ``spec.fit`` says, before the crop."""
    return _FRAMES[spec.fit](image, spec, INTERPOLATIONS[spec.interpolation])


def _cover(image: Pixels, spec: ImageSpec, interpolation: int) -> Pixels:
    height, width = image.shape[:2]
    wanted_h, wanted_w = spec.resize_size
    scale = max(wanted_h / height, wanted_w / width)
    return resize(image, (max(wanted_h, round(height * scale)), max(wanted_w, round(width * scale))), interpolation)


def _squash(image: Pixels, spec: ImageSpec, interpolation: int) -> Pixels:
    return resize(image, spec.resize_size, interpolation)


def _pad(image: Pixels, spec: ImageSpec, interpolation: int) -> Pixels:
    height, width = image.shape[:2]
    scale = min(spec.height / height, spec.width / width)
    inner = min(spec.height, max(1, round(height * scale))), min(spec.width, max(1, round(width * scale)))
    canvas: Pixels = np.empty((spec.height, spec.width, spec.channels), np.uint8)
    canvas[:] = spec.fill
    top, left = (spec.height - inner[0]) // 2, (spec.width - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = resize(image, inner, interpolation)
    return canvas


_FRAMES: dict[str, Callable[[Pixels, ImageSpec, int], Pixels]] = {"crop": _cover, "squash": _squash, "pad": _pad}


# Augmentation. A preset is a function from (albumentations, spec) to a list of its transforms.


def _random_crop(alb: Any, spec: ImageSpec, smallest: float) -> Any:
    return alb.RandomResizedCrop(
        size=spec.size,
        scale=(smallest, 1.0),
        ratio=(0.75 * spec.width / spec.height, 4 / 3 * spec.width / spec.height),
        interpolation=INTERPOLATIONS[spec.interpolation],
        area_for_downscale="image",
    )


def none_preset(alb: Any, spec: ImageSpec) -> list[Any]:  # noqa: ARG001
    return []


def shift_preset(alb: Any, spec: ImageSpec) -> list[Any]:  # noqa: ARG001
    """For characters and the like, where a mirrored image means something else."""
    small = {"x": (-0.1, 0.1), "y": (-0.1, 0.1)}
    return [
        alb.Affine(scale=(0.9, 1.1), translate_percent=small, rotate=(-10, 10), border_mode=cv2.BORDER_REPLICATE, p=0.9),
    ]


def light_preset(alb: Any, spec: ImageSpec) -> list[Any]:
    return [_random_crop(alb, spec, 0.5), alb.HorizontalFlip(p=0.5)]


def medium_preset(alb: Any, spec: ImageSpec) -> list[Any]:
    return [
        _random_crop(alb, spec, 0.35),
        alb.HorizontalFlip(p=0.5),
        alb.Affine(rotate=(-15, 15), border_mode=cv2.BORDER_REFLECT_101, p=0.3),
        alb.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.3, p=0.5),
        alb.CoarseDropout(hole_height_range=(0.1, 0.25), hole_width_range=(0.1, 0.25), fill=spec.fill, p=0.3),
    ]


def heavy_preset(alb: Any, spec: ImageSpec) -> list[Any]:
    moved = {"x": (-0.2, 0.2), "y": (-0.2, 0.2)}
    return [
        alb.RandomRotate90(p=0.5),  # before the crop: it swaps height and width
        _random_crop(alb, spec, 0.25),
        alb.HorizontalFlip(p=0.5),
        alb.VerticalFlip(p=0.5),
        alb.Affine(translate_percent=moved, rotate=(-54, 54), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
        alb.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.5, p=0.6),
        # Hue and saturation are of colours; other channels are not mixed.
        *([alb.HueSaturationValue(hue_shift_limit=10, sat_shift_limit=30, val_shift_limit=0, p=0.3)] * (spec.channels == 3)),
        alb.GaussianBlur(sigma_limit=(0.3, 1.5), p=0.2),
        alb.CoarseDropout(
            num_holes_range=(1, 4), hole_height_range=(0.1, 0.3), hole_width_range=(0.1, 0.3), fill=spec.fill, p=0.5
        ),
    ]


_CROPPING = ("light", "medium", "heavy")
"""Presets that choose their own part of the image, so that with ``fit: crop`` they see it uncropped."""


class TrainTransform:
    """Augmentation whose result depends on the image and the seed only; picklable.

    ``fit`` decides what the preset's random crop sees: the whole image for crop, the squashed or padded one otherwise.
    ``steps`` are the albumentations transforms that follow.
    """

    def __init__(self, spec: ImageSpec, augment: AugmentConfig) -> None:
        self.spec = spec
        self.augment = augment
        self.steps = _build_steps(spec, augment)
        self._compose = _albumentations().Compose(self.steps) if self.steps else None
        self._framed = spec.fit != "crop" or augment.preset not in _CROPPING

    def __call__(self, image: Pixels, seed: int) -> Pixels:
        """(H, W, C) uint8 of any size → (spec.height, spec.width, C) uint8, contiguous.

        Raises:
            ConfigError: a configured transform returns something else than 8 bits of C channels.
        """
        if self._framed:
            image = self.framed(image)
        if self._compose is not None:
            # One pair of generators for all transforms. set_random_seed would give each a generator with the same seed, and
            # every transform of probability one half would then be applied together with every other.
            self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
            image = self._compose(image=image)["image"]
        _require_pixels(image, self.augment.preset, self.spec.channels)
        if image.shape[:2] != self.spec.size:
            image = resize(image, self.spec.size, INTERPOLATIONS[self.spec.interpolation])
        return np.ascontiguousarray(image)

    def framed(self, image: Pixels) -> Pixels:
        """The image as it is evaluated."""
        return centre_crop(_frame(image, self.spec), self.spec.size)

    def __reduce__(self) -> tuple[type[TrainTransform], tuple[ImageSpec, AugmentConfig]]:
        return type(self), (self.spec, self.augment)

    def describe(self) -> list[str]:
        """One line per step, in order, with the arguments that albumentations really uses."""
        first = _describe_frame(self.spec) if self._framed else "the whole image"
        return [first, *(repr(step) for step in self.steps)]


def train_transform(spec: ImageSpec, augment: AugmentConfig) -> TrainTransform:
    """The transform for training.

    Raises:
        ConfigError: an unknown preset, transform or argument, or one that albumentations refuses.
    """
    return TrainTransform(spec, augment)


def describe(augment: AugmentConfig, spec: ImageSpec | None = None, transform: TrainTransform | None = None) -> list[str]:
    """What ``augment`` really does to a training image, one line per step; mixing of batches included.

    ``transform``: that of training, where it is another than that of loader processes.
    """
    lines = (transform or train_transform(spec or ImageSpec(224, 224), augment)).describe()
    if augment.only_below is not None:
        lines.append(
            f"all of this for classes with fewer than {augment.only_below:,} training images, others as they are evaluated"
        )
    for name, alpha in (("mixup", augment.mixup), ("cutmix", augment.cutmix)):
        if alpha:
            lines.append(
                f"{name} of batches, alpha={alpha:g}, p={augment.mix_prob:g}, off in the last {augment.mix_off_epochs} epochs"
            )
    return lines


def _describe_frame(spec: ImageSpec) -> str:
    height, width = spec.resize_size
    crop = "" if spec.resize_size == spec.size else f", centre crop {spec.height}x{spec.width}"
    return f"resize to {height}x{width} ({spec.fit}){crop}"


def _albumentations() -> Any:
    """albumentations, imported late: it takes seconds, and would look for updates on the network."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _build_steps(spec: ImageSpec, augment: AugmentConfig) -> list[Any]:
    preset = AUGMENTATIONS.lookup(augment.preset)
    if preset is none_preset and not augment.transforms:
        return []
    steps: list[Any] = preset(_albumentations(), spec)
    for entry in augment.transforms:
        steps.append(_build_step(entry))
        _try_step(entry, spec)
    return steps


def _build_step(entry: Mapping[str, Any]) -> Any:
    """One albumentations transform from ``{name: ..., argument: value}``; containers take a list ``transforms`` of such."""
    alb = _albumentations()
    if "name" not in entry:
        raise ConfigError(f"augment.transforms: each entry needs a name, such as {{name: CLAHE, p: 0.3}}; got {dict(entry)!r}.")
    arguments = {key: value for key, value in entry.items() if key != "name"}
    kind = lookup(_transform_kinds(alb), entry["name"], "albumentations transform")
    known = [name for name in signature(kind.__init__).parameters if name != "self"]
    for name in arguments:
        if name not in known:
            raise ConfigError(
                f"augment.transforms: {entry['name']} has no argument {name!r}.{suggest(name, known)} "
                f"It takes: {', '.join(known)}."
            )
    if isinstance(arguments.get("transforms"), Iterable):
        arguments["transforms"] = [_build_step(inner) for inner in arguments["transforms"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # albumentations only warns, and goes on with its defaults
        try:
            return kind(**arguments)
        except (ValueError, TypeError, UserWarning) as error:
            raise ConfigError(f"augment.transforms: {entry['name']}: {' '.join(str(error).split())}") from error


def _transform_kinds(alb: Any) -> dict[str, Any]:
    bases = (alb.BasicTransform, alb.BaseCompose)
    kinds = {name: getattr(alb, name) for name in dir(alb)}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, bases)}


def _try_step(entry: Mapping[str, Any], spec: ImageSpec) -> None:
    """Apply a configured transform once, with certainty, so that what cannot work fails before training starts."""
    image = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, spec.channels), dtype=np.uint8)
    compose = _albumentations().Compose([_build_step({**entry, "p": 1.0})], seed=0)
    try:
        result = compose(image=image)["image"]
    except Exception as error:  # whatever kind of error it has for that
        raise ConfigError(
            f"augment.transforms: {entry['name']} fails on an 8-bit image of {spec.height}x{spec.width} and {spec.channels} "
            f"channels: {error}"
        ) from error
    _require_pixels(result, entry["name"], spec.channels)


def _require_pixels(image: Any, name: str, channels: int) -> None:
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == channels):
        kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ConfigError(
            f"augmentation {name!r} must return 8 bits of {channels} channels, it returned {kind}. "
            "Leave normalisation and conversion out; they happen on the device."
        )

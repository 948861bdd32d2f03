"""Test-time augmentation: views of a batch, turned and cut by ttach, and how the views' probabilities are merged.

Views are made from one decoded batch, on the device but for changes of the pixels themselves. Only views of a larger image want
a batch of their own. Merging is ours: ttach's mergers take whatever they are given, so that a geometric mean of logits flips
signs, one of half-precision probabilities underflows, and sharpened rows do not sum to 1. Here probabilities come first, in
float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from kaggle_kit.choices import MERGES, VIEWS
from kaggle_kit.errors import DependencyError
from kaggle_kit.images.decode import Pixels
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.views import parse_views

if TYPE_CHECKING:
    import ttach

Look = Callable[[torch.Tensor], torch.Tensor]
Change = Callable[[Pixels], Pixels]
_CROP = 7 / 8
_ZOOMS = [0.9, 1.1]
_LARGER, _TILED = 1.25, 1.5
_LOWEST, _HIGHEST = 2, 98
"""Percentiles of brightness that become black and white."""


@dataclass(frozen=True)
class ViewSet:
    """Views by name.

    Attributes:
        compose: height and width that the model was trained at to transforms, as ttach has them.
        refit: brings a view of another size back to height and width.
        scale: of the image that the views are made from, against that of training.
        change: of the pixels, before all else: (H, W, 3) uint8 to the same.
    """

    compose: Callable[[int, int], Iterable[Any]]
    refit: Callable[[torch.Tensor, int, int], torch.Tensor]
    scale: float = 1.0
    change: Change | None = None


def _keep(images: torch.Tensor, height: int, width: int) -> torch.Tensor:  # noqa: ARG001 - one signature for all refits
    return images


def _resize(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False, antialias=True)


def _centre(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Cut or mirror at the borders until the size is right; the centre stays where it is."""
    excess_y, excess_x = images.shape[2] - height, images.shape[3] - width
    top, left = max(excess_y, 0) // 2, max(excess_x, 0) // 2
    cut = images[:, :, top : top + height, left : left + width]
    missing_y, missing_x = height - cut.shape[2], width - cut.shape[3]
    if not (missing_y or missing_x):
        return cut
    padding = (missing_x // 2, missing_x - missing_x // 2, missing_y // 2, missing_y - missing_y // 2)
    return F.pad(cut, padding, mode="reflect")


def _ttach() -> Any:
    """The package, when views are asked for: plain prediction goes without it.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        import ttach
    except ImportError as error:
        raise DependencyError("views need a package: pip install ttach==0.0.3; or predict with views none.") from error
    return ttach


def _rotations(height: int, width: int) -> ttach.Rotate90:
    """All quarter turns of a square; half a turn of another shape, which a quarter turn would change."""
    return _ttach().Rotate90([0, 90, 180, 270] if height == width else [0, 180])


def _crops(height: int, width: int) -> ttach.FiveCrops:
    return _ttach().FiveCrops(max(1, round(height * _CROP)), max(1, round(width * _CROP)))


class _Whole:
    """The image as it is."""

    def augment_image(self, images: torch.Tensor) -> torch.Tensor:
        return images


@dataclass(frozen=True)
class _Tile:
    """A part of (height, width) in one corner of the image; ``bottom`` and ``right`` say in which."""

    bottom: bool
    right: bool
    height: int
    width: int

    def augment_image(self, images: torch.Tensor) -> torch.Tensor:
        top = (images.shape[2] - self.height) * self.bottom
        left = (images.shape[3] - self.width) * self.right
        return images[:, :, top : top + self.height, left : left + self.width]


def _tiles(height: int, width: int) -> list[_Tile]:
    return [_Tile(bottom, right, height, width) for bottom in (False, True) for right in (False, True)]


def _by_brightness(change: Change) -> Change:
    """A change of (H, W) brightness as one of colour images, whose hues stay; other channels than colours change alone."""

    def changed(image: Pixels) -> Pixels:
        if image.shape[2] != 3:
            return np.stack([change(np.ascontiguousarray(image[:, :, at])) for at in range(image.shape[2])], axis=2)
        parts = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
        parts[:, :, 0] = change(np.ascontiguousarray(parts[:, :, 0]))
        result: Pixels = cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB)
        return result

    return changed


def stretch(image: Pixels) -> Pixels:
    """Spread the values between two percentiles over all that there are; the same for all channels, so that hues stay."""
    low, high = np.percentile(image, (_LOWEST, _HIGHEST))
    if high <= low:
        return image
    table = np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)
    stretched: Pixels = table[image]
    return stretched


equalize = _by_brightness(cv2.equalizeHist)
equalize_parts = _by_brightness(lambda brightness: cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(brightness))


def _whole(_height: int, _width: int) -> list[_Whole]:
    return [_Whole()]


NONE = ViewSet(_whole, _keep)
HFLIP = ViewSet(lambda _h, _w: _ttach().Compose([_ttach().HorizontalFlip()]), _keep)
VFLIP = ViewSet(lambda _h, _w: _ttach().Compose([_ttach().VerticalFlip()]), _keep)
FLIPS = ViewSet(lambda _h, _w: _ttach().Compose([_ttach().HorizontalFlip(), _ttach().VerticalFlip()]), _keep)
ROT90 = ViewSet(lambda h, w: _ttach().Compose([_rotations(h, w)]), _keep)
D4 = ViewSet(lambda h, w: _ttach().Compose([_ttach().HorizontalFlip(), _rotations(h, w)]), _keep)
FIVE_CROP = ViewSet(lambda h, w: _ttach().Compose([_crops(h, w)]), _resize)
TEN_CROP = ViewSet(lambda h, w: _ttach().Compose([_ttach().HorizontalFlip(), _crops(h, w)]), _resize)
MULTISCALE = ViewSet(lambda _h, _w: _ttach().Compose([_ttach().Scale(_ZOOMS, "bilinear", False)]), _centre)
LARGER = ViewSet(_whole, _keep, scale=_LARGER)
TILES = ViewSet(_tiles, _keep, scale=_TILED)
STRETCHED = ViewSet(_whole, _keep, change=stretch)
EQUALIZED = ViewSet(_whole, _keep, change=equalize)
CLAHE = ViewSet(_whole, _keep, change=equalize_parts)


def make_views(name: str, height: int, width: int) -> list[Look]:
    """Functions from a float batch (B, 3, H, W) to one view of it, in the same memory layout.

    A batch of (height, width) gives views of this size; that of ``larger`` and ``tiles`` is larger than (height, width), see
    :func:`plan_views`, which also knows the changes of pixels.

    Raises:
        ConfigError: there are no such views.
        DependencyError: ttach is not installed, and the views need it.
    """
    view_set: ViewSet = VIEWS.lookup(name)

    def look_by(transformer: Any) -> Look:
        def look(images: torch.Tensor) -> torch.Tensor:
            made = view_set.refit(transformer.augment_image(images), height, width)
            # A turn or a cut loses channels-last, and the convolutions that follow would be slow.
            channels_last = images.is_contiguous(memory_format=torch.channels_last)
            return made.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

        return look

    return [look_by(transformer) for transformer in view_set.compose(height, width)]


@dataclass(frozen=True)
class View:
    """One view: a change of the pixels, then a look at the normalised image."""

    look: Look
    change: Change | None = None


@dataclass(frozen=True)
class ViewPass:
    """The views of M models that are made from images prepared alike, and seen in one size.

    Attributes:
        names: of the view sets.
        spec: how images are prepared.
        seen: the same with the size that the models see.
        views: V views, none twice.
        weights: (V, M) weight of each view for each model; they sum to 1 for each model that uses the pass.
        share: (M,) weight of the whole pass.
    """

    names: tuple[str, ...]
    spec: ImageSpec
    seen: ImageSpec
    views: tuple[View, ...]
    weights: torch.Tensor
    share: torch.Tensor


def plan_views(texts: Sequence[str], spec: ImageSpec) -> list[ViewPass]:
    """Return the passes that M models of one image specification need for their views, that of the plain size first.

    Args:
        texts: the views of each model, see :mod:`kaggle_kit.views`.

    Raises:
        ConfigError, DependencyError: there are no such views, or their package is missing.
    """
    mixes = [parse_views(text) for text in texts]
    names = sorted(dict.fromkeys(name for mix in mixes for name in mix), key=lambda name: VIEWS[name].scale != 1)
    found: dict[tuple[ImageSpec, ImageSpec], dict[tuple[Change | None, bytes], tuple[View, torch.Tensor]]] = {}
    members: dict[tuple[ImageSpec, ImageSpec], list[str]] = {}
    for name in names:
        view_set: ViewSet = VIEWS[name]
        prepared = spec.scaled(view_set.scale)
        looks = make_views(name, *spec.size)
        # Views are the same when they do the same, whatever they are called.
        probe = torch.rand(1, spec.channels, *prepared.size, generator=torch.Generator().manual_seed(0))
        weight = torch.tensor([mix.get(name, 0.0) / len(looks) for mix in mixes])
        for look in looks:
            made = look(probe)
            place = prepared, replace(spec, height=made.shape[2], width=made.shape[3])
            key = view_set.change, hashlib.blake2b(made.numpy().tobytes()).digest()
            views = found.setdefault(place, {})
            view, before = views.get(key, (View(look, view_set.change), torch.zeros(len(mixes))))
            views[key] = view, before + weight
            members.setdefault(place, []).append(name)
    passes = []
    for (prepared, seen), of_place in found.items():
        weights = torch.stack([weight for _, weight in of_place.values()])  # (V, M)
        share = weights.sum(dim=0)
        names_here = tuple(dict.fromkeys(members[prepared, seen]))
        views_here = tuple(view for view, _ in of_place.values())
        passes.append(ViewPass(names_here, prepared, seen, views_here, weights / share.clamp_min(1e-12), share))
    return passes


def count_passes(texts: Sequence[str], spec: ImageSpec) -> int:
    """Return how much a model that uses all these views computes of an image, in images of its own size, rounded up."""
    area = spec.height * spec.width
    passes = plan_views(["+".join(dict.fromkeys(texts))], spec)
    return -(-sum(len(one.views) * one.seen.height * one.seen.width for one in passes) // area)


def to_probs(logits: torch.Tensor, task: str) -> torch.Tensor:
    """Softmax, or for multi-label sigmoid, in float32; (B, C) to (B, C)."""
    logits = logits.float()
    return logits.sigmoid() if task == "multilabel" else logits.softmax(dim=-1)


def mean(probs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (probs * weights).sum(dim=0)


def geometric_mean(probs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (probs.clamp_min(torch.finfo(torch.float32).tiny).log() * weights).sum(dim=0).exp()


def maximum(probs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return torch.where(weights > 0, probs, 0.0).amax(dim=0)


def merge_views(probs: torch.Tensor, merge: str, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Merge probabilities (V, …, C) of V views into (…, C); see :func:`normalised` for what follows.

    >>> views = torch.tensor([[[0.25, 0.75]], [[0.75, 0.25]]])  # two of one image
    >>> merge_views(views, "mean").tolist(), merge_views(views, "max").tolist()
    ([[0.5, 0.5]], [[0.75, 0.75]])

    Args:
        weights: of each view, summing to 1, of a shape that broadcasts to that of ``probs``; by default equal ones.

    Raises:
        ConfigError: there is no such merge.
    """
    function = MERGES.lookup(merge)
    if len(probs) == 1:
        return probs[0]
    if weights is None:
        weights = torch.full((len(probs), *[1] * (probs.ndim - 1)), 1 / len(probs), device=probs.device)
    merged: torch.Tensor = function(probs.float(), weights)
    return merged


def normalised(probs: torch.Tensor, task: str) -> torch.Tensor:
    """Let the rows of merged probabilities (…, C) sum to 1 again; those of a multi-label task need not."""
    return probs if task == "multilabel" else probs / probs.sum(dim=-1, keepdim=True)

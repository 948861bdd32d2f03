"""Test-time augmentation: views of a batch by ttach, and how the views' probabilities are merged.

Views are made on the device from one decoded batch, and every view has the shape and memory layout of its input. Merging is
ours: ttach's mergers take whatever they are given, so that a geometric mean of logits flips signs, one of half-precision
probabilities underflows, and sharpened rows do not sum to 1. Here probabilities come first, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from kaggle_kit.choices import MERGES, VIEWS
from kaggle_kit.errors import DependencyError

if TYPE_CHECKING:
    import ttach

View = Callable[[torch.Tensor], torch.Tensor]
_CROP = 7 / 8
_ZOOMS = [0.9, 1.1]


@dataclass(frozen=True)
class ViewSet:
    """Views by name.

    Attributes:
        compose: height and width to ttach transforms.
        refit: brings a view of another size back to height and width.
    """

    compose: Callable[[int, int], ttach.Compose]
    refit: Callable[[torch.Tensor, int, int], torch.Tensor]


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


NONE = ViewSet(lambda _h, _w: _ttach().Compose([]), _keep)
HFLIP = ViewSet(lambda _h, _w: _ttach().Compose([_ttach().HorizontalFlip()]), _keep)
VFLIP = ViewSet(lambda _h, _w: _ttach().Compose([_ttach().VerticalFlip()]), _keep)
FLIPS = ViewSet(lambda _h, _w: _ttach().Compose([_ttach().HorizontalFlip(), _ttach().VerticalFlip()]), _keep)
ROT90 = ViewSet(lambda h, w: _ttach().Compose([_rotations(h, w)]), _keep)
D4 = ViewSet(lambda h, w: _ttach().Compose([_ttach().HorizontalFlip(), _rotations(h, w)]), _keep)
FIVE_CROP = ViewSet(lambda h, w: _ttach().Compose([_crops(h, w)]), _resize)
TEN_CROP = ViewSet(lambda h, w: _ttach().Compose([_ttach().HorizontalFlip(), _crops(h, w)]), _resize)
MULTISCALE = ViewSet(lambda _h, _w: _ttach().Compose([_ttach().Scale(_ZOOMS, "bilinear", False)]), _centre)


def make_views(name: str, height: int, width: int) -> list[View]:
    """Functions from a float batch (B, 3, height, width) to one view of it, of the same shape and memory layout.

    Raises:
        ConfigError: there are no such views.
        DependencyError: ttach is not installed.
    """
    view_set: ViewSet = VIEWS.lookup(name)
    if name == "none":
        return [lambda images: images]

    def view_of(transformer: ttach.base.Transformer) -> View:
        def view(images: torch.Tensor) -> torch.Tensor:
            made = view_set.refit(transformer.augment_image(images), height, width)
            # A turn or a cut loses channels-last, and the convolutions that follow would be slow.
            channels_last = images.is_contiguous(memory_format=torch.channels_last)
            return made.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

        return view

    return [view_of(transformer) for transformer in view_set.compose(height, width)]


def to_probs(logits: torch.Tensor, task: str) -> torch.Tensor:
    """Softmax, or for multi-label sigmoid, in float32; (B, C) to (B, C)."""
    logits = logits.float()
    return logits.sigmoid() if task == "multilabel" else logits.softmax(dim=1)


def mean(probs: torch.Tensor) -> torch.Tensor:
    return probs.mean(dim=0)


def geometric_mean(probs: torch.Tensor) -> torch.Tensor:
    return probs.clamp_min(torch.finfo(torch.float32).tiny).log().mean(dim=0).exp()


def maximum(probs: torch.Tensor) -> torch.Tensor:
    return probs.amax(dim=0)


def merge_views(probs: torch.Tensor, merge: str, task: str) -> torch.Tensor:
    """Merge probabilities (V, B, C) of V views into (B, C); rows of a single-label task sum to 1 again.

    Raises:
        ConfigError: there is no such merge.
    """
    function = MERGES.lookup(merge)
    if len(probs) == 1:
        return probs[0]
    merged: torch.Tensor = function(probs.float())
    return merged if task == "multilabel" else merged / merged.sum(dim=1, keepdim=True)

"""From the loader's bytes to what a model takes, on the device that the model is on."""

from __future__ import annotations

import logging
from functools import lru_cache

import torch

from kaggle_kit.images.transforms import ImageSpec

_LOG = logging.getLogger(__name__)


def to_input(
    images: torch.Tensor,
    spec: ImageSpec,
    device: torch.device | str = "cpu",
    *,
    channels_last: bool = True,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Normalise a batch on ``device``; training, validation and test all come through here.

    Bytes are moved, a quarter of what floats would be, and the arithmetic is float32 whatever ``dtype`` is asked for.

    Args:
        images: (B, 3, H, W) uint8, or float in 0..255.
        spec: holds mean and std of values in 0..1.

    Returns:
        (B, 3, H, W) of ``dtype``.
    """
    moved = images.to(device, non_blocking=True)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    values = moved.to(dtype=torch.float32, memory_format=layout)
    mean, std = _statistics(spec, moved.device)
    return values.sub(mean).div_(std).to(dtype)


@lru_cache(maxsize=64)
def _statistics(spec: ImageSpec, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of values in 0..255, (1, C, 1, 1) each.

    Kept on the device: to copy them there for every batch would make the host wait for all work that is queued.
    """
    with torch.inference_mode(False):  # what is made in a prediction is used in training, too
        mean, std = (torch.tensor(values, device=device).mul_(255).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return mean, std

"""From the loader's bytes to what a model takes, on the device that the model is on."""

from __future__ import annotations

import logging
from functools import lru_cache

import torch

from kaggle_kit.errors import ConfigError
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
    """Mean and standard deviation of values in 0..255, (1, 3, 1, 1) each.

    Kept on the device: to copy them there for every batch would make the host wait for all work that is queued.
    """
    with torch.inference_mode(False):  # what is made in a prediction is used in training, too
        mean, std = (torch.tensor(values, device=device).mul_(255).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    return mean, std


def choose_device(accelerator: str = "auto") -> torch.device:
    """The device for ``accelerator``: auto, cpu, cuda (or gpu), mps, or a device such as cuda:1.

    A GPU is tried with a real operation, since one may be listed that this build of torch has no kernels for. With "auto" the
    CPU is taken then, and the log says why.

    Raises:
        ConfigError: the device asked for by name does not exist or does not work.
    """
    if accelerator == "auto":
        for name in _present():
            reason = refusal(name)
            if not reason:
                return torch.device(name)
            _LOG.warning("%s is present but does not work, using the CPU: %s", name, reason)
        return torch.device("cpu")
    name = "cuda" if accelerator == "gpu" else accelerator
    reason = refusal(name)
    if reason:
        raise ConfigError(f"hardware.accelerator: {accelerator!r} cannot be used ({reason}); choose auto or cpu.")
    return torch.device(name)


def _present() -> list[str]:
    return [name for name, found in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())) if found]


def refusal(name: str) -> str:
    """Why ``name`` cannot compute, or an empty string."""
    try:
        weight = torch.ones(2, 3, 3, 3, device=name)
        torch.nn.functional.conv2d(torch.ones(1, 3, 8, 8, device=name), weight).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ""

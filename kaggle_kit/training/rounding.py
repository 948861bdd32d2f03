"""``hardware.precision: auto`` on a CPU: bfloat16 where the processor has it and training steps here are faster with it.

Only training asks: out of fold and on test images a CPU predicts in float32 whatever a run was trained in, so that
predictions here, in a kernel and after an export agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from kaggle_kit.config import ChannelsConfig, RunConfig, derive
from kaggle_kit.machine.device import choose_device
from kaggle_kit.machine.host import CPUINFO, has_bf16
from kaggle_kit.models import build_model, image_spec
from kaggle_kit.training.steps import known_steps, measure_steps

logger = logging.getLogger(__name__)

WORTH_MEASURING = 2_000 * 224 * 224
"""Pixels to train on, images times epochs, from which some seconds of measurement pay: a few minutes of training."""
FASTER = 1.1
"""How many times faster bfloat16 must be; for less, float32 has more digits."""
_BATCH = 16  # at most: the gain of larger ones is about the same, that of smaller ones is less
_PRECISIONS = ("fp32", "bf16")


def with_precision(
    config: RunConfig, *, images: int, n_classes: int, root: Path | None = None, channels: ChannelsConfig | None = None
) -> RunConfig:
    """Return ``config`` with the precision that its network trains fastest in on this CPU, where that is "auto".

    It is returned as it is where there is nothing to decide: a precision is named, a GPU computes, no network is trained, the
    training is short, or the processor only emulates bfloat16. The measurement takes some seconds, once for a network and image
    size on this machine, so that a run which goes on after an interruption decides the same.

    Args:
        images: of an epoch.
    """
    hardware = config.hardware
    if hardware.precision != "auto" or config.strategy == "probe" or not has_bf16(CPUINFO):
        return config
    if choose_device(hardware.accelerator).type != "cpu":
        return config
    data = config.last_stage.data
    with torch.random.fork_rng(devices=[]):
        model = build_model(config.model, n_classes, image_size=data.image_size, root=root, channels=channels)
        spec = image_spec(model, data, channels)
        if images * config.total_epochs * spec.height * spec.width < WORTH_MEASURING:
            return config
        batch = torch.Size((min(data.batch_size, _BATCH), spec.channels, *spec.size))
        speeds = known_steps(config.model.name, batch, _PRECISIONS)
        if speeds is None:
            model = model.train().to(memory_format=torch.channels_last)
            batch_of_zeros = torch.zeros(batch).contiguous(memory_format=torch.channels_last)
            speeds = measure_steps(config.model.name, batch_of_zeros, ways_to_round(model))
    gain = speeds["bf16"] / speeds["fp32"]
    chosen = "bf16" if gain > FASTER else "fp32"
    logger.info("precision %s: steps of training are %.2f times as fast in bfloat16 as in float32 here", chosen, gain)
    return derive(config, [f"hardware.precision={chosen}"])


def ways_to_round(model: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
    """Precision -> forward pass of ``model`` in it, as Fabric has it on a CPU."""

    def forward(images: Tensor, *, half: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found: Tensor = model(images)
        return found

    return {precision: partial(forward, half=precision == "bf16") for precision in _PRECISIONS}

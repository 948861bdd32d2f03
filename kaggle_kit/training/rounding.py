"""``hardware.precision: auto`` on a CPU: bfloat16 where the processor has it and training steps here are faster with it.

Only training asks: out of fold and on test images a CPU predicts in float32 whatever a run was trained in, so that
predictions here, in a kernel and after an export agree.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from torch import nn

from kaggle_kit.config import ChannelsConfig, RunConfig, derive
from kaggle_kit.machine.device import choose_device
from kaggle_kit.machine.host import CPUINFO, has_bf16
from kaggle_kit.machine.speeds import keep_speeds, known_speed
from kaggle_kit.models import build_model, image_spec

logger = logging.getLogger(__name__)

WORTH_MEASURING = 2_000 * 224 * 224
"""Pixels to train on, images times epochs, from which some seconds of measurement pay: a few minutes of training."""
FASTER = 1.1
"""How many times faster bfloat16 must be; for less, float32 has more digits."""
_BATCH, _STEPS = 8, 2
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
        speeds = _speeds(model, config.model.name, torch.zeros(_BATCH, spec.channels, *spec.size))
    gain = speeds["bf16"] / speeds["fp32"]
    chosen = "bf16" if gain > FASTER else "fp32"
    logger.info("precision %s: steps of training are %.2f times as fast in bfloat16 as in float32 here", chosen, gain)
    return derive(config, [f"hardware.precision={chosen}"])


def _speeds(model: nn.Module, name: str, images: torch.Tensor) -> dict[str, float]:
    """Images a second in each precision: as they were measured before, or now."""
    device = f"training, {torch.get_num_threads()} threads, torch {torch.__version__}"
    size = f"{images.shape[2]}x{images.shape[3]}"
    known = {precision: known_speed(device, name, size, precision) for precision in _PRECISIONS}
    speeds = {precision: speed for precision, speed in known.items() if speed is not None}
    if len(speeds) < len(_PRECISIONS):
        speeds = measure_steps(model, images)
        rows = [(name, size, precision, len(images), speed) for precision, speed in speeds.items()]
        keep_speeds(device, pd.DataFrame(rows, columns=["model", "size", "engine", "batch", "img/s"]))
    return speeds


def measure_steps(model: nn.Module, images: torch.Tensor) -> dict[str, float]:
    """Return the images a second of training steps on a CPU, in float32 and bfloat16: medians, taken in turns."""
    model = model.train().to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    seconds: dict[str, list[float]] = {precision: [] for precision in _PRECISIONS}
    for _ in range(1 + _STEPS):  # the first of each also chooses its kernels
        for precision, measured in seconds.items():
            started = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = model(images).float().square().mean()
            loss.backward()
            measured.append(time.perf_counter() - started)
    return {precision: len(images) / median(measured[1:]) for precision, measured in seconds.items()}

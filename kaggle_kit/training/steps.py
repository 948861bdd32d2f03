"""How fast a network's training steps are on this CPU in several ways: timed in turns, and kept for the next run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from statistics import median

import pandas as pd
import torch
from torch import Tensor

from kaggle_kit.machine.host import kept_heap
from kaggle_kit.machine.speeds import keep_speeds, known_speed

_STEPS = 2


def known_steps(network: str, shape: torch.Size, ways: Iterable[str]) -> dict[str, float] | None:
    """Images a second in each way, as :func:`measure_steps` found it on this machine; None unless all are known.

    Args:
        shape: of a batch, (B, C, H, W).
    """
    found = {way: known_speed(_device(shape), network, _size(shape), way) for way in ways}
    known = {way: speed for way, speed in found.items() if speed is not None}
    return known if len(known) == len(found) else None


def measure_steps(network: str, images: Tensor, ways: Mapping[str, Callable[[Tensor], Tensor]]) -> dict[str, float]:
    """Return the images a second of training steps in each way, and keep them; see :func:`time_steps`."""
    speeds = time_steps(images, ways)
    rows = [(network, _size(images.shape), way, len(images), speed) for way, speed in speeds.items()]
    keep_speeds(_device(images.shape), pd.DataFrame(rows, columns=["model", "size", "engine", "batch", "img/s"]))
    return speeds


def time_steps(images: Tensor, ways: Mapping[str, Callable[[Tensor], Tensor]]) -> dict[str, float]:
    """Return the images a second of training steps on a CPU in each way: medians, taken in turns.

    The heap is kept as in training, which decides more than the ways do: without it float32, whose tensors are the larger ones,
    waits for the system's pages (``benchmarks/precision.py``).

    Args:
        images: (B, C, H, W).
        ways: name -> (B, C, H, W) to outputs, which gradients are computed of.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with kept_heap("cpu"):
        for _ in range(1 + _STEPS):  # the first of each also chooses its kernels
            for way, measured in seconds.items():
                started = time.perf_counter()
                ways[way](images).float().square().mean().backward()  # type: ignore[no-untyped-call]
                measured.append(time.perf_counter() - started)
    return {way: len(images) / median(measured[1:]) for way, measured in seconds.items()}


def _device(shape: torch.Size) -> str:
    return f"training, batches of {shape[0]}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _size(shape: torch.Size) -> str:
    return f"{shape[2]}x{shape[3]}"

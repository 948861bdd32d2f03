"""The one way from image files to probabilities: validation, out-of-fold and test rows all come through here.

One decode of an image feeds every model and every view; only probabilities are kept, so a test set may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from kaggle_kit.errors import DataError, ImageError
from kaggle_kit.images.dataset import PixelSource
from kaggle_kit.images.decode import check_images
from kaggle_kit.images.loaders import Batch, eval_batches
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.engines import Engine, EngineOptions, TorchEngine, choose_engine, make_engine, memory_errors
from kaggle_kit.inference.inputs import choose_device, to_input
from kaggle_kit.inference.tta import View, make_views, merge_views, to_probs
from kaggle_kit.models import LoadedModel, unwrap
from kaggle_kit.tables import Classes, shown

Probs: TypeAlias = npt.NDArray[np.float32]
Progress: TypeAlias = Callable[[int, int], None]
"""Called after each batch with the number of images done and of all images."""


@dataclass(frozen=True)
class Compute:
    """Where and how to predict; nothing here is meant to change what comes out.

    Attributes:
        workers: loader processes; None: from the CPUs.
        device: auto, cpu, cuda, mps, or a device such as cuda:1.
        precision: auto, bf16, fp16 or fp32; see :class:`EngineOptions`.
        engine: auto or an entry of ``ENGINES``.
        cache_dir: where exported models are kept.
        source: where pixels come from instead of the files, for instance a store of decoded images.
    """

    batch_size: int = 64
    workers: int | None = None
    device: str = "auto"
    precision: str = "auto"
    engine: str = "auto"
    cache_dir: Path | None = None
    source: PixelSource | None = None


def predict_rows(
    models: Sequence[LoadedModel],
    rows: Sequence[tuple[str, Path]],
    *,
    views: str = "none",
    merge: str = "mean",
    compute: Compute | None = None,
    progress: Progress | None = None,
) -> Probs:
    """Predict image files with each of several models, in one pass for all models that want the same input.

    Args:
        rows: N pairs of id and file; the id serves messages alone.

    Returns:
        (M, N, C) float32 probabilities: M models, rows in the order given, classes in the models' order.

    Raises:
        ClassMappingError: the models' classes differ.
        ImageError: images cannot be read; lists all of them.
        ConfigError, DependencyError, DeviceMemoryError: see the engines.
    """
    compute = compute or Compute()
    classes, task = _common(models)
    result = np.full((len(models), len(rows), len(classes)), np.nan, dtype=np.float32)
    device = choose_device(compute.device)
    groups = _by_spec(models)
    for number, (spec, members) in enumerate(groups.items()):
        view_functions = make_views(views, spec.height, spec.width)
        pixels = len(rows) * len(view_functions) * spec.height * spec.width
        engines = _engines([models[member] for member in members], spec, choose_engine(compute.engine, device, pixels), compute)
        batches = eval_batches(rows, spec, batch_size=compute.batch_size, workers=compute.workers, source=compute.source)
        advance = _counter(progress, offset=number * len(rows), total=len(groups) * len(rows))
        channels_last = any(isinstance(engine, TorchEngine) for engine in engines)
        try:
            for positions, probs in _probs_of_batches(
                engines, batches, spec, task, device, views=view_functions, merge=merge, channels_last=channels_last
            ):
                for member, of_model in zip(members, probs, strict=True):
                    result[member, positions] = of_model
                advance(len(positions))
        except ImageError as error:
            raise _all_unreadable(rows, compute.workers, error) from error
    _require_every_row(result, rows)
    return result


def predict_model(
    model: nn.Module,
    batches: Iterable[Batch],
    spec: ImageSpec,
    task: str,
    *,
    device: torch.device,
    precision: str = "auto",
    on_batch: Callable[[int], None] | None = None,
) -> tuple[npt.NDArray[np.int64], Probs]:
    """Predict the batches of a loader with a live model, as training does for validation; no views.

    The model is left in evaluation mode.

    Returns:
        The row numbers that the loader gave, (N,), and their probabilities (N, C) float32, both in its order.
    """
    # Without what training wraps around it: a compiled or autocast forward would differ from `kk predict` by rounding.
    engine = TorchEngine(unwrap(model), EngineOptions(device, precision))
    views = make_views("none", spec.height, spec.width)
    rows: list[npt.NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    probs: list[Probs] = []
    for positions, part in _probs_of_batches([engine], batches, spec, task, device, views=views, merge="mean"):
        rows.append(positions)
        probs.append(part[0])
        if on_batch is not None:
            on_batch(len(positions))
    return np.concatenate(rows), np.concatenate(probs) if probs else np.empty((0, 0), dtype=np.float32)


def _probs_of_batches(
    engines: Sequence[Engine],
    batches: Iterable[Batch],
    spec: ImageSpec,
    task: str,
    device: torch.device,
    *,
    views: Sequence[View],
    merge: str,
    channels_last: bool = True,
) -> Iterable[tuple[npt.NDArray[np.int64], Probs]]:
    """For each batch its row numbers (B,) and probabilities (M, B, C) of M engines."""
    for batch in batches:
        with torch.inference_mode(), memory_errors():
            images = to_input(batch.images, spec, device, channels_last=channels_last)  # (B, 3, H, W)
            by_view = []
            for view in views:
                seen = view(images)
                by_view.append(torch.stack([to_probs(engine.logits(seen), task) for engine in engines]))
            # (V, M, B, C): views are merged for each model alone; rows of all models lie side by side meanwhile.
            stacked = torch.stack(by_view)
            merged = merge_views(stacked.flatten(1, 2), merge, task).view(stacked.shape[1:])
        yield batch.rows.numpy(), merged.float().cpu().numpy()


def _engines(models: Sequence[LoadedModel], spec: ImageSpec, name: str, compute: Compute) -> list[Engine]:
    options = EngineOptions(choose_device(compute.device), compute.precision, compute.cache_dir)
    with memory_errors():
        return [make_engine(name, loaded.model, spec, fingerprint=loaded.fingerprint, options=options) for loaded in models]


def _common(models: Sequence[LoadedModel]) -> tuple[Classes, str]:
    """Classes and task, which all models must share."""
    if not models:
        raise DataError("expected at least one model, got none.")
    first = models[0]
    for other in models[1:]:
        first.classes.require_same(other.classes, here=str(first.path), there=str(other.path))
        if other.task != first.task:
            raise DataError(f"{first.path} is for task {first.task}, {other.path} for {other.task}; predict them apart.")
    return first.classes, first.task


def _by_spec(models: Sequence[LoadedModel]) -> dict[ImageSpec, list[int]]:
    """Positions of the models that want the same input."""
    groups: dict[ImageSpec, list[int]] = {}
    for position, loaded in enumerate(models):
        groups.setdefault(loaded.spec, []).append(position)
    return groups


def _counter(progress: Progress | None, *, offset: int, total: int) -> Callable[[int], None]:
    done = offset

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return advance


def _all_unreadable(rows: Sequence[tuple[str, Path]], workers: int | None, first: ImageError) -> ImageError:
    """The pass stops at one bad image; whoever must mend them wants all at once."""
    reasons = check_images(rows, workers=workers or None)
    if not reasons:
        return first
    listed = "\n  ".join(f"{row_id}: {reason}" for row_id, reason in reasons.items())
    return ImageError(
        f"{len(reasons)} of {len(rows)} images to predict cannot be read; none may be left out, so nothing was written. "
        f"Replace these files and run again:\n  {listed}"
    )


def _require_every_row(result: Probs, rows: Sequence[tuple[str, Path]]) -> None:
    missing = [rows[position][0] for position in np.flatnonzero(~np.all(np.isfinite(result), axis=(0, 2))).tolist()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(rows)} rows came out without a finite probability: {shown(missing)}. The model's weights "
            "are damaged or overflow; try precision fp32, or train it again."
        )

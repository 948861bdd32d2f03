"""Features of a run's images for a map: those that a probe kept, else of out-of-fold images by their own fold's model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kaggle_kit import runs
from kaggle_kit.errors import KaggleKitError
from kaggle_kit.images.loaders import eval_batches
from kaggle_kit.inference.engines import EngineOptions, choose_engine
from kaggle_kit.inference.features import PLAIN, FeatureCache
from kaggle_kit.inference.groups import backbone_engine
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.machine.device import choose_device
from kaggle_kit.models import LoadedModel, Parts, backbone_fingerprint, load_model, split_model
from kaggle_kit.runs import Run

_BATCH = 64


@dataclass(frozen=True)
class Embedded:
    """Features of some rows.

    Attributes:
        rows: (M,) positions among those that were asked for.
        features: (M, F) float32.
        text: what they are, in words.
    """

    rows: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    text: str


def embed_images(
    run: Run, rows: Sequence[tuple[str, Path]], folds: npt.NDArray[np.int64], *, cache_dir: Path, seconds: float
) -> Embedded | None:
    """Return features of ``rows``, or of as many as there is time for; None where the run's models cannot give any.

    A fold's model has learnt its own training images by heart, and models of two folds do not speak one language. Therefore
    features are of a frozen backbone that all folds share, or of one fold's model and the images that it has not seen.

    Args:
        rows: id and file.
        folds: (N,) which fold validates on each.
        seconds: after which no further batch is computed.
    """
    fold = run.finished_folds()[0]
    try:
        loaded = load_model(fold.path / runs.MODEL)
        parts = split_model(loaded.model, loaded.spec.size)
    except KaggleKitError:
        return None
    if parts is None:
        return None
    kept = _kept(loaded, parts, rows, cache_dir)
    if kept is not None:
        return kept
    own = np.flatnonzero(folds == fold.fold)
    features = _compute(loaded, parts, [rows[row] for row in own.tolist()], cache_dir, seconds)
    return Embedded(
        own[: len(features)], features, f"features by the model of fold {fold.fold} of images that it was not trained on"
    )


def _kept(loaded: LoadedModel, parts: Parts, rows: Sequence[tuple[str, Path]], cache_dir: Path) -> Embedded | None:
    """Return what a probe has kept of the model's backbone, if that is most of it."""
    fingerprint, paths = backbone_fingerprint(parts.backbone.model), [path for _, path in rows]
    table = FeatureCache(cache_dir, "train").table(fingerprint, loaded.spec, choose_device("auto"), "auto")
    there = np.flatnonzero(table.has(paths, [PLAIN])[0]) if table else np.empty(0, dtype=np.int64)
    if len(there) < max(1, len(rows) // 2):
        return None
    return Embedded(there, table.read([paths[row] for row in there.tolist()], PLAIN), "features of the frozen backbone")


def _compute(
    loaded: LoadedModel, parts: Parts, rows: Sequence[tuple[str, Path]], cache_dir: Path, seconds: float
) -> npt.NDArray[np.float32]:
    """Return features (M, F) of the first M rows, all of them if there is time."""
    device, spec = choose_device("auto"), loaded.spec
    options: Any = EngineOptions(device, "auto", cache_dir)
    name = choose_engine("auto", device, len(rows) * spec.height * spec.width)
    engine = backbone_engine(parts, backbone_fingerprint(parts.backbone.model), spec, name, options)
    found: list[npt.NDArray[np.float32]] = []
    end = time.monotonic() + seconds
    for batch in eval_batches(rows, spec, batch_size=_BATCH):
        images = to_input(batch.images, spec, device, channels_last=engine.name == "torch")
        with torch.inference_mode():
            found.append(engine.logits(images).cpu().numpy())
        if time.monotonic() > end:
            break
    return np.concatenate(found) if found else np.empty((0, 1), dtype=np.float32)

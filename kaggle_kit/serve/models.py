"""The models that are served: from an image file's bytes to probabilities, by the decoder and the engines of ``kk predict``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kaggle_kit.errors import ImageError
from kaggle_kit.images.decode import Pixels, decode_bytes, image_size
from kaggle_kit.images.transforms import EvalTransform, ImageSpec, prepare
from kaggle_kit.inference.engines import EngineOptions, usable_engines
from kaggle_kit.inference.groups import GroupEngine, group_models, make_group_engine
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.inference.predict import Probs, Rows, by_spec, common
from kaggle_kit.inference.tta import to_probs
from kaggle_kit.machine.device import choose_device
from kaggle_kit.models import LoadedModel

Seen = tuple[Pixels, ...]
"""An image as the models want it, once for each input that differs."""


@dataclass(frozen=True)
class _Input:
    """Models that want the same input: engines of groups, and the weight (M,) of each of their models in the mean."""

    spec: ImageSpec
    groups: tuple[tuple[GroupEngine, torch.Tensor], ...]


class LiveModels:
    """Models that stay ready.

    Args:
        models: with the weight of each; weights sum to 1.
        engine: "auto", or an entry of ``ENGINES``.
        calibration: images, id and file, for engine int8.
        most_pixels: of an image; a larger one is refused before it is decoded.

    Raises:
        ClassMappingError, DataError: they have other classes or tasks.
        ConfigError, DependencyError: see the engines.
    """

    def __init__(
        self,
        models: Sequence[tuple[LoadedModel, float]],
        *,
        engine: str = "auto",
        device: str = "auto",
        cache_dir: Path | None = None,
        calibration: Rows = (),
        most_pixels: int,
    ) -> None:
        self.loaded = [loaded for loaded, _ in models]
        self.classes, self.task = common(self.loaded)
        self._most_pixels = most_pixels
        self._device = choose_device(device)
        self.engine = usable_engines(self._device)[-1] if engine == "auto" else engine
        options = EngineOptions(self._device, cache_dir=cache_dir, calibration=calibration)
        weights = torch.tensor([weight for _, weight in models])
        self._inputs = [
            _Input(
                spec,
                tuple(
                    (make_group_engine(group, self.engine, options), weights[list(group.members)])
                    for group in group_models(self.loaded, positions, engine=self.engine)
                ),
            )
            for spec, positions in by_spec(self.loaded).items()
        ]

    def read(self, data: bytes, name: str) -> Seen:
        """Decode an image file.

        Raises:
            ImageError: it cannot be read, or has too many pixels; the message calls it ``name``.
        """
        try:
            height, width = image_size(data) if data else (0, 0)
        except ImageError as error:
            reason = str(error).partition(": ")[2]
            raise ImageError(f"{name}: {reason}") from None
        if height * width > self._most_pixels:
            raise ImageError(f"{name}: {height:,} x {width:,} pixels, expected at most {self._most_pixels:,} in all.")
        sizes = [one.spec.prepare_size for one in self._inputs]
        least = max(size[0] for size in sizes), max(size[1] for size in sizes)
        decoded = decode_bytes(data, name, min_size=least, channels=self._inputs[0].spec.channels)
        return tuple(EvalTransform(one.spec)(prepare(decoded, one.spec.prepare_size)) for one in self._inputs)

    def predict(self, images: Sequence[Seen]) -> Probs:
        """Return the weighted mean of the models' probabilities, (B, C)."""
        total = torch.zeros(len(images), len(self.classes))
        with torch.inference_mode():
            for number, one in enumerate(self._inputs):
                stacked = torch.from_numpy(np.stack([seen[number] for seen in images])).permute(0, 3, 1, 2)
                batch = to_input(stacked, one.spec, self._device)
                for engine, weights in one.groups:
                    logits = engine.logits(batch)  # (M, B, C)
                    probs = to_probs(logits.flatten(0, 1), self.task).view(logits.shape).cpu()
                    total += (probs * weights[:, None, None]).sum(dim=0)
        result: Probs = total.numpy()
        return result

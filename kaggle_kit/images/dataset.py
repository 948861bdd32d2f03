"""Rows of paths and targets as samples: read, transform, turn into a tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from kaggle_kit.config import AugmentConfig
from kaggle_kit.errors import DataError
from kaggle_kit.images.decode import Pixels, decode_image
from kaggle_kit.images.samplers import row_weights
from kaggle_kit.images.transforms import ImageSpec, eval_transform, prepare, train_transform

if TYPE_CHECKING:
    from torch import Tensor

Transform = Callable[[Pixels, int], Pixels]
"""(image, seed) → uint8 (h, w, 3): an ``EvalTransform`` or a ``TrainTransform``."""
Targets = npt.NDArray[np.int64] | npt.NDArray[np.float32]
"""(N,) int64 class indices, or (N, C) float32 for several labels and for soft targets."""


class PixelSource(Protocol):
    """Where the prepared pixels of a file come from: the file itself, or a store of images decoded before."""

    def __call__(self, path: Path) -> Pixels:
        """(H, W, 3) uint8, prepared for some size. Raises ImageError."""

    def at(self, size: tuple[int, int]) -> PixelSource:
        """A source of the same images that keeps enough pixels for (height, width)."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """Decodes the file each time. ``size`` is the (height, width) to :func:`~kaggle_kit.images.transforms.prepare` for."""

    size: tuple[int, int]
    channels: int = 3

    def __call__(self, path: Path) -> Pixels:
        return prepare(decode_image(path, min_size=self.size, channels=self.channels), self.size)

    def at(self, size: tuple[int, int]) -> FileSource:
        return FileSource(size, self.channels)


class ImageDataset:
    """Pixels and targets by row number, with a seed where the transform is random. Picklable, for loader processes."""

    def __init__(
        self,
        paths: Sequence[Path],
        transform: Transform,
        *,
        source: PixelSource,
        targets: Targets | None = None,
        plain: tuple[Transform, npt.NDArray[np.bool_]] | None = None,
    ) -> None:
        """``plain``: another transform, and the rows (N,) that get that."""
        if targets is not None and len(targets) != len(paths):
            raise DataError(f"expected one target per image, got {len(targets)} targets for {len(paths)} images.")
        self.paths = list(paths)
        self.transform = transform
        self.source = source
        self.targets = None if targets is None else as_targets(targets)
        self.plain = plain

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, row: int, seed: int = 0) -> Pixels:
        """Return (h, w, 3) uint8 after the transform. Raises ImageError."""
        transform = self.plain[0] if self.plain is not None and self.plain[1][row] else self.transform
        return transform(self.source(self.paths[row]), seed)


def training_dataset(
    paths: Sequence[Path],
    spec: ImageSpec,
    augment: AugmentConfig,
    truth: npt.NDArray[Any],
    source: PixelSource,
    *,
    soft: npt.NDArray[np.float32] | None = None,
) -> ImageDataset:
    """Return labelled images with their augmentation: of all classes, or with ``only_below`` of the small ones.

    Args:
        truth: (N,) class positions or (N, C); of several labels the rarest tells how large a row's class is.
        soft: (N, C) targets; None: ``truth``.

    Raises:
        ConfigError: see :func:`~kaggle_kit.images.transforms.train_transform`.
    """
    plain = None if augment.only_below is None else (eval_transform(spec), ~in_small_class(truth, augment.only_below))
    targets = truth if soft is None else soft
    return ImageDataset(paths, train_transform(spec, augment), source=source, targets=targets, plain=plain)


def in_small_class(truth: npt.NDArray[Any], below: int) -> npt.NDArray[np.bool_]:
    """(N,) whether a row's class, of several labels the rarest, has fewer than ``below`` rows."""
    return np.round(1.0 / row_weights(truth)) < below


def as_targets(targets: Targets) -> Tensor:
    """(N,) int64 or (N, C) float32 tensor; copies, since tables may be read-only.

    Raises:
        DataError: the shape or kind of numbers is another.
    """
    import torch  # here, so that listing stores needs none

    values: npt.NDArray[Any] = np.asarray(targets)
    if values.ndim == 1 and np.issubdtype(values.dtype, np.integer):
        return torch.from_numpy(values.astype(np.int64))
    if values.ndim == 2:
        return torch.from_numpy(values.astype(np.float32))
    raise DataError(f"expected targets (N,) of integers or (N, C), got {values.dtype} {values.shape}.")


def source_for(*specs: ImageSpec) -> FileSource:
    """The file source that keeps enough pixels for all of ``specs``."""
    return FileSource(prepare_size_for(*specs), specs[0].channels)


def prepare_size_for(*specs: ImageSpec) -> tuple[int, int]:
    """(height, width) to prepare for, so that each of ``specs`` finds enough pixels."""
    return max(spec.prepare_size[0] for spec in specs), max(spec.prepare_size[1] for spec in specs)

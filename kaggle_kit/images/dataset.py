"""Rows of paths and targets as samples: read, transform, turn into a tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from kaggle_kit.errors import DataError
from kaggle_kit.images.decode import Pixels, decode_image
from kaggle_kit.images.transforms import ImageSpec, prepare

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
    ) -> None:
        if targets is not None and len(targets) != len(paths):
            raise DataError(f"expected one target per image, got {len(targets)} targets for {len(paths)} images.")
        self.paths = list(paths)
        self.transform = transform
        self.source = source
        self.targets = None if targets is None else as_targets(targets)

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, row: int, seed: int = 0) -> Pixels:
        """Return (h, w, 3) uint8 after the transform. Raises ImageError."""
        return self.transform(self.source(self.paths[row]), seed)


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

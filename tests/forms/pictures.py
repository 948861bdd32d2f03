"""Pictures that are nobody's: scikit-learn's handwritten digits in colours, so that a class can be learnt from a few rows."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[Any]
SIDE = 32


@cache
def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.images / 16.0, found.target


def digit(kind: int, number: int, side: int = SIDE) -> Array:
    """Return the ``number``-th writing of a digit, (side, side) float in 0..1."""
    images, target = _digits()
    of_kind = np.flatnonzero(target == kind % 10)
    image = images[of_kind[number % len(of_kind)]]
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)).clip(0, 1)


def picture(kinds: Sequence[int], number: int, side: int = SIDE) -> Array:
    """Return (side, side, 3) uint8 RGB: of one kind a digit on its colour; of several a patch for each."""
    if len(kinds) == 1:
        return _coloured(kinds[0], number, side)
    half = side // 2
    canvas: Array = np.full((side, side, 3), 40, np.uint8)
    for kind in kinds:
        row, column = divmod(kind % 4, 2)
        canvas[row * half : (row + 1) * half, column * half : (column + 1) * half] = _coloured(kind, number, half)
    return canvas


def _coloured(kind: int, number: int, side: int) -> Array:
    ink = digit(kind, number, side)[:, :, None]
    ground = np.array(colorsys.hsv_to_rgb((kind * 0.381966) % 1.0, 0.8, 0.7)) * 255
    noise = np.random.default_rng(1000 * kind + number).normal(0, 12, (side, side, 3))
    return np.asarray((ground * (1 - 0.8 * ink) + 255 * 0.8 * ink + noise).clip(0, 255).round().astype(np.uint8))


class Folder:
    """A competition's folder, as Kaggle gives it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, path: str, *kinds: int, number: int = 0) -> None:
        """Write a picture in the format that its name asks for."""
        self.pixels(path, picture(kinds, number))

    def pixels(self, path: str, pixels: Array) -> None:
        """Write (H, W, 3) RGB or (H, W) grey."""
        self._new(path).write_bytes(self.encoded(pixels, Path(path).suffix))

    @staticmethod
    def encoded(pixels: Array, suffix: str = ".png") -> bytes:
        """Return the bytes of an image file."""
        return bytes(cv2.imencode(suffix, pixels[:, :, ::-1] if pixels.ndim == 3 else pixels)[1].tobytes())

    def table(self, path: str, columns: Mapping[str, Sequence[Any]]) -> None:
        pd.DataFrame({name: list(cells) for name, cells in columns.items()}).to_csv(self._new(path), index=False)

    def json(self, path: str, content: Any) -> None:
        self._new(path).write_text(json.dumps(content))

    def bytes(self, path: str, content: bytes) -> None:
        self._new(path).write_bytes(content)

    def _new(self, path: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

"""What a container is, and how its pictures become files: 8 bits where that loses nothing, else 16 bits of a known range.

One channel and three become PNG, any other number TIFF with a page a channel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import files
from kaggle_kit.errors import DataError, DependencyError, KaggleKitError
from kaggle_kit.stacks import write_stack

Array = npt.NDArray[Any]
Options = dict[str, Any]
"""What is known of a container's pictures: ``shape`` (height, width, channels), ``low`` and ``high`` of their values."""
MOST = 2**42
"""Bytes of a container; it is read piece by piece."""
SQUARE_BIAS = 0.8
"""Another shape than a square must be this much smoother to be believed."""
_PROBE = 64
_PNG = (16, 1)  # OpenCV's number for the level of compression, and the quickest
_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}


@dataclass(frozen=True)
class Item:
    """One picture of a container.

    Attributes:
        name: of its file, without a suffix; may hold folders.
        picture: pixels (H, W) or (H, W, C), or the bytes of an image file; None where a row has no picture.
        cells: what else the container says of it, as the columns of a table.
    """

    name: str
    picture: Array | bytes | None
    cells: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Container:
    """A kind of file that holds images.

    Attributes:
        suffixes: of its files, in lower case.
        recognise: returns what is known of a file's pictures, or None when it holds none. Looks at its beginning only. Of a
            file with several arrays of pictures it returns what is known of each: ``parts``, by the part of the data.
        read: yields the pictures of a file, in its order, with bounded memory.
        folder: whether it is a folder of files rather than one file.
        archive: whether it holds files of any kind, to be unpacked as they are.
        names: yields the names of a file's pictures without reading them, where that can be done.
    """

    suffixes: tuple[str, ...]
    recognise: Callable[[Path], Options | None]
    read: Callable[[Path, Options], Iterator[Item]]
    folder: bool = False
    archive: bool = False
    names: Callable[[Path, Options], Iterator[str]] | None = None


def recognise(kind: Container, path: Path) -> Options | None:
    """Return what is known of a file's pictures; None where it holds none, or is damaged.

    Raises:
        DataError: it holds what it should not, such as names that leave its folder.
        DependencyError: a package is needed to read it.
    """
    try:
        return kind.recognise(path)
    except KaggleKitError:
        raise
    except Exception:  # parsers of other people's files raise anything
        return None


def read(kind: Container, path: Path, options: Options) -> Iterator[Item]:
    """Yield the pictures of a file.

    Raises:
        DataError: it is damaged.
        DependencyError: a package is needed to read it.
    """
    try:
        yield from kind.read(path, options)
    except KaggleKitError:
        raise
    except Exception as error:  # parsers of other people's files raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} is damaged ({reason}). Download it again, then run `kk init` again.") from error


def needs(package: str, module: str) -> Any:
    """Import an optional package.

    Raises:
        DependencyError: it is not installed; says how to install it.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise DependencyError(f"{package} is needed to read these files: pip install 'kaggle-kit[forms]'.") from None


def opened(path: Path) -> Any:
    """Open a container; only a regular file is."""
    return files.open_regular(path, most=MOST)


def first(items: Iterable[Item], count: int = _PROBE) -> list[Item]:
    """Return the first pictures of a container."""
    found = []
    for item in items:
        if item.picture is not None:
            found.append(item)
        if len(found) == count:
            break
    return found


IDS = ("id", "ids", "image_id", "image_ids", "name", "names", "filename", "filenames", "file_name")
"""What a column of ids is called, beside those that end in ``_id``."""


def ids_of(columns: Mapping[str, Sequence[str]]) -> Sequence[str] | None:
    """Return the column of ids, of columns beside pictures: by its name, and no value may stand there twice."""
    plain = {name: re.sub("train|test|val", "", name.lower()).strip("_") for name in columns}
    named = sorted(
        (name for name in columns if plain[name] in IDS or plain[name].endswith("_id")),
        key=lambda name: IDS.index(plain[name]) if plain[name] in IDS else len(IDS),
    )
    return next((columns[name] for name in named if len(set(columns[name])) == len(columns[name])), None)


def part_of(name: str) -> str:
    """Return which part of the data a name speaks of: train, val or test; "" where none."""
    lowered = name.lower()
    return next((part for part in ("test", "val", "train") if part in lowered), "")


def by_part(pictures: Sequence[str]) -> dict[str, str] | None:
    """Return part -> array, of the names of a file's arrays of pictures; None where they are not one a part.

    One array alone is the part "".
    """
    if len(pictures) == 1:
        return {"": pictures[0]}
    parts = {part_of(name): name for name in pictures}
    return parts if len(parts) == len(pictures) > 1 and "" not in parts else None


def value_range(pictures: Iterable[Array]) -> Options:
    """Return ``low`` and ``high`` of all values; nothing where all are whole numbers of 0..255, which 8 bits hold."""
    low, high, whole = np.inf, -np.inf, True
    for pixels in pictures:
        values = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            whole = whole and bool(pixels.dtype.kind in "iub" or (values == np.rint(values)).all())
    if not np.isfinite(low) or (whole and low >= 0 and high <= 255 and (high > 1 or low == high)):
        return {}
    return {"low": low, "high": high}


def encoded(picture: Array | bytes, options: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return the suffix and the bytes of a picture's file.

    Raises:
        DataError: it has a shape or kind of numbers that no image file holds.
    """
    if isinstance(picture, bytes):
        return suffix_of_bytes(picture), picture
    pixels = picture if picture.ndim == 3 else picture[:, :, None]
    if pixels.ndim != 3 or pixels.dtype.kind not in "biuf":
        raise DataError(f"expected pictures (height, width, channels) of numbers, got {picture.dtype} {picture.shape}.")
    low, high = options.get("low"), options.get("high")
    if low is None or high is None:
        stored: Array = pixels if pixels.dtype == np.uint8 else pixels.clip(0, 255).astype(np.uint8)
    else:
        span = max(float(high) - float(low), 1e-30)
        scaled = np.nan_to_num((pixels.astype(np.float64) - float(low)) / span).clip(0, 1)
        stored = np.rint(scaled * 65535).astype(np.uint16)
    if stored.shape[2] not in (1, 3):
        return ".tif", write_stack(stored)
    import cv2  # here, since folds and competition start without it

    ok, content = cv2.imencode(".png", stored[:, :, ::-1] if stored.shape[2] == 3 else stored[:, :, 0], _PNG)
    if not ok:
        raise DataError(f"a picture of {picture.shape} cannot be stored as PNG.")
    return ".png", content.tobytes()


def suffix_of_bytes(content: bytes) -> str:
    """Return the suffix of an image file by its first bytes."""
    known = next((suffix for magic, suffix in _SUFFIXES.items() if content.startswith(magic)), None)
    if known is None and content[8:12] == b"WEBP":
        known = ".webp"
    if known is None:
        raise DataError("bytes that are no JPEG, PNG, GIF, BMP, TIFF or WebP; expected image files in the container.")
    return known


def is_picture(content: object) -> bool:
    """Return whether these are the bytes of an image file."""
    if not isinstance(content, bytes):
        return False
    try:
        suffix_of_bytes(content)
    except DataError:
        return False
    return True


def shape_of(rows: Array) -> tuple[int, int, int] | None:
    """Return height, width and channels of flat pictures (N, L), by the shape in which neighbours are most alike.

    A square is preferred, in one channel or three. None where there is no such shape.
    """
    length = rows.shape[1]
    values = rows[:_PROBE].astype(np.float64)
    found: list[tuple[float, tuple[int, int, int]]] = []
    for channels in (1, 3):
        if length % channels:
            continue
        pixels = length // channels
        for height in range(8, int(3 * np.sqrt(pixels)) + 1):
            width, rest = divmod(pixels, height)
            if not rest and width >= 8 and max(height, width) <= 4 * min(height, width):
                image = values.reshape(-1, height, width, channels)
                rough = float(np.abs(np.diff(image, axis=1)).mean() + np.abs(np.diff(image, axis=2)).mean())
                bias = (SQUARE_BIAS if height == width else 1.0) * (0.999 if channels == 1 else 1.0)
                found.append((rough * bias, (height, width, channels)))
    return min(found)[1] if found else None


def channels_last(shape: Sequence[int]) -> bool | None:
    """Return whether pictures (H, W, C) rather than (C, H, W) are meant; None when neither is possible."""
    if len(shape) != 3:
        return None
    if shape[2] <= 16 and min(shape[:2]) >= 8:
        return True
    return False if shape[0] <= 16 and min(shape[1:]) >= 8 else None


def text(value: Any) -> str:
    """Return a scalar as the text of a cell: whole numbers without a point, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float | np.floating):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
    return str(value)


def plain(options: Mapping[str, Any]) -> Options:
    """Return options as kk.yaml holds them."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}

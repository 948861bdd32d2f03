"""Parquet with a picture a row: as the bytes of an image file, as a list of numbers, or with a column a pixel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_kit import files
from kaggle_kit.competition.containers.base import MOST, Container, Item, Options, is_picture, shape_of, text, value_range

_ROWS = 256
_LEAST = 64
_PIXEL = re.compile(r"(?:pix(?:el)?s?[ _-]?)?\d+", re.IGNORECASE)
_IDS = ("image_id", "id", "image", "image_name", "file_name", "path")


def _recognise(path: Path) -> Options | None:
    import pyarrow as pa

    try:
        names = _names(path)
        batch = next(_batches(path), None)
    except (pa.ArrowException, OSError):
        return None
    if not batch:
        return None
    pixels = [name for name in names if _PIXEL.fullmatch(name)]
    options: Options = {}
    ids = [name for name in _IDS if name in names]
    if ids:
        options["id"] = ids[0]
    if len(pixels) >= _LEAST:
        rows = np.array([[row[name] for name in pixels] for row in batch[:64]], np.float32)
        shape = shape_of(rows)
        if shape is None:
            return None
        options |= {"pixels": len(pixels), "shape": shape}
        blocks = (np.array([[row[name] for name in pixels] for row in some], np.float32) for some in _batches(path))
        return options | value_range(blocks)
    for name in names:
        value = _content(batch[0][name])
        if is_picture(value):
            return options | {"column": name}
        if isinstance(value, list) and np.size(value) >= _LEAST:
            flat = np.array([np.ravel(row[name]) for row in batch[:64]], np.float32)
            sides = [*np.shape(value), 1]
            shape = shape_of(flat) if np.ndim(value) == 1 else (sides[0], sides[1], sides[2])
            if shape is None:
                return None
            stacks = (np.array([np.ravel(row[name]) for row in some], np.float32) for some in _batches(path))
            return options | {"column": name, "shape": shape} | value_range(stacks)
    return None


def _names(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    with files.open_for_arrow(path, most=MOST) as file:
        return list(pq.ParquetFile(file).schema_arrow.names)


def _batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    import pyarrow.parquet as pq

    with files.open_for_arrow(path, most=MOST) as file:
        for batch in pq.ParquetFile(file).iter_batches(_ROWS):
            yield batch.to_pylist()


def _content(value: Any) -> Any:
    """The bytes of an image, also where they are stored as {"bytes": …, "path": …}."""
    return value.get("bytes") if isinstance(value, Mapping) else value


def _read(path: Path, options: Options) -> Iterator[Item]:
    pixels = [name for name in _names(path) if _PIXEL.fullmatch(name)] if "pixels" in options else []
    column = options.get("column")
    left_out = {*pixels, column}
    number = int(options.get("first", 1))
    for rows in _batches(path):
        for row in rows:
            value = [row[name] for name in pixels] if pixels else _content(row[str(column)])
            picture = value if isinstance(value, bytes) else np.array(value, np.float32).reshape(options["shape"])
            cells = {key: text(cell) for key, cell in row.items() if key not in left_out and not isinstance(cell, list | dict)}
            yield Item(cells.get(str(options.get("id")), "") or str(number), picture, cells)
            number += 1


PARQUET = Container((".parquet",), _recognise, _read)

"""A CSV with a picture a row, its pixels in columns: pixel0, pixel1 …, or 1x1, 1x2 …"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kaggle_kit import files
from kaggle_kit.competition.containers.base import MOST, Container, Item, Options, opened, shape_of, value_range

_PIXEL = re.compile(r"(?:(?P<start>pix(?:el)?s?|px|p|v|x)?[ _.-]?\d+|\d+x\d+)", re.IGNORECASE)
_LEAST = 64
_SHARE = 0.8
"""Pixels are at least this share of the columns; else they are numbers beside images."""
_BLOCK = 1 << 22


def _columns(path: Path) -> tuple[list[str], list[int]]:
    """The header, and the places in it of pixels."""
    with opened(path) as handle:
        line = io.TextIOWrapper(handle, encoding="utf-8-sig", errors="replace", newline="").readline(1 << 24)
    header = next(csv.reader([line]), [])
    return header, [at for at, name in enumerate(header) if _PIXEL.fullmatch(name.strip())]


def _recognise(path: Path) -> Options | None:
    header, pixels = _columns(path)
    if len(pixels) < max(_LEAST, _SHARE * len(header)):
        return None
    rows = []
    for block, _ in _blocks(path, 1 << 20):
        rows.append(block[:, pixels])
        break
    shape = shape_of(rows[0]) if rows else None
    if shape is None:
        return None
    return {"shape": shape, **value_range(block[:, pixels] for block, _ in _blocks(path))}


def _blocks(path: Path, size: int = _BLOCK) -> Iterator[tuple[np.ndarray, list[list[str]]]]:
    """Rows as numbers, (N, columns), and the text of the columns that are not numbers, block by block."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    header, pixels = _columns(path)
    wanted = set(pixels)
    kinds = {name: pa.string() for at, name in enumerate(header) if at not in wanted}
    with files.open_for_arrow(path, most=MOST) as file:
        reader = arrow.open_csv(
            file,
            read_options=arrow.ReadOptions(block_size=max(size, 64 * len(header)), column_names=header, skip_rows=1),
            convert_options=arrow.ConvertOptions(column_types=kinds, strings_can_be_null=False),
        )
        for batch in reader:
            numbers = np.zeros((batch.num_rows, len(header)), np.float32)
            for at in pixels:
                numbers[:, at] = batch.column(at).to_numpy(zero_copy_only=False)
            yield numbers, [batch.column(at).to_pylist() for at in range(len(header)) if at not in wanted]


def _read(path: Path, options: Options) -> Iterator[Item]:
    header, pixels = _columns(path)
    wanted = set(pixels)
    others = [name for at, name in enumerate(header) if at not in wanted]
    shape = tuple(options["shape"])
    number = int(options.get("first", 1))
    for block, texts in _blocks(path):
        pictures = block[:, pixels].reshape(-1, *shape)
        if options.get("low") is None:
            pictures = pictures.astype(np.uint8)
        for row, picture in enumerate(pictures):
            cells = {name: texts[at][row] for at, name in enumerate(others)}
            yield Item(str(number), picture, cells)
            number += 1


PIXEL_TABLE = Container((".csv",), _recognise, _read)

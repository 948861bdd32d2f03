"""A list of objects in JSON, each with its pictures as lists of numbers, a list a channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_kit.competition.containers.base import Array, Container, Item, Options, needs, opened, shape_of, text, value_range

_LEAST = 64
_HEAD = 65_536


def _recognise(path: Path) -> Options | None:
    with opened(path) as handle:
        head = handle.read(_HEAD).lstrip()
    if not head.startswith(b"[") or not head[1:].lstrip().startswith(b"{"):
        return None
    row = next(_objects(path), None)
    if not isinstance(row, Mapping):
        return None
    channels = [key for key, value in row.items() if _is_picture(value)]
    if not channels:
        return None
    rows = []
    for one in _objects(path):
        rows.append(_stack(one, channels))
        if len(rows) == 32:
            break
    flat = np.stack([pixels[0].ravel() for pixels in rows])
    shape = rows[0].shape[1:] if rows[0].ndim == 3 else (shape_of(flat) or (0, 0, 0))[:2]
    if not all(shape):
        return None
    options: Options = {"channels": channels, "shape": (*shape, len(channels))}
    ids = [key for key, value in row.items() if key.lower() in ("id", "image_id", "image", "name") and not _is_picture(value)]
    return options | ({"id": ids[0]} if ids else {}) | value_range(_stack(one, channels) for one in _objects(path))


def _objects(path: Path) -> Iterator[Mapping[str, Any]]:
    """The objects of the list, one after the other."""
    ijson = needs("ijson", "ijson")
    with opened(path) as handle:
        try:
            yield from ijson.items(handle, "item", use_float=True)
        except ijson.JSONError:
            return


def _is_picture(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    if isinstance(value[0], list):
        return len(value) * len(value[0]) >= _LEAST
    return len(value) >= _LEAST and all(isinstance(one, int | float) for one in value)


def _stack(row: Mapping[str, Any], channels: list[str]) -> Array:
    """(C, L) or (C, H, W)."""
    return np.stack([np.asarray(row[channel], dtype=np.float32) for channel in channels])


def _read(path: Path, options: Options) -> Iterator[Item]:
    channels, shape = list(options["channels"]), tuple(options["shape"])
    for number, row in enumerate(_objects(path), int(options.get("first", 1))):
        cells = {key: text(value) for key, value in row.items() if not isinstance(value, list | dict)}
        pixels = _stack(row, channels).reshape(len(channels), *shape[:2]).transpose(1, 2, 0)
        name = cells.get(str(options.get("id", "")), "") or str(number)
        yield Item(name, pixels, cells)


JSON_ARRAYS = Container((".json",), _recognise, _read)

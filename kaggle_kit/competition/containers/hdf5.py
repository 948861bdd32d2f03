"""HDF5: an array of pictures, or a dataset a picture that holds the bytes of an image file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_kit.competition.containers.base import (
    Container,
    Item,
    Options,
    by_part,
    channels_last,
    ids_of,
    is_picture,
    needs,
    opened,
    part_of,
    text,
    value_range,
)

_ROWS = 256


def _datasets(handle: Any) -> dict[str, Any]:
    """Name -> dataset, of all groups; links into other files are not followed."""
    h5py = needs("h5py", "h5py")
    found: dict[str, Any] = {}
    pending = [("", handle)]
    while pending:
        start, group = pending.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
                continue
            value = group[name]
            if isinstance(value, h5py.Dataset):
                if not value.external:
                    found[f"{start}{name}"] = value
            else:
                pending.append((f"{start}{name}/", value))
    return dict(sorted(found.items()))


def _recognise(path: Path) -> Options | None:
    h5py = needs("h5py", "h5py")
    try:
        with opened(path) as raw, h5py.File(raw, "r") as handle:
            found = _datasets(handle)
            if found and is_picture(_bytes_of(next(iter(found.values())))):
                return {"each": True, "count": len(found)}
            arrays = by_part([name for name, data in found.items() if _is_pictures(data)])
            if arrays is None:
                return None
            parts = {part: _about(found, name, part) for part, name in arrays.items()}
            return parts[""] if list(parts) == [""] else {"parts": parts}
    except OSError:
        return None


def _about(found: Mapping[str, Any], array: str, part: str) -> Options:
    """What is known of an array of pictures: how many, and the datasets with a value for each, of its part of the data."""
    data = found[array]
    columns = [name for name, other in found.items() if other.shape in ((len(data),), (len(data), 1)) and name != array]
    options: Options = {
        "array": array,
        "count": len(data),
        "columns": {name: name for name in columns if part in ("", part_of(name))},
    }
    return options | (value_range(_blocks(data)) if data.ndim > 1 else {})


def _is_pictures(data: Any) -> bool:
    if data.dtype.kind in "biuf":
        three = data.ndim == 3 and min(data.shape[1:]) >= 8
        return bool(len(data.shape)) and (three or (data.ndim == 4 and channels_last(data.shape[1:]) is not None))
    return data.ndim == 1 and len(data) > 0 and is_picture(_as_bytes(data[0]))


def _bytes_of(data: Any) -> bytes:
    """The content of a dataset that holds one file: a scalar of bytes, or a row of them."""
    if data.dtype.kind == "u" and data.ndim == 1 and data.dtype.itemsize == 1:
        return bytes(data[()].tobytes())
    return _as_bytes(data[()]) if data.shape == () else b""


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, np.ndarray | np.void):
        return bytes(value.tobytes())
    return value if isinstance(value, bytes) else b""


def _blocks(data: Any) -> Iterator[np.ndarray]:
    for start in range(0, len(data), _ROWS):
        yield data[start : start + _ROWS]


def _read(path: Path, options: Options) -> Iterator[Item]:
    h5py = needs("h5py", "h5py")
    with opened(path) as raw, h5py.File(raw, "r") as handle:
        found = _datasets(handle)
        if options.get("each"):
            for name, data in found.items():
                yield Item(name, _bytes_of(data))
            return
        columns = {name.rpartition("/")[2]: _column(found[file]) for name, file in dict(options.get("columns", {})).items()}
        ids = ids_of(columns)
        at, start = 0, int(options.get("first", 1))
        for block in _blocks(found[str(options["array"])]):
            if block.ndim == 4 and not channels_last(block.shape[1:]):
                block = block.transpose(0, 2, 3, 1)
            for picture in block:
                content = picture if block.ndim > 1 else _as_bytes(picture)
                cells = {name: values[at] for name, values in columns.items()}
                yield Item(ids[at] if ids else str(at + start), content, cells)
                at += 1


def _column(data: Any) -> list[str]:
    return [text(value) for value in np.asarray(data[()]).reshape(-1).tolist()]


HDF5 = Container((".h5", ".hdf5", ".hdf"), _recognise, _read)

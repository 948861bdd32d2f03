"""NumPy's own files: an array of pictures, (N, H, W), (N, H, W, C), (N, C, H, W) or (N, pixels). Nothing is unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from kaggle_kit.competition.containers.base import (
    Array,
    Container,
    Item,
    Options,
    by_part,
    channels_last,
    ids_of,
    opened,
    part_of,
    shape_of,
    text,
    value_range,
)
from kaggle_kit.errors import DataError

_BLOCK = 1 << 24  # bytes read at a time
_LEAST = 64


def _header(handle: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and kind of an array; raises ValueError for what is none, or would need pickle."""
    version = np.lib.format.read_magic(handle)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, kind = read(handle)
    if kind.hasobject or (fortran and len(shape) > 1):
        raise ValueError("an array of objects or in Fortran's order")
    return tuple(shape), kind


def _blocks(handle: IO[bytes]) -> Iterator[Array]:
    """The rows of an array, some at a time."""
    shape, kind = _header(handle)
    size = int(np.prod(shape[1:], dtype=np.int64)) * kind.itemsize
    at_once = max(_BLOCK // max(size, 1), 1)
    for start in range(0, shape[0], at_once):
        count = min(at_once, shape[0] - start)
        content = handle.read(count * size)
        if len(content) < count * size:
            raise DataError("an array is cut off; copy the file again.")
        yield np.frombuffer(content, kind).reshape(count, *shape[1:])


def members(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Name -> shape and kind of each array of a file; of a .npy the only one is called ""."""
    try:
        if path.suffix.lower() == ".npy":
            with opened(path) as handle:
                return {"": _header(handle)}
        with opened(path) as handle, zipfile.ZipFile(handle) as archive:
            found = {}
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as inner:
                        found[name.removesuffix(".npy")] = _header(inner)
            return found
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, NotImplementedError):
        return {}


def rows_of(path: Path, name: str) -> Iterator[Array]:
    """Yield the rows of one array of a file, some at a time."""
    with opened(path) as handle:
        if path.suffix.lower() == ".npy":
            yield from _blocks(handle)
        else:
            with zipfile.ZipFile(handle) as archive, archive.open(f"{name}.npy") as inner:
                yield from _blocks(inner)


def _is_pictures(shape: tuple[int, ...], kind: np.dtype[Any]) -> bool:
    if kind.kind not in "biuf" or not shape or not shape[0]:
        return False
    flat = len(shape) == 2 and shape[1] >= _LEAST
    return flat or (len(shape) == 3 and min(shape[1:]) >= 8) or (len(shape) == 4 and channels_last(shape[1:]) is not None)


def _recognise(path: Path) -> Options | None:
    found = members(path)
    arrays = by_part([name for name, about in found.items() if _is_pictures(*about)])
    if arrays is None:
        return None
    parts = {part: _about(path, found, name, part) for part, name in arrays.items()}
    if any(about is None for about in parts.values()):
        return None
    return parts[""] if list(parts) == [""] else {"parts": parts}


def _about(path: Path, found: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]], name: str, part: str) -> Options | None:
    """What is known of an array of pictures, and which arrays have a value for each; None where its rows are no pictures."""
    shape = found[name][0]
    options: Options = {"array": name, "count": shape[0]}
    if len(shape) == 2:
        flat = shape_of(next(rows_of(path, name)))
        if flat is None:
            return None
        options["shape"] = flat
    columns = {other: path.name for other, about in found.items() if other != name and about[0] == (shape[0],)}
    columns = {other: file for other, file in columns.items() if not part or part_of(other) == part}
    columns |= {} if part else _beside(path, shape[0])
    if columns:
        options["columns"] = columns
    return options | value_range(rows_of(path, name))


def _beside(path: Path, count: int) -> dict[str, str]:
    """Label arrays in files of their own: the only other file here with one value for each picture, of the same part."""
    part = part_of(path.name)
    found = {}
    for other in sorted(path.parent.iterdir()):
        if other != path and other.suffix.lower() in (".npy", ".npz") and other.is_file() and part_of(other.name) == part:
            arrays = [name for name, about in members(other).items() if about[0] in ((count,), (count, 1))]
            if len(arrays) == 1:
                found["label"] = other.name
    return found


def _read(path: Path, options: Options) -> Iterator[Item]:
    columns = {name: _column(path, name, file) for name, file in dict(options.get("columns", {})).items()}
    ids = ids_of(columns)
    start = int(options.get("first", 1))
    at = 0
    for block in rows_of(path, str(options["array"])):
        if "shape" in options:
            block = block.reshape(len(block), *options["shape"])
        elif block.ndim == 4 and not channels_last(block.shape[1:]):
            block = block.transpose(0, 2, 3, 1)
        for picture in block:
            yield Item(ids[at] if ids else str(at + start), picture, {name: cells[at] for name, cells in columns.items()})
            at += 1


def _column(path: Path, name: str, file: str) -> list[str]:
    """One value for each picture, as text; of the same file or one beside it."""
    source = path.parent / Path(file).name
    array = name if source == path else next(iter(members(source)), "")
    return [text(value) for block in rows_of(source, array) for value in block.reshape(len(block)).tolist()]


ARRAYS = Container((".npy", ".npz"), _recognise, _read)

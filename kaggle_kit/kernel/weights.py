"""Copying model files without torch: their header is cleaned of local paths, and tensors may be stored in 16 bits."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import files
from kaggle_kit.errors import DataError, MissingFileError

_KEY = "kaggle_kit"
_LONGEST_HEADER = 100_000_000
_ABSOLUTE = re.compile(r"^(/|~|\\\\|[A-Za-z]:[\\/])")


def copy_model(source: Path, target: Path, *, half: bool = False) -> str:
    """Copy a model file of kaggle_kit; returns the sha256 of the copy.

    Absolute paths in the configuration that travels in the header become file names.

    Args:
        half: store matrices and kernels in float16, half the size. Vectors (biases, statistics of batch norm) and tensors with
            values that float16 cannot hold stay as they are.

    Raises:
        MissingFileError, DataError: there is no such file, or it is damaged.
    """
    if not source.is_file():
        raise MissingFileError(f"{source} does not exist. Run `kk train` again.")
    header, data = _read(source)
    about = dict(header.pop("__metadata__"))
    own = json.loads(about[_KEY])
    own["config"] = without_paths(own.get("config", {}))
    about[_KEY] = json.dumps(own, ensure_ascii=False)
    parts: list[npt.NDArray[Any]] = []
    entries: dict[str, Any] = {"__metadata__": about}
    offset = 0
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        kind, values = (_halved if half else _as_is)(entry, data[start:end])
        entries[name] = {"dtype": kind, "shape": entry["shape"], "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
        parts.append(values)
    text = json.dumps(entries, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    with files.atomic_path(target) as temporary, open(temporary, "wb") as handle:
        handle.write(len(text).to_bytes(8, "little"))
        handle.write(text)
        for part in parts:
            handle.write(part.tobytes())
    return files.file_fingerprint(target)


def without_paths(values: Any) -> Any:
    """Plain values in which every absolute path is only its last part: where files lay at home is nobody's business."""
    if isinstance(values, Mapping):
        return {key: without_paths(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [without_paths(value) for value in values]
    if isinstance(values, str) and _ABSOLUTE.match(values):
        return re.split(r"[\\/]", values.rstrip("\\/"))[-1]
    return values


def _read(path: Path) -> tuple[dict[str, Any], npt.NDArray[np.uint8]]:
    """Header and bytes of a safetensors file; the bytes are mapped, not read."""
    try:
        with open(path, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if not 2 <= length <= _LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(handle.read(length))
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
        last = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        if last != len(data):
            raise ValueError(f"{len(data):,} bytes of tensors instead of {last:,}")
        json.loads(header["__metadata__"][_KEY])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(f"{path} is no model file of kaggle_kit, or it is damaged ({error}). Train the fold again.") from error
    return header, data


def _as_is(entry: Mapping[str, Any], data: npt.NDArray[np.uint8]) -> tuple[str, npt.NDArray[Any]]:
    return str(entry["dtype"]), data


def _halved(entry: Mapping[str, Any], data: npt.NDArray[np.uint8]) -> tuple[str, npt.NDArray[Any]]:
    """float32 matrices as float16, unless a value would become infinite."""
    if entry["dtype"] != "F32" or len(entry["shape"]) < 2:
        return _as_is(entry, data)
    values = np.frombuffer(data.tobytes(), dtype="<f4")
    if values.size and np.abs(values).max() > np.finfo(np.float16).max:
        return _as_is(entry, data)
    return "F16", values.astype("<f2")

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
from kaggle_kit.runs.model_header import KEY, read_safetensors_header, record_in

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
    header = read_safetensors_header(source)
    own, about = record_in(header, source), dict(header.metadata)
    data = np.memmap(source, dtype=np.uint8, mode="r", offset=header.data_start)
    own["config"] = without_paths(own.get("config", {}))
    about[KEY] = json.dumps(own, ensure_ascii=False)
    parts: list[npt.NDArray[Any]] = []
    entries: dict[str, Any] = {"__metadata__": about}
    offset = 0
    for name, entry in header.tensors.items():
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

"""What a model file says about itself, read without torch and without its tensors: the one reader of safetensors headers.

A safetensors file is the length of its header (8 bytes, little-endian), the header as JSON, and the tensors' bytes. Models of
kaggle_kit keep a record of their own in the header's metadata.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_kit import files
from kaggle_kit.errors import DataError

KEY = "kaggle_kit"
"""Entry of the header's metadata that holds our record as JSON."""
_LONGEST = 100_000_000
_MODEL, _TRAIN = "is no model file of kaggle_kit", "Train it again with `kk train`."


@dataclass(frozen=True)
class SafetensorsHeader:
    """A header.

    Attributes:
        tensors: name -> dtype, shape and data_offsets, the first and last byte after ``data_start``.
        metadata: text by name.
        data_start: byte at which the tensors begin.
    """

    tensors: dict[str, dict[str, Any]]
    metadata: dict[str, str]
    data_start: int


def read_safetensors_header(path: Path) -> SafetensorsHeader:
    """Read the header of a safetensors file.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is no such file, or bytes are missing or too many.
    """
    path = Path(path)
    with files.parsing(path, fault=_MODEL, remedy=_TRAIN), files.open_regular(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        length = int.from_bytes(handle.read(8), "little")
        if not 2 <= length <= min(_LONGEST, size - 8):
            raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
        tensors = json.loads(handle.read(length))
        metadata = tensors.pop("__metadata__", {})
        last = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        if size != 8 + length + last:
            raise ValueError(f"{size:,} bytes instead of {8 + length + last:,}")
        if not all(isinstance(text, str) for text in metadata.values()):
            raise TypeError("metadata that is not text")
    return SafetensorsHeader(tensors, metadata, 8 + length)


def read_model_record(path: Path) -> dict[str, Any]:
    """Return what :func:`~kaggle_kit.models.save_model` wrote into the header: classes, architecture, origin, versions.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is damaged, or it is no model of this package.
    """
    return record_in(read_safetensors_header(path), path)


def record_in(header: SafetensorsHeader, path: Path) -> dict[str, Any]:
    """Return the record of kaggle_kit in a header; ``path`` serves the message.

    Raises:
        DataError: there is none, or it is damaged.
    """
    with files.parsing(path, fault=_MODEL, remedy=_TRAIN):
        record = json.loads(header.metadata[KEY])
    if not isinstance(record, dict):
        raise DataError(f"{path} is no model file of kaggle_kit: its record is no table. Train it again.")
    return record

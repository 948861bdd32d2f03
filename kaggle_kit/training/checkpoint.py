"""Checkpoints without pickle: nested state in one safetensors file, written whole, with the one before it kept.

Tensors lie in the file as safetensors, everything else as JSON in its metadata, together with a sha256 over the tensors' bytes,
so that a file that a crash cut short or filled with zeros is told from a good one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kaggle_kit import files
from kaggle_kit.errors import DataError, MissingFileError, StorageError
from kaggle_kit.runs import BEST, LAST

logger = logging.getLogger(__name__)

PREVIOUS = "previous.ckpt"
_FORMAT = "kaggle_kit checkpoint 1"
_PLAIN = (str, int, float, bool, type(None))


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> int:
    """Write ``state``, a nest of dicts, lists and tuples over tensors and JSON scalars; returns the bytes written.

    Raises:
        StorageError: the file cannot be written; names the path and the bytes wanted. What stood there before stays.
        TypeError: ``state`` holds something else.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _flatten(state, tensors)
    metadata = {"format": _FORMAT, "skeleton": json.dumps(skeleton), "sha256": _digest(tensors)}
    wanted = sum(tensor.nbytes for tensor in tensors.values()) + sum(map(len, metadata.values()))
    try:
        with files.atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata)
    except (SafetensorError, OSError) as error:  # safetensors wraps the system's error in its own
        raise StorageError(
            f"cannot write the checkpoint {path}: {wanted:,} bytes wanted; {str(error).rstrip('.')}. "
            "The checkpoint before it is kept. Free space and run the same command again to go on from it."
        ) from error
    return wanted


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote; tensors on the CPU.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is damaged, cut short or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged or no checkpoint ({error}).") from error
    if metadata.get("format") != _FORMAT:
        raise DataError(f"{path} is no checkpoint of this version: expected {_FORMAT!r}, found {metadata.get('format')!r}.")
    if metadata.get("sha256") != _digest(tensors):
        raise DataError(f"{path} is damaged: its content is not what was written.")
    state = _restore(json.loads(metadata["skeleton"]), tensors)
    if not isinstance(state, dict):
        raise DataError(f"{path} should hold a mapping, found {type(state).__name__}.")
    return state


def save_rotating(folder: Path, state: Mapping[str, Any]) -> None:
    """Write ``last.ckpt`` and keep the one before as ``previous.ckpt``; at any moment one of the two is whole.

    Raises:
        StorageError: the file cannot be written; both checkpoints stay as they were.
    """
    last, fresh = folder / LAST, folder / f"next-{LAST}"
    save_checkpoint(fresh, state)
    with contextlib.suppress(FileNotFoundError):
        os.replace(last, folder / PREVIOUS)
    os.replace(fresh, last)


def load_latest(folder: Path) -> dict[str, Any] | None:
    """The newest good checkpoint of a fold, or None when there is none; a damaged one is reported and passed over."""
    # A kill between the two renames of save_rotating leaves the newest one under its first name.
    for name in (f"next-{LAST}", LAST, PREVIOUS):
        try:
            return load_checkpoint(folder / name)
        except MissingFileError:
            continue
        except DataError as error:
            logger.warning("%s Going back to the checkpoint before it.", error)
    return None


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a fold that is finished."""
    for name in (f"next-{LAST}", LAST, PREVIOUS, BEST):
        (folder / name).unlink(missing_ok=True)


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A JSON form of ``value``, in which tensors are names of entries added to ``tensors``."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # A copy where memory is shared or strided: safetensors stores every tensor on its own, in row order.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str | int) and not isinstance(key, bool) for key in value):
            raise TypeError(f"keys of a checkpoint must be str or int, got {list(value)[:5]}.")
        return {"dict": [[key, _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list" if isinstance(value, list) else "tuple": [_flatten(item, tensors) for item in value]}
    if type(value) in _PLAIN:
        return {"value": value}
    raise TypeError(f"a checkpoint holds tensors and JSON scalars, got {type(value).__name__}.")


def _restore(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _restore(item, tensors) for key, item in content}
    if kind in ("list", "tuple"):
        items = [_restore(item, tensors) for item in content]
        return items if kind == "list" else tuple(items)
    return content


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors, key=int):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

"""Checkpoints without pickle: nested state in one safetensors file, written whole, with the one before it kept.

Tensors lie in the file as safetensors, everything else as JSON in its metadata, together with a sha256 over the tensors' bytes,
so that a file that a crash cut short or filled with zeros is told from a good one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kaggle_kit import files
from kaggle_kit.errors import DataError, MissingFileError, StorageError
from kaggle_kit.runs import BEST, LAST
from kaggle_kit.runs.history import EpochRow
from kaggle_kit.training.learner import Learner

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
        with files.open_regular(path), safe_open(path, framework="pt") as file:
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


@dataclass
class LoopState:
    """How far training is.

    Attributes:
        epoch: the one in work, from 1; beyond the last when all are done.
        batch: its batches that are done, those that were skipped included.
        updates: optimizer steps since the beginning.
        stage: the one in work, from 1; ``first_epoch`` and ``first_update`` are what was done before it.
        loss_sum: () float64 (float32 where the device has none), sum over the epoch's images.
        right_sum: () of the same type, sum of the shares of the images' labels that were right.
        images, seconds: of the epoch so far.
        lr: learning rate of the last update.
        averaged: what was averaged in the end, in words.
        best_epoch, best_score, best_loss: of the epoch whose weights are kept; 0 and NaN before there is one.
    """

    loss_sum: Tensor
    right_sum: Tensor
    epoch: int = 1
    batch: int = 0
    updates: int = 0
    stage: int = 1
    first_epoch: int = 0
    first_update: int = 0
    images: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_score: float = math.nan
    best_loss: float = math.nan
    lr: float = math.nan
    averaged: str | None = None
    history: list[EpochRow] = field(default_factory=list)

    def count(self, loss: Tensor, right: Tensor, images: int, *, usable: bool) -> None:
        """Count a batch; ``loss`` () is its mean, ``right`` () the sum that :func:`~.losses.count_right` gives."""
        self.batch += 1
        if usable:
            self.loss_sum += loss.detach() * images
            self.right_sum += right
            self.images += images

    @property
    def stage_updates(self) -> int:
        """Optimizer steps of the stage in work."""
        return self.updates - self.first_update

    @property
    def stage_rows(self) -> list[EpochRow]:
        """The history of the stage in work."""
        return [row for row in self.history if row.stage == self.stage]

    def next_stage(self) -> None:
        """Begin the next stage where the last one has ended."""
        self.stage, self.first_epoch, self.first_update = self.stage + 1, self.epoch - 1, self.updates

    def next_epoch(self) -> None:
        """Begin the next epoch's counts."""
        self.epoch, self.batch, self.images, self.seconds = self.epoch + 1, 0, 0, 0.0
        self.loss_sum, self.right_sum = torch.zeros_like(self.loss_sum), torch.zeros_like(self.right_sum)

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {**vars(self), "history": [row.to_list() for row in self.history]}

    def restore(self, values: dict[str, Any]) -> None:
        """Undo :meth:`to_dict`."""
        device = self.loss_sum.device
        vars(self).update(values)
        self.loss_sum, self.right_sum = self.loss_sum.to(device), self.right_sum.to(device)
        self.history = [EpochRow.from_list(row) for row in values["history"]]


def new_state(device: torch.device) -> LoopState:
    """Before the first epoch."""
    zero = torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
    return LoopState(zero, zero.clone())


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one fold; only the first process writes.

    Attributes:
        folder: of the fold.
        inputs: fingerprint of all that the fold depends on; a checkpoint of other inputs is not gone on from.
    """

    folder: Path
    inputs: str

    def save(self, learner: Learner, state: LoopState) -> None:
        """Write ``last.ckpt``.

        Raises:
            StorageError: the file cannot be written; the checkpoint before it stays.
        """
        if learner.fabric.is_global_zero:
            save_rotating(self.folder, {"inputs": self.inputs, "loop": state.to_dict(), "learner": learner.to_dict()})
        learner.fabric.barrier()

    def restore(self, state: LoopState) -> dict[str, Any] | None:
        """Go on from the newest good checkpoint that was made from the same inputs.

        Returns:
            What :meth:`Learner.restore` takes once it is made for the stage of ``state``; None without a checkpoint.
        """
        saved = load_latest(self.folder)
        if saved is None:
            return None
        if saved.get("inputs") != self.inputs:
            logger.warning("%s holds a checkpoint made from other data or settings; this fold starts anew.", self.folder)
            return None
        state.restore(saved["loop"])
        _agree_with_best(self.folder, state)
        learner: dict[str, Any] = saved["learner"]
        return learner

    def save_best(self, learner: Learner, state: LoopState) -> None:
        """Write the evaluated weights as the best so far.

        Raises:
            StorageError: the file cannot be written; the best before it stays.
        """
        if learner.fabric.is_global_zero:
            weights = learner.evaluated.state_dict()
            best = {"epoch": state.best_epoch, "score": state.best_score, "loss": state.best_loss, "model": weights}
            save_checkpoint(self.folder / BEST, best)

    def load_best(self, model: nn.Module) -> int:
        """Put the best weights into ``model`` and return their epoch.

        Raises:
            DataError: there is no good ``best.ckpt``.
        """
        best = load_checkpoint(self.folder / BEST)
        model.load_state_dict(best["model"])
        return int(best["epoch"])

    def remove(self) -> None:
        """Remove them, when the fold is finished."""
        for path in (
            *(self.folder / name for name in (f"next-{LAST}", LAST, PREVIOUS, BEST)),
            *self.folder.glob("epoch*.ckpt"),
        ):
            path.unlink(missing_ok=True)


def _agree_with_best(folder: Path, state: LoopState) -> None:
    """Make ``state`` say what ``best.ckpt`` holds.

    The two can differ: a kill between the two writes leaves a best that is newer than the state, and training will come to
    that epoch again. A best that cannot be read is given up, so that a later epoch takes its place.
    """
    if state.best_epoch == 0 and not (folder / BEST).exists():
        return
    try:
        best = load_checkpoint(folder / BEST)
        state.best_epoch, state.best_score, state.best_loss = int(best["epoch"]), float(best["score"]), float(best["loss"])
    except (MissingFileError, DataError) as error:
        logger.warning("%s The best epoch is chosen from those that follow.", error)
        state.best_epoch, state.best_score, state.best_loss = 0, math.nan, math.nan

"""Everything that a training run changes as it goes, and how it comes into a checkpoint and back."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricOptimizer
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.images.loaders import Batch
from kaggle_kit.runs import BEST
from kaggle_kit.training.checkpoint import load_checkpoint, load_latest, save_checkpoint, save_rotating
from kaggle_kit.training.history import EpochRow
from kaggle_kit.training.schedules import restore_schedule, schedule_state

logger = logging.getLogger(__name__)


@dataclass
class LoopState:
    """How far training is.

    Attributes:
        epoch: the one in work, from 1; beyond the last when all are done.
        batch: its batches that are done, those that were skipped included.
        updates: optimizer steps since the beginning.
        loss_sum: () float64 (float32 where the device has none), sum over the epoch's images.
        images, seconds: of the epoch so far.
        skipped: batches of the epoch whose loss was not finite.
        lr: learning rate of the last update.
        best_epoch, best_score, best_loss: of the epoch whose weights are kept; 0 and NaN before there is one.
    """

    loss_sum: Tensor
    epoch: int = 1
    batch: int = 0
    updates: int = 0
    images: int = 0
    seconds: float = 0.0
    skipped: int = 0
    best_epoch: int = 0
    best_score: float = math.nan
    best_loss: float = math.nan
    lr: float = math.nan
    history: list[EpochRow] = field(default_factory=list)

    def count(self, loss: Tensor, images: int, *, usable: bool) -> None:
        """Count a batch; ``loss`` () is its mean."""
        self.batch += 1
        if usable:
            self.loss_sum += loss.detach() * images
            self.images += images
        else:
            self.skipped += 1

    def next_epoch(self) -> None:
        """Begin the next epoch's counts."""
        self.epoch, self.batch, self.images, self.seconds, self.skipped = self.epoch + 1, 0, 0, 0.0, 0
        self.loss_sum = torch.zeros_like(self.loss_sum)

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {**vars(self), "history": [row.to_list() for row in self.history]}

    def restore(self, values: dict[str, Any]) -> None:
        """Undo :meth:`to_dict`."""
        device = self.loss_sum.device
        vars(self).update(values)
        self.loss_sum = self.loss_sum.to(device)
        self.history = [EpochRow.from_list(row) for row in values["history"]]


def new_state(device: torch.device) -> LoopState:
    """Before the first epoch."""
    return LoopState(torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device))


@dataclass
class Learner:
    """A model and all that trains it.

    Attributes:
        model: what computes gradients: ``plain``, compiled and wrapped by Fabric.
        plain: the timm model inside, whose weights are saved.
        ema: the averaged copy, which is validated and kept instead, or None.
    """

    fabric: Fabric
    model: nn.Module
    plain: nn.Module
    optimizer: _FabricOptimizer
    schedule: Scheduler
    loss: nn.Module
    ema: ModelEmaV3 | None = None

    def targets(self, batch: Batch) -> Tensor:
        """The targets of a training batch on the device, (B,) or (B, C).

        Raises:
            DataError: the loader was made without targets.
        """
        if batch.targets is None:
            raise DataError("training batches need targets; give them to the dataset.")
        return batch.targets.to(self.fabric.device, non_blocking=True)

    @property
    def evaluated(self) -> nn.Module:
        """The model that is validated, and whose weights are kept."""
        return self.plain if self.ema is None else self.ema.module

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "model": self.plain.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": _inner(self.optimizer).state_dict(),
            "schedule": schedule_state(self.schedule),
            "precision": dict(self.fabric.strategy.precision.state_dict()),
        }

    def restore(self, values: dict[str, Any]) -> None:
        """Undo :meth:`to_dict`."""
        self.plain.load_state_dict(values["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(values["ema"])
        optimizer = _inner(self.optimizer)
        optimizer.load_state_dict(values["optimizer"])
        _match_layout(optimizer)
        restore_schedule(self.schedule, values["schedule"])
        if values["precision"]:
            self.fabric.strategy.precision.load_state_dict(values["precision"])


def save_state(folder: Path, learner: Learner, state: LoopState, inputs: str) -> None:
    """Write ``last.ckpt``; ``inputs`` is the fingerprint of all that the fold depends on. Only the first process writes.

    Raises:
        StorageError: the file cannot be written; the checkpoint before it stays.
    """
    if learner.fabric.is_global_zero:
        save_rotating(folder, {"inputs": inputs, "loop": state.to_dict(), "learner": learner.to_dict()})
    learner.fabric.barrier()


def restore_state(folder: Path, learner: Learner, state: LoopState, inputs: str) -> bool:
    """Go on from the newest good checkpoint of ``folder``, if it was made from the same ``inputs``.

    Returns whether there was one.
    """
    saved = load_latest(folder)
    if saved is None:
        return False
    if saved.get("inputs") != inputs:
        logger.warning("%s holds a checkpoint made from other data or settings; this fold starts anew.", folder)
        return False
    learner.restore(saved["learner"])
    state.restore(saved["loop"])
    _agree_with_best(folder, state)
    return True


def save_best(folder: Path, learner: Learner, state: LoopState) -> None:
    """Write the evaluated weights as the best so far. Only the first process writes.

    Raises:
        StorageError: the file cannot be written; the best before it stays.
    """
    if learner.fabric.is_global_zero:
        weights = learner.evaluated.state_dict()
        best = {"epoch": state.best_epoch, "score": state.best_score, "loss": state.best_loss, "model": weights}
        save_checkpoint(folder / BEST, best)


def load_best(folder: Path, model: nn.Module) -> int:
    """Put the best weights into ``model`` and return their epoch.

    Raises:
        DataError: there is no good ``best.ckpt``.
    """
    best = load_checkpoint(folder / BEST)
    model.load_state_dict(best["model"])
    return int(best["epoch"])


def _agree_with_best(folder: Path, state: LoopState) -> None:
    """Make ``state`` say what ``best.ckpt`` holds.

    The two can differ: a kill between the two writes leaves a best that is newer than the state, and training will come to
    that epoch again. A best that cannot be read is given up, so that a later epoch takes its place.
    """
    if state.best_epoch == 0:
        return
    try:
        best = load_checkpoint(folder / BEST)
        state.best_epoch, state.best_score, state.best_loss = int(best["epoch"]), float(best["score"]), float(best["loss"])
    except (MissingFileError, DataError) as error:
        logger.warning("%s The best epoch is chosen from those that follow.", error)
        state.best_epoch, state.best_score, state.best_loss = 0, math.nan, math.nan


def _inner(optimizer: _FabricOptimizer) -> Optimizer:
    inner: Optimizer = optimizer.optimizer
    return inner


def _match_layout(optimizer: Optimizer) -> None:
    """Give the optimizer's moments the memory layout of their parameters.

    A file holds tensors in row order; fused kernels walk parameter and moments in parallel through memory, and with another
    layout would pair the wrong elements.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def mean_loss(learner: Learner, state: LoopState) -> float:
    """Mean training loss over the epoch's images so far, of all processes."""
    total, images = state.loss_sum, float(state.images)
    if learner.fabric.world_size > 1:
        total = learner.fabric.all_reduce(total.clone(), reduce_op="sum")
        images *= learner.fabric.world_size
    return float(total) / images if images else math.nan


def derive_seed(*parts: int) -> int:
    """A seed below 2**63 from several numbers, such as (run seed, fold, epoch, batch), well mixed."""
    # The length in front: SeedSequence takes trailing zeros for nothing.
    entropy = [len(parts), *(part & 0xFFFFFFFFFFFFFFFF for part in parts)]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)

"""The training loop, to be read from top to bottom: fit, an epoch, a step, an update, a validation.

A run that was killed and goes on gives the numbers of one that was not. For that, all that chance decides in a step (dropout,
drop path, mixing) is drawn from (seed, fold, epoch, batch), augmentation from (seed, epoch, row), and everything else lies in
the checkpoint. On a CPU in float32 the result is the same bit for bit; a GPU adds the order of its sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from kaggle_kit.config import RunConfig
from kaggle_kit.images.device_augment import DeviceTransform
from kaggle_kit.images.loaders import Batch, TrainLoader
from kaggle_kit.images.mixing import make_mixer
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.engines import memory_errors
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.metrics import METRICS, Metric
from kaggle_kit.models import set_train_mode
from kaggle_kit.runs import HISTORY
from kaggle_kit.training.guard import LossGuard, require_finite
from kaggle_kit.training.history import EpochRow, should_stop, write_history
from kaggle_kit.training.optimizers import current_lr
from kaggle_kit.training.pulse import Pulse, Watch
from kaggle_kit.training.state import Learner, LoopState, derive_seed, mean_loss, save_best, save_state
from kaggle_kit.training.stopping import StopRequested


@dataclass(frozen=True)
class FoldData:
    """What a fold is trained and validated on.

    Attributes:
        loader: training batches of this process.
        ids: id of each training row, to name a batch by.
        predict: the evaluated model to probabilities (N, C) of the validation rows.
        truth: (N,) class positions or (N, C) 0/1 of the validation rows.
        augment: what augments the loader's batches on the device; None: they come augmented.
    """

    fold: int
    loader: TrainLoader
    ids: Sequence[str]
    spec: ImageSpec
    n_classes: int
    predict: Callable[[nn.Module], npt.NDArray[np.float32]]
    truth: npt.NDArray[Any]
    metric: Metric
    augment: DeviceTransform | None = None

    def pixels(self, batch: Batch, device: torch.device) -> torch.Tensor:
        """The augmented images of a training batch, (B, 3, H, W) in 0..255, uint8 or float."""
        if self.augment is None or batch.moves is None:
            return batch.images
        return self.augment.apply(batch.images, batch.moves, device)


def fit(learner: Learner, data: FoldData, config: RunConfig, state: LoopState, watch: Watch) -> None:
    """Train from where ``state`` is until the last epoch or early stopping; ``learner`` and ``state`` change as it goes.

    Raises:
        StopRequested: ``watch.stop`` asked for it; the checkpoint is written.
        TrainingError: the loss is not finite; names the rows of the batch.
        DeviceMemoryError: the accelerator's memory is too small.
    """
    try:
        if not state.history:
            validate(learner, data, config, state, watch, epoch=0)
        while state.epoch <= config.schedule.epochs and not should_stop(state.history, data.metric, config.early_stopping):
            train_epoch(learner, data, config, state, watch)
            validate(learner, data, config, state, watch, epoch=state.epoch)
    except StopRequested:
        save_state(watch.folder, learner, state, watch.inputs)
        raise


def train_epoch(learner: Learner, data: FoldData, config: RunConfig, state: LoopState, watch: Watch) -> None:
    """Train on those batches of the epoch that are not done yet.

    Between updates nothing is saved and nobody stops, so that a checkpoint never needs half-summed gradients.
    """
    set_train_mode(learner.model, config.model)
    learner.optimizer.zero_grad(set_to_none=True)
    guard = LossGuard(config.nan, data.ids, learner.fabric)
    pulse = Pulse(learner, data.loader, config, state, watch)
    for batch in data.loader.batches(state.epoch, start=state.batch):
        complete = train_step(learner, batch, data, config, state, guard)
        if not complete:
            continue
        update(learner, config, state, guard)
        if pulse.due():
            guard.check(state.epoch)
            pulse.report()
            pulse.stop_if_asked()
            if pulse.save_due():
                save_state(watch.folder, learner, state, watch.inputs)
                pulse.saved()


def train_step(learner: Learner, batch: Batch, data: FoldData, config: RunConfig, state: LoopState, guard: LossGuard) -> bool:
    """Add one batch's gradients; returns whether that completes the ``accumulate`` batches of an update."""
    fabric, accumulate = learner.fabric, config.optimizer.accumulate
    first = state.batch - state.batch % accumulate
    group = min(accumulate, len(data.loader) - first)  # fewer at the end of an epoch
    complete = state.batch + 1 == first + group
    seed = derive_seed(config.seed, data.fold, state.epoch, state.batch, fabric.global_rank)
    torch.manual_seed(seed)  # dropout and drop path know no other generator; train_fold gives the caller's state back
    pixels = data.pixels(batch, fabric.device)
    images = to_input(pixels, data.spec, fabric.device, channels_last=config.model.channels_last)  # (B, 3, H, W)
    targets = learner.targets(batch)  # (B,) or (B, C)
    mixer = make_mixer(config.augment, epoch=state.epoch - 1, epochs=config.schedule.epochs)
    if mixer is not None:
        rng = np.random.default_rng(seed)
        images, targets = mixer(images, targets, n_classes=data.n_classes, rng=rng)  # targets (B, C)
    with memory_errors(), fabric.no_backward_sync(learner.model, enabled=not complete):
        loss = learner.loss(learner.model(images), targets)  # ()
        usable = guard.usable(loss, batch.rows, state.batch)
        if usable:
            fabric.backward(loss / group)
    state.count(loss, len(batch.rows), usable=usable)
    return complete


def update(learner: Learner, config: RunConfig, state: LoopState, guard: LossGuard) -> None:
    """One optimizer step, with the gradients clipped, and what goes with it."""
    fabric, settings, optimizer = learner.fabric, config.optimizer, learner.optimizer
    if settings.clip_value is not None:
        fabric.clip_gradients(learner.model, optimizer, clip_val=settings.clip_value)
    if settings.clip_norm is not None and settings.clip_value is None:
        fabric.clip_gradients(learner.model, optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
    elif settings.clip_norm is not None:  # Fabric would take the loss scale off a second time
        nn.utils.clip_grad_norm_(learner.plain.parameters(), settings.clip_norm)
    if guard.gradients_usable(learner.plain):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    state.updates, state.lr = state.updates + 1, current_lr(optimizer)
    learner.schedule.step_update(state.updates)
    if learner.ema is not None:
        learner.ema.update(learner.plain, step=state.updates)


def validate(learner: Learner, data: FoldData, config: RunConfig, state: LoopState, watch: Watch, *, epoch: int) -> None:
    """Score the validation rows, keep the best weights, close the epoch and write it down. Epoch 0 is the untrained model."""
    probs = data.predict(learner.evaluated)  # (N, C)
    require_finite(probs, epoch)
    trained = epoch > 0
    row = EpochRow(
        epoch=epoch,
        train_loss=mean_loss(learner, state) if trained else float("nan"),
        valid_loss=METRICS["log_loss"](data.truth, probs),
        score=data.metric(data.truth, probs),
        lr=state.lr if trained else current_lr(learner.optimizer),
        seconds=state.seconds,
        images_per_second=state.images * learner.fabric.world_size / max(state.seconds, 1e-9),
    )
    state.history.append(row)
    # With few rows many epochs score alike, and then the loss tells more.
    tied = row.score == state.best_score and row.valid_loss < state.best_loss
    best = trained and (tied or data.metric.better(row.score, state.best_score))
    if best:
        state.best_epoch, state.best_score, state.best_loss = epoch, row.score, row.valid_loss
        if config.keep == "best":
            save_best(watch.folder, learner, state)
    if trained:
        learner.schedule.step(epoch, row.score)
        state.next_epoch()
        save_state(watch.folder, learner, state, watch.inputs)
    if learner.fabric.is_global_zero:
        write_history(watch.folder / HISTORY, state.history, data.metric.name)
        watch.epoch_end(row, data.metric.name, epochs=config.schedule.epochs, best=best)
    if watch.on_epoch is not None:
        watch.on_epoch(watch.fold, row)

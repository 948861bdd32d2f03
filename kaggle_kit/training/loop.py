"""The training loop, to be read from top to bottom: fit, a step, an update, a validation.

A run that was killed and goes on gives the numbers of one that was not. For that, all that chance decides in a step (dropout,
drop path, mixing) is drawn from (seed, fold, epoch, batch), augmentation from (seed, epoch, row), and everything else lies in
the checkpoint. On a CPU in float32 the result is the same bit for bit; a GPU adds the order of its sums.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kaggle_kit.config import RunConfig
from kaggle_kit.events import EpochEnded, Progress, Reporter, silent
from kaggle_kit.images.loaders import Batch, TrainLoader
from kaggle_kit.images.mixing import make_mixer
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.machine.device import agreed, memory_errors
from kaggle_kit.metrics import METRICS
from kaggle_kit.models import set_train_mode
from kaggle_kit.runs import HISTORY
from kaggle_kit.runs.history import EpochRow, should_stop, write_history
from kaggle_kit.seeds import derive_seed
from kaggle_kit.stop import Stop, StopRequested
from kaggle_kit.training.checkpoint import Checkpoints, LoopState
from kaggle_kit.training.data import FoldData
from kaggle_kit.training.learner import Learner
from kaggle_kit.training.losses import LossGuard, count_right, require_finite
from kaggle_kit.training.optimizers import current_lr
from kaggle_kit.training.processes import stop_if_asked

SYNC_EVERY = 20
"""Updates between two looks at numbers that lie on a GPU; on a CPU, looking costs nothing and is done after each."""


def fit(
    learner: Learner,
    data: FoldData,
    config: RunConfig,
    state: LoopState,
    *,
    checkpoints: Checkpoints,
    reporter: Reporter = silent,
    stop: Stop | None = None,
) -> None:
    """Train a stage from where ``state`` is to its last epoch or early stopping; ``learner`` and ``state`` change as it goes.

    Between updates nothing is saved and nobody stops, so that a checkpoint never needs half-summed gradients.

    Args:
        config: of the stage.
        reporter: called in the first process; the end of an epoch is reported last, when its checkpoint is written, so that a
            reporter may raise to end the fold.

    Raises:
        StopRequested: ``stop`` asked for it; the checkpoint is written.
        TrainingError: the loss is not finite; names the rows of the batch.
        DeviceMemoryError: the accelerator's memory is too small.
    """
    stop, fabric = stop or Stop(), learner.fabric
    try:
        if not state.history:
            validate(learner, data, config, state, checkpoints, reporter, epoch=0)
        last = min(state.first_epoch + config.schedule.epochs, data.epochs)
        while state.epoch <= last and not should_stop(state.stage_rows, data.metric, config.early_stopping):
            set_train_mode(learner.model, config.model)
            learner.optimizer.zero_grad(set_to_none=True)
            guard, clock = LossGuard(config.nan, data.ids, fabric), Clock(state, config.checkpoint_minutes * 60)
            for batch in data.loader.batches(state.epoch, start=state.batch):
                if not train_step(learner, batch, data, config, state, guard):
                    continue
                update(learner, config, state, guard)
                if not look_now(fabric, data.loader, state, clock, stop):
                    continue
                guard.check(state.epoch)
                clock.measure()
                if fabric.is_global_zero:
                    reporter(progress(data, state, processes=fabric.world_size))
                stop_if_asked(fabric, stop)
                if agreed(fabric, clock.overdue()):
                    checkpoints.save(learner, state)
                    clock.restart()
            validate(learner, data, config, state, checkpoints, reporter, epoch=state.epoch)
    except StopRequested:
        checkpoints.save(learner, state)
        raise


def train_step(learner: Learner, batch: Batch, data: FoldData, config: RunConfig, state: LoopState, guard: LossGuard) -> bool:
    """Add one batch's gradients; returns whether that completes the ``accumulate`` batches of an update."""
    fabric, accumulate = learner.fabric, config.optimizer.accumulate
    first = state.batch - state.batch % accumulate
    group = min(accumulate, len(data.loader) - first)  # fewer at the end of an epoch
    complete = state.batch + 1 == first + group
    seed = derive_seed(config.seed, data.fold, state.epoch, state.batch, fabric.global_rank)
    torch.manual_seed(seed)  # dropout and drop path know no other generator; train_fold gives the caller's state back
    images = to_input(batch.images, data.spec, fabric.device, channels_last=config.model.channels_last)  # (B, 3, H, W)
    targets = learner.targets(batch)  # (B,) or (B, C)
    mixer = make_mixer(config.augment, epoch=state.epoch - state.first_epoch - 1, epochs=config.schedule.epochs)
    if mixer is not None:
        rng = np.random.default_rng(seed)
        images, targets = mixer(images, targets, n_classes=data.n_classes, rng=rng)  # targets (B, C)
    with memory_errors(), fabric.no_backward_sync(learner.model, enabled=not complete):
        logits = learner.model(images)  # (B, C)
        loss = learner.loss(logits, targets)  # ()
        usable = guard.usable(loss, batch.rows, state.batch)
        if usable:
            fabric.backward(loss / group)
    right = count_right(logits, targets, multilabel=data.truth.ndim == 2)
    state.count(loss, right, len(batch.rows), usable=usable)
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
    learner.schedule.step_update(state.stage_updates)
    if learner.ema is not None:
        learner.ema.update(learner.plain, step=state.updates)


def endless(loader: TrainLoader, state: LoopState) -> Iterator[Batch]:
    """Yield the batches of epoch after epoch, counted as :func:`fit` does; mixing stays that of the first."""
    epoch = 0
    while True:
        epoch += 1
        state.batch = 0
        yield from loader.batches(epoch)


def validate(
    learner: Learner,
    data: FoldData,
    config: RunConfig,
    state: LoopState,
    checkpoints: Checkpoints,
    reporter: Reporter,
    *,
    epoch: int,
) -> None:
    """Score the validation rows if it is their turn, keep the best weights, close the epoch and write it down.

    Epoch 0 is the model as it began: kept only where it began trained, since a random classifier is no result.
    """
    every, nothing = config.validate_every, (math.nan, math.nan)
    in_turn = every > 0 and (epoch % every == 0 or epoch == data.epochs)
    valid_loss, score = judge(learner, data, epoch) if in_turn else nothing
    trained = epoch > 0
    row = EpochRow(
        epoch=epoch,
        train_loss=epoch_mean(learner, state, state.loss_sum) if trained else math.nan,
        valid_loss=valid_loss,
        score=score,
        lr=state.lr if trained else current_lr(learner.optimizer),
        seconds=state.seconds,
        images_per_second=state.images * learner.fabric.world_size / max(state.seconds, 1e-9),
        train_accuracy=epoch_mean(learner, state, state.right_sum) if trained else math.nan,
        stage=state.stage,
    )
    best = note(learner, data, config, state, checkpoints, row)
    if trained:
        learner.after_epoch()
        learner.schedule.step(epoch, row.score)
        learner.schedule.step_update(state.stage_updates)  # a rate that the score has lowered counts from the next update on
        state.next_epoch()
        checkpoints.save(learner, state)
    tell(learner, data, state, checkpoints, reporter, best=best)


def note(
    learner: Learner, data: FoldData, config: RunConfig, state: LoopState, checkpoints: Checkpoints, row: EpochRow
) -> bool:
    """Add an epoch to the history, and keep its weights if they are the best; return whether they are."""
    state.history.append(row)
    # With few rows many epochs score alike, and then the loss tells more.
    tied = row.score == state.best_score and row.valid_loss < state.best_loss
    best = (row.epoch > 0 or learner.starts_trained) and (tied or data.metric.better(row.score, state.best_score))
    if best:
        state.best_epoch, state.best_score, state.best_loss = row.epoch, row.score, row.valid_loss
        if config.keep == "best":
            checkpoints.save_best(learner, state)
    return best


def tell(
    learner: Learner, data: FoldData, state: LoopState, checkpoints: Checkpoints, reporter: Reporter, *, best: bool
) -> None:
    """Write the history, and report its last epoch."""
    if learner.fabric.is_global_zero:
        write_history(checkpoints.folder / HISTORY, state.history, data.metric.name)
        reporter(EpochEnded(data.fold, state.history[-1], data.metric.name, data.epochs, best))


def validate_average(
    learner: Learner, data: FoldData, config: RunConfig, state: LoopState, checkpoints: Checkpoints, reporter: Reporter
) -> None:
    """Score averaged weights as one more epoch, which was not trained. No checkpoint: they are averaged again."""
    valid_loss, score = judge(learner, data, state.epoch)
    nan = math.nan
    row = EpochRow(state.epoch, nan, valid_loss, score, nan, seconds=0.0, images_per_second=0.0, stage=state.stage)
    best = note(learner, data, config, state, checkpoints, row)
    tell(learner, data, state, checkpoints, reporter, best=best)


def judge(learner: Learner, data: FoldData, epoch: int) -> tuple[float, float]:
    """Return log loss and score of the validation rows; NaN where there are none."""
    if len(data.truth) == 0:
        return math.nan, math.nan
    probs = data.predict(learner.evaluated)  # (N, C)
    require_finite(probs, epoch)
    return METRICS["log_loss"](data.truth, probs), data.metric(data.truth, probs)


def epoch_mean(learner: Learner, state: LoopState, total: Tensor) -> float:
    """Return a sum of the state, such as that of the loss, as a mean over the epoch's images so far, of all processes."""
    images = float(state.images)
    if learner.fabric.world_size > 1:
        total = learner.fabric.all_reduce(total.clone(), reduce_op="sum")
        images *= learner.fabric.world_size
    return float(total) / images if images else math.nan


class Clock:
    """Counts the time that training takes into ``state.seconds``, and tells when the next checkpoint is due.

    Args:
        interval: seconds between checkpoints.
    """

    def __init__(self, state: LoopState, interval: float) -> None:
        self._state = state
        self._interval = interval
        self._mark = self._saved = time.monotonic()

    def measure(self) -> None:
        """Count the time since the last call."""
        now = time.monotonic()
        self._state.seconds += now - self._mark
        self._mark = now

    def overdue(self) -> bool:
        """Return whether the last checkpoint is too long ago."""
        return time.monotonic() - self._saved >= self._interval

    def restart(self) -> None:
        """Begin anew after a checkpoint; the time that it took is not training's."""
        self._mark = self._saved = time.monotonic()


def look_now(fabric: Fabric, loader: TrainLoader, state: LoopState, clock: Clock, stop: Stop) -> bool:
    """Return whether to look at numbers on the device now, which has to wait for it; in all processes alike."""
    every = 1 if fabric.device.type == "cpu" else SYNC_EVERY
    if state.batch == len(loader) or state.updates % every == 0:
        return True
    return fabric.world_size == 1 and (stop.reason is not None or clock.overdue())


def progress(data: FoldData, state: LoopState, *, processes: int) -> Progress:
    """Return how far the epoch is, over all ``processes``."""
    done = state.images * processes
    return Progress(
        fold=data.fold,
        epoch=state.epoch,
        epochs=data.epochs,
        done=done,
        images=data.loader.images * processes,
        loss=float(state.loss_sum) / max(state.images, 1),
        rate=done / max(state.seconds, 1e-9),
    )

"""The learning-rate range test (Smith 2017): train a fold with a rate that grows exponentially, and see where the loss falls.

It takes the steps of training itself (loader, augmentation, mixing, accumulation, precision, clipping) on a model that is
thrown away. Nothing is written into a run.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from kaggle_kit.competition import Setup
from kaggle_kit.config import RunConfig, derive
from kaggle_kit.errors import ConfigError
from kaggle_kit.folds import chosen_folds, folds_for
from kaggle_kit.machine.device import device_name, make_fabric, precision_of
from kaggle_kit.machine.host import kept_heap
from kaggle_kit.models import model_name, set_train_mode
from kaggle_kit.results import Result
from kaggle_kit.reviews import review_for
from kaggle_kit.stop import Stop
from kaggle_kit.tables import FoldTable
from kaggle_kit.training.checkpoint import new_state
from kaggle_kit.training.data import FoldData, make_data
from kaggle_kit.training.fold import random_state_kept
from kaggle_kit.training.job import FoldJob, Found, make_jobs
from kaggle_kit.training.learner import Learner, make_learner, make_model
from kaggle_kit.training.loop import endless, train_step, update
from kaggle_kit.training.losses import LossGuard
from kaggle_kit.training.prepare import pixels_of
from kaggle_kit.training.schedules import CurveScheduler, Span
from kaggle_kit.training.start import starting_weights

if TYPE_CHECKING:
    import pandas as pd

Losses = npt.NDArray[np.float64]
LEAST = 20
"""Updates below which a curve says nothing."""
_RECENT = 5  # updates whose mean loss tells divergence
_NOTICEABLE = 5.0  # standard errors by which the smoothed loss must fall; noise alone does in about one curve of a hundred
_ROWS = 10


@dataclass(frozen=True)
class Sweep:
    """Learning rates from ``lowest`` to ``highest`` in ``updates`` equal factors.

    Raises:
        ConfigError: a value cannot be used.
    """

    lowest: float = 1e-6
    highest: float = 10.0
    updates: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.lowest < self.highest < math.inf:
            raise ConfigError(f"lowest and highest must be 0 < lowest < highest, got {self.lowest:g} and {self.highest:g}.")
        if self.updates < LEAST:
            raise ConfigError(f"updates must be at least {LEAST}, got {self.updates}.")

    def rate(self, update: int) -> float:
        """Return the rate of an update, from 0 to ``updates - 1``."""
        return float(self.lowest * (self.highest / self.lowest) ** (update / (self.updates - 1)))


@dataclass(frozen=True, repr=False)
class LrTest(Result):
    """What a range test found.

    Attributes:
        batch_size: images of an update.
        rates: of each update until the loss diverged or the highest rate was reached.
        losses: mean training loss of each update's images, before the update.
        smoothed: the losses without most of their noise.
        suggestion: the rate where the smoothed loss falls most steeply; None where it does not fall noticeably.
        lowest: the rate at which the smoothed loss is lowest.
        head_lr: what ``optimizer.head_lr`` is at the suggestion, if the run has one.
        diverged: whether the loss grew without bound.
        entries: of the configuration that the test was given beside kk.yaml.
        path: the page with the curve; "" where none was written.
    """

    model: str
    fold: int
    device: str
    precision: str
    batch_size: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    lowest: float | None
    head_lr: float | None
    diverged: bool
    entries: tuple[str, ...] = ()
    path: str = ""

    @property
    def settings(self) -> str:
        """Return the suggestion as `kk train` takes it; "" without one."""
        rates = {"lr": self.suggestion, "head_lr": self.head_lr}
        return " ".join(f"{key}={rate:.2g}" for key, rate in rates.items() if rate is not None)

    @property
    def command(self) -> str:
        """Return how to train with the suggestion; "" without one."""
        return shlex.join(["kk", "train", "--fold", "all", *self.entries, *self.settings.split()]) if self.settings else ""

    def describe(self) -> str:
        """Return the suggestion and what it rests on."""
        measured = (
            f"{self.model}, fold {self.fold}, {self.batch_size} images an update, {self.precision} on {self.device}: "
            f"{len(self.rates)} updates"
        )
        measured += f" from {self.rates[0]:.2g} to {self.rates[-1]:.2g}" if self.rates else ""
        lines = [self.verdict, measured, self.end]
        return "\n".join(line for line in [*lines, f"picture: {self.path}" if self.path else ""] if line)

    @property
    def verdict(self) -> str:
        """Return the suggestion in a sentence, or why there is none."""
        if self.suggestion is not None:
            return f"suggested: {self.settings}, where the loss falls most steeply; it is lowest at {self.lowest:.2g}"
        if len(self.rates) < LEAST:
            return "no suggestion: the loss diverged too soon; begin lower, with --lowest."
        return "no suggestion: the loss does not fall noticeably; test with more --updates, or other rates."

    @property
    def end(self) -> str:
        """Return how the test ended."""
        if self.diverged:
            return f"the loss diverged at {self.rates[-1]:.2g}" if self.rates else "the first loss was not finite"
        falling = self.suggestion is not None and self.lowest == self.rates[-1]
        return "the loss was still falling at the highest rate; go further with --highest" if falling else ""

    def table(self) -> pd.DataFrame:
        """Return some of the curve's points: rate, loss, smoothed."""
        import pandas as pd

        columns = {"rate": self.rates, "loss": self.losses, "smoothed": self.smoothed}
        return pd.DataFrame(columns).iloc[:: max(1, len(self.rates) // _ROWS)].reset_index(drop=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the curve and what follows from it."""
        return {**super().to_dict(), "settings": self.settings}


def find_lr(
    setup: Setup,
    folds: FoldTable | None = None,
    *,
    fold: int = 0,
    sweep: Sweep | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LrTest:
    """Train a fold's model with growing rates until its loss diverges, and suggest ``optimizer.lr``.

    Of a run in stages the first one is tested. ``head_lr`` and the rates of ``layer_decay`` keep their ratio to it.

    Args:
        folds: by default the table that the configuration names.
        progress: called with the updates that are done and their number.

    Raises:
        ConfigError: a value cannot be used, or the strategy is not "finetune".
        WeightsError, ImageError, DeviceMemoryError: as in training.
    """
    sweep = sweep or Sweep()
    setup = setup.with_run(setup.config.run.stage_configs[0])
    if setup.config.run.strategy != "finetune":
        raise ConfigError(
            f"a range test is for strategy finetune, got {setup.config.run.strategy!r}; test with strategy=finetune, or just "
            "train: a probe has no learning rate."
        )
    config = _throwaway(setup.config.run)
    folds = folds or folds_for(setup.workspace, setup.competition, config.folds)
    chosen_folds([fold], folds.n_splits)
    with torch.random.fork_rng(devices=[]):
        job = _job(setup.with_run(config), folds, fold)
    fabric = make_fabric(job.config.hardware)
    with random_state_kept(fabric), kept_heap(fabric.device.type):
        model, spec = make_model(job)
        with make_data(job, spec, fabric, Stop()) as data:
            learner = make_learner(job, model, data, fabric)
            learner = replace(learner, schedule=_schedule(learner, config, sweep))
            losses, diverged = _losses(learner, data, config, sweep, progress)
    smoothed = smooth(losses)
    steepest, lowest = valley(losses, smoothed)
    suggestion = None if steepest is None else sweep.rate(steepest)
    head_lr = config.optimizer.head_lr
    return LrTest(
        model=model_name(model),
        fold=fold,
        device=device_name(fabric),
        precision=precision_of(fabric),
        batch_size=config.data.batch_size * config.optimizer.accumulate,
        rates=tuple(sweep.rate(update) for update in range(len(losses))),
        losses=tuple(losses.tolist()),
        smoothed=tuple(smoothed.tolist()),
        suggestion=suggestion,
        lowest=None if lowest is None else sweep.rate(lowest),
        head_lr=None if suggestion is None or head_lr is None else suggestion * head_lr / config.optimizer.lr,
        diverged=diverged,
    )


def _throwaway(config: RunConfig) -> RunConfig:
    """Return what one device trains: the images of an update stay as many, and what would be kept is left out."""
    devices = config.hardware.devices
    batch = max(1, config.data.batch_size // devices)
    accumulate = config.optimizer.accumulate * devices
    entries = ["devices=1", f"batch_size={batch}", f"optimizer.accumulate={accumulate}", "ema=0", "model.compile=false"]
    return derive(config, [*entries, "nan=stop"])


def _job(setup: Setup, folds: FoldTable, fold: int) -> FoldJob:
    """Return the fold as training would begin it, but for records and checks of its run."""
    workspace, config, competition = setup.workspace, setup.config.run, setup.competition
    competition.classes.require_same(folds.classes, here=f"competition {competition.name}", there="the fold table")
    review = review_for(workspace, config.data.labels, folds)
    source, left_out = pixels_of(setup, folds, n_folds=1)
    found = Found(starting_weights(setup, folds, [fold]), left_out, source, review=review)
    (job,) = make_jobs(setup, folds, run="lr", fold_list=[fold], found=found)
    return job


def _schedule(learner: Learner, config: RunConfig, sweep: Sweep) -> CurveScheduler:
    """Return a schedule of the sweep for all groups of the optimizer, each in its ratio to ``optimizer.lr``."""
    last = sweep.updates - 1
    span = Span(epochs=1, updates_per_epoch=last, warmup=0, min_lr=0.0, warmup_lr=0.0, greater_is_better=True, options={})
    return CurveScheduler(learner.optimizer.optimizer, span, lambda done: sweep.rate(round(done * last)) / config.optimizer.lr)


def _losses(
    learner: Learner, data: FoldData, config: RunConfig, sweep: Sweep, progress: Callable[[int, int], None] | None
) -> tuple[Losses, bool]:
    """Return the loss of each update, and whether it diverged before the sweep's end."""
    state = new_state(learner.fabric.device)
    guard = LossGuard(config.nan, data.ids, learner.fabric)
    set_train_mode(learner.model, config.model)
    learner.optimizer.zero_grad(set_to_none=True)
    losses: list[float] = []
    for batch in endless(data.loader, state):
        if not train_step(learner, batch, data, config, state, guard):
            continue
        loss = float(state.loss_sum) / state.images
        state.loss_sum, state.images = state.loss_sum * 0, 0
        if not math.isfinite(loss):
            return np.array(losses), True
        losses.append(loss)
        if progress is not None:
            progress(len(losses), sweep.updates)
        if has_diverged(losses):
            return np.array(losses), True
        if len(losses) == sweep.updates:
            break
        update(learner, config, state, guard)
    return np.array(losses), False


def has_diverged(losses: list[float]) -> bool:
    """Return whether the last losses are far above the lowest and above those in the beginning."""
    if len(losses) < 2 * _RECENT:
        return False
    means = np.convolve(losses, np.full(_RECENT, 1 / _RECENT), mode="valid")
    return bool(means[-1] > max(4 * means.min(), 2 * means[0]))


def smooth(losses: Losses) -> Losses:
    """Return the losses (N,) averaged with their neighbours by a bell curve; unlike a running mean it does not lag."""
    smoothed: Losses = _weights(len(losses)) @ losses
    return smoothed


def valley(losses: Losses, smoothed: Losses) -> tuple[int | None, int | None]:
    """Return where the smoothed loss falls most steeply before it is lowest, and where it is lowest.

    The first is None where the fall cannot be told from noise, both where there are too few updates.
    """
    if len(losses) < LEAST:
        return None, None
    lowest = int(smoothed.argmin())
    if lowest < 2:
        return None, lowest
    before = smoothed[: lowest + 1]
    spread = np.diff(losses[: lowest + 1]).std() / math.sqrt(2)
    errors = spread * np.linalg.norm(_weights(len(losses)), axis=1)[: lowest + 1]  # of the smoothed loss
    falls = before - before[-1] > _NOTICEABLE * np.hypot(errors, errors[-1])
    return (int(np.gradient(before).argmin()) if falls.any() else None), lowest


def _weights(n: int) -> Losses:
    """Return how much each loss counts in each smoothed one, (n, n); rows sum to 1."""
    places, width = np.arange(n), max(1.0, n / 33)
    bells = np.exp(-0.5 * ((places[:, None] - places) / width) ** 2)
    weights: Losses = bells / bells.sum(axis=1, keepdims=True)
    return weights

"""Learning-rate schedules by name, stepped once an optimizer update: timm's, and ours where timm has none.

Every schedule but ``plateau`` is a pure function of the update count: a run that goes on from a checkpoint gets the very rates
of one never stopped, and there is nothing of the schedule to save. torch's LinearLR, OneCycleLR and CyclicLR are not such: they
count their own steps, LinearLR computes each rate from the one before, the other two also move the momentum, and none knows the
``lr_scale`` of layer decay. timm has no constant, one-cycle or triangular curve; a straight line is one expression beside them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch.optim import Optimizer

from kaggle_kit.choices import CYCLES, SCHEDULES
from kaggle_kit.config import ScheduleConfig
from kaggle_kit.errors import ConfigError


@dataclass(frozen=True)
class Span:
    """What a schedule spans. ``warmup`` is in updates; ``options`` are those of ``schedule.options``."""

    epochs: float
    updates_per_epoch: int
    warmup: int
    min_lr: float
    warmup_lr: float
    greater_is_better: bool
    options: Mapping[str, Any]

    @property
    def updates(self) -> float:
        return self.epochs * self.updates_per_epoch


class CurveScheduler(Scheduler):
    """``min_lr + (lr - min_lr) * factor(done)`` after a linear warm-up; ``done`` runs from 0 to 1 over the schedule."""

    def __init__(self, optimizer: Optimizer, span: Span, factor: Callable[[float], float]) -> None:
        super().__init__(optimizer, param_group_field="lr", t_in_epochs=False)
        self.span = span
        self.factor = factor
        self.step_update(0)

    def _get_lr(self, t: int) -> list[float]:
        span = self.span
        if t < span.warmup:
            return [span.warmup_lr + (base - span.warmup_lr) * t / span.warmup for base in self.base_values]
        factor = self.factor(min(t / max(span.updates, 1), 1.0))
        return [span.min_lr + (base - span.min_lr) * factor for base in self.base_values]


class PlateauScheduler(CurveScheduler):
    """Divides the rate when the score has not improved for ``patience`` epochs.

    timm's own is deprecated and keeps no state in checkpoints, so that a resumed run would differ from one never killed.
    """

    def __init__(
        self, optimizer: Optimizer, span: Span, *, decay_rate: float = 0.1, patience: int = 3, min_delta: float = 1e-4
    ) -> None:
        self.decay_rate, self.patience, self.min_delta = decay_rate, patience, min_delta
        self.best, self.stale, self.decays = math.nan, 0, 0
        super().__init__(optimizer, span, lambda _: self.decay_rate**self.decays)

    def step(self, epoch: int, metric: float | None = None) -> None:  # noqa: ARG002 - timm's signature
        """Take the score of a finished epoch."""
        if metric is None or math.isnan(metric):
            return
        gain = metric - self.best if self.span.greater_is_better else self.best - metric
        if math.isnan(self.best) or gain > self.min_delta:
            self.best, self.stale = metric, 0
            return
        self.stale += 1
        if self.stale > self.patience:
            self.decays, self.stale = self.decays + 1, 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "stale": self.stale, "decays": self.decays}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.stale, self.decays = float(state_dict["best"]), int(state_dict["stale"]), int(state_dict["decays"])


def _from_timm(optimizer: Optimizer, span: Span, *, name: str, **defaults: Any) -> Scheduler:
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=name,
        num_epochs=span.epochs,
        warmup_epochs=span.warmup / span.updates_per_epoch,
        warmup_lr=span.warmup_lr,
        min_lr=span.min_lr,
        step_on_epochs=False,
        updates_per_epoch=span.updates_per_epoch,
        **{**defaults, **span.options},
    )
    return scheduler


def cosine(optimizer: Optimizer, span: Span) -> Scheduler:
    """Half a cosine from ``lr`` to ``min_lr`` (Loshchilov & Hutter 2017)."""
    return _from_timm(optimizer, span, name="cosine")


def warm_restarts(optimizer: Optimizer, span: Span) -> Scheduler:
    """Cosine with restarts (SGDR): ``cycles`` equal parts of the run, ``cycle_decay`` times the rate each."""
    options = dict(span.options)
    cycles = max(int(options.pop("cycles", CYCLES["warm_restarts"])), 1)
    # timm multiplies num_epochs by the updates of an epoch and takes a fraction as it is.
    part = replace(span, epochs=span.epochs / cycles, options=options)
    return _from_timm(optimizer, part, name="cosine", cycle_limit=cycles, cycle_decay=1.0)


def step(optimizer: Optimizer, span: Span) -> Scheduler:
    """A tenth after every third of the run, or as ``decay_epochs`` and ``decay_rate`` say."""
    return _from_timm(optimizer, span, name="step", decay_epochs=max(span.epochs / 3, 1), decay_rate=0.1)


def multistep(optimizer: Optimizer, span: Span) -> Scheduler:
    """A tenth at the epochs of ``decay_milestones`` (by default 60 % and 85 % of the run)."""
    milestones = [span.epochs * 0.6, span.epochs * 0.85]
    return _from_timm(optimizer, span, name="multistep", decay_milestones=milestones, decay_rate=0.1)


def _curve(optimizer: Optimizer, span: Span, *, shape: Callable[..., float]) -> Scheduler:
    inspect.signature(shape).bind(0.0, **span.options)
    return CurveScheduler(optimizer, span, partial(shape, **span.options))


def _flat(_: float) -> float:
    return 1.0


def _straight(done: float) -> float:
    return 1.0 - done


def _one_hump(done: float, *, pct_start: float = 0.3, div: float = 25.0, final_div: float = 1e4) -> float:
    """Up from ``1 / div`` and down to ``1 / (div * final_div)`` along cosines (Smith & Topin 2018)."""
    low, final = 1 / div, 1 / (div * final_div)
    if done < pct_start:
        return 1 + (low - 1) * (1 + math.cos(math.pi * done / pct_start)) / 2
    return final + (1 - final) * (1 + math.cos(math.pi * (done - pct_start) / (1 - pct_start))) / 2


def _triangles(done: float, *, cycles: float = CYCLES["cyclic"], floor: float = 0.1, decay: float = 1.0) -> float:
    """Triangles between ``floor`` and 1 (Smith 2017); every cycle's height is ``decay`` times the one before."""
    cycle, place = divmod(min(done, 1 - 1e-12) * cycles, 1.0)
    return float(floor + (1 - floor) * (1 - abs(2 * place - 1)) * decay**cycle)


def plateau(optimizer: Optimizer, span: Span) -> Scheduler:
    return PlateauScheduler(optimizer, span, **span.options)


tanh = partial(_from_timm, name="tanh")
poly = partial(_from_timm, name="poly", decay_rate=0.9)
constant = partial(_curve, shape=_flat)
linear = partial(_curve, shape=_straight)
onecycle = partial(_curve, shape=_one_hump)
cyclic = partial(_curve, shape=_triangles)


def build_schedule(
    optimizer: Optimizer, config: ScheduleConfig, *, updates_per_epoch: int, greater_is_better: bool = True
) -> Scheduler:
    """The configured schedule. Call ``step_update(n)`` after update ``n`` and ``step(epoch, score)`` after an epoch.

    Raises:
        ConfigError: unknown schedule or option, or a warm-up as long as the run.
    """
    factory = SCHEDULES.lookup(config.name)
    if config.warmup_epochs and config.warmup_epochs >= config.epochs:
        raise ConfigError(
            f"schedule.warmup_epochs must be below epochs ({config.epochs}), got {config.warmup_epochs}; "
            "train longer or warm up for less."
        )
    span = Span(
        epochs=config.epochs,
        updates_per_epoch=updates_per_epoch,
        warmup=round(config.warmup_epochs * updates_per_epoch),
        min_lr=config.min_lr,
        # Not 0: the first update would be lost.
        warmup_lr=0.01 * min(float(group["lr"]) for group in optimizer.param_groups),
        greater_is_better=greater_is_better,
        options=config.options,
    )
    try:
        schedule: Scheduler = factory(optimizer, span)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"schedule {config.name!r} cannot be made with schedule.options={config.options}: {error}."
        ) from error
    return schedule


def schedule_state(scheduler: Scheduler) -> dict[str, Any]:
    """What a checkpoint must hold beyond the update count and the optimizer's state: nothing, but for ``plateau``."""
    return scheduler.state_dict() if isinstance(scheduler, PlateauScheduler) else {}


def restore_schedule(scheduler: Scheduler, state: dict[str, Any]) -> None:
    """Undo :func:`schedule_state`."""
    if isinstance(scheduler, PlateauScheduler):
        scheduler.load_state_dict(state)

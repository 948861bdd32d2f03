"""What a run will cost, from a measurement of half a minute: hours = folds x epochs x images / img/s, and the rest.

The measurement trains and predicts with the run's own model, loader, augmentation, loss and optimizer on images of the first
fold, and throws away what it learnt; nothing is written. Weights are random, which takes the same time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from lightning_fabric import Fabric

from kaggle_kit.competition import Setup
from kaggle_kit.config import RunConfig, derive
from kaggle_kit.errors import ConfigError
from kaggle_kit.folds import folds_for, parse_folds
from kaggle_kit.images.dataset import source_for
from kaggle_kit.images.loaders import EvalLoader
from kaggle_kit.images.samplers import epoch_size
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.predict import predict_model
from kaggle_kit.inference.tta import make_views
from kaggle_kit.machine.device import device_name, make_fabric, precision_of
from kaggle_kit.models import find_weights, model_name, set_train_mode
from kaggle_kit.results import Result
from kaggle_kit.tables import FoldTable
from kaggle_kit.training import FoldJob, Stop
from kaggle_kit.training.checkpoint import new_state
from kaggle_kit.training.data import FoldData, make_data
from kaggle_kit.training.job import Found, make_jobs
from kaggle_kit.training.learner import Learner, make_learner, make_model
from kaggle_kit.training.loop import endless, train_step, update
from kaggle_kit.training.losses import LossGuard
from kaggle_kit.units import format_duration, parse_duration

MARGIN = 0.05
"""Share of the limit that is kept free: for starting, for checkpoints, and for what a short measurement does not see."""
_TRAIN_SHARE = 0.7  # of the time to measure in
_WARM_UP = 2  # updates before the clock starts: processes start, buffers are taken, compilers run
_LONGER = 10  # times the epochs asked for: more is no longer a proposal but another undertaking
_STEP, _LEAST = 32, 64  # image sizes to propose


@dataclass(frozen=True)
class Work:
    """How much is to be done.

    Attributes:
        n_train: images of an epoch, and
        n_valid: images to validate on, both summed over the folds.
        n_test: test images, those for control included.
        views: of each test image.
        devices: folds that are trained at a time, each on its own device.
    """

    folds: int
    epochs: int
    n_train: int
    n_valid: int
    n_test: int
    views: int = 1
    devices: int = 1

    def first_folds(self, folds: int) -> Work:
        """The same with fewer folds, taken to be of the same size."""
        share = folds / self.folds
        return replace(self, folds=folds, n_train=round(self.n_train * share), n_valid=round(self.n_valid * share))


@dataclass(frozen=True)
class Rates:
    """Images a second on one device."""

    train: float
    predict: float

    def seconds(self, work: Work) -> tuple[float, float, float]:
        """Of training, of validation and of prediction."""
        # The last device to finish has this share of the folds.
        share = math.ceil(work.folds / min(work.devices, work.folds)) / work.folds
        train = share * work.epochs * work.n_train / self.train
        # Before the first epoch, after each, and once more with the weights that are kept.
        valid = share * (work.epochs + 2) * work.n_valid / self.predict
        again = work.n_valid if work.views > 1 else 0  # out-of-fold rows are predicted with views, too
        predict = work.views * (work.folds * work.n_test + again) / self.predict
        return train, valid, predict


@dataclass(frozen=True)
class Option:
    """Something else to do, what to write for it, and the seconds it would take."""

    text: str
    seconds: float


@dataclass(frozen=True, repr=False)
class Plan(Result):
    """What a run will take, measured on this machine.

    Attributes:
        image_size: (height, width).
        limit: seconds.
        options: if the run does not fit the limit, what would; if it does, what more would.
    """

    model: str
    device: str
    precision: str
    image_size: tuple[int, int]
    batch_size: int
    rates: Rates
    work: Work
    limit: float
    options: tuple[Option, ...] = field(default=())

    @property
    def seconds(self) -> float:
        """All together."""
        return sum(self.rates.seconds(self.work))

    @property
    def fits(self) -> bool:
        """Whether that is within the limit, less the margin."""
        return self.seconds <= self.limit * (1 - MARGIN)

    def describe(self) -> str:
        """A few lines of text."""
        work, (train, valid, predict) = self.work, self.rates.seconds(self.work)
        height, width = self.image_size
        at_once = f", {work.devices} folds at a time" if work.devices > 1 else ""
        views = f" x {work.views} views" if work.views > 1 else ""
        lines = [
            f"{self.model} at {height}x{width}, batches of {self.batch_size}, on {self.device} ({self.precision})",
            f"measured: {self.rates.train:.1f} img/s in training, {self.rates.predict:.1f} img/s in prediction",
            f"training    {format_duration(train):>9}  {work.folds} folds x {work.epochs} epochs x "
            f"{round(work.n_train / work.folds):,} images{at_once}",
            f"validation  {format_duration(valid):>9}  {round(work.n_valid / work.folds):,} images after each epoch",
            f"prediction  {format_duration(predict):>9}  {work.folds} models x {work.n_test:,} images{views}",
        ]
        verdict = "fits" if self.fits else "does not fit"
        lines.append(
            f"together    {format_duration(self.seconds):>9}  {verdict} into {format_duration(self.limit)} less {MARGIN:.0%}"
        )
        if self.options:
            lines.append("so would:" if self.fits else "what would fit:")
            lines += [f"  {format_duration(option.seconds):>9}  {option.text}" for option in self.options]
        elif not self.fits:
            lines.append("a smaller model is needed: one epoch of one fold is too much already.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement, the work, the time it takes and what else would fit."""
        return {**super().to_dict(), "seconds": self.seconds, "fits": self.fits}


def plan_run(
    setup: Setup,
    folds: FoldTable | None = None,
    *,
    fold: str = "all",
    limit: str | float = "9h",
    seconds: float = 30.0,
    devices: int = 1,
    tta: str = "none",
) -> Plan:
    """Measure for about ``seconds`` and say what training and predicting ``fold`` would take, and what would fit ``limit``.

    Args:
        folds: by default the table that the configuration names.
        limit: seconds, or a duration such as "9h".
        devices: folds to be trained at a time, as with a launcher; one is measured.
        tta: views of the test images, as for `kk predict --tta`.

    Raises:
        ConfigError: a value cannot be used, or the strategy is not "finetune".
        DeviceMemoryError: the batch does not fit the device, which is worth knowing before the night.
    """
    allowed = parse_duration(limit) if isinstance(limit, str) else float(limit)
    config = setup.config.run
    if config.strategy != "finetune":
        raise ConfigError(
            f"a plan is for strategy finetune, got {config.strategy!r}, which reads each image only a few times: just train."
        )
    if devices < 1 or seconds <= 0:
        raise ConfigError(f"devices must be at least 1 and seconds positive, got {devices} and {seconds}.")
    folds = folds or folds_for(setup.workspace, setup.competition, config.folds)
    run = _one_device(config)
    weights = find_weights(run.model.name, False)
    numbers = parse_folds(fold, folds.n_splits)
    jobs = list(make_jobs(setup.with_run(run), folds, run="plan", fold_list=numbers, found=Found(weights)))
    fabric = make_fabric(run.hardware)
    with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        plan = _measured(jobs, fabric, seconds, config.hardware.devices)
    n_views = len(make_views(tta, *plan.image_size))
    plan = replace(plan, limit=allowed, work=replace(plan.work, views=n_views, devices=devices))
    return replace(plan, options=tuple(_more(plan) if plan.fits else _less(plan)))


def _one_device(config: RunConfig) -> RunConfig:
    """What one device of the run does, from random weights."""
    batch = max(1, config.data.batch_size // config.hardware.devices)
    return derive(config, ["pretrained=false", "devices=1", f"batch_size={batch}"])


def _measured(jobs: Sequence[FoldJob], fabric: Fabric, seconds: float, processes: int) -> Plan:
    """A plan without limit and options; ``processes`` train one fold together, each as fast as this one."""
    job = jobs[0]
    model, spec = make_model(job)
    with make_data(job, spec, fabric, Stop()) as data:
        learner = make_learner(job, model, data, fabric)
        train = _train_rate(learner, data, job.config, seconds * _TRAIN_SHARE)
    predict = _predict_rate(job, spec, learner, seconds * (1 - _TRAIN_SHARE))
    drawn = job.config.data.samples_per_epoch
    work = Work(
        folds=len(jobs),
        epochs=job.config.schedule.epochs,
        n_train=sum(epoch_size(drawn, len(one.train)) for one in jobs),
        n_valid=sum(len(one.valid) for one in jobs),
        n_test=len(job.test_images),
    )
    return Plan(
        model=model_name(learner.plain),
        device=device_name(fabric) if processes == 1 else f"{processes} x {device_name(fabric)}",
        precision=precision_of(fabric),
        image_size=spec.size,
        batch_size=job.config.data.batch_size * processes,
        rates=Rates(train * processes, predict * processes),
        work=work,
        limit=math.inf,
    )


def _train_rate(learner: Learner, data: FoldData, config: RunConfig, seconds: float) -> float:
    """Images a second of training steps, for about ``seconds``."""
    state, guard = new_state(learner.fabric.device), LossGuard(config.nan, data.ids, learner.fabric)
    set_train_mode(learner.model, config.model)
    images, start = 0, time.perf_counter()
    latest = start + 20 * seconds
    for batch in endless(data.loader, state):
        complete = train_step(learner, batch, data, config, state, guard)
        images += len(batch.rows)
        if not complete:
            continue
        update(learner, config, state, guard)
        if state.updates <= _WARM_UP:
            _wait(learner.fabric)
            images, start = 0, time.perf_counter()
        elif time.perf_counter() - start >= seconds or time.perf_counter() > latest:
            break
    _wait(learner.fabric)
    return images / (time.perf_counter() - start)


class _Enough(Exception):
    """The time is over."""


def _predict_rate(job: FoldJob, spec: ImageSpec, learner: Learner, seconds: float) -> float:
    """Images a second of prediction with PyTorch, for about ``seconds`` and at least a batch."""
    rows = job.valid.images
    source = job.source or source_for(spec)
    images, start = 0, math.nan

    def count(batch: int) -> None:
        nonlocal images, start
        now = time.perf_counter()
        if math.isnan(start):  # the first batch also pays for starting
            start = now
            return
        images += batch
        if now - start >= seconds:
            raise _Enough

    device, precision = learner.fabric.device, precision_of(learner.fabric)
    with EvalLoader(rows, spec, batch_size=job.eval_batch_size, workers=job.config.data.workers, source=source) as loader:
        try:
            while True:
                predict_model(
                    *(learner.evaluated, loader, spec, job.task),
                    device=device,
                    precision=precision,
                    on_batch=count,
                )
        except _Enough:
            return images / (time.perf_counter() - start)


def _wait(fabric: Fabric) -> None:
    """Until the device has done what it was told."""
    if fabric.device.type == "cuda":
        torch.cuda.synchronize(fabric.device)


def _less(plan: Plan) -> Iterator[Option]:
    """Ways to stay within the limit, one change each."""
    work = plan.work
    if (epochs := _most(plan, [replace(work, epochs=epochs) for epochs in range(1, work.epochs)])) is not None:
        yield _option(plan, f"epochs={epochs.epochs} instead of {work.epochs}", epochs)
    if (fewer := _most(plan, [work.first_folds(count) for count in range(1, work.folds)])) is not None:
        folds = "--fold 0" if fewer.folds == 1 else f"--fold 0-{fewer.folds - 1}"
        yield _option(plan, f"{folds}: {fewer.folds} of {work.folds} folds", fewer)
    yield from _smaller_images(plan)
    for devices in range(work.devices + 1, work.folds + 1):
        if _fits(plan, more := replace(work, devices=devices)):
            yield _option(plan, f"--launcher local --devices {devices}, on a machine that has them", more)
            break
    if work.views > 1 and _fits(plan, plain := replace(work, views=1)):
        yield _option(plan, f"--tta none instead of {work.views} views", plain)


def _more(plan: Plan) -> Iterator[Option]:
    """What the time that is left would be good for."""
    work, room = plan.work, plan.limit * (1 - MARGIN)
    train, valid, predict = plan.rates.seconds(work)
    once = valid / (work.epochs + 2)
    epochs = (room - predict - 2 * once) / (train / work.epochs + once)
    if math.isfinite(epochs) and epochs >= work.epochs + 1:
        longer = replace(work, epochs=min(int(epochs + 1e-9), _LONGER * work.epochs))
        bounded = f", {_LONGER} times as many; the time would do for more" if epochs >= longer.epochs + 1 else ""
        yield _option(plan, f"up to epochs={longer.epochs}{bounded}", longer)


def _smaller_images(plan: Plan) -> Iterator[Option]:
    """The largest smaller size that fits, if time goes with the pixels, as it does for most models on all but tiny images."""
    height, width = plan.image_size
    for side in range((min(height, width) - 1) // _STEP * _STEP, _LEAST - 1, -_STEP):
        scale = (min(height, width) / side) ** 2
        rates = Rates(plan.rates.train * scale, plan.rates.predict * scale)
        seconds = sum(rates.seconds(plan.work))
        if seconds <= plan.limit * (1 - MARGIN):
            size = (
                str(side)
                if height == width
                else f"[{height * side // min(height, width)}, {width * side // min(height, width)}]"
            )
            yield Option(f"image_size={size}, about: measure again with it", seconds)
            return


def _most(plan: Plan, candidates: Sequence[Work]) -> Work | None:
    """The last of ``candidates`` that fits."""
    fitting = [work for work in candidates if _fits(plan, work)]
    return fitting[-1] if fitting else None


def _fits(plan: Plan, work: Work) -> bool:
    return replace(plan, work=work).fits


def _option(plan: Plan, text: str, work: Work) -> Option:
    return Option(text, sum(plan.rates.seconds(work)))

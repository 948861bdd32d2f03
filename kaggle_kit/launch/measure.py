"""Measure for half a minute what a run will cost, and propose what would fit.

The measurement trains and predicts with the run's own model, loader, augmentation, loss and optimizer on images of the first
fold, and throws away what it learnt; nothing is written. Weights are random, which takes the same time.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from lightning_fabric import Fabric
from torch import nn

from kaggle_kit.competition import Setup
from kaggle_kit.config import ChannelsConfig, RunConfig, derive
from kaggle_kit.errors import ConfigError
from kaggle_kit.folds import folds_for, parse_folds
from kaggle_kit.images.dataset import source_for
from kaggle_kit.images.loaders import EvalLoader
from kaggle_kit.images.samplers import sampler_for
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.engines import EXPORT_PAYS_FROM, Engine, EngineOptions, TorchEngine, choose_engine, make_engine
from kaggle_kit.inference.predict import predict_with_engine
from kaggle_kit.inference.tta import count_passes
from kaggle_kit.launch.plan import Plan, Rates, Work
from kaggle_kit.launch.proposals import less, more
from kaggle_kit.machine.device import device_name, make_fabric, precision_of
from kaggle_kit.machine.host import kept_heap
from kaggle_kit.models import find_weights, image_spec, model_name, set_train_mode, unwrap
from kaggle_kit.tables import FoldTable
from kaggle_kit.training import FoldJob, Stop
from kaggle_kit.training.checkpoint import new_state
from kaggle_kit.training.data import FoldData, make_data
from kaggle_kit.training.job import Found, make_jobs
from kaggle_kit.training.learner import Learner, make_learner, make_model
from kaggle_kit.training.loop import endless, train_step, update
from kaggle_kit.training.losses import LossGuard
from kaggle_kit.units import parse_duration

_TRAIN_SHARE = 0.7  # of the time to measure in
_WARM_UP = 2  # updates before the clock starts: processes start, buffers are taken, compilers run


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

    Of a run in stages the last one is measured; the time of the others is taken to go with their pixels.

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
    run = _one_device(config.last_stage)
    numbers = parse_folds(fold, folds.n_splits)
    found = Found(dict.fromkeys(numbers, find_weights(run.model.name, False)))
    jobs = list(make_jobs(setup.with_run(run), folds, run="plan", fold_list=numbers, found=found))
    fabric = make_fabric(jobs[0].config.hardware)
    with (
        torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []),
        kept_heap(fabric.device.type),  # as in training and prediction
    ):
        plan = _measured(jobs, fabric, seconds, config)
    n_views = count_passes([tta], ImageSpec(*plan.image_size))
    plan = replace(plan, limit=allowed, work=replace(plan.work, views=n_views, devices=devices))
    options = () if config.stages else tuple(more(plan) if plan.fits else less(plan))
    return replace(plan, options=options)


def _one_device(config: RunConfig) -> RunConfig:
    """What one device of the run does, from random weights."""
    batch = max(1, config.data.batch_size // config.hardware.devices)
    return derive(config, ["pretrained=false", "devices=1", f"batch_size={batch}"])


def _share(stages: Sequence[RunConfig], model: nn.Module, channels: ChannelsConfig | None) -> float:
    """Return the pixels of an average epoch, over those of an epoch of the last stage: time goes with them."""
    specs = [image_spec(model, stage.data, channels) for stage in stages]
    epochs = [stage.schedule.epochs for stage in stages]
    pixels = sum(count * spec.height * spec.width for count, spec in zip(epochs, specs, strict=True))
    return pixels / (sum(epochs) * specs[-1].height * specs[-1].width)


def _measured(jobs: Sequence[FoldJob], fabric: Fabric, seconds: float, config: RunConfig) -> Plan:
    """A plan without limit and options; the devices of ``config`` train one fold together, each as fast as this one."""
    job, processes = jobs[0], config.hardware.devices
    model, spec = make_model(job)
    with make_data(job, spec, fabric, Stop()) as data:
        learner = make_learner(job, model, data, fabric)
        train = _train_rate(learner, data, job.config, seconds * _TRAIN_SHARE)
    validate, predict = _predict_rates(job, spec, learner, seconds * (1 - _TRAIN_SHARE))
    work = Work(
        folds=len(jobs),
        epochs=config.total_epochs,
        share=_share(config.stage_configs, model, job.channels),
        n_train=sum(len(sampler_for(job.config.data, one.train.truth, one.classes, seed=0)) for one in jobs),
        n_valid=sum(len(one.valid) for one in jobs),
        n_test=len(job.test_images),
        validate_every=config.validate_every,
    )
    return Plan(
        model=model_name(learner.plain),
        device=device_name(fabric) if processes == 1 else f"{processes} x {device_name(fabric)}",
        precision=precision_of(fabric),
        image_size=spec.size,
        batch_size=job.config.data.batch_size * processes,
        rates=Rates(train, predict, validate).times(processes),
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


def _predict_rates(job: FoldJob, spec: ImageSpec, learner: Learner, seconds: float) -> tuple[float, float]:
    """Images a second of validation, which PyTorch computes, and of `kk predict`: each for about half of ``seconds``."""
    device, precision = learner.fabric.device, precision_of(learner.fabric)
    name = choose_engine(job.config.hardware.engine, device, EXPORT_PAYS_FROM)
    options, model = EngineOptions(device, precision), unwrap(learner.evaluated)
    engines: list[Engine] = [TorchEngine(model, options)]
    if name != TorchEngine.name:  # converts a copy, since the learner's is laid out for training
        engines.append(make_engine(name, copy.deepcopy(model), spec, options=options))
    found = [_predict_rate(job, spec, engine, device, seconds / len(engines)) for engine in engines]
    return found[0], found[-1]


def _predict_rate(job: FoldJob, spec: ImageSpec, engine: Engine, device: torch.device, seconds: float) -> float:
    """Images a second of prediction with an engine, for about ``seconds`` and at least a batch."""
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

    with EvalLoader(rows, spec, batch_size=job.eval_batch_size, workers=job.config.data.workers, source=source) as loader:
        try:
            while True:
                predict_with_engine(engine, loader, spec, job.task, device, n_classes=len(job.classes), on_batch=count)
        except _Enough:
            return images / (time.perf_counter() - start)


def _wait(fabric: Fabric) -> None:
    """Until the device has done what it was told."""
    if fabric.device.type == "cuda":
        torch.cuda.synchronize(fabric.device)

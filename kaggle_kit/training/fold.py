"""Training one fold: model, data, learner, loop, outputs."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from kaggle_kit import files, runs
from kaggle_kit.choices import AVERAGES
from kaggle_kit.config import RunConfig
from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.events import EpochEnded, Event, FoldEnded, FoldStarted, Phase, Reporter, log_lines, phase, tee
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.features import FeatureCache
from kaggle_kit.inference.predict import Compute, predict_with_pixels, prepared_as
from kaggle_kit.inference.several import merged, merged_pixels
from kaggle_kit.machine.device import device_name, make_fabric, precision_of
from kaggle_kit.machine.host import kept_heap
from kaggle_kit.models import image_spec, load_model, model_name, save_model
from kaggle_kit.runs.history import EpochRow
from kaggle_kit.runs.record import FoldRecord, FoldRecorder
from kaggle_kit.runs.snapshots import snapshot_runs
from kaggle_kit.stop import Stop
from kaggle_kit.tables import Predictions
from kaggle_kit.training.averaging import Averaging, keep_epoch, load_epoch
from kaggle_kit.training.checkpoint import Checkpoints, LoopState, new_state
from kaggle_kit.training.data import make_data
from kaggle_kit.training.job import FoldJob
from kaggle_kit.training.learner import Learner, WeightMean, make_learner, make_model
from kaggle_kit.training.loop import fit, validate_average
from kaggle_kit.training.trackers import trackers

logger = logging.getLogger(__name__)


def train_fold(
    job: FoldJob,
    *,
    fabric: Fabric | None = None,
    reporter: Reporter | None = None,
    stop: Stop | None = None,
) -> FoldRecord:
    """Train one fold, from its last checkpoint if there is one, and write its files.

    The folder gets ``model.safetensors``, ``oof.parquet``, ``history.csv``, TensorBoard events and ``fold.json``; meanwhile
    ``last.ckpt`` and ``best.ckpt``, which go when the fold is finished. The caller's random state is left as it was.

    Args:
        fabric: launched; by default made from the configuration.
        reporter: by default log lines. What it raises ends the fold, whose checkpoint is kept.

    Raises:
        StopRequested: ``stop`` asked for it; the checkpoint is written.
        TrainingError, DeviceMemoryError: training cannot go on; ``fold.json`` says why.
        ConfigError, WeightsError, ImageError, StorageError: see the parts.
    """
    fabric = fabric or make_fabric(job.config.hardware)
    reporter, stop = reporter or log_lines(), stop or Stop()
    checkpoints = Checkpoints(job.folder, job.inputs)
    recorder = FoldRecorder(job.folder, job.fold, job.inputs, contents=job.keep_contents(), writes=fabric.is_global_zero)
    with (
        random_state_kept(fabric),
        recorder.follow(),
        kept_heap(fabric.device.type),
        contextlib.ExitStack() as tracked,
    ):
        model, spec = make_model(job)
        state = new_state(fabric.device)
        saved = checkpoints.restore(state)
        if fabric.is_global_zero:
            reporter(started(job, fabric, model, state, resumed=saved is not None))
        track = tracked.enter_context(trackers(job, epochs=len(state.history), writes=recorder.writes))
        around = Surroundings(fabric, checkpoints, tee(noted_in(recorder), track, reporter), stop)
        learner = train_stages(job, model, spec, state, around, saved)
        if fabric.is_global_zero:
            epoch = kept_epoch(job, learner, state, checkpoints)
            # Several processes cannot stop here: the others wait below.
            stop = stop if fabric.world_size == 1 else Stop()
            around = replace(around, stop=stop)
            trained = [row for row in state.history[1:] if row.epoch < state.epoch]
            facts = facts_of(job, fabric, learner.plain, spec, trained)
            save_snapshots(job, learner, spec, facts, around)
            outcome = save_outputs(job, fabric, learner.evaluated, spec, epoch=epoch, stop=stop, reporter=reporter)
            averaged = state.averaged if epoch == state.epoch else None
            fitted = averaged is not None and job.config.average.name == "soup"
            recorder.update(**outcome, **facts, average=averaged, fitted=fitted or None)
            checkpoints.remove()
            tee(track, reporter)(FoldEnded(job.fold, "finished", ended_text(job, recorder.text, epoch)))
        fabric.barrier()
    return recorder.record


@dataclass(frozen=True)
class Surroundings:
    """Where a fold is trained, what keeps its checkpoints, who is told of it and what may stop it."""

    fabric: Fabric
    checkpoints: Checkpoints
    reporter: Reporter
    stop: Stop


def train_stages(
    job: FoldJob, model: nn.Module, spec: ImageSpec, state: LoopState, around: Surroundings, saved: dict[str, Any] | None
) -> Learner:
    """Train from the stage that ``state`` is in to the last one; return the learner of that.

    Weights and their average go on from stage to stage; optimizer and schedule begin anew.

    Args:
        spec: of the last stage, by which all are validated, so that their scores compare.
        saved: what a checkpoint holds of the learner.
    """
    stages, ema = job.config.stage_configs, None
    mean = WeightMean(max(2, round(job.config.average.share * job.epochs))) if job.config.average.name == "swa" else None
    while True:
        staged = job.in_stage(state.stage)
        train_spec = image_spec(model, staged.config.data, job.channels)
        if len(stages) > 1 and around.fabric.is_global_zero:
            around.reporter(Phase(job.fold, _stage_text(state.stage, len(stages), staged.config, train_spec)))
        options: dict[str, Any] = {"reporter": around.reporter, "valid_spec": spec, "epochs": job.epochs}
        with make_data(staged, train_spec, around.fabric, around.stop, **options) as data:
            learner = make_learner(staged, model, data, around.fabric, around.reporter, ema=ema)
            learner.mean, learner.after_epoch = mean, partial(keep_epoch, job, learner, state)
            if saved is not None:
                learner.restore(saved)
            told: dict[str, Any] = {"reporter": around.reporter, "stop": around.stop}
            fit(learner, data, staged.config, state, checkpoints=around.checkpoints, **told)
            if state.stage == len(stages) or state.epoch > job.epochs:
                _average(Averaging(learner, data, staged.config, state, job.folder), job, around)
                return learner
        state.next_stage()
        saved, ema = None, learner.ema
        del learner  # its hooks on the model's parameters go with it


def _average(averaging: Averaging, job: FoldJob, around: Surroundings) -> None:
    """Average the weights of epochs as configured, and validate the average as one more epoch."""
    name, state, model = job.config.average.name, averaging.state, averaging.learner.evaluated
    if name == "none":
        return
    if around.fabric.is_global_zero:
        around.reporter(Phase(job.fold, f"averaging weights ({name})"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state.averaged = AVERAGES.lookup(name)(averaging)
    if state.averaged is None:
        model.load_state_dict(before)
        return
    around.reporter(Phase(job.fold, state.averaged))
    validate_average(averaging.learner, averaging.data, job.config, state, around.checkpoints, around.reporter)


def _stage_text(number: int, stages: int, config: RunConfig, spec: ImageSpec) -> str:
    """Say in words what a stage is."""
    frozen = {0: "", -1: ", head only"}.get(config.model.freeze, f", {config.model.freeze} parts frozen")
    size = f"{spec.height}x{spec.width}, batches of {config.data.batch_size}"
    return f"stage {number} of {stages}: {config.schedule.epochs} epochs at {size}, {config.optimizer.name}{frozen}"


def noted_in(recorder: FoldRecorder) -> Reporter:
    """Return a reporter that notes each epoch in ``fold.json``."""

    def note(event: Event) -> None:
        if isinstance(event, EpochEnded):
            recorder.take(event.row)

    return note


def started(job: FoldJob, fabric: Fabric, model: nn.Module, state: LoopState, *, resumed: bool) -> FoldStarted:
    """Return what to tell of a fold that begins or goes on."""
    rows = f"{len(job.train):,} images to train on, {f'{len(job.valid):,}' if len(job.valid) else 'none'} to validate on"
    device = f"{device_name(fabric)}, {precision_of(fabric)}"
    place = f"; going on from epoch {state.epoch}, batch {state.batch + 1}" if resumed else ""
    return FoldStarted(job.fold, f"{model_name(model)}: {rows}; {device}{place}", state.epoch - 1)


def ended_text(job: FoldJob, score: str, epoch: int) -> str:
    """Return what to tell of a fold that is finished; ``score`` in words."""
    if job.last_epoch is None:
        return f"{score} with the weights of epoch {epoch}"
    return f"trained for {job.last_epoch} epochs, the mean of what its folds keep; it has no score of its own"


def kept_epoch(job: FoldJob, learner: Learner, state: LoopState, checkpoints: Checkpoints) -> int:
    """Put the weights to keep into ``learner.evaluated``; returns their epoch."""
    last = state.history[-1].epoch
    none_kept = state.best_epoch == 0 and not (job.folder / runs.BEST).exists()
    if job.config.keep == "last" or state.best_epoch == last or none_kept:
        return last
    try:
        return checkpoints.load_best(learner.evaluated)
    except (MissingFileError, DataError) as error:
        logger.warning("%s Keeping the weights of the last epoch instead.", error)
        return last


def save_snapshots(job: FoldJob, learner: Learner, spec: ImageSpec, facts: Mapping[str, Any], around: Surroundings) -> None:
    """Write the model of each cycle, with its out-of-fold rows, as a fold of the run that it becomes.

    Raises:
        StopRequested: there was no time left for a prediction.
    """
    if job.last_epoch is not None or not job.config.snapshots:
        return
    model = learner.evaluated
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    for epoch, name in snapshot_runs(job.folder.parent.name, job.config).items():
        load_epoch(job.folder, epoch, model)
        folder = job.folder.parent.with_name(name) / job.folder.name
        cycle = replace(job, folder=folder, origin={**job.origin, "run": name})
        recorder = FoldRecorder(folder, job.fold, job.inputs, contents=cycle.keep_contents())
        with recorder.follow():
            told: dict[str, Any] = {"stop": around.stop, "reporter": around.reporter}
            outcome = save_outputs(cycle, around.fabric, model, spec, epoch=epoch, **told)
            recorder.update(**outcome, **facts)
        around.reporter(Phase(job.fold, f"epoch {epoch} is kept in run {name}: {recorder.text}"))
    model.load_state_dict(kept)


def facts_of(job: FoldJob, fabric: Fabric, model: nn.Module, spec: ImageSpec, trained: Sequence[EpochRow]) -> dict[str, Any]:
    """Return what every finished fold records, however it was trained: entries of :class:`FoldRecord`."""
    seconds = sum(row.seconds for row in trained)
    images = sum(row.images_per_second * row.seconds for row in trained)
    return {
        "state": "finished",
        "metric": job.scorer.name,
        "model": model_name(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epochs": len(trained),
        "image_size": spec.size,
        "images_per_second": round(images / seconds, 2) if seconds else None,
        "n_train": len(job.train),
        "n_valid": len(job.valid),
        "left_out": job.left_out,
        "device": device_name(fabric),
        "precision": precision_of(fabric),
        "weights": job.weights.text,
        "versions": files.versions(),
    }


@contextlib.contextmanager
def random_state_kept(fabric: Fabric) -> Iterator[None]:
    """Give torch's global random state back afterwards, so that nothing leaks into the next fold or the caller."""
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def save_outputs(
    job: FoldJob, fabric: Fabric, model: nn.Module, spec: ImageSpec, *, epoch: int, stop: Stop, reporter: Reporter
) -> dict[str, Any]:
    """Write ``model.safetensors`` and ``oof.parquet``; return the model's fingerprint, epoch and score for the record.

    Without validation rows there is no second file, and the score is NaN.

    Raises:
        StopRequested: there was no time left for the prediction.
    """
    origin = {**job.origin, "epoch": epoch, "weights": job.weights.fingerprint}
    # Without hardware and loader processes: the same training gives the same bytes anywhere.
    meta = {**origin, "config": job.config.shaping()}
    path = job.folder / runs.MODEL
    fingerprint = save_model(path, model, classes=job.classes, spec=spec, task=job.task, meta=meta)
    if len(job.valid) == 0:
        return {"model_fingerprint": fingerprint, "epoch": epoch, "score": math.nan}
    oof, rule = _predict_oof(job, fabric, {**origin, "model_fingerprint": fingerprint}, stop, reporter)
    oof.write(job.folder / runs.OOF)
    score = job.scorer(job.valid.truth, oof.probs)
    return {"model_fingerprint": fingerprint, "epoch": epoch, "score": score, "several": rule}


def _predict_oof(
    job: FoldJob, fabric: Fabric, origin: Mapping[str, Any], stop: Stop, reporter: Reporter
) -> tuple[Predictions, str | None]:
    """Every validation row once, predicted as `kk predict` does; and how an id's images were merged, None without several."""
    compute = compute_of_job(job, fabric)
    rows = job.valid.images
    model = load_model(job.folder / runs.MODEL, root=job.root)
    report = phase(reporter, job.fold, "predicting out of fold")

    def advance(done: int, total: int) -> None:
        report(done, total)
        stop.check()

    probs, pixels = predict_with_pixels(model, rows, compute=compute, progress=advance)  # (M, C), (M, 2)
    meta = {
        **origin,
        "kind": "oof",
        "prepared": prepared_as(model.spec, compute.source),
        "views": "none",
        "merge": "mean",
        "precision": compute.rounding,
        "versions": files.versions(),
    }
    owners, rule = job.valid.owners, job.merger.settled(probs)
    merged_probs = merged(probs, owners, rule, job.task)
    oof = Predictions(owners.ids, merged_probs, job.classes, meta, merged_pixels(pixels, owners))
    return oof, rule if owners.several else None


def compute_of_job(job: FoldJob, fabric: Fabric) -> Compute:
    """How a fold predicts its own training images."""
    return Compute(
        batch_size=job.eval_batch_size,
        workers=job.config.data.workers,
        device=str(fabric.device),
        precision=precision_of(fabric),
        engine=job.config.hardware.engine,
        cache_dir=job.cache_dir,
        source=job.source,
        features=FeatureCache(job.cache_dir, "train"),
    )

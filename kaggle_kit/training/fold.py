"""Training one fold: model, data, learner, loop, outputs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from kaggle_kit import files, runs
from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.events import EpochEnded, Event, FoldEnded, FoldStarted, Reporter, log_lines, phase, tee
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.features import FeatureCache
from kaggle_kit.inference.predict import Compute, predict_with_pixels, prepared_as
from kaggle_kit.inference.several import merged, merged_pixels
from kaggle_kit.machine.device import device_name, make_fabric, precision_of
from kaggle_kit.machine.host import kept_heap
from kaggle_kit.models import load_model, model_name, save_model
from kaggle_kit.runs.history import EpochRow
from kaggle_kit.runs.record import FoldRecord, FoldRecorder
from kaggle_kit.stop import Stop
from kaggle_kit.tables import Predictions
from kaggle_kit.training.checkpoint import Checkpoints, LoopState, new_state
from kaggle_kit.training.data import make_data
from kaggle_kit.training.job import FoldJob
from kaggle_kit.training.learner import Learner, make_learner, make_model
from kaggle_kit.training.loop import fit
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
        with make_data(job, spec, fabric, stop, reporter=reporter) as data:
            learner = make_learner(job, model, data, fabric, reporter)
            state = begin(job, learner, checkpoints, reporter)
            track = tracked.enter_context(trackers(job, epochs=len(state.history), writes=recorder.writes))
            everybody = tee(noted_in(recorder), track, reporter)
            fit(learner, data, job.config, state, checkpoints=checkpoints, reporter=everybody, stop=stop)
        if fabric.is_global_zero:
            epoch = kept_epoch(job, learner, state, checkpoints)
            # Several processes cannot stop here: the others wait below.
            stop = stop if fabric.world_size == 1 else Stop()
            outcome = save_outputs(job, fabric, learner.evaluated, spec, epoch=epoch, stop=stop, reporter=reporter)
            recorder.update(**outcome, **facts_of(job, fabric, learner.plain, spec, state.history[1:]))
            checkpoints.remove()
            tee(track, reporter)(FoldEnded(job.fold, "finished", f"{recorder.text} with the weights of epoch {epoch}"))
        fabric.barrier()
    return recorder.record


def noted_in(recorder: FoldRecorder) -> Reporter:
    """Return a reporter that notes each epoch in ``fold.json``."""

    def note(event: Event) -> None:
        if isinstance(event, EpochEnded):
            recorder.take(event.row)

    return note


def begin(job: FoldJob, learner: Learner, checkpoints: Checkpoints, reporter: Reporter) -> LoopState:
    """The state to train from: that of the last good checkpoint, or a new one; says which."""
    state = new_state(learner.fabric.device)
    resumed = checkpoints.restore(learner, state)
    if learner.fabric.is_global_zero:
        rows = f"{len(job.train):,} images to train on, {len(job.valid):,} to validate on"
        device = f"{device_name(learner.fabric)}, {precision_of(learner.fabric)}"
        place = f"; going on from epoch {state.epoch}, batch {state.batch + 1}" if resumed else ""
        reporter(FoldStarted(job.fold, f"{model_name(learner.plain)}: {rows}; {device}{place}", state.epoch - 1))
    return state


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

    Raises:
        StopRequested: there was no time left for the prediction.
    """
    origin = {**job.origin, "epoch": epoch, "weights": job.weights.fingerprint}
    # Without hardware and loader processes: the same training gives the same bytes anywhere.
    meta = {**origin, "config": job.config.shaping()}
    path = job.folder / runs.MODEL
    fingerprint = save_model(path, model, classes=job.classes, spec=spec, task=job.task, meta=meta)
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

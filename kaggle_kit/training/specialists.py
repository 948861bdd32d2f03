"""Strategy ``specialists``: for each group of confused classes the fold's model of another run is trained further, on the rows
of the group alone, and all become one model with it.

A specialist keeps the outputs of all classes and begins as the general model is; only those of its group count in the end.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from lightning_fabric import Fabric
from torch import nn

from kaggle_kit import runs
from kaggle_kit.errors import DataError
from kaggle_kit.events import EpochEnded, Event, FoldEnded, Phase, Reporter, log_lines, tee
from kaggle_kit.machine.device import make_fabric
from kaggle_kit.metrics import METRICS
from kaggle_kit.models import LoadedModel, combine_models, load_model
from kaggle_kit.runs.history import EpochRow, write_history
from kaggle_kit.runs.record import FoldRecord, FoldRecorder
from kaggle_kit.stop import Stop
from kaggle_kit.tables import Labels, read_predictions
from kaggle_kit.training.fold import facts_of, noted_in, random_state_kept, save_outputs, train_fold
from kaggle_kit.training.job import FoldJob, Rows
from kaggle_kit.training.trackers import trackers

logger = logging.getLogger(__name__)

_METRIC = "log_loss"
"""What tells the best epoch of a specialist: it is defined for rows of some classes alone, and for every task."""


Parts = Mapping[Labels, FoldJob | None]
"""Group of classes -> the job of its specialist; None where there are too few images for one."""


def train_specialists(
    job: FoldJob,
    *,
    fabric: Fabric | None = None,
    reporter: Reporter | None = None,
    stop: Stop | None = None,
) -> FoldRecord:
    """Train the specialists of one fold and write the files of a trained fold; arguments and errors as in :func:`train_fold`.

    Epoch 0 of its history is what the general model scores, epoch 1 what the whole does.
    """
    fabric = fabric or make_fabric(job.config.hardware)
    reporter, stop = reporter or log_lines(), stop or Stop()
    recorder = FoldRecorder(job.folder, job.fold, job.inputs, contents=job.keep_contents(), writes=fabric.is_global_zero)
    with random_state_kept(fabric), recorder.follow():
        general = _general(job)
        parts = {group: _part_of(job, group, number) for number, group in enumerate(job.groups)}
        for group, part in parts.items():
            _train(part, ", ".join(group), fabric, reporter, stop)
        if fabric.is_global_zero:
            _finish(job, fabric, general, parts, recorder, reporter, stop)
            for part in filter(None, parts.values()):
                shutil.rmtree(part.folder)
        fabric.barrier()
    return recorder.record


def _train(part: FoldJob | None, classes: str, fabric: Fabric, reporter: Reporter, stop: Stop) -> None:
    """Train a specialist unless an earlier call has; None: there are too few images for one."""
    if part is None:
        logger.warning("too few images of %s to train a specialist or to validate it; the model stays as it is there", classes)
        return
    if fabric.is_global_zero:
        reporter(Phase(part.fold, f"specialist of {classes}"))
    if not _is_done(part):
        train_fold(part, fabric=fabric, reporter=_without_end(reporter), stop=stop)


def _general(job: FoldJob) -> LoadedModel:
    if job.weights.kind != "run" or job.weights.path is None:
        raise DataError("specialists begin from the model of another run; give its name as init_from.")
    return load_model(job.weights.path, root=job.root)


def _part_of(job: FoldJob, group: Labels, number: int) -> FoldJob | None:
    """Return the job of one specialist, on the rows of its group; None where they are too few."""
    positions = job.classes.encode(group)
    train, valid = (_of_group(rows, positions) for rows in (job.train, job.valid))
    present = train.truth[:, positions].any(axis=0).sum() if train.truth.ndim == 2 else len(np.unique(train.truth))
    if present < 2 or not len(valid):
        return None
    return replace(
        job,
        folder=job.folder / f"specialist{number}",
        metric=_METRIC,
        train=train,
        valid=valid,
        contents=None,
    )


def _of_group(rows: Rows, positions: npt.NDArray[np.int64]) -> Rows:
    """Return the rows that have a class of the group."""
    truth = rows.truth
    return rows.take(np.flatnonzero(truth[:, positions].any(axis=1) if truth.ndim == 2 else np.isin(truth, positions)))


def _is_done(part: FoldJob) -> bool:
    """Return whether an earlier call has trained a specialist from the same inputs."""
    record = runs.read_fold(part.folder, part.fold).record
    return record.finished and record.inputs_fingerprint == part.inputs and (part.folder / runs.MODEL).is_file()


def _without_end(reporter: Reporter) -> Reporter:
    """Return a reporter that is not told that a specialist is finished, which is not the end of the fold."""

    def tell(event: Event) -> None:
        if not isinstance(event, FoldEnded):
            reporter(event)

    return tell


def _combined(job: FoldJob, general: LoadedModel, parts: Parts) -> nn.Module:
    """Return the general model with its specialists; alone where there are none."""
    trained = {group: part for group, part in parts.items() if part is not None}
    if not trained:
        return general.model
    specialists = [load_model(part.folder / runs.MODEL, root=job.root).model for part in trained.values()]
    groups = [job.classes.encode(group).tolist() for group in trained]
    return combine_models(general.model, specialists, groups, multilabel=job.task == "multilabel")


def _finish(
    job: FoldJob,
    fabric: Fabric,
    general: LoadedModel,
    parts: Parts,
    recorder: FoldRecorder,
    reporter: Reporter,
    stop: Stop,
) -> None:
    """Write model, out-of-fold rows, history and record of the fold."""
    whole = _combined(job, general, parts)
    outcome = save_outputs(job, fabric, whole, general.spec, epoch=1, stop=stop, reporter=reporter)
    metric, truth = job.scorer, job.valid.truth
    said = {1: read_predictions(job.folder / runs.OOF)}
    with contextlib.suppress(DataError):  # of a fold table that was extended, it has not predicted the new rows
        said[0] = read_predictions(general.path.with_name(runs.OOF)).take(job.valid.owners.ids)
    rows = {
        epoch: EpochRow(epoch, math.nan, METRICS[_METRIC](truth, one.probs), metric(truth, one.probs), math.nan, 0.0, 0.0)
        for epoch, one in sorted(said.items())
    }
    write_history(job.folder / runs.HISTORY, list(rows.values()), metric.name)
    with trackers(job, epochs=0) as track:
        tee(noted_in(recorder), track, reporter)(EpochEnded(job.fold, rows[1], metric.name, 1, best=True))
        recorder.update(**outcome, **facts_of(job, fabric, whole, general.spec, [rows[1]]))
        compared = f"; {rows[0].score:.4f} without specialists" if 0 in rows else ""
        tee(track, reporter)(FoldEnded(job.fold, "finished", recorder.text + compared))

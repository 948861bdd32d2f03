"""What a trained fold leaves behind: the model, and out-of-fold probabilities from that very file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from kaggle_kit import files, runs
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.features import FeatureCache
from kaggle_kit.inference.predict import Compute, predict_rows
from kaggle_kit.metrics import get_metric
from kaggle_kit.models import load_model, save_model
from kaggle_kit.tables import Predictions
from kaggle_kit.training.devices import precision_of
from kaggle_kit.training.job import FoldJob
from kaggle_kit.training.stopping import Stop


def save_outputs(
    job: FoldJob, fabric: Fabric, model: nn.Module, spec: ImageSpec, *, epoch: int, stop: Stop
) -> tuple[str, float]:
    """Write ``model.safetensors`` and ``oof.parquet``; returns the model's fingerprint and the score of the second.

    Raises:
        StopRequested: there was no time left for the prediction.
    """
    origin = {**job.about(), "epoch": epoch, "weights": job.weights.fingerprint}
    # Without hardware and loader processes: the same training gives the same bytes anywhere.
    meta = {**origin, "config": job.config.shaping()}
    path = job.folder / runs.MODEL
    fingerprint = save_model(path, model, classes=job.folds.classes, spec=spec, task=job.competition.task, meta=meta)
    oof = _predict_oof(job, fabric, {**origin, "model_fingerprint": fingerprint}, stop)
    oof.write(job.folder / runs.OOF)
    return fingerprint, get_metric(job.competition.metric)(job.folds.truth(job.valid_rows), oof.probs)


def _predict_oof(job: FoldJob, fabric: Fabric, origin: Mapping[str, Any], stop: Stop) -> Predictions:
    """Every validation row once, predicted as `kk predict` does."""
    compute = compute_of_job(job, fabric)
    rows = job.files_of(job.valid_rows)
    model = load_model(job.folder / runs.MODEL)
    probs = predict_rows([model], rows, compute=compute, progress=lambda _done, _all: stop.check())[0]  # (N, C)
    meta = {
        **origin,
        "kind": "oof",
        "views": "none",
        "merge": "mean",
        "precision": compute.rounding,
        "versions": files.versions(),
    }
    return Predictions(tuple(row_id for row_id, _ in rows), probs, job.folds.classes, meta)


def compute_of_job(job: FoldJob, fabric: Fabric) -> Compute:
    """How a fold predicts its own training images."""
    return Compute(
        batch_size=job.eval_batch_size,
        workers=job.config.data.workers,
        device=str(fabric.device),
        precision=precision_of(fabric),
        engine=job.config.hardware.engine,
        cache_dir=job.workspace.cache_dir,
        source=job.source,
        features=FeatureCache(job.workspace.cache_dir, "train"),
    )

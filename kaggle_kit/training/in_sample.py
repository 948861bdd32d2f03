"""What models say of the rows that they were trained on, for runs that learn from that; kept beside the models."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from kaggle_kit import runs
from kaggle_kit.competition import Competition
from kaggle_kit.errors import DataError
from kaggle_kit.inference.features import FeatureCache
from kaggle_kit.inference.predict import predict_with_pixels
from kaggle_kit.inference.run import compute_of
from kaggle_kit.inference.several import MEAN, merged, merged_pixels, owners_of
from kaggle_kit.models import load_model
from kaggle_kit.runs import FoldRun, Run
from kaggle_kit.tables import FoldTable, Predictions, read_folds, read_prediction_meta
from kaggle_kit.teachers import Teachers
from kaggle_kit.training.job import images_of
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)


def predict_in_sample(workspace: Workspace, competition: Competition, teachers: Iterable[Teachers]) -> None:
    """Write ``in_sample.parquet`` of each model that some fold learns from, where it is missing or of another model.

    Raises:
        ImageError: images of the fold table cannot be read; lists all of them.
        DataError, FoldError: a model or its fold table is missing, damaged or of other data.
    """
    wanted = {(run.name, fold.fold): (run, fold) for one in teachers for run, folds in one.models for fold in folds}
    for run, fold in wanted.values():
        if not _is_current(fold):
            _predict(workspace, competition, run, fold, read_folds(workspace.folds_path(run.record.folds)))


def _is_current(fold: FoldRun) -> bool:
    try:
        meta = read_prediction_meta(fold.path / runs.IN_SAMPLE)
    except DataError:
        return False
    return bool(meta.get("model_fingerprint") == fold.record.model_fingerprint)


def _predict(workspace: Workspace, competition: Competition, run: Run, fold: FoldRun, folds: FoldTable) -> None:
    train, _ = folds.split(fold.fold)
    left_out = set(fold.record.left_out)
    ids = [row_id for row in train.tolist() if (row_id := folds.ids[row]) not in left_out]
    rows = [(row_id, path) for row_id, paths in zip(ids, images_of(competition, ids), strict=True) for path in paths]
    logger.info("run %s, fold %d: predicting the %d images that it was trained on", run.name, fold.fold, len(rows))
    model = load_model(fold.path / runs.MODEL, root=workspace.root)
    compute = replace(compute_of(workspace, run), features=FeatureCache(workspace.cache_dir, "train"))
    probs, pixels = predict_with_pixels(model, rows, compute=compute)
    owners = owners_of(rows)
    probs, pixels = merged(probs, owners, fold.record.several or MEAN, model.task), merged_pixels(pixels, owners)
    meta = {"kind": "in-sample", "run": run.name, "fold": fold.fold, "views": "none", "model_fingerprint": model.fingerprint}
    Predictions(owners.ids, probs, model.classes, meta, pixels).write(fold.path / runs.IN_SAMPLE)

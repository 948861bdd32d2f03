"""The weights that each fold of a run begins from: pretrained ones, or the models of an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kaggle_kit import files
from kaggle_kit.competition import Setup
from kaggle_kit.config import HeadConfig
from kaggle_kit.errors import DataError
from kaggle_kit.fold_names import fold_text
from kaggle_kit.models import Weights, find_weights
from kaggle_kit.runs.model_header import read_model_record
from kaggle_kit.runs.warm_start import models_of
from kaggle_kit.tables import FoldTable


def starting_weights(setup: Setup, folds: FoldTable, fold_list: Sequence[int]) -> dict[int, Weights]:
    """Return fold -> what it begins from: ``model.pretrained``, or the same fold of the run ``init_from``.

    Raises:
        ConfigError, MissingFileError, FoldError: see :func:`~kaggle_kit.runs.warm_start.models_of`.
        WeightsError: the pretrained weights were not found.
    """
    config, name = setup.config.run, setup.config.run.init_from
    if name is None:
        found = _told_heads(find_weights(config.model.name, config.model.pretrained), folds, config.model.head)
        return dict.fromkeys(fold_list, found)
    about = {"model": config.model.name, "competition": setup.competition.name}
    models = models_of(setup.workspace, name, **about, folds=folds, fold_list=fold_list)
    weights = {}
    for fold, path in models.items():
        text = f"weights of {fold_text(fold)} of run {name}"
        found = Weights("run", path, text, files.file_fingerprint(path))
        weights[fold] = _told_heads(found, folds, config.model.head)
    return weights


def _told_heads(weights: Weights, folds: FoldTable, head: HeadConfig) -> Weights:
    """Return ``weights`` that say whether their classifier is one for these classes, in this order."""
    if weights.path is None or weights.path.suffix != ".safetensors":
        return weights
    try:
        record = read_model_record(weights.path)
    except DataError:  # of timm or of a hub
        return weights
    theirs = {key: value for key, value in (record.get("head") or {}).items() if key != "features"}
    fits = tuple(record.get("classes", ())) == folds.classes.names and HeadConfig(**theirs) == head
    return replace(weights, text=weights.text + ("" if fits else "; its head begins anew"), head_fits=fits)

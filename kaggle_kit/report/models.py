"""What the models of a subject are: size, time, filters of the first layer, and what they look at."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaggle_kit import diagnosis, figures, runs
from kaggle_kit.errors import ConfigError, KaggleKitError
from kaggle_kit.fold_names import FULL, fold_name
from kaggle_kit.metrics import METRICS, predicted_labels
from kaggle_kit.report.blocks import Block, Gallery, Notes, Table, plot
from kaggle_kit.report.gallery import Picture
from kaggle_kit.report.subjects import Subject
from kaggle_kit.report.thumbnails import data_uri, make_thumbnail
from kaggle_kit.runs import FoldRun, Run
from kaggle_kit.tables import shown
from kaggle_kit.workspace import Workspace

_MOST_CAMS = 24
_CAM_SIDE = 224
_COLUMNS = ("run", "fold", "model", "parameters", "MB", "epoch", "loss", "score", "seconds", "img/s", "device")


def model_blocks(workspace: Workspace, subject: Subject) -> list[Block] | str:
    """Return the table of models, a row a fold of the run or of each run of the blend, and what one image takes."""
    members = [subject.run] if subject.run is not None else _members(workspace, subject)
    if not members:
        return "the runs that this was made of are not here"
    rows = [_row(run, fold, subject) for run in members for fold in (*run.folds, run.full) if fold.finished]
    table = pd.DataFrame(rows, columns=list(_COLUMNS)).dropna(axis=1, how="all")
    if len(members) == 1:
        table = table.drop(columns="run")
    found = {run.name: _latency(run) for run in members}
    known = [f"{name}: {value:.1f} ms" for name, value in found.items() if not math.isnan(value)]
    lines = [f"One decoded image on one core of this machine, by PyTorch: {shown(known)}."] if known else []
    if any(run.full.finished for run in members):
        lines.append("full: trained on all data, for as long as the folds on average; it has no score of its own")
    if "loss" in table:
        lines.append("loss: log loss of the fold's out-of-fold rows")
    return [Table(table), Notes([*lines, "MB: of the model's file"])]


def _members(workspace: Workspace, subject: Subject) -> list[Run]:
    """Return the runs of a blend that are still here."""
    found = []
    for entry in subject.record.runs if subject.record is not None else ():
        with contextlib.suppress(KaggleKitError):
            found.append(runs.read_run(workspace, entry.name))
    return found


def _row(run: Run, fold: FoldRun, subject: Subject) -> dict[str, Any]:
    record, path = fold.record, fold.path / runs.MODEL
    own = (subject.scored.folds == fold.fold) & (fold.fold != FULL)
    loss = math.nan
    if subject.run is not None and own.any():
        loss = METRICS["log_loss"](subject.scored.truth[own], subject.scored.probs[own])
    return {
        "run": run.name,
        "fold": fold_name(fold.fold),
        "model": record.model or run.record.config.model.name,
        "parameters": "" if record.parameters is None else f"{record.parameters:,}",
        "MB": f"{path.stat().st_size / 1e6:.1f}" if path.is_file() else "",
        "epoch": record.epoch,
        "loss": loss,
        "score": record.score,
        "seconds": f"{record.seconds:,.0f}",
        "img/s": None if record.images_per_second is None else f"{record.images_per_second:,.0f}",
        "device": " ".join(filter(None, [record.device, record.precision])) or None,
    }


def _latency(run: Run) -> float:
    from kaggle_kit.inference.latency import latency_of_one

    try:
        return latency_of_one(run.finished_folds()[0].path / runs.MODEL)
    except KaggleKitError:
        return math.nan


def filter_blocks(subject: Subject) -> list[Block] | str:
    """Return the filters of the first layer of the run's first finished fold, or why there are none."""
    if subject.run is None:
        return "a blend has no layer of its own; see the pages of its runs"
    fold = subject.run.finished_folds()[0]
    weights = first_layer(fold.path / runs.MODEL)
    if weights is None:
        return "the model has no first convolution of colours"
    caption = f"Filters of the first layer, fold {fold.fold}: {len(weights)} of {weights.shape[2]}x{weights.shape[3]} pixels."
    return [plot(figures.plot_filters(weights), caption)]


def first_layer(path: Path) -> npt.NDArray[np.float32] | None:
    """Return (F, 3, H, W), the first convolution of a model file that takes colours; None where there is none to read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                shape = file.get_slice(name).get_shape()
                if len(shape) == 4 and shape[1] == 3 and min(shape[2:]) > 1:
                    return np.asarray(file.get_tensor(name), dtype=np.float32)
    except (OSError, SafetensorError, TypeError, ValueError):
        return None
    return None


def gradcam_blocks(subject: Subject, asked: str) -> list[Block] | str:
    """Return what the models looked at in some images, by the fold that had not seen them.

    Args:
        asked: ids of images with commas between them, or a number of the surest mistakes; "" for none.

    Raises:
        ConfigError: there is no such image among the rows.
    """
    if not asked:
        return "not asked for: --gradcam 8 shows it for the 8 surest mistakes, --gradcam ID,ID for images of your choice"
    if subject.run is None:
        return "Grad-CAM is of one model; make the page of a run"
    pictures, problems = [], []
    for row in _chosen_rows(subject, asked):
        try:
            pictures += _explained(subject, subject.run, row)
        except KaggleKitError as error:
            problems.append(f"{subject.scored.ids[row]}: {error}")
    if not pictures:
        return shown(problems) or "no row was chosen"
    words = (
        "Each image as the model sees it, and under the heat of where it speaks for what was predicted; by the model of the "
        "fold that was not trained on it."
    )
    return [Gallery(pictures, "Grad-CAM"), Notes([words, *problems])]


def _chosen_rows(subject: Subject, asked: str) -> list[int]:
    scored = subject.scored
    where = {row_id: row for row, row_id in enumerate(scored.ids)}
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if len(names) == 1 and names[0].isdigit() and names[0] not in where:
        right, sure = scored.sureness
        return list(map(int, diagnosis.surest_mistakes(right, sure, min(int(names[0]), _MOST_CAMS))))
    unknown = [name for name in names if name not in where]
    if unknown:
        raise ConfigError(
            f"--gradcam: {subject.name} has no out-of-fold rows {shown(unknown)}; ids look like {scored.ids[0]!r}."
        )
    return [where[name] for name in names[:_MOST_CAMS]]


def _explained(subject: Subject, run: Run, row: int) -> list[Picture]:
    from kaggle_kit.inference.gradcam import explain
    from kaggle_kit.models import load_model

    scored = subject.scored
    path = run.path / f"fold{max(int(scored.folds[row]), 0)}" / runs.MODEL
    position = int(predicted_labels(scored.probs[[row]], multilabel=False)[0])
    right, sure = scored.sureness
    mark: Any = "right" if right[row] else "wrong"
    pictures = []
    for pixels, note in zip(explain(load_model(path), subject.paths[scored.ids[row]], position), ("", "Grad-CAM"), strict=True):
        made = make_thumbnail(pixels, side=_CAM_SIDE)
        said: dict[str, Any] = {
            "label": scored.names(row),
            "predicted": scored.classes.decode([position])[0],
            "probability": float(sure[row]),
        }
        pictures.append(Picture(scored.ids[row], data_uri(made), made.width, made.height, **said, note=note, mark=mark))
    return pictures

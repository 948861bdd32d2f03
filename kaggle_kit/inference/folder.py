"""Predicting any folder of images with trained models: no competition, no folds, no workspace."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaggle_kit import files, runs
from kaggle_kit.choices import INT8
from kaggle_kit.competition import open_setup
from kaggle_kit.competition.scan import IMAGE_SUFFIXES
from kaggle_kit.config import load_config
from kaggle_kit.errors import ImageError, MissingFileError
from kaggle_kit.fold_names import fold_folders
from kaggle_kit.images.decode import Progress
from kaggle_kit.inference.predict import Compute, Probs, Rows, by_spec, common, predict_rows
from kaggle_kit.inference.run import calibration_of
from kaggle_kit.inference.workers import read_notes, tolerant_source
from kaggle_kit.models import LoadedModel, load_model
from kaggle_kit.runs.view_record import views_of_model
from kaggle_kit.tables import Predictions
from kaggle_kit.views import is_auto
from kaggle_kit.workspace import Workspace

_LOG = logging.getLogger(__name__)
_UNTUNED = 0.5


def find_models(source: Path) -> list[Path]:
    """The model files of ``source``: the file itself, or those in a run folder or a fold folder, in order of folds
    (that of all data first).

    Raises:
        MissingFileError: there is no model.
    """
    source = Path(source)
    if source.is_file():
        return [source]
    folders = [source, *fold_folders(source).values()] if source.is_dir() else []
    found = [path for folder in folders if (path := folder / runs.MODEL).is_file()]
    if not found:
        raise MissingFileError(f"no {runs.MODEL} in {source}; expected a model file, a fold folder or a run folder.")
    return found


def find_images(folder: Path) -> list[tuple[str, Path]]:
    """Return all images below ``folder`` as (path relative to it, file), sorted; hidden files and folders are left out.

    A single image file is returned under its name.

    Raises:
        MissingFileError: there is no such folder or image, or no image in the folder.
    """
    folder = Path(folder)
    if folder.is_file() and folder.suffix.lower() in IMAGE_SUFFIXES:
        return [(folder.name, folder)]
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder; expected one with images, or an image file.")
    found = [
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise MissingFileError(f"no images in {folder}; looked for files ending in {', '.join(sorted(IMAGE_SUFFIXES))}.")
    return sorted(found)


def predict_to_csv(
    images: Path,
    out: Path,
    *,
    run: str | None = None,
    tta: str = "none",
    merge: str = "mean",
    engine: str = "auto",
    progress: Progress | None = None,
) -> Predictions:
    """Predict a folder of ``images``, or one of them, and write a CSV: id, predicted class, a probability a class.

    Several predicted classes have ``|`` between them.

    Classes of a multi-label task are named by the thresholds of the newest blend of these runs, see :func:`thresholds_of`.
    Returns what :func:`predict_folder` returns; images that cannot be read are listed in the log and have no row.

    Args:
        run: runs of the workspace one stands in, separated by commas, or the path of a run folder or model file; None: the
            newest run here.

    Raises:
        MissingFileError: there is no such run; and what :func:`predict_folder` raises.
    """
    workspace = Workspace(Path())
    paths = run_paths(workspace, run)
    calibration = calibration_of(engine, open_setup(workspace).competition) if engine == INT8 else ()
    compute = Compute(engine=engine, cache_dir=workspace.cache_dir, calibration=calibration)
    models = [find_models(path) for path in paths]
    found = predict_folder(models, images, tta=tta, merge=merge, compute=compute, progress=progress)
    if found.meta["task"] == "multilabel":
        threshold, at_least_one = thresholds_of(workspace, [path.name for path in paths], len(found.classes))
        labels = ["|".join(row) for row in found.classes.above(found.probs, threshold, at_least_one=at_least_one)]
    else:
        labels = found.classes.top(found.probs)
    columns = ["id", "predicted", *(f"p_{name}" for name in found.classes)]
    cells = zip(found.ids, labels, *found.probs.T.round(6).astype(str), strict=True)
    files.write_table(out, pd.DataFrame(list(cells), columns=columns))
    return found


def thresholds_of(workspace: Workspace, names: Sequence[str], n_classes: int) -> tuple[npt.ArrayLike, bool]:
    """Return from which probability on a class is named, and whether each row gets at least one.

    The thresholds are those that the newest blend of exactly these runs was written with, else of the newest blend that these
    runs are part of, else that of ``kk.yaml``, else 0.5.
    """
    threshold: npt.ArrayLike = _UNTUNED
    at_least_one = False
    if workspace.config_path.is_file():
        form = load_config(workspace.config_path).competition.submission
        threshold, at_least_one = form.threshold, form.empty_label is None
    tuned = [record for record in _blends(workspace, n_classes) if set(names) <= record[1]]
    if tuned:
        _, _, threshold = max(tuned, key=lambda record: (record[1] == set(names), record[0]))
    return threshold, at_least_one


def _blends(workspace: Workspace, n_classes: int) -> list[tuple[str, set[str], tuple[float, ...]]]:
    """Return when each blend with tuned thresholds was made, of which runs, and the thresholds."""
    return [
        (record.created or "", {run.name for run in record.runs}, record.thresholds)
        for _, record in runs.blend_records(workspace.submissions_dir)
        if record.thresholds is not None and len(record.thresholds) == n_classes
    ]


def run_paths(workspace: Workspace, run: str | None) -> list[Path]:
    """Return the folders of the runs that are named, or the one path that is given."""
    if run is not None and Path(run).exists():
        return [Path(run)]
    known = runs.list_runs(workspace)
    if run is None and not known:
        raise MissingFileError("no runs here. Run `kk train` first, or name a run folder or a model file with --run PATH.")
    names = known[-1:] if run is None else [name.strip() for name in run.split(",") if name.strip()]
    return [runs.read_run(workspace, name).path for name in dict.fromkeys(names)]


def predict_folder(
    models: Sequence[Path] | Sequence[Sequence[Path]],
    folder: Path,
    *,
    tta: str = "none",
    merge: str = "mean",
    compute: Compute | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Predict every image below ``folder``: the mean over the models of a run (see :func:`find_models`), then over runs.

    Args:
        models: the models of one run, or of several, a sequence each.

    Returns:
        A row an image that can be read; ids are paths relative to ``folder``. Its ``meta`` says which ones cannot, and why.

    Raises:
        MissingFileError: there is no image or no model.
        ClassMappingError: the models have different classes.
        ImageError: no image can be read.
    """
    of_runs = [[one] if isinstance(one, Path) else list(one) for one in models]
    if all(isinstance(one, Path) for one in models):
        of_runs = [[path for some in of_runs for path in some]]
    said = predict_each(of_runs, find_images(folder), tta=tta, merge=merge, compute=compute, progress=progress)
    flat = [model for some in said.models for model in some]
    meta = {
        "kind": "new",
        "views": tta,
        "merge": merge,
        "task": flat[0].task,
        "models": [model.fingerprint for model in flat],
        "unreadable": said.unreadable,
        "versions": files.versions(),
    }
    means = [part.mean(axis=0, dtype="float64") for part in said.of_runs]
    return Predictions(said.ids, np.mean(means, axis=0).astype("float32"), flat[0].classes, meta)


@dataclass(frozen=True)
class EachModel:
    """What each of several models says of some images.

    Attributes:
        ids: N images that can be read.
        models: those of each run.
        of_runs: for each run (M, N, C) what its M models say.
        unreadable: id -> why an image cannot be read.
    """

    ids: tuple[str, ...]
    models: tuple[tuple[LoadedModel, ...], ...]
    of_runs: tuple[Probs, ...]
    unreadable: dict[str, str]


def predict_each(
    of_runs: Sequence[Sequence[Path]],
    rows: Rows,
    *,
    tta: str = "none",
    merge: str = "mean",
    compute: Compute | None = None,
    progress: Progress | None = None,
) -> EachModel:
    """Predict ``rows`` with every model of every run; arguments and errors as of :func:`predict_folder`."""
    loaded = tuple(tuple(load_model(path) for path in paths) for paths in of_runs)
    flat = [model for some in loaded for model in some]
    common(flat)
    with tempfile.TemporaryDirectory() as notes:
        texts = [views_of_model(model.path) if is_auto(tta) else tta for model in flat]
        found = _predict_by_spec(flat, rows, compute or Compute(), Path(notes), (texts, merge), progress)
        reasons = read_notes(Path(notes))
    unreadable = _listed({row_id: reasons[path] for row_id, path in rows if path in reasons}, len(rows))
    keep = np.array([row_id not in unreadable for row_id, _ in rows], dtype=bool)
    parts = np.split(found[:, keep], np.cumsum([len(some) for some in loaded])[:-1])
    return EachModel(tuple(row_id for row_id, _ in rows if row_id not in unreadable), loaded, tuple(parts), unreadable)


def _listed(unreadable: dict[str, str], images: int) -> dict[str, str]:
    """Warn of images (id -> reason) that cannot be read, and return them.

    Raises:
        ImageError: none of all ``images`` can be read.
    """
    listed = "\n  ".join(f"{row_id}: {reason}" for row_id, reason in unreadable.items())
    text = f"{len(unreadable)} of {images} images cannot be read"
    if len(unreadable) == images:
        raise ImageError(f"{text}; there is nothing to predict:\n  {listed}")
    if unreadable:
        _LOG.warning("%s and are left out:\n  %s", text, listed)
    return unreadable


def _predict_by_spec(
    models: Sequence[LoadedModel],
    rows: Rows,
    compute: Compute,
    notes: Path,
    how: tuple[Sequence[str], str],
    progress: Progress | None,
) -> Probs:
    """Return what each model says, (M, N, C); images that cannot be read are noted in ``notes``.

    Args:
        how: the views of each model, and how they are merged.
    """
    alike = by_spec(models)
    found = np.zeros((len(models), len(rows), len(models[0].classes)), dtype=np.float32)
    for number, positions in enumerate(alike.values()):
        some = [models[position] for position in positions]
        source = tolerant_source(compute.source, some[0], notes)

        def advance(done: int, of: int, passed: int = number) -> None:
            if progress is not None:
                progress(passed * of + done, len(alike) * of)

        found[positions] = predict_rows(
            some,
            rows,
            tta=[how[0][position] for position in positions],
            merge=how[1],
            compute=replace(compute, source=source),
            progress=advance,
        )
    return found

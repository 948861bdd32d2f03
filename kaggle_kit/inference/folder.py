"""Predicting any folder of images with trained models: no competition, no folds, no workspace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kaggle_kit import files, runs
from kaggle_kit.competition.scan import IMAGE_SUFFIXES
from kaggle_kit.errors import MissingFileError
from kaggle_kit.inference.predict import Compute, Progress, predict_rows
from kaggle_kit.models import load_model
from kaggle_kit.tables import Predictions
from kaggle_kit.workspace import Workspace


def find_models(source: Path) -> list[Path]:
    """The model files of ``source``: the file itself, or those in a run folder or a fold folder, in order of folds.

    Raises:
        MissingFileError: there is no model.
    """
    source = Path(source)
    if source.is_file():
        return [source]
    own = source / runs.MODEL
    found = [own] if own.is_file() else list(source.glob(f"fold*/{runs.MODEL}"))
    if not found:
        raise MissingFileError(f"no {runs.MODEL} in {source}; expected a model file, a fold folder or a run folder.")
    return sorted(found, key=lambda path: (len(path.parent.name), path.parent.name))


def find_images(folder: Path) -> list[tuple[str, Path]]:
    """All images below ``folder`` as (path relative to it, file), sorted; hidden files and folders are left out.

    Raises:
        MissingFileError: there is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder; expected one with images.")
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
    views: str = "none",
    merge: str = "mean",
    engine: str = "auto",
    progress: Progress | None = None,
) -> Predictions:
    """Predict the folder ``images`` and write a CSV: id, predicted class (or classes, with ``|``), a probability a class.

    Returns what :func:`predict_folder` returns.

    Args:
        run: a run of the workspace one stands in, or the path of a run folder or model file; None: the newest run here.

    Raises:
        MissingFileError: there is no such run; and what :func:`predict_folder` raises.
    """
    models = find_models(_run_path(run))
    compute = Compute(engine=engine, cache_dir=Workspace(Path()).cache_dir)
    found = predict_folder(models, images, views=views, merge=merge, compute=compute, progress=progress)
    if found.meta["task"] == "multilabel":
        labels = ["|".join(row) for row in found.classes.above(found.probs)]
    else:
        labels = found.classes.top(found.probs)
    columns = ["id", "predicted", *(f"p_{name}" for name in found.classes)]
    cells = zip(found.ids, labels, *found.probs.T.round(6).astype(str), strict=True)
    files.write_table(out, pd.DataFrame(list(cells), columns=columns))
    return found


def _run_path(run: str | None) -> Path:
    if run is not None and Path(run).exists():
        return Path(run)
    workspace = Workspace(Path())
    known = runs.list_runs(workspace)
    if run is None and not known:
        raise MissingFileError("no runs here. Run `kk train` first, or name a run folder or a model file with --run PATH.")
    return runs.read_run(workspace, run if run is not None else known[-1]).path


def predict_folder(
    models: Sequence[Path],
    folder: Path,
    *,
    views: str = "none",
    merge: str = "mean",
    compute: Compute | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Predict every image below ``folder``: the mean over ``models`` (see :func:`find_models`).

    Returns:
        A row an image; ids are paths relative to ``folder``.

    Raises:
        MissingFileError: there is no image or no model.
        ClassMappingError: the models have different classes.
        ImageError: images cannot be read; lists all of them.
    """
    rows = find_images(folder)
    loaded = [load_model(path) for path in models]
    probs = predict_rows(loaded, rows, views=views, merge=merge, compute=compute, progress=progress)
    meta = {
        "kind": "new",
        "views": views,
        "merge": merge,
        "task": loaded[0].task,
        "models": [model.fingerprint for model in loaded],
        "versions": files.versions(),
    }
    ids = tuple(row_id for row_id, _ in rows)
    return Predictions(ids, probs.mean(axis=0, dtype="float64").astype("float32"), loaded[0].classes, meta)

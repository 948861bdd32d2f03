"""The map of a subject's rows: features, or what was predicted, laid out in a plane so that like lies beside like."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import diagnosis, figures, files
from kaggle_kit.errors import StorageError
from kaggle_kit.figures.features import MOST_COLOURS
from kaggle_kit.report.blocks import Block, Notes, plot
from kaggle_kit.report.subjects import Subject
from kaggle_kit.runs.scored import Scored
from kaggle_kit.sparse import kept_columns
from kaggle_kit.workspace import Workspace

MOST = 2000
"""Rows of a map, drawn by chance; more take longer and hide each other."""
LEAST = 12
_SECONDS = 60.0
_COMPONENTS = 50
_ITERATIONS = 360  # half of what is usual: the heaps of 2,000 points stand by then
_VERSION = 1  # of what lies in the cache


@dataclass(frozen=True)
class Mapped:
    """Points (M, 2) of rows (M,) of the subject, and what they were made from in words."""

    rows: npt.NDArray[np.int64]
    points: npt.NDArray[np.float32]
    text: str


def map_blocks(workspace: Workspace, subject: Subject) -> list[Block] | str:
    """Return the map as blocks, or why there is none."""
    if len(subject.scored) < LEAST:
        return f"a map needs at least {LEAST} rows, there are {len(subject.scored)}"
    found = map_of(workspace, subject)
    scored = subject.scored.take(found.rows)
    groups, names = colour_groups(scored)
    right, _ = scored.sureness
    words = "like lies beside like, distances between heaps say little"
    caption = f"Map of {len(found.rows):,} images by t-SNE of {found.text}: {words}."
    return [plot(figures.plot_map(found.points, groups, names, right), caption), Notes(_about_groups(scored, names))]


def map_of(workspace: Workspace, subject: Subject) -> Mapped:
    """Return a map of up to ``MOST`` rows; the same rows and features are laid out once."""
    rows = np.arange(len(subject.scored))
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST, replace=False))
    rows, features, text = _features(workspace, subject, rows)
    key = files.fingerprint([_VERSION, features.shape, hashlib.sha256(np.ascontiguousarray(features).tobytes()).hexdigest()])
    cached = workspace.cache_dir / "maps" / f"{key[:32]}.npy"
    points = _read(cached, len(rows))
    if points is None:
        points = lay_out(features)
        _write(cached, points)
    return Mapped(rows, points, text)


def _features(workspace: Workspace, subject: Subject, rows: npt.NDArray[np.int64]) -> tuple[Any, Any, str]:
    """Return rows with features and what these are: of images where a model gives them, else what was predicted."""
    scored = subject.scored
    there = np.array([subject.scored.ids[row] in subject.paths for row in rows.tolist()], dtype=bool)
    if subject.run is not None and there.all():
        from kaggle_kit.inference.embedding import embed_images

        images = [(scored.ids[row], subject.paths[scored.ids[row]]) for row in rows.tolist()]
        found = embed_images(subject.run, images, scored.folds[rows], cache_dir=workspace.cache_dir, seconds=_SECONDS)
        if found is not None and len(found.rows) >= LEAST:
            return rows[found.rows], found.features, found.text
    logs = np.log(np.clip(scored.probs[rows].astype(np.float64), 1e-6, 1))
    return rows, (logs - logs.mean(axis=1, keepdims=True)).astype(np.float32), "what was predicted of them (log probabilities)"


def lay_out(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return points (N, 2) of ``features`` (N, F) by t-SNE: openTSNE's, or where it is not installed scikit-learn's."""
    from sklearn.decomposition import PCA

    components = min(_COMPONENTS, *features.shape)
    reduced = PCA(components, random_state=0).fit_transform(features) if components > 1 else np.repeat(features, 2, axis=1)
    settings: dict[str, Any] = {"perplexity": min(30.0, (len(features) - 1) / 3), "random_state": 0}
    try:
        from openTSNE import TSNE
    except ImportError:
        from sklearn.manifold import TSNE as OTHER

        return np.asarray(OTHER(init="pca", **settings).fit_transform(reduced), dtype=np.float32)
    # One thread and no search tree: of so few rows, two threads beside other work take 16 CPU seconds, one takes 4.
    settings |= {"early_exaggeration_iter": _ITERATIONS // 3, "n_iter": _ITERATIONS, "n_jobs": 1, "neighbors": "exact"}
    return np.asarray(TSNE(initialization="pca", **settings).fit(reduced), dtype=np.float32)


def colour_groups(scored: Scored) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the colour of each row, (N,), -1 for grey, and what each colour stands for.

    Of many classes the most confused are coloured, of thousands the most frequent; of multi-label rows the most frequent sets
    of labels.
    """
    if scored.multilabel:
        sets = [scored.names(row) or "no label" for row in range(len(scored))]
        names = [name for name, _ in Counter(sets).most_common(MOST_COLOURS)]
        return np.array([names.index(one) if one in names else -1 for one in sets], dtype=np.int64), names
    chosen = np.arange(len(scored.classes))
    if kept_columns(len(chosen)):
        chosen = np.argsort(-np.bincount(scored.truth, minlength=len(chosen)), kind="stable")[:MOST_COLOURS]
    elif len(chosen) > MOST_COLOURS:
        chosen = diagnosis.most_confused(scored.counts, MOST_COLOURS)
    place = np.full(len(scored.classes), -1)
    place[chosen] = np.arange(len(chosen))
    return place[scored.truth], scored.classes.decode(chosen)


def _about_groups(scored: Scored, names: list[str]) -> list[str]:
    if scored.multilabel:
        return ["Colours are the most frequent sets of labels."]
    how = "frequent" if kept_columns(len(scored.classes)) else "confused"
    return [f"Colours are the most {how} classes."] if len(names) < len(scored.classes) else []


def _read(path: Path, rows: int) -> npt.NDArray[np.float32] | None:
    """Return kept points; None where there are none that fit."""
    try:
        points = np.load(path, allow_pickle=False)
        return points if points.shape == (rows, 2) and np.isfinite(points).all() else None
    except files.DAMAGE:
        return None


def _write(path: Path, points: npt.NDArray[np.float32]) -> None:
    """Keep points; a cache that cannot be written costs time, nothing else."""
    with contextlib.suppress(OSError, StorageError), files.atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, points, allow_pickle=False)

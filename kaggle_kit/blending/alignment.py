"""Bringing several runs to one class order and one row order, by name and by id."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kaggle_kit.blending.base import RowsOf, Stack
from kaggle_kit.errors import DataError
from kaggle_kit.sparse import SparseRows
from kaggle_kit.tables import Classes, Predictions, shown

MEMORY_BYTES = 1 << 30
"""A stack larger than this lies in a temporary file that is mapped into memory, not in memory."""


@dataclass(frozen=True)
class Aligned:
    """Runs that may be blended.

    Attributes:
        names: M names of runs.
        ids: N ids, in the order of the first run.
        stack: M arrays (N, C) in the order of ``classes``.
        dropped: how many ids were left out since some run lacks them.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...]
    stack: Stack
    classes: Classes
    dropped: int = 0


def align_runs(
    runs: Iterable[tuple[str, Predictions]],
    classes: Classes,
    *,
    common: bool = False,
    n_runs: int = 1,
    scratch: Path | None = None,
) -> Aligned:
    """Align predictions of several runs; they are taken one by one, so an iterator need not hold them all.

    Args:
        runs: (name, predictions) pairs.
        classes: the column order wanted.
        common: keep the ids that all runs hold, when they differ; otherwise differing ids are an error.
        n_runs: how many there are about to be, which decides where the stack is kept.
        scratch: folder for the temporary file of a stack over 1 GiB; it is gone when the stack is.

    Raises:
        ClassMappingError: a run holds other classes; names them.
        DataError: no runs, differing ids without ``common``, or no id in common.
    """
    names: list[str] = []
    ids_of: list[tuple[str, ...]] = []
    stack: list[npt.NDArray[np.float32]] = []
    for name, predictions in runs:
        aligned = predictions.align(classes, here="the competition", there=f"run {name}")
        if ids_of and aligned.ids != ids_of[0] and set(aligned.ids) == set(ids_of[0]):
            aligned = aligned.take(ids_of[0])
        names.append(name)
        ids_of.append(aligned.ids)
        stack.append(_kept(aligned.probs, n_runs, scratch))
    if not names:
        raise DataError("nothing to blend: no runs were given.")
    if all(ids == ids_of[0] for ids in ids_of):
        return Aligned(tuple(names), ids_of[0], stack, classes)
    shared = set(ids_of[0]).intersection(*ids_of[1:])
    everything = set().union(*ids_of)
    if not common or not shared:
        raise DataError(_differing(names, ids_of, shared))
    ids = tuple(row_id for row_id in ids_of[0] if row_id in shared)
    rows = [RowsOf([probs], _positions(own, ids))[0] for probs, own in zip(stack, ids_of, strict=True)]
    return Aligned(tuple(names), ids, rows, classes, len(everything) - len(ids))


def _kept(probs: npt.NDArray[np.float32], n_runs: int, scratch: Path | None) -> npt.NDArray[np.float32]:
    """``probs`` itself, or when the whole stack is large a copy in a mapped file without a name."""
    if isinstance(probs, SparseRows) or probs.nbytes * n_runs <= MEMORY_BYTES:
        return probs
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as handle:
        probs.tofile(handle)  # written, not copied into pages that the system would clear first
        return np.memmap(handle, dtype=np.float32, mode="r+", shape=probs.shape)


def _positions(held: Sequence[str], wanted: Sequence[str]) -> npt.NDArray[np.int64]:
    where = {row_id: row for row, row_id in enumerate(held)}
    return np.array([where[row_id] for row_id in wanted], dtype=np.int64)


def _differing(names: Sequence[str], ids_of: Sequence[tuple[str, ...]], shared: set[str]) -> str:
    parts = []
    for name, ids in zip(names[1:], ids_of[1:], strict=True):
        lacking, extra = set(ids_of[0]) - set(ids), set(ids) - set(ids_of[0])
        if lacking:
            parts.append(f"{name} lacks {len(lacking)} ids of {names[0]} ({shown(sorted(lacking))})")
        if extra:
            parts.append(f"{name} has {len(extra)} ids that {names[0]} lacks ({shown(sorted(extra))})")
    remedy = "Train or predict the runs on the same rows, or leave one out." if shared else "They have no id in common."
    return f"the runs hold different rows: {'; '.join(parts)}. {remedy}"

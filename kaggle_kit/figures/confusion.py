"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.diagnosis import most_confused
from kaggle_kit.figures.style import new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]
MOST = 20
"""Classes whose names and numbers can be read in one figure."""


def plot_confusion(counts: Array, names: Sequence[str], *, most: int = MOST) -> Figure:
    """Return the part of the confusion matrix ``counts`` (C, C) that holds the most confused classes, with its numbers.

    A row is a true class, its colour the share of the class that was taken for the column's; the diagonal is in grey.
    """
    chosen = most_confused(counts, most) if len(names) > most else np.arange(len(names))
    side = max(len(chosen), 1)
    figure, (axes,) = new_figure(2.6 + 0.42 * side, 2.0 + 0.36 * side)
    part, share = counts[np.ix_(chosen, chosen)], _shares(counts)[np.ix_(chosen, chosen)]
    off = np.ma.masked_array(share, mask=np.eye(len(chosen), dtype=bool) | (part == 0))
    darkest = max(float(off.max()) if off.count() else 0, 0.05)
    if len(chosen):
        axes.imshow(off, cmap="OrRd", vmin=0, vmax=darkest, aspect="auto")
    for row, column in np.argwhere(part > 0):
        strong = row != column and share[row, column] > 0.5 * darkest
        ink = "white" if strong else "#777777" if row == column else "#7f0000"
        axes.text(column, row, f"{part[row, column]}", ha="center", va="center", fontsize=8, color=ink)
    labels = [short(names[position]) for position in chosen]
    axes.set_xticks(np.arange(len(chosen)), labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(np.arange(len(chosen)), labels, fontsize=8)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    if len(chosen) < len(names):
        axes.set_title(f"the {len(chosen)} most confused of {len(names)} classes", fontsize=10)
    return figure


def plot_confusion_whole(counts: Array) -> Figure:
    """Return the whole confusion matrix (C, C) as a heat map of shares of each true class, its numbers left out."""
    figure, (axes,) = new_figure(6.5, 5.4)
    share = _shares(counts)
    image = axes.imshow(np.sqrt(share), cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlabel("taken for (class number)")
    axes.set_ylabel("true class (number)")
    bar = figure.colorbar(image, ax=axes, ticks=np.sqrt([0, 0.01, 0.1, 0.25, 0.5, 1]))
    bar.ax.set_yticklabels(["0", "1 %", "10 %", "25 %", "50 %", "100 %"])
    return figure


def _shares(counts: Array) -> Array:
    """Return ``counts`` (C, C) as shares of each row, 0 for a class that does not occur."""
    shares: Array = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares

"""How well each class is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kaggle_kit.figures.style import COLOURS, new_figure, plain_axes, short

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_VALUES = ("precision", "recall", "F1")


def plot_classes(table: pd.DataFrame, *, most: int = 25) -> Figure:
    """Return precision, recall and F1 of the ``most`` worst classes of :func:`~kaggle_kit.diagnosis.class_table`."""
    worst = table[table["F1"].notna()].head(most).iloc[::-1]
    figure, (axes,) = new_figure(7.5, 1.2 + 0.24 * len(worst))
    places = np.arange(len(worst))
    axes.hlines(places, worst["F1"], 1, color="#88888855", linewidth=1)
    for name, colour, marker in zip(_VALUES, COLOURS, ("<", ">", "o"), strict=False):
        axes.plot(worst[name], places, linestyle="none", marker=marker, markersize=5, color=colour, label=name)
    axes.set_yticks(places, [f"{short(row['class'])} ({row['rows']})" for _, row in worst.iterrows()], fontsize=8)
    axes.set_xlim(right=1.02)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    plain_axes(axes, grid="x")
    return figure

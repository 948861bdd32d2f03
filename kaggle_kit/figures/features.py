"""What a model sees: a map of features, and the filters of its first layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.figures.style import COLOURS, RIGHT, WRONG, colour, new_figure, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]
MOST_COLOURS = len(COLOURS)


def plot_map(points: Array, groups: Array, names: Sequence[str], right: Array) -> Figure:
    """Return two maps of the same ``points`` (N, 2): coloured by group, and by whether the prediction was right.

    Args:
        groups: (N,) positions in ``names``; -1 stands for all others, in grey.
        names: of up to ``MOST_COLOURS`` groups.
        right: (N,) bool.
    """
    figure, (by_group, by_error) = new_figure(12, 5.6, columns=2)
    size = float(np.clip(20_000 / max(len(points), 1), 6, 30))
    style: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": True}
    others = groups < 0
    if others.any():
        by_group.scatter(*points[others].T, color="#999999", alpha=0.5, label="others", **style)
    for position, name in enumerate(names):
        chosen = groups == position
        by_group.scatter(*points[chosen].T, color=colour(position), alpha=0.9, label=short(name), **style)
    by_error.scatter(*points[right].T, color=RIGHT, alpha=0.5, label="right", **style)
    by_error.scatter(*points[~right].T, color=WRONG, alpha=0.95, label="wrong", **{**style, "s": 1.6 * size})
    for axes, title in ((by_group, "by class"), (by_error, "by error")):
        axes.set_title(title, fontsize=10)
        axes.set_frame_on(False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(fontsize=7, frameon=False, markerscale=2, loc="upper left", bbox_to_anchor=(0, -0.02), ncols=3)
    return figure


def plot_filters(weights: Array, *, most: int = 64) -> Figure:
    """Return up to ``most`` filters of a first layer, ``weights`` (F, 3, H, W) or (F, 1, H, W), as small pictures."""
    count = min(len(weights), most)
    columns = min(16, count)
    rows = -(-count // columns)
    height, width = weights.shape[2:]
    sheet = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, 4))  # nothing between the pictures
    for number in range(count):
        one = weights[number] - weights[number].min()
        picture = np.broadcast_to(np.moveaxis(one / max(one.max(), 1e-12), 0, -1), (height, width, 3))
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        sheet[top : top + height, left : left + width] = np.dstack([picture, np.ones((height, width))])
    figure, (axes,) = new_figure(min(10, 0.62 * columns), min(10, 0.62 * columns) * sheet.shape[0] / sheet.shape[1])
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    return figure

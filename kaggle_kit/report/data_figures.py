"""Figures about a competition's data. Each returns a matplotlib figure, for the page and for notebooks alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaggle_kit.report.figures import ON_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kaggle_kit.report.shift import Shift
    from kaggle_kit.report.survey import Combinations
    from kaggle_kit.tables import FoldTable

TRAIN, TEST = "#2f81d7", "#e07b39"
"""Colours of training and of test images; both can be told apart by the colour-blind, and be seen on light and dark."""
WIDTH = 11.0
"""Inches of a figure as wide as a page."""
_NAMED = 200  # classes whose names fit
_IN_COLUMN = 40
_LONGEST = 26
_LOG_FROM_SIDE = 8  # times the smallest side that the largest one has
_LOG_FROM = 30  # times the rarest class that the most frequent one has


def plot_classes(counts: pd.DataFrame) -> Figure:
    """Draw the images of each class, the most frequent first; on a logarithmic scale where they differ much.

    Up to 200 classes are named, in columns; of more only the curve is drawn.

    Args:
        counts: columns ``class`` and ``images``, as ``class_table`` returns.
    """
    values = counts["images"].to_numpy()
    log = bool(len(values)) and values.max() > _LOG_FROM * max(values[values > 0].min(initial=values.max()), 1)
    if len(counts) > _NAMED:
        figure = _figure(WIDTH, 4)
        axes = figure.subplots()
        axes.step(np.arange(1, len(values) + 1), values, where="mid", color=TRAIN)
        axes.set_xlabel("class, by rank")
        axes.set_ylabel("images")
        axes.set_yscale("symlog" if log else "linear")
        return figure
    columns = max(1, -(-len(counts) // _IN_COLUMN))
    in_column = -(-len(counts) // columns)
    figure = _figure(WIDTH, 0.6 + 0.2 * max(in_column, 3))
    grid = figure.subplots(1, columns, sharex=True, squeeze=False)[0]
    for column, axes in enumerate(grid):
        part = counts.iloc[column * in_column : (column + 1) * in_column]
        axes.barh(range(len(part)), part["images"], color=TRAIN)
        axes.set_yticks(range(len(part)), [short(name) for name in part["class"]], fontsize=8)
        axes.set_ylim(in_column - 0.4, -0.6)
        axes.set_xscale("symlog" if log else "linear")
        axes.set_xlabel("images")
        for place, count in enumerate(part["images"]):
            axes.annotate(f"{count:,}", (count, place), xytext=(2, 0), textcoords="offset points", va="center", fontsize=7)
        _bare(axes)
    grid[0].set_xlim(0, values.max() * (3 if log else 1.15) if len(values) else 1)
    return figure


def plot_sizes(headers: pd.DataFrame) -> Figure:
    """Draw width against height, and how often each aspect occurs, of training and test images.

    Args:
        headers: columns part, height and width, as ``Headers.frame`` holds.
    """
    figure = _figure(WIDTH, 4)
    left, right = figure.subplots(1, 2)
    bins = np.linspace(-1.5, 1.5, 41)
    for part, colour in (("train", TRAIN), ("test", TEST)):
        rows = headers[headers["part"] == part]
        if rows.empty:
            continue
        sizes = rows.groupby(["width", "height"]).size().reset_index(name="count").nlargest(2000, "count")
        area = 10 + 290 * sizes["count"] / sizes["count"].max()
        left.scatter(
            sizes["width"],
            sizes["height"],
            s=area,
            color=colour,
            alpha=0.5,
            linewidths=0,
            label=part,
            rasterized=len(sizes) > 500,
        )
        logs = np.clip(np.log2(rows["width"] / rows["height"]), bins[0], bins[-1])
        right.hist(logs, bins, color=colour, alpha=0.6, weights=np.full(len(rows), 100 / len(rows)), label=part)
    for side, setter, axis in (("width", left.set_xscale, left.xaxis), ("height", left.set_yscale, left.yaxis)):
        if len(headers) and headers[side].max() > _LOG_FROM_SIDE * headers[side].min():
            setter("log", base=2)
        axis.set_major_formatter("{x:,.0f}")
    left.set_xlabel("width in pixels")
    left.set_ylabel("height in pixels")
    right.set_xticks([-1, -0.585, 0, 0.585, 1], ["1:2", "2:3", "1:1", "3:2", "2:1"])
    right.set_xlabel("width : height")
    right.set_ylabel("percent of images")
    for axes in (left, right):
        _bare(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    return figure


def plot_combinations(found: Combinations) -> Figure:
    """Draw how many labels images have, and how often two labels stand together, as percent of the row's images."""
    count = len(found.classes)
    figure = _figure(WIDTH, max(4.0, 1.2 + 0.2 * count))
    left, right = figure.subplots(1, 2, width_ratios=[1, 2])
    left.bar([str(number) for number in found.per_image], list(found.per_image.values()), color=TRAIN)
    left.set_xlabel("labels of an image")
    left.set_ylabel("images")
    _bare(left)
    own = np.maximum(np.diag(found.together), 1)[:, None]
    heat(right, 100 * found.together / own, found.classes, found.classes, numbers=count <= 15)
    right.set_xlabel("also has this label (percent)")
    right.set_ylabel("images with this label")
    return figure


def plot_folds(table: FoldTable) -> Figure:
    """Draw the share of each class that each fold validates on: percent of the class's rows, equal where well stratified."""
    from kaggle_kit.folds import balance_table

    balance = balance_table(table).drop(columns="never", errors="ignore")
    balance = balance.loc[balance.sum(axis=1).sort_values(ascending=False, kind="stable").index].head(_IN_COLUMN)
    values = balance.to_numpy(dtype=float)
    shares = 100 * values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    figure = _figure(min(WIDTH, 3 + 0.9 * values.shape[1]), 1.2 + 0.22 * len(balance))
    axes = figure.subplots()
    heat(axes, shares, list(balance.index), list(balance.columns), numbers=values.shape[1] <= 10, most=200 / table.n_folds)
    axes.set_ylabel("class")
    axes.set_xlabel("percent of the class that the fold validates on")
    return figure


def plot_groups(sizes: Mapping[str, int]) -> Figure:
    """Draw how many groups have how many images."""
    figure = _figure(WIDTH / 2, 3.2)
    axes = figure.subplots()
    values = np.array(list(sizes.values()))
    axes.hist(values, np.arange(0.5, min(values.max(), 60) + 1.5).tolist(), color=TRAIN)
    axes.set_xlabel("images of a group")
    axes.set_ylabel("groups")
    axes.set_yscale("symlog")
    _bare(axes)
    return figure


def plot_shift(shift: Shift) -> Figure:
    """Draw how much training and test images look like test images to the classifier that tells them apart."""
    figure = _figure(WIDTH / 2, 3.2)
    axes = figure.subplots()
    bins = np.linspace(0, 1, 31).tolist()
    for scores, colour, name in ((shift.train_scores, TRAIN, "train"), (shift.test_scores, TEST, "test")):
        axes.hist(scores, bins, color=colour, alpha=0.6, label=name, weights=np.full(len(scores), 100 / len(scores)))
    axes.set_xlabel("looks like a test image")
    axes.set_ylabel("percent of images")
    axes.set_title(f"AUC {shift.auc:.3f}")
    axes.legend()
    _bare(axes)
    return figure


def heat(
    axes: Axes,
    values: npt.NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    numbers: bool = True,
    most: float = 0.0,
) -> None:
    """Draw a matrix of percents with the names of its rows and columns, and the numbers in its cells.

    Args:
        most: the value of the darkest colour; 0: the largest that there is.
    """
    most = most or max(float(values.max(initial=1.0)), 1.0)
    axes.pcolormesh(values, cmap="Blues", vmin=0, vmax=most, edgecolors="none", rasterized=values.size > 400)
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(rows)) + 0.5, [short(name) for name in rows], fontsize=8)
    axes.set_xticks(np.arange(len(columns)) + 0.5, [short(name) for name in columns], fontsize=8)
    if max(map(len, columns), default=0) > 8:
        axes.tick_params(axis="x", rotation=90)
    if not numbers:
        return
    for row, column in np.ndindex(*values.shape):
        tone = "#ffffff" if values[row, column] > 0.6 * most else "#1f2328"
        place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7, "color": tone, "label": ON_COLOUR}
        axes.text(column + 0.5, row + 0.5, f"{values[row, column]:.0f}", **place)


def short(name: str, longest: int = _LONGEST) -> str:
    """Return a name that fits beside an axis: on one line, cut in its middle where it is long."""
    flat = " ".join(str(name).split()) or "(empty)"
    half = (longest - 1) // 2
    return flat if len(flat) <= longest else f"{flat[:half]}…{flat[-half:]}"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)

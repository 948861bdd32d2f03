"""How training went, epoch by epoch and fold by fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kaggle_kit.figures.style import colour, count_axis, new_figure, plain_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHED = (0, (4, 2))


def plot_curves(histories: Mapping[int, pd.DataFrame], metric: str) -> Figure:
    """Return losses and scores over the epochs, a colour a fold; solid on validation rows, dashed on training rows.

    Args:
        histories: fold -> the table of ``history.csv``.
        metric: the name of its column of scores.
    """
    figure, (losses, scores) = new_figure(10, 3.6, columns=2)
    for number, (fold, history) in enumerate(sorted(histories.items())):
        _line(losses, history, "train_loss", number, dashed=True)
        _line(losses, history, "valid_loss", number, label=f"fold {fold}")
        _line(scores, history, metric, number, label=f"fold {fold}")
        _line(scores, history, "train_accuracy", number, dashed=True)
    for axes, title in ((losses, "loss"), (scores, metric)):
        axes.set_xlabel("epoch")
        axes.set_ylabel(title)
        count_axis(axes)
        plain_axes(axes)
    losses.set_title("loss: validation (solid), training (dashed)", fontsize=10)
    scores.set_title(f"{metric} (solid), training accuracy (dashed)", fontsize=10)
    losses.legend(fontsize=8, frameon=False)
    return figure


def plot_schedule(histories: Mapping[int, pd.DataFrame]) -> Figure:
    """Return the learning rate of the backbone in the last update of each epoch, a colour a fold."""
    figure, (axes,) = new_figure(5, 2.6)
    for number, (fold, history) in enumerate(sorted(histories.items())):
        trained = history[history["epoch"] > 0]
        _line(axes, trained, "lr", number, label=f"fold {fold}")
    axes.set_xlabel("epoch")
    axes.set_ylabel("learning rate")
    count_axis(axes)
    plain_axes(axes)
    return figure


def plot_lr_test(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], *, suggestion: float | None
) -> Figure:
    """Return the loss of a range test over its learning rates: each update as a point, smoothed as a line.

    Args:
        suggestion: the rate to mark, if there is one.
    """
    figure, (axes,) = new_figure(9, 3.8)
    axes.plot(rates, losses, ".", color="#88888899", markersize=4, label="loss of an update")
    axes.plot(rates, smoothed, color=colour(0), label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, color=colour(1), linestyle=DASHED, label=f"suggested: {suggestion:.2g}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")  # its own are formulas
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    if len(smoothed):  # what diverges would flatten all that matters
        low, high = min(smoothed), max(smoothed[: max(1, len(smoothed) // 4)])
        room = max(high - low, 1e-3)
        axes.set_ylim(low - 0.3 * room, high + 0.7 * room)
        axes.legend(fontsize=8, frameon=False)
    plain_axes(axes)
    return figure


def _line(
    axes: Axes, history: pd.DataFrame, column: str, number: int, *, dashed: bool = False, label: str | None = None
) -> None:
    """Draw a column over the epochs; nothing where the history lacks it."""
    if column in history and history[column].notna().any():
        style = DASHED if dashed else "solid"
        axes.plot(
            history["epoch"], history[column], color=colour(number), linestyle=style, label=label, marker=".", markersize=4
        )

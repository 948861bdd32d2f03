"""Scores beside each other: folds, views, runs, the weights of a blend, and what Kaggle gave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kaggle_kit.figures.style import COLOURS, RIGHT, colour, new_figure, plain_axes, short

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def plot_scores(scores: Mapping[str, Mapping[int, float]], metric: str) -> Figure:
    """Return a line for each of ``scores`` (name -> fold -> score): a numbered dot a fold, and a bar for their mean."""
    figure, (axes,) = new_figure(8, 1.2 + 0.42 * len(scores))
    for place, (_name, folds) in enumerate(reversed(list(scores.items()))):
        known = {fold: score for fold, score in folds.items() if not math.isnan(score)}
        if not known:
            continue
        hue = colour(len(scores) - 1 - place)
        axes.plot(list(known.values()), [place] * len(known), "o", color=hue, markersize=7, alpha=0.8)
        axes.plot([float(np.mean(list(known.values())))] * 2, [place - 0.32, place + 0.32], color=hue, linewidth=2)
        for score in dict.fromkeys(known.values()):
            alike = ", ".join(str(fold) for fold, other in known.items() if other == score)
            axes.annotate(alike, (score, place), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=7)
    axes.set_yticks(np.arange(len(scores)), [short(name) for name in reversed(list(scores))], fontsize=9)
    axes.set_ylim(-0.6, len(scores) - 0.4)
    axes.set_xlabel(f"{metric} of each fold; the bar is their mean")
    plain_axes(axes, grid="x")
    return figure


def plot_weights(names: Sequence[str], weights: Sequence[float]) -> Figure:
    """Return the weights of a blend as bars, the largest on top."""
    order = np.argsort(weights, kind="stable")
    figure, (axes,) = new_figure(7, 1.0 + 0.3 * len(names))
    places = np.arange(len(names))
    axes.barh(places, [weights[position] for position in order], color=RIGHT)
    axes.set_yticks(places, [short(names[position]) for position in order], fontsize=9)
    axes.set_xlabel("weight")
    plain_axes(axes, grid="x")
    return figure


def plot_public(table: pd.DataFrame, *, marked: str = "") -> Figure:
    """Return public scores against out-of-fold scores, a dot a submission, that called ``marked`` in another colour.

    Args:
        table: columns submission, cross_fitted and public_score, without missing scores.
    """
    figure, (axes,) = new_figure(5.5, 4.2)
    own = (table["submission"] == marked).to_numpy()
    for chosen, hue in ((~own, COLOURS[0]), (own, COLOURS[1])):
        axes.plot(table["cross_fitted"][chosen], table["public_score"][chosen], "o", color=hue)
    for _, row in table.iterrows():
        place = row["cross_fitted"], row["public_score"]
        axes.annotate(short(row["submission"]), place, xytext=(5, 4), textcoords="offset points", fontsize=7)
    both = [*table["cross_fitted"], *table["public_score"]]
    axes.plot([min(both), max(both)], [min(both), max(both)], color="#888888", linestyle=(0, (4, 2)), linewidth=1)
    axes.set_xlabel("out of fold")
    axes.set_ylabel("public score")
    plain_axes(axes, grid="both")
    return figure


def plot_progress(minutes: Sequence[float], scores: Sequence[float], metric: str, *, end: float) -> Figure:
    """Return the best score so far against time as steps, a dot at each better one.

    Args:
        minutes: when each of ``scores`` was reached.
        end: the minute at which the line ends.
    """
    figure, (axes,) = new_figure(8, 3.2)
    axes.step([*minutes, max(end, minutes[-1])], [*scores, scores[-1]], where="post", color=colour(0))
    axes.plot(minutes, scores, "o", color=colour(0), markersize=5)
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes")
    axes.set_ylabel(metric)
    plain_axes(axes)
    return figure

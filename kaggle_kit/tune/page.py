"""The page of a study: plots by Optuna, and the table of trials."""

from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState

from kaggle_kit.config import as_overrides
from kaggle_kit.report import svg_of, write_page

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_INCHES = (11.5, 4.0)
_MOST_NAMES = 12
"""Entries of a legend; beyond them colours cannot be told apart."""


@dataclass(frozen=True)
class Plot:
    """One plot of a study.

    Attributes:
        function: its name in ``optuna.visualization.matplotlib``.
        least: complete trials that it needs.
    """

    heading: str
    function: str
    least: int


PLOTS: tuple[Plot, ...] = (
    Plot("History", "plot_optimization_history", 1),
    Plot("Importances", "plot_param_importances", 4),
    Plot("Parallel coordinates", "plot_parallel_coordinate", 2),
    Plot("Slices", "plot_slice", 2),
    Plot("Scores while training", "plot_intermediate_values", 1),
)
"""In the order of the page. Importances of three trials would be noise."""


@dataclass(frozen=True)
class Drawn:
    """A plot as the page shows it: a figure, or a note on why there is none."""

    heading: str
    svg: Markup | None = None
    note: str = ""

    @property
    def anchor(self) -> str:
        """Where on the page it is linked to."""
        return self.heading.lower().replace(" ", "-")


@dataclass(frozen=True)
class Words:
    """What the page says beside the plots: ``lines`` of text, the name of the metric, and the best settings ``to_copy``."""

    title: str
    lines: Sequence[str]
    metric: str
    to_copy: str


def write_study_page(path: Path, study: optuna.Study, words: Words, *, table: pd.DataFrame) -> None:
    """Write the page: text, the best settings, the plots, and the table of trials."""
    plots = [draw(plot, study, words.metric) for plot in PLOTS]
    sections = [*((plot.anchor, plot.heading) for plot in plots), ("trials", "Trials")]
    about: dict[str, Any] = {"title": words.title, "lines": words.lines, "to_copy": words.to_copy}
    write_page(path, "tune.html", **about, plots=plots, sections=sections, trials=table)


def draw(plot: Plot, study: optuna.Study, metric: str) -> Drawn:
    """Return a plot of the study with the metric's name on its axes, or what keeps it from being drawn."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < plot.least or not any(trial.params for trial in complete):
        return Drawn(plot.heading, note=f"Needs {plot.least} complete trials, there are {len(complete)}.")
    import matplotlib as mpl
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    with mpl.rc_context(), warnings.catch_warnings():  # Optuna sets a style for everybody
        warnings.simplefilter("ignore")  # few trials, equal scores: the reader sees as much; and its plots are "experimental"
        before = set(pyplot.get_fignums())
        try:
            function: Callable[[optuna.Study], Any] = getattr(plots, plot.function)
            return Drawn(plot.heading, _finish(np.ravel(function(study))[0].figure, metric))
        except (ValueError, RuntimeError) as error:  # trials that have no entry in common, or all the same score
            logger.debug("%s", plot.heading, exc_info=True)
            return Drawn(plot.heading, note=f"Cannot be drawn of these trials: {error}")
        finally:
            for number in set(pyplot.get_fignums()) - before:
                pyplot.close(number)


def _finish(figure: Figure, metric: str) -> Markup:
    """Return the figure in the size of the page, without the titles that the page has itself."""
    figure.suptitle("")
    for axes in figure.axes:
        for place in ("left", "center", "right"):
            axes.set_title("", loc=place)
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                _plain_numbers(axis)
            axis.set_label_text(_named(axis.get_label_text(), metric))
            ticks = [tick.get_text() for tick in axis.get_ticklabels()]
            if any(_named(text, metric) != text for text in ticks):  # the axis of parallel coordinates that scores lie on
                axis.set_ticklabels([_named(text, metric) for text in ticks])
        legend = axes.get_legend()
        for text in legend.get_texts() if legend is not None else ():
            text.set_text(_named(text.get_text(), metric))
        if legend is not None and len(legend.get_texts()) > _MOST_NAMES:
            legend.remove()
    figure.set_size_inches(max(_INCHES[0], figure.get_size_inches()[0]), _INCHES[1])
    return svg_of(figure)


def _plain_numbers(axis: Axis) -> None:
    """Write 0.01 where matplotlib writes a formula, which a page shows as it stands."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("{x:g}" if high < 10 * low else "")


def copied(changes: Mapping[str, Any], best_path: Path) -> str:
    """Return the best settings as commands to copy: by the file, and entry by entry."""
    entries = " ".join(map(shlex.quote, as_overrides(changes)))
    return f"kk train --fold all --config {best_path}\nkk train --fold all {entries}".rstrip()


def _named(text: str, metric: str) -> str:
    """Return a label with the metric's name for what Optuna calls an objective or intermediate value; a step is an epoch."""
    if text == "Step":
        return "epoch"
    for word in ("Objective Value", "objective value", "Intermediate Value"):
        text = text.replace(word, metric)
    return text

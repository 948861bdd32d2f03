"""The plots of a study on one HTML page that needs no network: plotly's script is inside."""

from __future__ import annotations

import html
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from kaggle_kit import files

logger = logging.getLogger(__name__)

_STYLE = """
body { font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 0.85rem; }
td, th { padding: 0.2rem 0.7rem; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid #999; } tr:nth-child(even) { background: #f5f5f5; } .scroll { overflow-x: auto; }
"""


@dataclass(frozen=True)
class Plot:
    """One plot of a study.

    Attributes:
        draw: by Optuna.
        least: complete trials that it needs.
    """

    heading: str
    draw: Callable[[optuna.Study], Any]
    least: int


PLOTS: tuple[Plot, ...] = (
    Plot("History", optuna.visualization.plot_optimization_history, 1),
    Plot("Importances", optuna.visualization.plot_param_importances, 4),
    Plot("Parallel coordinates", optuna.visualization.plot_parallel_coordinate, 2),
    Plot("Slices", optuna.visualization.plot_slice, 2),
    Plot("Scores while training", optuna.visualization.plot_intermediate_values, 1),
)
"""In the order of the page. Importances of three trials would be noise."""


def write_page(path: Path, study: optuna.Study, *, title: str, lines: Sequence[str], table: pd.DataFrame) -> None:
    """Write the page: ``lines`` of text, the plots, and the table of trials."""
    from plotly.offline import get_plotlyjs

    parts = [f"<p>{html.escape(line)}</p>" for line in lines]
    for plot in PLOTS:
        parts.append(f"<h2>{plot.heading}</h2>\n{_figure(plot, study)}")
    with pd.option_context("display.max_colwidth", None):
        rows = table.to_html(index=False, border=0, float_format="{:.4f}".format, na_rep="")
    body = "\n".join([*parts, f'<h2>Trials</h2>\n<div class="scroll">{rows}</div>'])
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style><script>{get_plotlyjs()}</script>'
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n'
    )
    files.write_text(path, page)


def _figure(plot: Plot, study: optuna.Study) -> str:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < plot.least or not any(trial.params for trial in complete):
        return f"<p>Needs {plot.least} complete trials, there are {len(complete)}.</p>"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # few trials, equal scores: the reader sees as much
            figure = plot.draw(study).update_layout(title_text="", margin_t=30)  # the page has its own headings
            return f'<div class="scroll">{figure.to_html(full_html=False, include_plotlyjs=False)}</div>'
    except (ValueError, RuntimeError) as error:  # trials that have no entry in common, or all the same score
        logger.debug("%s", plot.heading, exc_info=True)
        return f"<p>Cannot be drawn of these trials: {html.escape(str(error))}</p>"

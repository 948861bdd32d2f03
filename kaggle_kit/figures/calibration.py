"""Whether a probability means what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaggle_kit.diagnosis import Calibration
from kaggle_kit.figures.style import RIGHT, new_figure, plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_calibration(found: Calibration) -> Figure:
    """Return the reliability curve, what was right against how sure the model was, above the number of rows in each bin."""
    figure, (curve, sizes) = new_figure(10, 3.6, columns=2)
    middles, width = (found.edges[:-1] + found.edges[1:]) / 2, found.edges[1] - found.edges[0]
    known = found.counts > 0
    curve.plot([0, 1], [0, 1], color="#888888", linestyle=(0, (4, 2)), linewidth=1)
    curve.plot(found.confidence[known], found.accuracy[known], color=RIGHT, marker="o", markersize=4)
    curve.set_xlim(0, 1)
    curve.set_ylim(0, 1)
    curve.set_xlabel("mean probability")
    curve.set_ylabel("share that was right")
    curve.set_title(f"reliability; ECE {found.error:.4f}", fontsize=10)
    sizes.bar(middles, found.counts, width=0.9 * width, color=RIGHT)
    sizes.set_yscale("symlog", linthresh=1)
    sizes.set_ylim(bottom=0)
    sizes.yaxis.set_major_formatter("{x:,.0f}")  # powers of ten would be formulas
    sizes.set_xlabel("probability")
    sizes.set_ylabel("number")
    for axes in (curve, sizes):
        plain_axes(axes)
    return figure

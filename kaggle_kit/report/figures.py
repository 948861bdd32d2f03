"""Figures for pages: matplotlib's SVG without a background, in the colour of the page's text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from kaggle_kit import files

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"
"""The colour of text and axes in figures; on the page it becomes that of the page's text, be it light or dark."""
_GRID = "#88888855"


def svg_of(figure: Figure) -> Markup:
    """Return the figure as an SVG element for a page, recoloured so that it can be read on light and dark pages alike."""
    import matplotlib as mpl
    from markupsafe import Markup

    for axes in figure.axes:
        _recolour(axes)
    # Ids must differ between the figures of one page, and be the same when the same figure is drawn again.
    salt = files.fingerprint([axes.get_title() + axes.get_ylabel() + axes.get_xlabel() for axes in figure.axes])
    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(stream, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return Markup(text[text.index("<svg") :].replace(INK, "currentColor"))


def _recolour(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.tick_params(which="both", color=INK, labelcolor=INK)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label, axes.xaxis.get_offset_text(), axes.yaxis.get_offset_text()):
        text.set_color(INK)
    for text in axes.texts:
        text.set_color(INK)
    for spine in axes.spines.values():
        spine.set_color(INK)
    for line in (*axes.get_xgridlines(), *axes.get_ygridlines()):
        line.set_color(_GRID)
    legend = axes.get_legend()
    if legend is not None:
        legend.get_frame().set_visible(False)
        for text in (*legend.get_texts(), legend.get_title()):
            text.set_color(INK)

"""Figures for pages: matplotlib's SVG without a background, in the colour of the page's text."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING

from kaggle_kit import files

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"
"""The colour of text and axes in figures; on the page it becomes that of the page's text, be it light or dark."""
ON_COLOUR = "on-colour"
"""The label of text that stands on a coloured ground and keeps its colour."""
_GRID = "#88888855"
_NOT_WANTED = re.compile(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", re.DOTALL)
"""Metadata that name a network address, and a style sheet that ours repeats and the page's policy refuses."""
_OPENING = re.compile(r"<svg[^>]*>")


def svg_of(figure: Figure, title: str = "") -> Markup:
    """Return the figure as an SVG element for a page, recoloured so that it can be read on light and dark pages alike.

    Args:
        title: what a screen reader says in its place; by default the titles and labels of its axes.
    """
    import matplotlib as mpl
    from markupsafe import Markup, escape
    from matplotlib.text import Text

    for axes in figure.axes:
        _recolour(axes)
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a class may be called "$x$"
    said = [axes.get_title() + axes.get_ylabel() + axes.get_xlabel() for axes in figure.axes]
    # Ids must differ between the figures of one page, and be the same when the same figure is drawn again.
    salt = files.fingerprint([*said, title] if title else said)
    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's fonts are what counts
        warnings.filterwarnings("ignore", message="Creating legend")  # slow, but there
        figure.savefig(stream, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    drawn = stream.getvalue()
    drawn = _NOT_WANTED.sub("", drawn[drawn.index("<svg") :]).replace(INK, "currentColor")
    name = escape(title or "; ".join(filter(None, said)) or "figure")
    return Markup(_OPENING.sub(lambda found: f'{found[0][:-1]} role="img" aria-label="{name}">', drawn, count=1))


def _recolour(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.tick_params(which="both", color=INK, labelcolor=INK)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label, axes.xaxis.get_offset_text(), axes.yaxis.get_offset_text()):
        text.set_color(INK)
    for text in axes.texts:
        if text.get_label() != ON_COLOUR:
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

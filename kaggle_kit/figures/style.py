"""What figures share: how one is made, and colours that can be told apart on light and on dark paper."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (
    "#4e79a7",
    "#f28e2b",
    "#59a14f",
    "#e15759",
    "#b07aa1",
    "#9c755f",
    "#2a9d8f",
    "#d37295",
    "#8cb369",
    "#7f7f7f",
)
"""Of medium lightness, after Tableau's ten."""
RIGHT, WRONG = "#4e79a7", "#e15759"
LONGEST = 24


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of some inches and its axes in a row. A notebook shows it; pyplot does not know of it."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    class Drawn(Figure):  # type: ignore[misc]
        """A figure that shows itself in a notebook without pyplot, which would keep it in memory; no text is a formula."""

        def draw(self, renderer: Any) -> None:
            for text in self.findobj(Text):
                text.set_parse_math(False)  # a class may be called "$x$"
            super().draw(renderer)

        def _repr_png_(self) -> bytes:
            stream = io.BytesIO()
            self.savefig(stream, format="png", bbox_inches="tight")
            return stream.getvalue()

    figure = Drawn(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, list(axes)


def plain_axes(axes: Axes, *, grid: Literal["both", "x", "y"] = "y") -> None:
    """Take away the frame that says nothing, and draw a faint grid."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis=grid, color="#88888855", linewidth=0.6)
    axes.set_axisbelow(True)


def count_axis(axes: Axes) -> None:
    """Mark the horizontal axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def short(name: object) -> str:
    """Return a name, cut where it would take the place of the figure."""
    text = str(name)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def colour(number: int) -> str:
    """Return one of the colours, from the first again after the last."""
    return COLOURS[number % len(COLOURS)]

"""What pages of sections are made of: a section is a heading with blocks, each of which ``blocks.html`` knows how to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kaggle_kit.report.figures import svg_of
from kaggle_kit.report.gallery import Picture

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Facts:
    """Names with values, large."""

    kind: ClassVar[str] = "facts"
    pairs: Mapping[str, str]


@dataclass(frozen=True)
class Text:
    """Paragraphs."""

    kind: ClassVar[str] = "text"
    lines: Sequence[str]


@dataclass(frozen=True)
class Notes:
    """Paragraphs in small print."""

    kind: ClassVar[str] = "notes"
    lines: Sequence[str]


@dataclass(frozen=True)
class Warnings:
    """Lines that want a look."""

    kind: ClassVar[str] = "warnings"
    lines: Sequence[str]


@dataclass(frozen=True)
class Copy:
    """Text to be copied: commands, settings."""

    kind: ClassVar[str] = "copy"
    text: str


@dataclass(frozen=True)
class Table:
    """A data frame; where ``folded`` is not empty it is hidden behind these words."""

    kind: ClassVar[str] = "table"
    frame: pd.DataFrame
    caption: str = ""
    folded: str = ""


@dataclass(frozen=True)
class Plot:
    """A figure with what it shows in words."""

    kind: ClassVar[str] = "plot"
    svg: Markup
    caption: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures with a name for them all."""

    kind: ClassVar[str] = "gallery"
    pictures: Sequence[Picture]
    label: str
    heading: str = ""


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix whose cells open their images.

    Attributes:
        head: names of the shown classes, short ones for the top, whole ones for the side.
        rows: for each shown class its name and its cells: (key, count, shade 0 to 1, whether on the diagonal).
        pairs: (key, true class, taken for, count) of the largest confusions.
        heat: address of a picture of the whole matrix, a pixel a cell; "" where all classes are shown.
        n_classes: side of that picture.
        data: JSON of the cells' images, for confusion.js.
    """

    kind: ClassVar[str] = "confusion"
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, int, float, bool]]]]
    pairs: Sequence[tuple[str, str, str, int]]
    heat: str
    n_classes: int
    data: Markup
    lines: Sequence[str] = ()


Block = Facts | Text | Notes | Warnings | Copy | Table | Plot | Gallery | Confusion


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        anchor: by which it is linked to.
    """

    anchor: str
    heading: str
    blocks: Sequence[Block]


def plot(figure: Figure, caption: str = "") -> Plot:
    """Return a figure as a block."""
    return Plot(svg_of(figure, caption), caption)


def scripts_of(sections: Sequence[Section]) -> tuple[str, ...]:
    """Return the scripts that the blocks of some sections need."""
    needed: dict[str, Any] = {"confusion": "confusion.js"}
    return tuple({needed[block.kind]: None for section in sections for block in section.blocks if block.kind in needed})

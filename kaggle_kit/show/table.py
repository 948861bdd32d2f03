"""Tables that fit the terminal: what matters least is left out, and text is wrapped, before a word is broken."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kaggle_kit.show.terminal import console, line

if TYPE_CHECKING:
    import pandas as pd

_MAX_ROWS = 60
_GAP = 2  # between two columns
_PROSE = 24  # longer cells may stand on several lines
_STYLES = {"passed": "green", "failed": "bold red", "warning": "yellow", "inconclusive": "cyan"}
_PIECE = re.compile(r"[^\s\-_/,]*[\s\-_/,]?")
_SHORTEST = 9  # characters of a shortened name
OPTIONAL, SHORTENED, NOTE = "optional", "shortened", "note"
"""Entries of a frame's ``attrs``: the columns that may be left out, the least important first; those with names, which are
shortened in the middle where there is no room; and a line to print below."""


def table(frame: pd.DataFrame, *, title: str = "") -> None:
    """Print a data frame: numbers to the right, long frames cut with a word on how many rows there are.

    Columns named in ``frame.attrs["optional"]`` are left out where the terminal is too narrow, and named below.
    """
    if frame.empty:
        line("none yet")
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    cells = {str(name): [cell(value) for value in values.head(_MAX_ROWS)] for name, values in frame.items()}
    numeric = {str(name) for name in frame.columns if frame[name].dtype.kind in "iuf"}
    names = frame.attrs.get(SHORTENED, ())
    widths = fit(cells, console().width, optional=frame.attrs.get(OPTIONAL, ()), names=names)
    cells |= {name: [middle(text, widths[name]) for text in cells[name]] for name in names if name in widths}
    shown = Table(title=title or None, box=SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    for name, width in widths.items():
        justify: Any = "right" if name in numeric else "left"
        shown.add_column(Text(wrap(name, width)), justify=justify, overflow="fold", max_width=width)
    for row in zip(*(cells[name] for name in widths), strict=True):
        texts = zip(row, widths.values(), strict=True)
        shown.add_row(*(Text(wrap(text, width), style=_STYLES.get(text, "")) for text, width in texts))
    console().print(shown)
    if len(frame) > _MAX_ROWS:
        line(f"… and {len(frame) - _MAX_ROWS} more rows")
    if NOTE in frame.attrs:
        line(frame.attrs[NOTE])
    left_out = [name for name in cells if name not in widths]
    if left_out:
        line(f"not shown: {', '.join(left_out)}; --json has them")


def fit(
    cells: Mapping[str, Sequence[str]], width: int, *, optional: Sequence[str] = (), names: Sequence[str] = ()
) -> dict[str, int]:
    """Return the columns that fit ``width`` with their widths.

    Columns in ``optional`` go first, in that order, then ``names`` are shortened, then the widest columns are narrowed, down to
    their longest word.
    """
    natural = {name: max(map(len, [name, *texts])) for name, texts in cells.items()}
    waiting = [name for name in optional if name in natural]
    while waiting and _total(min(need, _PROSE) for need in natural.values()) > width:
        del natural[waiting.pop(0)]
    least = {
        name: max(len(piece.rstrip()) for text in [name, *cells[name]] for piece in _PIECE.findall(text)) for name in natural
    }
    least |= {name: min(natural[name], _SHORTEST) for name in names if name in natural}
    widths = dict(natural)
    if _total(widths.values()) > width:  # a heading of two lines costs less than rows of two
        widths = {name: max(longest_word(name), *map(len, cells[name])) for name in natural}
    while _total(widths.values()) > width:
        wide = [name for name in widths if widths[name] > least[name]]
        if not wide:
            break
        widths[max([name for name in wide if name in names] or wide, key=lambda name: widths[name])] -= 1
    return widths


def _total(widths: Iterable[int]) -> int:
    """Return the width of a table whose columns have ``widths``."""
    return 1 + sum(width + _GAP for width in widths)


def longest_word(text: str) -> int:
    """Return the length of the longest piece that :func:`wrap` does not break."""
    return max(len(piece.rstrip()) for piece in _PIECE.findall(text))


def wrap(text: str, width: int) -> str:
    """Return ``text`` in lines of at most ``width``, broken after blanks, hyphens, underscores, slashes and commas."""
    lines = [""]
    for piece in _PIECE.findall(text):
        if len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(part.rstrip() for part in lines if part.strip() or len(lines) == 1)


def middle(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters, with a dot for what is left out between its beginning and its end."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def cell(value: Any) -> str:
    """Return a value as a cell: few digits, times to the minute or, of other years, the day; "" for what is not there."""
    if value is None or value != value:
        return ""
    if hasattr(value, "tz_localize"):  # a time of pandas
        local = value.to_pydatetime().astimezone()
        return f"{local:%d %b %H:%M}" if local.year == type(local).now().year else f"{local:%d %b %Y}"
    if isinstance(value, float):
        small, large = 0 < abs(value) < 0.001, abs(value) >= 10
        return f"{value:.2g}" if small else f"{value:.1f}" if large else f"{value:.4f}"
    return str(value)

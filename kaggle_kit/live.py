"""The screen of a run that is being trained: one bar for the run and one for each fold at work, with lines above them.

In a terminal it is drawn by rich, in a notebook as the output of the cell; where there is neither,
:func:`~kaggle_kit.events.log_lines` says the same now and then. No torch here.
"""

from __future__ import annotations

import html
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from kaggle_kit.choices import EVENTS
from kaggle_kit.events import Clock, Event, FoldEnded, Phase, Progress, Reporter, log_lines, state_of, text_of

if TYPE_CHECKING:
    from rich.console import Console

_REFRESH = 4.0
"""Times a second, at most, that the screen is drawn anew."""
_LINES = 500
"""Lines that stay in a cell."""


def live_screen() -> Reporter:
    """Return a live screen on the error stream where that is a terminal, one in the cell of a notebook, else log lines."""
    from rich.console import Console

    if in_notebook():
        return Cell()
    quiet = logging.getLogger("kaggle_kit").level >= logging.WARNING
    return Screen(Console(stderr=True)) if sys.stderr.isatty() and not quiet else log_lines()


def make_reporter(events: str = "auto") -> Reporter:
    """Return the reporter of an entry of ``choices.EVENTS``; raises ConfigError that lists them."""
    reporter: Reporter = EVENTS.lookup(events)()
    return reporter


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class Screen:
    """A reporter for a terminal. It draws bars which change, and prints what stays above them.

    The run's bar shows its share and the time when it will be done; a fold's bar its epoch or its phase.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._clock = Clock()
        self._bars: Any = None
        self._run: Any = None
        self._rows: dict[int, Any] = {}

    def __call__(self, event: Event) -> None:
        """Show an event."""
        self._clock(event)
        if isinstance(event, Progress | Phase):
            self._show(event)
        elif isinstance(event, FoldEnded):
            self._close(event.fold)
        if self._bars is not None:
            self._bars.update(self._run, description=f"run  {self._clock.outlook()}", completed=self._clock.share)
        text = text_of(event)
        if text is not None:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show(self, event: Progress | Phase) -> None:
        if self._bars is None:
            self._open()
        done, total = (event.done, event.images) if isinstance(event, Progress) else (event.done, event.total or None)
        if total is None and event.fold in self._rows:  # rich cannot take a total back
            self._bars.remove_task(self._rows.pop(event.fold))
        if event.fold not in self._rows:
            self._rows[event.fold] = self._bars.add_task("", total=total)
        text = f"{self._clock.place(event.fold)}  {state_of(event)}"
        self._bars.update(self._rows[event.fold], description=text, completed=done, total=total)

    def _open(self) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        columns = (SpinnerColumn(), BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
        self._bars = Progress(*columns, console=self.console, transient=True, refresh_per_second=_REFRESH)
        self._run = self._bars.add_task("run", total=1.0)
        self._bars.start()

    def _close(self, fold: int) -> None:
        if fold in self._rows:
            self._bars.remove_task(self._rows.pop(fold))
        if self._bars is not None and not self._rows:
            self._bars.stop()
            self._bars = None


class Cell:
    """A reporter for a notebook: the same bars and lines as HTML, in one output that changes.

    rich would need ipywidgets for it, and without them draws nothing until all is over.
    """

    def __init__(self) -> None:
        self._clock = Clock()
        self._lines: list[str] = []
        self._rows: dict[int, Progress | Phase] = {}
        self._handle: Any = None
        self._drawn = 0.0

    def __call__(self, event: Event) -> None:
        """Show an event."""
        self._clock(event)
        if isinstance(event, Progress | Phase):
            self._rows[event.fold] = event
        elif isinstance(event, FoldEnded):
            self._rows.pop(event.fold, None)
        text = text_of(event)
        if text is not None:
            self._lines = [*self._lines, text][-_LINES:]
        if text is not None or time.monotonic() - self._drawn >= 1 / _REFRESH:
            self._draw()

    def _draw(self) -> None:
        from IPython.display import HTML, display

        self._drawn = time.monotonic()
        if self._handle is None:
            self._handle = display(HTML(self.page()), display_id=True)
        else:
            self._handle.update(HTML(self.page()))

    def page(self) -> str:
        """Return what the cell shows now."""
        parts = [f"<pre>{html.escape(chr(10).join(self._lines))}</pre>"]
        if self._rows:
            parts.append(_bar(f"run  {self._clock.outlook()}", self._clock.share, 1.0))
        for fold, row in sorted(self._rows.items()):
            total = row.images if isinstance(row, Progress) else row.total
            parts.append(_bar(f"{self._clock.place(fold)}  {state_of(row)}", row.done, total))
        return "".join(parts)


def _bar(text: str, done: float, total: float) -> str:
    numbers = f' value="{done:g}" max="{total:g}"' if total else ""  # without them it moves to and fro
    return f"<div><progress{numbers}></progress> {html.escape(text)}</div>"

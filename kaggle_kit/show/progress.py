"""Progress of work that is counted in items: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any

from kaggle_kit.show.terminal import quiet

_LINE_SECONDS = 10.0
_REDRAW_SECONDS = 0.25

Progress = Callable[[int, int], None]
"""``progress(done, total)``."""


def bar(what: str) -> Progress:
    """Return a callable that draws a progress bar with time left; without a terminal, a line every few seconds."""
    if quiet():
        return lambda _done, _total: None
    from kaggle_kit.live import in_notebook  # imports pandas

    if in_notebook():
        return _Cell(what)
    return _Bar(what) if sys.stderr.isatty() else _Lines(what)


def status(now: object) -> None:
    """Print what Kaggle says at the moment."""
    if not quiet():
        sys.stderr.write(f"Kaggle: {getattr(now, 'status', now)}\n")


class _Bar:
    def __init__(self, what: str) -> None:
        self.what = what
        self.display: Any = None

    def __call__(self, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self.display is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.display = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.display.add_task(self.what, total=total)
            self.display.start()
        self.display.update(self.task, completed=done, total=total)
        if done >= total:
            self.display.stop()
            self.display = None


class _Cell:
    """A bar in the output of a notebook's cell, gone when the work is done."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.handle: Any = None
        self.drawn = 0.0

    def __call__(self, done: int, total: int) -> None:
        from IPython.display import HTML, display

        if done < total and time.monotonic() - self.drawn < _REDRAW_SECONDS:
            return
        self.drawn = time.monotonic()
        if self.handle is None:
            self.handle = display(HTML(""), display_id=True)
        bar = f'<progress value="{done}" max="{total}"></progress> {escape(self.what)} {done:,}/{total:,}'
        self.handle.update(HTML("" if done >= total else bar))


class _Lines:
    """A line every few seconds; nothing for what is done sooner."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last >= _LINE_SECONDS:
            sys.stderr.write(f"{self.what}: {done}/{total}\n")
            self.last = now

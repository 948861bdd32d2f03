"""Telling somebody how training goes: log lines, or a progress bar where there is a terminal. No torch here."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from kaggle_kit.runs.history import EpochRow, describe
from kaggle_kit.units import format_duration

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger(__name__)

LINE_SECONDS = 30.0
"""Least time between two lines within an epoch where there is no progress bar."""


class Reporter(Protocol):
    """What the loop calls. ``fold`` counts from 0, ``epoch`` from 1; ``images`` are those of an epoch."""

    def fold_start(self, fold: int, text: str) -> None:
        """A fold begins or goes on; ``text`` says with what."""

    def batch(self, fold: int, epoch: int, epochs: int, *, done: int, images: int, loss: float, rate: float) -> None:
        """Some batches are done: images so far, mean loss so far, images a second."""

    def epoch_end(self, fold: int, row: EpochRow, metric: str, *, epochs: int, best: bool) -> None:
        """An epoch is validated."""

    def fold_end(self, fold: int, text: str) -> None:
        """A fold is finished, stopped or has failed."""


class LogReporter:
    """One log line an epoch, and one within it every ``LINE_SECONDS``; several folds may be told of at a time."""

    def __init__(self, every: float = LINE_SECONDS) -> None:
        self.every = every
        self._last: dict[int, float] = {}

    def fold_start(self, fold: int, text: str) -> None:
        self._last[fold] = time.monotonic()
        logger.info("fold %d  %s", fold, text)

    def batch(self, fold: int, epoch: int, epochs: int, *, done: int, images: int, loss: float, rate: float) -> None:
        now = time.monotonic()
        if now - self._last.get(fold, 0.0) < self.every:
            return
        self._last[fold] = now
        left = format_duration((images - done) / rate) if rate > 0 else "?"
        logger.info(
            "fold %d  epoch %d/%d  %d/%d images  loss %.4f  %.1f img/s  %s left",
            *(fold, epoch, epochs, done, images, loss, rate, left),
        )

    def epoch_end(self, fold: int, row: EpochRow, metric: str, *, epochs: int, best: bool) -> None:
        self._last[fold] = time.monotonic()
        logger.info("fold %d  %s", fold, describe(row, metric, epochs=epochs, best=best))

    def fold_end(self, fold: int, text: str) -> None:
        logger.info("fold %d  %s", fold, text)


class BarReporter:
    """A progress bar of each fold's running epoch with loss, img/s and time left; a line for each epoch above them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars: Any = None
        self._rows: dict[int, Any] = {}

    def __reduce__(self) -> tuple[Callable[[], Reporter], tuple[()]]:
        return make_reporter, ()  # a terminal is found anew by the process that gets this

    def fold_start(self, fold: int, text: str) -> None:
        self._line(f"fold {fold}  {text}")

    def batch(self, fold: int, epoch: int, epochs: int, *, done: int, images: int, loss: float, rate: float) -> None:
        if fold not in self._rows:
            self._open(fold, images)
        self._bars.update(
            self._rows[fold],
            completed=done,
            total=images,
            description=f"fold {fold}  epoch {epoch}/{epochs}",
            state=f"loss {loss:.4f}  {rate:.1f} img/s",
        )

    def epoch_end(self, fold: int, row: EpochRow, metric: str, *, epochs: int, best: bool) -> None:
        self._close(fold)
        self._line(f"fold {fold}  {describe(row, metric, epochs=epochs, best=best)}")

    def fold_end(self, fold: int, text: str) -> None:
        self._close(fold)
        self._line(f"fold {fold}  {text}")

    def _open(self, fold: int, images: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bars is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                TimeRemainingColumn(),
            )
            self._bars = Progress(*columns, console=self.console, transient=True)
            self._bars.start()
        self._rows[fold] = self._bars.add_task("", total=images, state="")

    def _close(self, fold: int) -> None:
        if fold not in self._rows:
            return
        self._bars.remove_task(self._rows.pop(fold))
        if not self._rows:
            self._bars.stop()
            self._bars = None

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def make_reporter() -> Reporter:
    """A bar on the error stream where that is a terminal, else log lines."""
    if not sys.stderr.isatty():
        return LogReporter()
    from rich.console import Console

    return BarReporter(Console(stderr=True))

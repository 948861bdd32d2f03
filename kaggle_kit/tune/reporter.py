"""Telling how a search goes: a live table where there is a terminal, else log lines."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaggle_kit.events import EpochEnded
from kaggle_kit.tune.result import TrialRow, changes_text
from kaggle_kit.units import format_duration

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger(__name__)

_QUIET = ("kaggle_kit.events", "kaggle_kit.training", "kaggle_kit.models", "kaggle_kit.images", "kaggle_kit.launch")
_ROWS = 12
_STYLES = {"complete": "green", "pruned": "yellow", "failed": "red", "running": "cyan"}


@dataclass(frozen=True)
class SearchStarted:
    """The search begins; ``text`` says with what."""

    text: str
    metric: str


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins or goes on, with these entries of the configuration changed."""

    number: int
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class TrialEpoch:
    """A trial has validated an epoch."""

    number: int
    ended: EpochEnded


@dataclass(frozen=True)
class TrialEnded:
    """A trial came to an end, and which is best now."""

    row: TrialRow
    best: TrialRow | None


@dataclass(frozen=True)
class SearchEnded:
    """The search is over, well or not."""


TuneEvent = SearchStarted | TrialStarted | TrialEpoch | TrialEnded | SearchEnded
TuneReporter = Callable[[TuneEvent], None]
"""What a search calls."""


def one_at_a_time(reporter: TuneReporter) -> TuneReporter:
    """Return a reporter that passes on what several threads tell, one event at a time."""
    lock = threading.Lock()

    def pass_on(event: TuneEvent) -> None:
        with lock:
            reporter(event)

    return pass_on


def tune_lines() -> TuneReporter:
    """Return a reporter that logs two lines a trial; epochs are many, and the table shows them."""
    metric = ""

    def log(event: TuneEvent) -> None:
        nonlocal metric
        if isinstance(event, SearchStarted):
            metric = event.metric
            logger.info("%s", event.text)
        elif isinstance(event, TrialStarted):
            logger.info("trial %d  %s", event.number, changes_text(event.changes))
        elif isinstance(event, TrialEnded):
            logger.info("%s", end_text(event.row, event.best, metric))

    return log


class TuneTable:
    """A reporter that draws a table of the last trials, which changes as they go."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Any = None
        self._metric = ""
        self._rows: dict[int, tuple[str, ...]] = {}
        self._best: TrialRow | None = None
        self._running: dict[int, str] = {}

    def __call__(self, event: TuneEvent) -> None:
        """Show an event."""
        if isinstance(event, SearchStarted):
            self._start(event)
        elif isinstance(event, TrialStarted):
            self._running[event.number] = _short(event.changes)
            self._show(event.number, "running", "", "", "", self._running[event.number])
        elif isinstance(event, TrialEpoch):
            ended, row = event.ended, event.ended.row
            epoch = f"fold {ended.fold}: {row.epoch}/{ended.epochs}"
            self._show(event.number, "running", number_text(row.score), epoch, "", self._running[event.number])
        elif isinstance(event, TrialEnded):
            self._end(event)
        elif self._live is not None:
            self._live.stop()
            self._live = None

    def _start(self, event: SearchStarted) -> None:
        from rich.live import Live

        self._metric = event.metric
        self.console.print(event.text, markup=False, highlight=False, soft_wrap=True)
        self._live = Live(self._table(), console=self.console, refresh_per_second=2, transient=False)
        self._live.start()

    def _end(self, event: TrialEnded) -> None:
        row, self._best = event.row, event.best
        done, planned = row.epochs
        score = number_text(row.score if math.isnan(row.all_folds) else row.all_folds)
        text = row.error or _short(row.changes)
        self._show(row.number, row.state, score, f"{done}/{planned}", format_duration(row.seconds), text)

    def _show(self, number: int, *cells: str) -> None:
        self._rows[number] = (str(number), *cells)
        if self._live is not None:
            self._live.update(self._table())

    def _table(self) -> Any:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        best = "" if self._best is None else f"best: trial {self._best.number}, {self._metric} {best_score(self._best):.4f}"
        table = Table(box=SIMPLE_HEAD, pad_edge=False, expand=True, caption=best or None, caption_justify="left")
        for name in ("trial", "state", self._metric or "score", "epochs", "time", "changes"):
            # One line a trial, whatever the width: the last trials are to fit on the screen.
            table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1 if name == "changes" else None)
        for cells in list(self._rows.values())[-_ROWS:]:
            is_best = self._best is not None and cells[0] == str(self._best.number)
            table.add_row(*map(Text, cells), style="bold" if is_best else _STYLES.get(cells[1], ""))
        return table


def make_tune_reporter() -> TuneReporter:
    """A live table on the error stream where that is a terminal, else log lines."""
    if not sys.stderr.isatty():
        return tune_lines()
    from rich.console import Console

    return TuneTable(Console(stderr=True))


class _Quiet:
    """Loggers that tell warnings only while at least one search of this process is at work, in whatever thread."""

    def __init__(self) -> None:
        self._lock, self._at_work, self._before = threading.Lock(), 0, dict[str, int]()

    def __enter__(self) -> None:
        with self._lock:
            if self._at_work == 0:
                self._before = {name: logging.getLogger(name).level for name in _QUIET}
            self._at_work += 1
            for name in _QUIET:
                logging.getLogger(name).setLevel(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._at_work -= 1
            for name, level in self._before.items() if self._at_work == 0 else ():
                logging.getLogger(name).setLevel(level)


_quietly = _Quiet()


@contextlib.contextmanager
def shown(reporter: TuneReporter) -> Iterator[TuneReporter]:
    """Close ``reporter`` in the end; meanwhile training tells warnings only."""
    with _quietly:
        try:
            yield reporter
        finally:
            reporter(SearchEnded())


def _short(changes: Mapping[str, Any]) -> str:
    """Entries under the last part of their keys."""
    return changes_text({key.rpartition(".")[2]: value for key, value in changes.items()})


def end_text(row: TrialRow, best: TrialRow | None, metric: str) -> str:
    """One line on a trial that came to an end."""
    done, planned = row.epochs
    score = f": {metric} {number_text(row.score)}" if not math.isnan(row.score) else ""
    over = f", {row.all_folds:.4f} over {len(row.scores)} folds" if not math.isnan(row.all_folds) else ""
    reason = f": {row.error}" if row.error else ""
    standing = f"; best: trial {best.number} with {best_score(best):.4f}" if best is not None else ""
    took = f" ({done}/{planned} epochs, {format_duration(row.seconds)})"
    return f"trial {row.number}  {row.state}{reason or score}{over}{took}{standing}"


def best_score(row: TrialRow) -> float:
    """The score that a trial is compared by."""
    return row.score if math.isnan(row.all_folds) else row.all_folds


def number_text(value: float) -> str:
    """Four digits, or a dash."""
    return "-" if math.isnan(value) else f"{value:.4f}"

"""Telling how a search goes: a live table where there is a terminal, else log lines."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from kaggle_kit.training import EpochRow
from kaggle_kit.tune.result import TrialRow, changes_text
from kaggle_kit.units import format_duration

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger(__name__)

_QUIET = ("kaggle_kit.training", "kaggle_kit.models", "kaggle_kit.images", "kaggle_kit.launch")
_ROWS = 12
_STYLES = {"complete": "green", "pruned": "yellow", "failed": "red", "running": "cyan"}


class TuneReporter(Protocol):
    """What a search calls."""

    def start(self, text: str, metric: str) -> None:
        """The search begins; ``text`` says with what."""

    def trial_start(self, number: int, changes: Mapping[str, Any]) -> None:
        """A trial begins or goes on."""

    def epoch(self, number: int, fold: int, row: EpochRow, epochs: int) -> None:
        """A trial has validated an epoch."""

    def trial_end(self, row: TrialRow, best: TrialRow | None) -> None:
        """A trial came to an end, and which is best now."""

    def close(self) -> None:
        """The search is over."""


class OneAtATime:
    """Passes on what several threads tell, one call at a time."""

    def __init__(self, reporter: TuneReporter) -> None:
        self._reporter = reporter
        self._lock = threading.Lock()

    def start(self, text: str, metric: str) -> None:
        with self._lock:
            self._reporter.start(text, metric)

    def trial_start(self, number: int, changes: Mapping[str, Any]) -> None:
        with self._lock:
            self._reporter.trial_start(number, changes)

    def epoch(self, number: int, fold: int, row: EpochRow, epochs: int) -> None:
        with self._lock:
            self._reporter.epoch(number, fold, row, epochs)

    def trial_end(self, row: TrialRow, best: TrialRow | None) -> None:
        with self._lock:
            self._reporter.trial_end(row, best)

    def close(self) -> None:
        with self._lock:
            self._reporter.close()


class TuneLines:
    """Two log lines a trial."""

    def __init__(self) -> None:
        self._metric = ""

    def start(self, text: str, metric: str) -> None:
        self._metric = metric
        logger.info("%s", text)

    def trial_start(self, number: int, changes: Mapping[str, Any]) -> None:
        logger.info("trial %d  %s", number, changes_text(changes))

    def epoch(self, number: int, fold: int, row: EpochRow, epochs: int) -> None:
        """Epochs are many; the table shows them."""

    def trial_end(self, row: TrialRow, best: TrialRow | None) -> None:
        logger.info("%s", end_text(row, best, self._metric))

    def close(self) -> None:
        """Nothing is open."""


class TuneTable:
    """A table of the last trials that changes as they go."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Any = None
        self._metric = ""
        self._rows: dict[int, tuple[str, ...]] = {}
        self._best: TrialRow | None = None
        self._running: dict[int, str] = {}

    def start(self, text: str, metric: str) -> None:
        from rich.live import Live

        self._metric = metric
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._live = Live(self._table(), console=self.console, refresh_per_second=2, transient=False)
        self._live.start()

    def trial_start(self, number: int, changes: Mapping[str, Any]) -> None:
        self._running[number] = _short(changes)
        self._show(number, "running", "", "", "", self._running[number])

    def epoch(self, number: int, fold: int, row: EpochRow, epochs: int) -> None:
        self._show(number, "running", number_text(row.score), f"fold {fold}: {row.epoch}/{epochs}", "", self._running[number])

    def trial_end(self, row: TrialRow, best: TrialRow | None) -> None:
        self._best = best
        done, planned = row.epochs
        score = number_text(row.score if math.isnan(row.all_folds) else row.all_folds)
        text = row.error or _short(row.changes)
        self._show(row.number, row.state, score, f"{done}/{planned}", format_duration(row.seconds), text)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

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
        return TuneLines()
    from rich.console import Console

    return TuneTable(Console(stderr=True))


@contextlib.contextmanager
def shown(reporter: TuneReporter) -> Iterator[TuneReporter]:
    """Close ``reporter`` in the end; meanwhile training tells warnings only, printed above the table."""
    levels = {name: logging.getLogger(name).level for name in _QUIET}
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    streams = [handler for handler in logging.getLogger("kaggle_kit").handlers if type(handler) is logging.StreamHandler]
    before = [handler.stream for handler in streams]
    for handler in streams:
        handler.stream = _ErrorStream()
    try:
        yield reporter
    finally:
        reporter.close()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for handler, stream in zip(streams, before, strict=True):
            handler.stream = stream


class _ErrorStream:
    """Whatever ``sys.stderr`` is when something is written: a live table puts itself in its place."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


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

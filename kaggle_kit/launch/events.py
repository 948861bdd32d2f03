"""What a worker says while it trains, as plain values: sent as JSON lines, replayed to a reporter where the launcher runs."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kaggle_kit.errors import MissingFileError
from kaggle_kit.training import EpochRow, Reporter

logger = logging.getLogger(__name__)

Event = dict[str, Any]
Send = Callable[[Event], None]
BATCH_SECONDS = 0.5
"""Least time between two events of batches."""
STOP = "stop"


class EventReporter:
    """A reporter that sends what it is told."""

    def __init__(self, send: Send, every: float = BATCH_SECONDS) -> None:
        self._send = send
        self._every = every
        self._last = 0.0

    def fold_start(self, fold: int, text: str) -> None:
        self._send({"event": "fold_start", "fold": fold, "text": text})

    def batch(self, fold: int, epoch: int, epochs: int, *, done: int, images: int, loss: float, rate: float) -> None:
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        place = {"fold": fold, "epoch": epoch, "epochs": epochs}
        self._send({"event": "batch", **place, "done": done, "images": images, "loss": loss, "rate": rate})

    def epoch_end(self, fold: int, row: EpochRow, metric: str, *, epochs: int, best: bool) -> None:
        values = {"fold": fold, "row": row.to_list(), "metric": metric}
        self._send({"event": "epoch_end", **values, "epochs": epochs, "best": best})

    def fold_end(self, fold: int, text: str) -> None:
        self._send({"event": "fold_end", "fold": fold, "text": text})


class WarningSender(logging.Handler):
    """Sends a worker's warnings, so that they are seen where the launcher runs and not in the log alone."""

    def __init__(self, send: Send, fold: int) -> None:
        super().__init__(logging.WARNING)
        self._send_event = send
        self._fold = fold

    def emit(self, record: logging.LogRecord) -> None:
        self._send_event({"event": "warning", "fold": self._fold, "text": record.getMessage()})


def replay(event: Mapping[str, Any], reporter: Reporter) -> None:
    """Tell ``reporter`` what was told to the :class:`EventReporter`; events that it does not know are passed over."""
    tell = _REPLAY.get(str(event.get("event")))
    if tell is not None:
        tell({key: value for key, value in event.items() if key != "event"}, reporter)


def _epoch_end(values: Event, reporter: Reporter) -> None:
    reporter.epoch_end(**{**values, "row": EpochRow.from_list(values["row"])})


def _warning(values: Event, _: Reporter) -> None:
    logger.warning("fold %d: %s", values["fold"], values["text"])


_REPLAY: dict[str, Callable[[Event, Reporter], None]] = {
    "fold_start": lambda values, reporter: reporter.fold_start(**values),
    "batch": lambda values, reporter: reporter.batch(**values),
    "epoch_end": _epoch_end,
    "fold_end": lambda values, reporter: reporter.fold_end(**values),
    "warning": _warning,
}


class Mailbox:
    """A folder in shared storage through which workers on other machines send events, and are asked to stop.

    Each sender appends to its own file, so that nothing needs a lock; a launcher reads what is new.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, int] = {}

    def open(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def send(self, sender: str, event: Event) -> None:
        """Append an event.

        Raises:
            MissingFileError: the launcher has gone, and its folder with it.
        """
        try:
            with open(self.folder / f"{sender}.jsonl", "a", encoding="utf-8") as handle:
                handle.write(json.dumps(event) + "\n")
        except FileNotFoundError:
            raise MissingFileError(f"{self.folder} does not exist; the call that trains this run has ended.") from None

    def receive(self) -> list[Event]:
        """Events that came since the last call, each sender's in order."""
        found = []
        for path in sorted(self.folder.glob("*.jsonl")):
            with open(path, "rb") as handle:
                handle.seek(self._read.get(path, 0))
                content = handle.read()
            whole = content[: content.rfind(b"\n") + 1]  # the last line may still be growing
            self._read[path] = self._read.get(path, 0) + len(whole)
            found += [json.loads(line) for line in whole.splitlines()]
        return found

    def ask_to_stop(self, reason: str) -> None:
        """Leave word for all senders."""
        (self.folder / STOP).write_text(reason, encoding="utf-8")

    def asked(self) -> str | None:
        """Why to stop, or None; a mailbox that is gone is a launcher that has ended."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / STOP).read_text(encoding="utf-8") or "stop"
        return None if self.folder.is_dir() else "the launcher has ended"

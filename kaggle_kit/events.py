"""What happens while a run is trained, as small values; and functions that do something with each of them.

A reporter is any function of an event. Those here write log lines, JSON lines or a run's ``train.log``; :mod:`kaggle_kit.live`
draws a screen. :func:`tee` makes one of several. A reporter may raise: the fold ends then, and its checkpoint is kept.
No torch here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kaggle_kit.fold_names import fold_text
from kaggle_kit.runs.history import EpochRow, describe
from kaggle_kit.stop import Stop
from kaggle_kit.units import format_clock

logger = logging.getLogger(__name__)

LINE_SECONDS = 30.0
"""Least time between two log lines on how far a fold is."""
SEND_SECONDS = 0.5
"""Least time between two JSON lines on how far a fold is."""

Ended = Literal["finished", "finished before", "stopped", "failed"]


@dataclass(frozen=True)
class RunStarted:
    """A run begins or goes on: its folds, those that are finished already included, and the epochs of each."""

    run: str
    folds: tuple[int, ...]
    epochs: int


@dataclass(frozen=True)
class FoldStarted:
    """A fold begins or goes on; ``text`` says with what, ``epochs_done`` how many epochs it has from earlier calls."""

    fold: int
    text: str
    epochs_done: int = 0


@dataclass(frozen=True)
class Progress:
    """Some batches are done: images of the epoch so far and in all, mean loss so far, images a second. Epochs count from 1."""

    fold: int
    epoch: int
    epochs: int
    done: int
    images: int
    loss: float
    rate: float


@dataclass(frozen=True)
class Phase:
    """Something other than training goes on: computing features, compiling, validating. ``total`` is 0 where it is unknown."""

    fold: int
    name: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class EpochEnded:
    """An epoch is validated, and its checkpoint is written. ``epochs`` are those of the fold."""

    fold: int
    row: EpochRow
    metric: str
    epochs: int
    best: bool


@dataclass(frozen=True)
class FoldEnded:
    """A fold is finished, stopped or has failed; ``text`` says how well, or why."""

    fold: int
    state: Ended
    text: str


@dataclass(frozen=True)
class Warned:
    """A warning of a process that trains a fold for another one."""

    fold: int
    text: str


Event = RunStarted | FoldStarted | Progress | Phase | EpochEnded | FoldEnded | Warned
Reporter = Callable[[Event], None]

_KINDS: dict[str, type[Any]] = {
    "run-started": RunStarted,
    "fold-started": FoldStarted,
    "progress": Progress,
    "phase": Phase,
    "epoch-ended": EpochEnded,
    "fold-ended": FoldEnded,
    "warning": Warned,
}
"""Name in JSON -> kind of event."""
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_json(event: Event) -> str:
    """Return the event as one line of JSON; numbers that are not finite become null."""
    values = {"event": _NAMES[type(event)], **dataclasses.asdict(event)}
    return json.dumps(_finite(values), allow_nan=False, ensure_ascii=False)


def from_json(line: str | bytes) -> Event | None:
    """Return the event of a line that :func:`to_json` made; None for lines that are none, or of another version."""
    try:
        values = json.loads(line)
        kind = _KINDS[values.pop("event")]
        if "row" in values:
            values["row"] = EpochRow(**_numbers(values["row"]))
        if "folds" in values:
            values["folds"] = tuple(values["folds"])
        event: Event = kind(**_numbers(values))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return event


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in values.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def silent(event: Event) -> None:
    """Report nothing."""


def tee(*reporters: Reporter) -> Reporter:
    """Return a reporter that passes each event to all of ``reporters``, in this order."""

    def pass_on(event: Event) -> None:
        for reporter in reporters:
            reporter(event)

    return pass_on


def phase(reporter: Reporter, fold: int, name: str) -> Callable[[int, int], None]:
    """Return a function of (done, total) that reports a phase."""
    return lambda done, total: reporter(Phase(fold, name, done, total))


def seldom(reporter: Reporter, every: float = SEND_SECONDS) -> Reporter:
    """Return a reporter that passes on at most one progress or phase a fold in ``every`` seconds, and all other events.

    The first of a phase and its last one are passed on, too.
    """
    last: dict[int, float] = {}
    named: dict[int, str] = {}

    def pass_on(event: Event) -> None:
        if isinstance(event, Progress | Phase):
            name = event.name if isinstance(event, Phase) else ""
            ends = isinstance(event, Phase) and 0 < event.total <= event.done
            new, named[event.fold] = named.get(event.fold) != name, name
            if not (new or ends) and time.monotonic() - last.get(event.fold, -math.inf) < every:
                return
            last[event.fold] = time.monotonic()
        reporter(event)

    return pass_on


def json_lines(write: Callable[[str], object], every: float = SEND_SECONDS) -> Reporter:
    """Return a reporter that gives each event to ``write`` as a line of JSON; threads and signal handlers may share it."""
    lock = threading.RLock()  # a handler that logs a warning may interrupt its own thread in here

    def send(event: Event) -> None:
        with lock:
            write(to_json(event) + "\n")

    return seldom(send, every)


def standard_output() -> Reporter:
    """Return a reporter that writes JSON lines to the standard output, which from now on is closed to everything else.

    What other code prints goes to the standard error instead.
    """
    sys.stdout.flush()
    out = os.dup(1)
    os.dup2(2, 1)

    def write(line: str) -> None:
        rest = line.encode()
        while rest:  # not through a buffered stream, which a signal handler must not enter again
            rest = rest[os.write(out, rest) :]

    return json_lines(write)


class Clock:
    """Where a whole run stands, by its events: its folds, the share that is done, and the time that is left.

    An epoch of any fold counts alike. What it costs is measured over this call alone, validation included, so that folds which
    run side by side and epochs of earlier calls both count as they should.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._started: float | None = None
        self._folds: tuple[int, ...] = ()
        self._epochs = 1
        self._done: dict[int, float] = {}
        self._before: dict[int, float] = {}

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, RunStarted):
            self._folds, self._epochs = event.folds, max(event.epochs, 1)
        elif isinstance(event, FoldStarted):
            self._reach(event.fold, event.epochs_done)
        elif isinstance(event, Progress):
            self._started = self._now() if self._started is None else self._started
            self._reach(event.fold, event.epoch - 1 + event.done / max(event.images, 1))
        elif isinstance(event, EpochEnded):
            self._reach(event.fold, event.row.epoch)
        elif isinstance(event, FoldEnded):
            # What early stopping spared was not done, but neither is it left.
            spared = self._epochs - self._done.get(event.fold, 0.0)
            self._before[event.fold] = self._before.get(event.fold, 0.0) + spared
            self._done[event.fold] = self._epochs

    def _reach(self, fold: int, epochs: float) -> None:
        self._before.setdefault(fold, epochs)
        self._done[fold] = min(epochs, self._epochs)

    @property
    def share(self) -> float:
        """The share of the run that is done, 0 to 1."""
        total = self._epochs * max(len(self._folds), len(self._done), 1)
        return sum(self._done.values()) / total

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the run is done; None while too little is known."""
        done = sum(self._done.values()) - sum(self._before.values())
        if self._started is None or done <= 0:
            return None
        left = self._epochs * max(len(self._folds), len(self._done)) - sum(self._done.values())
        return left * (self._now() - self._started) / done

    def place(self, fold: int) -> str:
        """``fold 3``, or ``fold 3 (2 of 5)`` in a run of several."""
        if fold not in self._folds or len(self._folds) == 1:
            return fold_text(fold)
        return f"{fold_text(fold)} ({self._folds.index(fold) + 1} of {len(self._folds)})"

    def outlook(self) -> str:
        """``41 %, done about 18:20``, as far as that is known."""
        left = self.seconds_left
        return f"{self.share:.0%}".replace("%", " %") + ("" if left is None else f", done about {format_clock(left)}")


def text_of(event: Event) -> str | None:
    """Return the line that stays on a screen or in a log after the event; None when nothing does."""
    if isinstance(event, FoldStarted):
        return f"{fold_text(event.fold)}  {event.text}"
    if isinstance(event, EpochEnded):
        return f"{fold_text(event.fold)}  {describe(event.row, event.metric, epochs=event.epochs, best=event.best)}"
    if isinstance(event, FoldEnded):
        more = ". The same command goes on from here" if event.state == "stopped" else ""
        return f"{fold_text(event.fold)}  {event.state}: {event.text}{more}"
    if isinstance(event, Warned):
        return f"{fold_text(event.fold)}: {event.text}"
    return None


def state_of(event: Progress | Phase) -> str:
    """Return where a fold is at the moment: epoch, loss and speed, or the phase with what is done of it."""
    if isinstance(event, Progress):
        return f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.4f}  {event.rate:.1f} img/s"
    return f"{event.name}  {event.done:,}/{event.total:,}" if event.total else event.name


def log_lines(every: float = LINE_SECONDS, to: logging.Logger = logger) -> Reporter:
    """Return a reporter that logs what stays, and every ``every`` seconds how far each fold and the whole run are."""
    clock = Clock()
    last: dict[int, float] = {}

    def log(event: Event) -> None:
        clock(event)
        text, now = text_of(event), time.monotonic()
        if text is not None:
            to.log(logging.WARNING if isinstance(event, Warned) else logging.INFO, "%s", text)
        if isinstance(event, FoldStarted | EpochEnded):
            last[event.fold] = now
        elif isinstance(event, Progress | Phase) and _worth_a_line(event, now - last.setdefault(event.fold, now), every):
            last[event.fold] = now
            images = f"  {event.done:,}/{event.images:,} images" if isinstance(event, Progress) else ""
            to.info("%s  %s%s  %s", clock.place(event.fold), state_of(event), images, clock.outlook())

    return log


def _worth_a_line(event: Progress | Phase, since: float, every: float) -> bool:
    """Whether to log how far it is: now and then, and when something begins that cannot say how long it takes."""
    return since >= every or (isinstance(event, Phase) and event.total == 0)


@contextlib.contextmanager
def written_to(path: Path) -> Iterator[Reporter]:
    """Append the package's log lines to a file while inside; yields a reporter that writes events there as lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, "a", encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
    handler.addFilter(lambda record: record.name != __name__)  # log_lines on the screen; the reporter below writes the same
    package, own = logging.getLogger("kaggle_kit"), logging.Logger("train.log", logging.INFO)
    package.addHandler(handler)
    own.addHandler(handler)
    try:
        yield log_lines(to=own)
    finally:
        package.removeHandler(handler)
        handler.close()


class Relay:
    """Passes on the events of other processes, where a reporter cannot end the fold by raising.

    Attributes:
        raised: what the reporter raised first; from then on it is told nothing, and ``stop`` asks the processes to end.
    """

    def __init__(self, reporter: Reporter, stop: Stop) -> None:
        self._reporter, self._stop = reporter, stop
        self.raised: Exception | None = None

    def __call__(self, event: Event) -> None:
        """Pass on an event."""
        if self.raised is not None:
            return
        try:
            self._reporter(event)
        except Exception as error:  # kept for the end of the run
            self.raised = error
            self._stop.request(f"the caller stopped it: {type(error).__name__}")

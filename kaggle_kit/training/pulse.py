"""What happens between updates: progress is told, stops are honoured, checkpoints fall due."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kaggle_kit.config import RunConfig
from kaggle_kit.images.loaders import TrainLoader
from kaggle_kit.training.history import EpochRow
from kaggle_kit.training.processes import agreed
from kaggle_kit.training.reporter import LogReporter, Reporter
from kaggle_kit.training.state import Learner, LoopState
from kaggle_kit.training.stopping import Stop, StopRequested

SYNC_EVERY = 20
"""Updates between two looks at numbers that lie on a GPU; on a CPU, looking costs nothing and is done after each."""

OnEpoch = Callable[[int, EpochRow], None]
"""``on_epoch(fold, row)``, called after each validation."""


@dataclass
class Watch:
    """Who is told, who may stop it, and where its files go.

    Attributes:
        inputs: fingerprint of all that the fold depends on; it stands in its checkpoints.
        on_row: take each epoch's row in the first process, as TensorBoard does.
        on_epoch: is called last in each epoch, when its checkpoint is written; it may raise to end the fold.
    """

    fold: int
    folder: Path
    inputs: str
    reporter: Reporter = field(default_factory=LogReporter)
    stop: Stop = field(default_factory=Stop)
    on_row: list[Callable[[EpochRow], None]] = field(default_factory=list)
    on_epoch: OnEpoch | None = None

    def epoch_end(self, row: EpochRow, metric: str, *, epochs: int, best: bool) -> None:
        """Tell everybody but ``on_epoch``."""
        for take in self.on_row:
            take(row)
        self.reporter.epoch_end(self.fold, row, metric, epochs=epochs, best=best)


class Pulse:
    """The clock of one epoch."""

    def __init__(self, learner: Learner, loader: TrainLoader, config: RunConfig, state: LoopState, watch: Watch) -> None:
        self._fabric = learner.fabric
        self._loader = loader
        self._state = state
        self._watch = watch
        self._epochs = config.schedule.epochs
        self._interval = config.checkpoint_minutes * 60
        self._every = 1 if learner.fabric.device.type == "cpu" else SYNC_EVERY
        self._mark = self._saved = time.monotonic()

    def due(self) -> bool:
        """Whether to look at numbers on the device now; in all processes alike."""
        state = self._state
        if state.batch == len(self._loader) or state.updates % self._every == 0:
            self._measure()
            return True
        return self._fabric.world_size == 1 and (self._watch.stop.reason is not None or self._overdue())

    def report(self) -> None:
        """Tell the progress, in the first process."""
        if not self._fabric.is_global_zero:
            return
        self._measure()
        state, processes = self._state, self._fabric.world_size
        done = state.images * processes
        self._watch.reporter.batch(
            *(self._watch.fold, state.epoch, self._epochs),
            done=done,
            images=self._loader.images * processes,
            loss=float(state.loss_sum) / max(state.images, 1),
            rate=done / max(state.seconds, 1e-9),
        )

    def stop_if_asked(self) -> None:
        """Raise StopRequested in all processes when the first one was asked to stop."""
        reason = agreed(self._fabric, self._watch.stop.reason)
        if reason is not None:
            raise StopRequested(reason)

    def save_due(self) -> bool:
        """Whether the last checkpoint is too long ago; in all processes alike."""
        return agreed(self._fabric, self._overdue())

    def saved(self) -> None:
        """A checkpoint was written. The time that it took is not training's."""
        self._mark = self._saved = time.monotonic()

    def _overdue(self) -> bool:
        return time.monotonic() - self._saved >= self._interval

    def _measure(self) -> None:
        now = time.monotonic()
        self._state.seconds += now - self._mark
        self._mark = now

"""``fold.json`` while a fold is trained, and its TensorBoard events."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from kaggle_kit import files, runs
from kaggle_kit.errors import KaggleKitError
from kaggle_kit.training.history import EpochRow
from kaggle_kit.training.stopping import StopRequested

AUGMENTED = "augmented_by"
"""The entry that says who augments, which an attempt that goes on takes over."""


class FoldRecord:
    """What ``fold.json`` says: running, stopped, failed or finished, from what, how far and how well.

    Args:
        inputs: fingerprint of all that the fold depends on. The time of an earlier, unfinished attempt with the same one is
            counted on.
        writes: False in all processes but the first.
    """

    def __init__(self, folder: Path, fold: int, inputs: str, *, writes: bool = True) -> None:
        self._path = folder / runs.FOLD_RECORD
        self.writes = writes
        self._started = time.monotonic()
        before = runs.read_fold(folder, fold).record
        goes_on = before.get("inputs_fingerprint") == inputs
        self._before = float(before.get("seconds", 0.0)) if goes_on else 0.0
        self.values: dict[str, Any] = {"fold": fold, "state": "running", "inputs_fingerprint": inputs}
        if goes_on and AUGMENTED in before:
            self.values[AUGMENTED] = before[AUGMENTED]

    def update(self, **values: Any) -> None:
        """Change entries and write the file."""
        self.values |= {**values, "seconds": round(self._before + time.monotonic() - self._started, 3)}
        if self.writes:
            files.write_json(self._path, self.values)

    def take(self, row: EpochRow) -> None:
        """Note a validated epoch."""
        self.update(epoch=row.epoch, score=_json_number(row.score))

    def finish(self, metric: str, score: float, **facts: Any) -> None:
        """The fold is done."""
        self.update(state="finished", metric=metric, score=_json_number(score), **facts)

    @contextlib.contextmanager
    def follow(self) -> Iterator[FoldRecord]:
        """Write that the fold is running, and how it ended if it does not finish."""
        self.update()
        try:
            yield self
        except StopRequested as stop:
            self.update(state="stopped", reason=str(stop))
            raise
        except KaggleKitError as error:
            with contextlib.suppress(KaggleKitError):  # a full disk must not hide itself behind this file
                self.update(state="failed", reason=str(error))
            raise


class Events:
    """TensorBoard events of a fold, one step an epoch; a context manager.

    Args:
        epochs: those that are in the history; later events, which a killed run may have left, are taken back.
    """

    def __init__(self, folder: Path, metric: str, *, epochs: int, writes: bool = True) -> None:
        self._metric = metric
        self._writer: Any = None
        if writes:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(log_dir=str(folder), purge_step=epochs)

    def take(self, row: EpochRow) -> None:
        """Write an epoch's numbers; those that are not defined are left out."""
        if self._writer is None:
            return
        for name, value in row.values(self._metric).items():
            if name != "epoch" and not math.isnan(value):
                self._writer.add_scalar(name, value, row.epoch)
        self._writer.flush()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()


def _json_number(value: float) -> float | None:
    """A metric that is not defined is null: NaN is no JSON."""
    return None if math.isnan(value) else value

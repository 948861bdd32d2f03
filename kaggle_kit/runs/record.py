"""``fold.json`` while a fold is trained, and its TensorBoard events."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_kit import files, runs
from kaggle_kit.errors import KaggleKitError
from kaggle_kit.runs.history import EpochRow
from kaggle_kit.stop import StopRequested


class FoldRecord:
    """What ``fold.json`` says: running, stopped, failed or finished, from what, how far and how well.

    Args:
        contents: fingerprint of what the training images hold; None where it was not taken.
        inputs: fingerprint of all that the fold depends on. The time of an earlier, unfinished attempt with the same one is
            counted on.
        writes: False in all processes but the first.
    """

    def __init__(self, folder: Path, fold: int, inputs: str, *, contents: str | None = None, writes: bool = True) -> None:
        self._path = folder / runs.FOLD_RECORD
        self.writes = writes
        self._started = time.monotonic()
        before = runs.read_fold(folder, fold).record
        goes_on = before.get("inputs_fingerprint") == inputs
        self._before = float(before.get("seconds", 0.0)) if goes_on else 0.0
        self.values: dict[str, Any] = {"fold": fold, "state": "running", "inputs_fingerprint": inputs, "contents": contents}

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


def _json_number(value: float) -> float | None:
    """A metric that is not defined is null: NaN is no JSON."""
    return None if math.isnan(value) else value


@dataclass(frozen=True)
class FoldResult:
    """A finished fold: the content of ``fold.json``."""

    fold: int
    record: dict[str, Any]

    @property
    def score(self) -> float:
        """The competition's metric on the fold's out-of-fold rows; NaN where it is not defined on them."""
        score = self.record.get("score")
        return float("nan") if score is None else float(score)

"""TensorBoard events of a fold."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import Any

from kaggle_kit.runs.history import EpochRow


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

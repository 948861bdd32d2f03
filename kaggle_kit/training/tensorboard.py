"""TensorBoard as a tracker: a reporter that writes the numbers of each epoch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

from kaggle_kit.events import EpochEnded, Event, Reporter, silent


@contextlib.contextmanager
def tensorboard(folder: Path, *, epochs: int, writes: bool = True) -> Iterator[Reporter]:
    """Yield a reporter that writes TensorBoard events of a fold into ``folder``, one step an epoch.

    Args:
        epochs: those that are in the history; later events, which a killed run may have left, are taken back.
        writes: False in all processes but the first.
    """
    if not writes:
        yield silent
        return
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(log_dir=str(folder), purge_step=epochs)

    def write(event: Event) -> None:
        if not isinstance(event, EpochEnded):
            return
        for name, value in event.row.values(event.metric).items():
            if name != "epoch" and not math.isnan(value):  # numbers that are not defined are left out
                writer.add_scalar(name, value, event.row.epoch)
        writer.flush()

    try:
        yield write
    finally:
        writer.close()

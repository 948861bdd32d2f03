"""Losses and gradients that are not finite: the fold ends with the ids of the batch, or the batch is skipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kaggle_kit.errors import TrainingError

MOST_SKIPPED = 50
"""Batches in a row without a finite loss, or without finite gradients, that end the fold all the same."""


class LossGuard:
    """Looks at each loss.

    With "stop" it is looked at on the device and only asked about at :meth:`check`, which spares a synchronisation a step; a
    checkpoint is never written before that. With "skip" each loss is asked about at once, since its gradients must not be used.
    """

    def __init__(self, mode: Literal["stop", "skip"], ids: Sequence[str], fabric: Fabric) -> None:
        self._skip = mode == "skip"
        self._ids = ids
        self._fabric = fabric
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=fabric.device)
        self._rows: dict[int, Tensor] = {}
        self._in_a_row = 0
        self._scaled = getattr(fabric.strategy.precision, "scaler", None) is not None

    def usable(self, loss: Tensor, rows: Tensor, batch: int) -> bool:
        """Whether to use the batch: always with "stop", when its loss () is finite with "skip"."""
        self._rows[batch] = rows
        bad = ~torch.isfinite(loss.detach())
        if self._skip:
            return self._counted(not self._anywhere(bad))
        self._note(bad, batch)
        return True

    def gradients_usable(self, model: nn.Module) -> bool:
        """Whether to take the step. Gradients can overflow under a finite loss; a loss scaler sees to that itself."""
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if self._scaled or not gradients:
            return bool(gradients)  # there are none when every batch of this update was skipped
        finite = torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all()
        if self._skip:
            return self._counted(bool(finite))
        self._note(~finite, max(self._rows))
        return True

    def check(self, epoch: int) -> None:
        """Look at what was noted since the last look.

        Raises:
            TrainingError: a loss was not finite; names the rows of its batch.
        """
        batch = int(self._first_bad.item())
        if batch >= 0:
            raise TrainingError(
                f"loss or gradients are not finite in epoch {epoch}, batch {batch + 1}, of these rows: {self._names(batch)}. "
                "Lower lr, set optimizer.clip_norm=1, use precision=fp32, or leave such batches out with nan=skip. "
                "The last good checkpoint is kept."
            )
        self._rows = {}

    def _note(self, bad: Tensor, batch: int) -> None:
        self._first_bad = torch.where(bad & (self._first_bad < 0), batch, self._first_bad)

    def _anywhere(self, bad: Tensor) -> bool:
        """Whether the loss is bad in any process; all must agree on which batches count."""
        if self._fabric.world_size == 1:
            return bool(bad)
        return bool(self._fabric.all_reduce(bad.float(), reduce_op="sum") > 0)

    def _counted(self, usable: bool) -> bool:
        self._in_a_row = 0 if usable else self._in_a_row + 1
        if self._in_a_row >= MOST_SKIPPED:
            raise TrainingError(
                f"{MOST_SKIPPED} batches in a row had no finite loss or gradients, the last one with rows "
                f"{self._names(max(self._rows))}. Lower lr, set optimizer.clip_norm=1 or use precision=fp32."
            )
        return usable

    def _names(self, batch: int) -> str:
        # All of them: a batch is what a person can look through, and the culprit may be any.
        return ", ".join(self._ids[row] for row in self._rows[batch].tolist())


def require_finite(probs: npt.NDArray[np.float32], epoch: int) -> None:
    """Refuse a model whose weights have overflowed, before it is written into a checkpoint.

    Raises:
        TrainingError: some of ``probs`` (N, C) are not finite.
    """
    bad = int((~np.isfinite(probs)).any(axis=1).sum())
    if bad:
        raise TrainingError(
            f"after epoch {epoch} the model gives no finite probabilities for {bad} of {len(probs)} validation rows: its "
            "weights have overflowed. Lower lr, set optimizer.clip_norm=1 or use precision=fp32. The checkpoint before is kept."
        )

"""Training losses by name, and looking whether what they give is finite.

A loss takes ``logits`` (N, C) and ``targets``: class positions (N,) int64, or (N, C) of 0/1 (multi-label) or of probabilities
(mixed batches). It returns a scalar, computed in float32 whatever the precision of the logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from kaggle_kit.choices import LOSSES
from kaggle_kit.config import HeadConfig, LossConfig
from kaggle_kit.errors import ConfigError, TrainingError
from kaggle_kit.tables import Classes


@dataclass(frozen=True)
class LossSettings:
    """What a loss may depend on.

    Attributes:
        weights: (C,) float32 with mean 1 over the training labels, or None.
        lean: (C,) float32, what is added to logits before the loss, or None.
    """

    multilabel: bool
    n_classes: int
    weights: Tensor | None
    lean: Tensor | None
    config: LossConfig


class Loss(nn.Module):
    """Base of the losses: turns targets into (N, C) float32 and holds what is known of the classes as buffers."""

    weights: Tensor | None
    lean: Tensor | None

    def __init__(self, settings: LossSettings) -> None:
        super().__init__()
        self.settings = settings
        self.smoothing = settings.config.label_smoothing
        self.register_buffer("weights", settings.weights, persistent=False)
        self.register_buffer("lean", settings.lean, persistent=False)

    def leaning(self, logits: Tensor) -> Tensor:
        """Logits (N, C) in float32, with what :func:`lean_of` says of frequent classes."""
        return logits.float() if self.lean is None else logits.float() + self.lean

    def soft(self, targets: Tensor) -> Tensor:
        """Targets as float32 (N, C): one-hot where they are class positions."""
        if targets.ndim == 2:
            return targets.float()
        return F.one_hot(targets, self.settings.n_classes).float()


class CrossEntropy(Loss):
    """Cross entropy with label smoothing (Szegedy et al. 2016); a weighted mean when classes have weights."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        target = _smoothed(self.soft(targets), self.smoothing)
        return _weighted_mean(-target * F.log_softmax(self.leaning(logits), dim=1), target, self.weights)


class BinaryCrossEntropy(Loss):
    """One sigmoid a class: multi-label, or one against the rest for single-label rows.

    Class weights multiply the positive term only, as ``pos_weight`` of PyTorch does. Smoothing of multi-label targets goes
    towards 0.5, of single-label targets towards 1/C.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        target = _smoothed(self.soft(targets), self.smoothing, multilabel=self.settings.multilabel)
        return F.binary_cross_entropy_with_logits(self.leaning(logits), target, pos_weight=self.weights)


class Focal(Loss):
    """Focal loss (Lin et al. 2017): the loss of a class times ``(1 - p)^gamma``; gamma 0 is the loss itself."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        gamma, multilabel = self.settings.config.focal_gamma, self.settings.multilabel
        target = _smoothed(self.soft(targets), self.smoothing, multilabel=multilabel)
        logits = self.leaning(logits)
        if multilabel:
            plain = F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.weights, reduction="none")
            probs = torch.sigmoid(logits)
            hit = probs * target + (1 - probs) * (1 - target)  # (N, C): probability given to what is true
            return (plain * (1 - hit) ** gamma).mean()
        log_probs = F.log_softmax(logits, dim=1)
        return _weighted_mean(-target * log_probs * (1 - log_probs.exp()) ** gamma, target, self.weights)


class Asymmetric(Loss):
    """Asymmetric loss (Ridnik et al. 2021): one sigmoid a class; a negative counts by its probability to the power of gamma,
    after that was lowered by a shift, so that easy ones, and those that may be wrongly labelled, count nothing.

    Class weights multiply the positive term only. With gamma and shift 0 it is binary cross entropy.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        gamma, shift = self.settings.config.asymmetric_gamma, self.settings.config.asymmetric_shift
        target = _smoothed(self.soft(targets), self.smoothing, multilabel=self.settings.multilabel)
        logits = self.leaning(logits)
        positive = -target * F.logsigmoid(logits)
        if self.weights is not None:
            positive = positive * self.weights
        # Without a shift 1 - p is taken from the logits, since p rounds to 1 in float32.
        lowered = (torch.sigmoid(logits) - shift).clamp(min=0)
        log_rest = torch.log1p(-lowered) if shift else F.logsigmoid(-logits)
        negative = -(1 - target) * log_rest * (lowered**gamma if gamma else 1)
        return (positive + negative).mean()


class SquaredGrade(Loss):
    """Squared distance of the mean grade, the mean position of the class, from that of the target."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        target = _smoothed(self.soft(targets), self.smoothing)
        positions = torch.arange(target.shape[1], dtype=torch.float32, device=logits.device)
        off = (self.leaning(logits).softmax(dim=1) - target) @ positions
        weights = torch.ones_like(off) if self.weights is None else target @ self.weights
        return (weights * off.square()).sum() / weights.sum()


class HeadLoss(nn.Module):
    """What a head adds to a loss in training: an angular margin, and the mean over several dropout masks.

    ArcFace (Deng et al. 2019): the angle between features and the centre of the true class counts ``margin`` more. The logits
    are cosines times ``scale``, so that all of it can happen here, where labels are known, and evaluation knows nothing of it.
    With soft targets a class gets its share of the margin. Logits (S * B, C) for targets of B rows are of S masks.
    """

    def __init__(self, loss: Loss, head: HeadConfig) -> None:
        super().__init__()
        self.loss = loss
        self.margin = head.margin
        self.scale = head.scale

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        masks = len(logits) // len(targets)
        if masks > 1:
            targets = torch.cat([targets] * masks)
        if self.margin:
            logits = logits.float()
            hard = self.scale * _with_margin((logits / self.scale).clamp(-1, 1), self.margin)
            logits = logits + self.loss.soft(targets) * (hard - logits)
        loss: Tensor = self.loss(logits, targets)
        return loss


def _with_margin(cosines: Tensor, margin: float) -> Tensor:
    """cos(angle + margin); where that would pass half a turn, a straight line that goes on falling."""
    sines = (1 - cosines.square()).clamp(min=1e-9).sqrt()  # the root has no slope at 0
    turned = cosines * math.cos(margin) - sines * math.sin(margin)
    return torch.where(cosines > math.cos(math.pi - margin), turned, cosines - margin * math.sin(margin))


def _smoothed(target: Tensor, smoothing: float, *, multilabel: bool = False) -> Tensor:
    if not smoothing:
        return target
    return target * (1 - smoothing) + smoothing * (0.5 if multilabel else 1 / target.shape[1])


def _weighted_mean(terms: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """Sum of ``terms`` (N, C) over the rows, divided by N or by the summed weight of the targets."""
    if weights is None:
        return terms.sum() / len(terms)
    return (terms * weights).sum() / (target * weights).sum()


def cross_entropy(settings: LossSettings) -> Loss:
    if settings.multilabel:
        raise ConfigError(
            "loss cross_entropy needs exactly one label a row, but the task is multilabel; "
            "choose bce, focal, asymmetric or auto."
        )
    return CrossEntropy(settings)


def squared_grade(settings: LossSettings) -> Loss:
    if settings.multilabel:
        raise ConfigError("loss squared_grade needs one class a row, in the order of grades, but the task is multilabel.")
    return SquaredGrade(settings)


def auto(settings: LossSettings) -> Loss:
    return BinaryCrossEntropy(settings) if settings.multilabel else CrossEntropy(settings)


def build_loss(config: LossConfig, task: str, classes: Classes, truth: npt.NDArray[Any]) -> Loss:
    """The configured loss.

    Args:
        truth: the training rows' class positions (N,), or 0/1 (N, C) for multi-label; "balanced" weights come from it.

    Raises:
        ConfigError: unknown loss, weights for a class that does not exist, or a loss that the task cannot have.
    """
    factory = LOSSES.lookup(config.name)
    weights = class_weights(config, classes, truth)
    settings = LossSettings(
        multilabel=task == "multilabel",
        n_classes=len(classes),
        weights=None if weights is None else torch.from_numpy(weights),
        lean=lean_of(config, len(classes), truth),
        config=config,
    )
    loss: Loss = factory(settings)
    return loss


def class_weights(config: LossConfig, classes: Classes, truth: npt.NDArray[Any]) -> npt.NDArray[np.float32] | None:
    """Weights (C,) in class order: inverse frequency, or as given by name with 1 for classes that are not named.

    Raises:
        ConfigError: a named class does not exist.
    """
    given = config.class_weights
    if given is None:
        return None
    if not isinstance(given, dict):
        counts = _counts(truth, len(classes))
        # A class without training rows has no frequency; the weight of one row keeps its term finite.
        rows = np.maximum(counts, 1)
        # The effective number of n rows (Cui et al. 2019) is (1 - beta^n) / (1 - beta): new rows tell less and less.
        weights = 1 / rows if given == "balanced" else 1 / (1 - config.effective_beta**rows)
        labels = float((counts * weights).sum())
        return np.asarray(weights * (counts.sum() / labels if labels else 1.0), dtype=np.float32)
    classes.require(given, key="loss.class_weights")
    return np.array([given.get(name, 1.0) for name in classes], dtype=np.float32)


def lean_of(config: LossConfig, n_classes: int, truth: npt.NDArray[Any]) -> Tensor | None:
    """Return what is added to training logits (C,), or None: ``logit_adjustment`` times the logarithm of each class's share.

    A model trained so gives logits without that share, as if all classes were equally frequent (Menon et al. 2021). For
    multi-label it is the logarithm of the odds.
    """
    if not config.logit_adjustment:
        return None
    counts = _counts(truth, n_classes)
    share = np.clip(counts, 0.5, max(len(truth) - 0.5, 0.5)) / len(truth)  # a class without rows, or in all of them
    prior = np.log(share) - np.log1p(-share) if truth.ndim == 2 else np.log(share)
    return torch.from_numpy(config.logit_adjustment * prior).float()


def _counts(truth: npt.NDArray[Any], n_classes: int) -> npt.NDArray[np.float64]:
    """(C,) labels of each class."""
    counts = truth.sum(axis=0) if truth.ndim == 2 else np.bincount(truth, minlength=n_classes)
    return np.asarray(counts, dtype=np.float64)


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


def count_right(logits: Tensor, targets: Tensor, *, multilabel: bool) -> Tensor:
    """Return (), the number of rows whose most probable class is their target; multi-label: the sum of the shares of labels
    on the right side of 0.5. Nothing waits for the device.

    Args:
        logits: (N, C); of (S * N, C), as several dropout masks give, the first N count.
        targets: (N,) class positions, or (N, C), whose largest counts when rows are mixed.
    """
    logits = logits.detach()[: len(targets)]
    if multilabel:
        return ((logits > 0) == (targets > 0.5)).float().mean(dim=1).sum()
    return (logits.argmax(dim=1) == (targets if targets.ndim == 1 else targets.argmax(dim=1))).sum()


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

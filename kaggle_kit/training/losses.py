"""Training losses by name.

A loss takes ``logits`` (N, C) and ``targets``: class positions (N,) int64, or (N, C) of 0/1 (multi-label) or of probabilities
(mixed batches). It returns a scalar, computed in float32 whatever the precision of the logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.choices import LOSSES
from kaggle_kit.config import LossConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.registry import suggest
from kaggle_kit.tables import Classes, shown


@dataclass(frozen=True)
class LossSettings:
    """What a loss may depend on: ``weights`` (C,) float32 with mean 1 over the training labels, or None."""

    multilabel: bool
    n_classes: int
    weights: Tensor | None
    smoothing: float
    gamma: float


class Loss(nn.Module):
    """Base of the losses: turns targets into (N, C) float32 and holds the class weights as a buffer."""

    weights: Tensor | None

    def __init__(self, settings: LossSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("weights", settings.weights, persistent=False)

    def soft(self, targets: Tensor) -> Tensor:
        """Targets as float32 (N, C): one-hot where they are class positions."""
        if targets.ndim == 2:
            return targets.float()
        return F.one_hot(targets, self.settings.n_classes).float()


class CrossEntropy(Loss):
    """Cross entropy with label smoothing (Szegedy et al. 2016); a weighted mean when classes have weights."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        target = _smoothed(self.soft(targets), self.settings.smoothing)
        return _weighted_mean(-target * F.log_softmax(logits.float(), dim=1), target, self.weights)


class BinaryCrossEntropy(Loss):
    """One sigmoid a class: multi-label, or one against the rest for single-label rows.

    Class weights multiply the positive term only, as ``pos_weight`` of PyTorch does. Smoothing of multi-label targets goes
    towards 0.5, of single-label targets towards 1/C.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        target = _smoothed(self.soft(targets), self.settings.smoothing, multilabel=self.settings.multilabel)
        return F.binary_cross_entropy_with_logits(logits.float(), target, pos_weight=self.weights)


class Focal(Loss):
    """Focal loss (Lin et al. 2017): the loss of a class times ``(1 - p)^gamma``; gamma 0 is the loss itself."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        gamma, smoothing, multilabel = self.settings.gamma, self.settings.smoothing, self.settings.multilabel
        target = _smoothed(self.soft(targets), smoothing, multilabel=multilabel)
        logits = logits.float()
        if multilabel:
            plain = F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.weights, reduction="none")
            probs = torch.sigmoid(logits)
            hit = probs * target + (1 - probs) * (1 - target)  # (N, C): probability given to what is true
            return (plain * (1 - hit) ** gamma).mean()
        log_probs = F.log_softmax(logits, dim=1)
        return _weighted_mean(-target * log_probs * (1 - log_probs.exp()) ** gamma, target, self.weights)


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
            "loss cross_entropy needs exactly one label a row, but the task is multilabel; choose bce, focal or auto."
        )
    return CrossEntropy(settings)


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
        smoothing=config.label_smoothing,
        gamma=config.focal_gamma,
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
    if given == "balanced":
        counts = truth.sum(axis=0) if truth.ndim == 2 else np.bincount(truth, minlength=len(classes))
        # A class without training rows has no frequency; the weight of one row keeps its term finite.
        return np.asarray(counts.sum() / (len(classes) * np.maximum(counts, 1)), dtype=np.float32)
    unknown = [name for name in given if name not in classes]
    if unknown:
        raise ConfigError(
            f"loss.class_weights names classes that do not exist: {shown(unknown)}.{suggest(unknown[0], classes)} "
            f"There are: {shown(classes)}."
        )
    return np.array([given.get(name, 1.0) for name in classes], dtype=np.float32)

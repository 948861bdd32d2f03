"""Classifiers of strategy ``probe``: each is fitted to kept features and becomes the head of an ordinary model.

Linear ones are folded into the model's own classifier. ``logistic`` and ``mlp`` have the loss of the run; the others have a
rule of their own, which knows no class weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.config import HeadConfig, ProbeConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.models.heads import Head as HeadModule
from kaggle_kit.models.heads import Neighbours
from kaggle_kit.training.heads import AnySamples, Head, HeadFitter, Tried, loss_and_accuracy, try_strengths

_COUNTS = (1, 3, 5, 10, 20, 50)
"""Numbers of neighbours to choose from."""
_SHARPNESS = (5.0, 10.0, 20.0, 40.0)
"""What cosines are multiplied by to weigh neighbours."""
_MOST_ROWS = 100_000
_EPOCHS, _BATCH, _PATIENCE = 60, 256, 8
_NEVER = -30.0
"""Logit of a class without a row."""


@dataclass(frozen=True)
class Task:
    """What a classifier is fitted to.

    Attributes:
        part, inner: samples to fit to and to choose by; None where there are too few groups of rows for that.
        whole: all samples of the fold's training rows.
        loss: of the run.
    """

    part: AnySamples | None
    inner: AnySamples | None
    whole: AnySamples
    loss: nn.Module
    n_classes: int
    device: torch.device
    config: ProbeConfig
    seed: int
    multilabel: bool


@dataclass(frozen=True)
class Fitted:
    """A classifier.

    Attributes:
        head: features (B, F) to logits (B, C).
        changes: entries of ``model.head`` from which the same head is built; none for a linear layer.
        chosen: what was chosen, in words.
        strength, tried: of regularisation, where that was chosen.
    """

    head: nn.Module
    chosen: str
    changes: dict[str, object] = field(default_factory=dict)
    strength: float | None = None
    tried: tuple[Tried, ...] = ()


Classifier = Callable[[Task], Fitted]
FOR_MANY = ("logistic", "mlp")
"""Those that need no table of all samples and classes."""


def logistic(task: Task) -> Fitted:
    """A linear layer with the loss of the run, by L-BFGS."""
    head, tried, _ = _by_strength(task, task.loss)
    strength = _best(tried)
    return Fitted(_layer(head), f"strength {strength:g}", strength=strength, tried=tuple(tried))


def svm(task: Task) -> Fitted:
    """A linear support vector machine: squared hinge loss, one class against the rest; its scores are made probabilities by a
    temperature of least log loss on the inner rows."""
    head, tried, of_part = _by_strength(task, SquaredHinge())
    strength = _best(tried)
    if of_part is not None and task.inner is not None:
        # Of the fit without the inner rows: on those that were fitted, scores are surer than they will be.
        head = _sharpened(head, _temperature(_layer(of_part), task.inner, task))
    return Fitted(_layer(head), f"strength {strength:g}", strength=strength, tried=tuple(tried))


class SquaredHinge(nn.Module):
    """Mean over samples of the sum over classes of max(0, 1 - y s)², y being 1 for true classes and -1 for others."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        hot = targets if targets.ndim == 2 else F.one_hot(targets, logits.shape[1])
        signs = 2.0 * hot.to(logits.dtype) - 1.0
        return (1.0 - signs * logits).clamp_min(0.0).square().sum(dim=1).mean()


def lda(task: Task) -> Fitted:
    """Linear discriminant analysis whose covariance is shrunk as far as Ledoit and Wolf (2004) find right."""
    head = _discriminant(task.whole, task)
    if task.part is not None and task.inner is not None:
        head = _sharpened(head, _temperature(_layer(_discriminant(task.part, task)), task.inner, task))
    return Fitted(_layer(head), "shrunk covariance")


def _discriminant(samples: AnySamples, task: Task) -> Head:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    features, targets = (part.cpu().numpy() for part in _all(samples, task.device))
    weight, bias = np.zeros((task.n_classes, features.shape[1])), np.full(task.n_classes, _NEVER)

    def fitted(labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(features.astype(np.float64), labels)
        return model.coef_, model.intercept_

    if task.multilabel:
        for column in range(task.n_classes):
            labels = targets[:, column].astype(np.int64)
            if len(np.unique(labels)) == 2:
                coefficients, intercept = fitted(labels)
                weight[column], bias[column] = coefficients[0], intercept[0]
            elif labels.all():
                bias[column] = -_NEVER
    else:
        seen = np.unique(targets)
        if len(seen) == 2:  # scikit-learn holds one row for two classes: the second against the first
            coefficients, intercept = fitted(targets)
            weight[seen], bias[seen] = np.outer([-0.5, 0.5], coefficients[0]), np.array([-0.5, 0.5]) * intercept[0]
        elif len(seen) > 2:
            weight[seen], bias[seen] = fitted(targets)
        else:
            bias[seen] = -_NEVER
    return Head(*(torch.from_numpy(part).float().to(task.device) for part in (weight, bias)))


def mlp(task: Task) -> Fitted:
    """Hidden layers with batch norm and dropout, by AdamW; as many epochs as are best on the inner rows."""
    changes = {"name": "mlp", "hidden": list(task.config.hidden), "batch_norm": "features", "dropout": 0.5}
    epochs = _EPOCHS // 2
    if task.part is not None and task.inner is not None:
        epochs = _trained(task.part, task, changes, _EPOCHS, inner=task.inner)[1]
    head, _ = _trained(task.whole, task, changes, epochs)
    return Fitted(head, f"{epochs} epochs", changes)


def _trained(
    samples: AnySamples, task: Task, changes: dict[str, object], epochs: int, *, inner: AnySamples | None = None
) -> tuple[nn.Module, int]:
    """Train for ``epochs``, or until the inner loss has not fallen for some; returns the head and its best epoch."""
    features, targets = _all(samples, task.device)
    config = HeadConfig.model_validate(changes)
    generator = torch.Generator().manual_seed(task.seed)
    with torch.random.fork_rng(devices=[task.device] if task.device.type == "cuda" else []):
        torch.manual_seed(task.seed)
        head = HeadModule(features.shape[1], task.n_classes, config, drop_rate=0.2).to(task.device)
        optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-2)
        best, best_loss = 1, float("inf")
        for epoch in range(1, epochs + 1):
            head.train()
            for rows in torch.randperm(len(features), generator=generator).split(_BATCH):
                optimizer.zero_grad()
                task.loss(head(features[rows]), targets[rows]).backward()
                optimizer.step()
            head.eval()
            if inner is None:
                best = epoch
                continue
            found = loss_and_accuracy(head, inner, task.loss, task.device)[0]
            if found < best_loss:
                best, best_loss = epoch, found
            elif epoch - best >= _PATIENCE:
                break
    return head, best


def knn(task: Task) -> Fitted:
    """The training rows nearest by the cosine of centred features, weighed by it; their number is best on the inner rows."""
    count, scale = _COUNTS[2], _SHARPNESS[1]
    if task.part is not None and task.inner is not None:
        asked = _neighbours(task.part, task)
        losses = {}
        for own_count in (one for one in _COUNTS if one <= len(asked.rows)):
            for own_scale in _SHARPNESS:
                asked.count, asked.scale = own_count, own_scale
                losses[own_count, own_scale] = loss_and_accuracy(asked, task.inner, _log_loss(task), task.device)[0]
        count, scale = min(losses, key=losses.__getitem__)
    last = _neighbours(task.whole, task)
    last.count, last.scale = min(count, len(last.rows)), scale
    changes = {"name": "knn", "rows": len(last.rows), "neighbours": last.count, "scale": scale}
    head = HeadModule(last.rows.shape[1], task.n_classes, HeadConfig.model_validate(changes), drop_rate=0.0)
    head.last = last
    return Fitted(head.eval().to(task.device), f"{last.count} neighbours", changes)


def _neighbours(samples: AnySamples, task: Task) -> Neighbours:
    features, targets = _all(samples, task.device)
    if len(features) > _MOST_ROWS:
        raise ConfigError(
            f"probe.classifier=knn keeps every training row, {len(features):,} here; it can be used up to {_MOST_ROWS:,}. "
            "Lower probe.views, or take another classifier."
        )
    votes = targets if task.multilabel else F.one_hot(targets, task.n_classes)
    return Neighbours.of(features, votes, several=task.multilabel)


def _by_strength(task: Task, loss: nn.Module) -> tuple[Head, list[Tried], Head | None]:
    """The head at the strength that is best on the inner rows, fitted to all; what was tried; and the best one that was fitted
    without them, None where there are none."""
    strengths, start = task.config.strengths, None
    tried = [Tried(strengths[len(strengths) // 2], float("nan"), float("nan"))]
    if task.part is not None and task.inner is not None:
        fitter = HeadFitter(task.part, loss, task.n_classes, task.device)
        tried, start = try_strengths(fitter, task.part, task.inner, loss, strengths)
    fitter = HeadFitter(task.whole, loss, task.n_classes, task.device)
    if start is not None:
        fitter.start_from(start)
    return fitter.fit(_best(tried)), tried, start


def _best(tried: list[Tried]) -> float:
    return min(tried, key=lambda one: one.inner_loss).strength


def _layer(head: Head) -> nn.Linear:
    layer = nn.Linear(head.weight.shape[1], head.weight.shape[0], device=head.weight.device)
    with torch.no_grad():
        layer.weight.copy_(head.weight)
        layer.bias.copy_(head.bias)
    return layer


def _sharpened(head: Head, factor: float) -> Head:
    return Head(head.weight * factor, head.bias * factor)


def _temperature(head: nn.Module, samples: AnySamples, task: Task) -> float:
    """The factor of the logits that gives the least log loss."""
    from scipy.optimize import minimize_scalar

    features, targets = _all(samples, task.device)
    loss = _log_loss(task)
    with torch.inference_mode():
        logits = head(features)
        found = minimize_scalar(
            lambda power: float(loss(logits * float(np.exp(power)), targets)), bounds=(-5.0, 5.0), method="bounded"
        )
    return float(np.exp(found.x))


def _log_loss(task: Task) -> Callable[[Tensor, Tensor], Tensor]:
    if task.multilabel:
        return lambda logits, targets: F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))
    return F.cross_entropy


def _all(samples: AnySamples, device: torch.device) -> tuple[Tensor, Tensor]:
    """Features (N, F) and targets of all samples."""
    parts = list(samples.load(device))
    return torch.cat([features for features, _ in parts]), torch.cat([targets for _, targets in parts])

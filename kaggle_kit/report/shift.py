"""Whether training and test images can be told apart: a classifier that tries it, scored on images it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from kaggle_kit.images.decode import Pixels

_FOLDS = 5
_SIDE = 64
_HISTOGRAM = 8
Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shift:
    """How well test images are told from training images.

    Attributes:
        auc: area under the ROC curve, out of fold: 0.5 where they look alike, 1.0 where they never do.
        spread: standard deviation over the folds.
        train_scores, test_scores: (N,) out of fold, how much each looks like a test image, 0 to 1.
        by: what was compared.
    """

    auc: float
    spread: float
    train_scores: npt.NDArray[np.float64]
    test_scores: npt.NDArray[np.float64]
    by: str

    @property
    def text(self) -> str:
        """What the area means, in words."""
        if self.auc < 0.55:
            return "training and test images look alike"
        if self.auc < 0.7:
            return "test images differ a little from training images"
        return "test images differ from training images: a score on folds may not hold for them"


def measure_shift(train: Features, test: Features, by: str, *, seed: int = 0) -> Shift:
    """Tell test from training images by regularised logistic regression, cross-validated.

    Args:
        train, test: (N, F) and (M, F), at least five rows each.
        by: what the features are, in words.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.concatenate([train, test]).astype(np.float64)
    truth = np.repeat([0, 1], [len(train), len(test)])
    scores, areas = np.zeros(len(truth)), []
    for fit, valid in StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(features, truth):
        # The more features, the stronger the regularisation, so that 1,280 of a network do not fit 500 images by heart.
        model: Any = make_pipeline(
            StandardScaler(), LogisticRegression(C=1.0 / features.shape[1], max_iter=500, class_weight="balanced")
        )
        model.fit(features[fit], truth[fit])
        scores[valid] = model.predict_proba(features[valid])[:, 1]
        areas.append(float(roc_auc_score(truth[valid], scores[valid])))
    return Shift(float(np.mean(areas)), float(np.std(areas)), scores[: len(train)], scores[len(train) :], by)


def fits(train: Sequence[object], test: Sequence[object]) -> bool:
    """Return whether there are enough images to compare."""
    return min(len(train), len(test)) >= 2 * _FOLDS


def pixel_statistics(pixels: Pixels) -> Features:
    """Return (F,) what an image looks like from afar: colour, contrast, sharpness and a coarse histogram of each channel.

    The image is squashed to a small square first, so that its size, which is compared by itself, says nothing here.
    """
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    values = small.reshape(-1, 3).astype(np.float32) / 255
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    edges = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    bins = [np.histogram(channel, _HISTOGRAM, (0, 1))[0] / len(values) for channel in values.T]
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    saturation = values.max(axis=1) - values.min(axis=1)
    parts = [values.mean(axis=0), values.std(axis=0), [edges.mean(), edges.std(), border.mean(), border.std()]]
    return np.concatenate([*parts, [saturation.mean(), saturation.std()], *bins]).astype(np.float32)

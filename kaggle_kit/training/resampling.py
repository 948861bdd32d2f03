"""Made-up samples of small classes, by imbalanced-learn on features; only ever of rows that a head is fitted to."""

from __future__ import annotations

import logging
import re

import numpy as np
import torch

from kaggle_kit.errors import DependencyError
from kaggle_kit.training.heads import AnySamples, Fixed, Samples

_LOG = logging.getLogger(__name__)
_NEIGHBOURS = 5
_NOTHING = re.compile("No samples will be generated|Not any neigbours", re.IGNORECASE)
"""What imbalanced-learn says where there is nothing for ADASYN to do."""


def none(samples: Samples, seed: int) -> Samples:  # noqa: ARG001 - one signature for all
    """As many samples as there are."""
    return samples


def smote(samples: Samples, seed: int) -> AnySamples:
    """Between neighbours of small classes, until all classes are of one size (Chawla et al. 2002)."""
    return _resampled(samples, "SMOTE", "k_neighbors", seed)


def adasyn(samples: Samples, seed: int) -> AnySamples:
    """As SMOTE, more of them where other classes are near (He et al. 2008)."""
    return _resampled(samples, "ADASYN", "n_neighbors", seed)


def _resampled(samples: Samples, kind: str, neighbours: str, seed: int) -> AnySamples:
    try:
        from imblearn import over_sampling
    except ImportError as error:
        raise DependencyError("probe.balance needs a package: pip install 'kaggle-kit[balance]'; or set it to none.") from error
    parts = list(samples.load(torch.device("cpu")))
    features, targets = (torch.cat([part[number].cpu() for part in parts]).numpy() for number in (0, 1))
    counts = np.bincount(targets)
    # Between fewer than two rows there is nothing in between; such classes stay as they are.
    wanted = {label: int(counts.max()) for label in np.flatnonzero((counts > 1) & (counts < counts.max())).tolist()}
    if not wanted:
        return samples
    nearest = min(_NEIGHBOURS, int(min(counts[label] for label in wanted)) - 1)
    options = {neighbours: nearest, "random_state": seed % 2**32, "sampling_strategy": wanted}
    try:
        made, labels = getattr(over_sampling, kind)(**options).fit_resample(features, targets)
    except (ValueError, RuntimeError) as error:
        if kind != "ADASYN" or not _NOTHING.search(str(error)):
            raise
        _LOG.warning("probe.balance: no row of a small class has a neighbour of another, so that ADASYN makes none up here")
        return samples
    return Fixed(torch.from_numpy(np.asarray(made, dtype=np.float32)), torch.from_numpy(np.asarray(labels, dtype=np.int64)))

"""How well labels agree with what was predicted of rows that the model had not seen, and which are likely to be wrong.

Reference: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels"; by cleanlab.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.errors import DependencyError


def label_quality(truth: npt.NDArray[Any], probs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return quality (N,), 0 to 1, and issue (N,), whether cleanlab takes the labels for wrong.

    Args:
        truth: (N,) class positions, or for multi-label (N, C) of 0 and 1.
        probs: (N, C), predicted by models that were not trained on the rows.

    Raises:
        DependencyError: cleanlab is not installed; says how to install it.
    """
    require_cleanlab()
    if truth.ndim == 1:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        shares = probs / probs.sum(axis=1, keepdims=True, dtype=np.float64)
        quality = get_label_quality_scores(truth, shares, method="self_confidence")
        return np.asarray(quality), np.asarray(find_label_issues(truth, shares, n_jobs=1), dtype=bool)
    from cleanlab.multilabel_classification import get_label_quality_scores as quality_of_several
    from cleanlab.multilabel_classification.filter import find_label_issues as issues_of_several

    lists, shares = [np.flatnonzero(row).tolist() for row in truth], probs.astype(np.float64)
    issue = issues_of_several(lists, shares, n_jobs=1)
    return np.asarray(quality_of_several(lists, shares)), np.asarray(issue, dtype=bool)


def require_cleanlab() -> None:
    """Raise DependencyError where cleanlab is not installed."""
    if importlib.util.find_spec("cleanlab") is None:
        raise DependencyError("labels are judged by cleanlab, which is not installed: pip install 'cleanlab>=2.9'")

"""The blenders. Their names and helps are ``BLENDERS`` of :mod:`kaggle_kit.choices`; the conformance tests run over it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from kaggle_kit.blending import best, calibration, grades, means, open_class, stacking, trees, weights
from kaggle_kit.blending.base import Blender, Fitted, fitted_from
from kaggle_kit.choices import BLENDERS
from kaggle_kit.errors import ConfigError, DependencyError

MEAN = Blender("mean", means.mean)
GMEAN = Blender("gmean", means.gmean)
POWER = Blender("power", means.power, means.learn_exponent)
VOTE = Blender("vote", means.vote, by_class=True)
TEMPERATURE = Blender("temperature", calibration.tempered, calibration.learn_temperature, learns_scale=True)
RANK = Blender("rank", means.rank, by_class=True)
WEIGHTS = Blender("weights", means.mean, weights.learn_weights)
COORDINATE = Blender("coordinate", means.mean, weights.learn_coordinates)
HILL_CLIMB = Blender("hill-climb", means.mean, weights.learn_hill_climb)
POOL = Blender("pool", stacking.pool, stacking.learn_pool, max_cells=5_000_000, learns_scale=True, by_class=True)
VECTOR = Blender("vector", calibration.scaled_by_class, calibration.learn_vector, learns_scale=True, by_class=True)
STACK = Blender("stack", stacking.logistic, stacking.learn_logistic, learns_scale=True, by_class=True)
GRADES = Blender("grades", grades.graded, grades.learn_cuts, learns_scale=True, by_class=True)
TREES = Blender(
    "trees",
    trees.boosted,
    trees.learn_boosted,
    max_cells=5_000_000,
    learns_scale=True,
    by_class=True,
    needs=("lightgbm", "trees"),
)
AUTO = Blender("auto", best.chosen, best.learn_best, max_cells=5_000_000, learns_scale=True)


def get_blender(name: str) -> Blender:
    """Return the blender called ``name``.

    >>> import numpy as np
    >>> stack = [np.array([[0.25, 0.75]]), np.array([[0.75, 0.25]]), np.array([[0.75, 0.25]])]  # of three runs
    >>> get_blender("mean").combine(stack, {"weights": [2, 1, 1]}, False).tolist()
    [[0.5, 0.5]]
    >>> get_blender("vote").combine(stack, {}, False).tolist()
    [[0.75, 0.25]]

    Raises:
        ConfigError: there is none; lists them.
        DependencyError: it needs a package that is not installed.
    """
    blender: Blender = BLENDERS.lookup(name)
    if blender.needs is not None and importlib.util.find_spec(blender.needs[0]) is None:
        package, extra = blender.needs
        raise DependencyError(f"method {name} needs the package {package}: pip install 'kaggle-kit[{extra}]'.")
    return blender


def fitted_from_dict(content: Mapping[str, Any]) -> Fitted:
    """A fitted blend from what :meth:`Fitted.to_dict` gave.

    Raises:
        ConfigError: unknown method, or entries are missing.
    """
    if "method" not in content:
        raise ConfigError("not a stored blend: it names no method. Run `kk blend` again.")
    blender, column = get_blender(str(content["method"])), dict(content.get("parameters") or {}).get(open_class.COLUMN)
    return fitted_from(content, blender if column is None else open_class.opened(blender, int(column)))

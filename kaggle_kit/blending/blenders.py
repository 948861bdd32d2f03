"""The blenders by name. To add one is to add an entry; the conformance tests run over this table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaggle_kit.blending import means, stacking, weights
from kaggle_kit.blending.base import Blender, Fitted, fitted_from
from kaggle_kit.errors import ConfigError
from kaggle_kit.registry import lookup


def _table(*blenders: Blender) -> dict[str, Blender]:
    return {blender.name: blender for blender in blenders}


BLENDERS: dict[str, Blender] = _table(
    Blender("mean", "mean of probabilities", means.mean),
    Blender("gmean", "geometric mean; for multi-label the mean of logits", means.gmean),
    Blender("power", "power mean, the exponent found out of fold", means.power, means.learn_exponent),
    Blender("rank", "rank average within each class column", means.rank),
    Blender("weights", "weighted mean of least log loss", means.mean, weights.learn_weights),
    Blender("coordinate", "weighted mean, searched by the metric", means.mean, weights.learn_coordinates),
    Blender("hill-climb", "greedy selection of runs by the metric", means.mean, weights.learn_hill_climb),
    Blender(
        "pool",
        "weighted log probabilities with class biases",
        stacking.pool,
        stacking.learn_pool,
        max_cells=5_000_000,
        learns_scale=True,
    ),
    Blender("stack", "logistic regression on log probabilities", stacking.logistic, stacking.learn_logistic, learns_scale=True),
)


def get_blender(name: str) -> Blender:
    """The blender called ``name``; raises ConfigError that lists them."""
    return lookup(BLENDERS, name, "blending method")


def fitted_from_dict(content: Mapping[str, Any]) -> Fitted:
    """A fitted blend from what :meth:`Fitted.to_dict` gave.

    Raises:
        ConfigError: unknown method, or entries are missing.
    """
    if "method" not in content:
        raise ConfigError("not a stored blend: it names no method. Run `kk blend` again.")
    return fitted_from(content, get_blender(str(content["method"])))

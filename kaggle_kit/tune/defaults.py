"""The spaces that are searched when no file says otherwise: for each strategy what matters most, around the present values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kaggle_kit.config import ImageSize, RunConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.tune.space import Dimension, Space, build_space, value_of

LADDERS = (("none", "shift"), ("light", "medium", "heavy"))
"""Augmentation presets by strength. Those of the first mirror nothing, as where a mirrored image means something else."""

_TENFOLD = 10.0


@dataclass(frozen=True)
class Basis:
    """What a default space depends on.

    Attributes:
        side: height and width that the model wants by itself; None where it cannot have another size.
    """

    run: RunConfig
    models: tuple[str, ...]
    side: tuple[int, int] | None


def default_space(run: RunConfig, models: Sequence[str] = ()) -> Space:
    """The space of ``run.strategy``.

    Args:
        models: to choose from; by default the present one only.

    Raises:
        ConfigError: the strategy has no default space, or there is no such model.
    """
    if run.strategy not in SPACES:
        raise ConfigError(f"strategy {run.strategy!r} has no default space; write one and give it with --space FILE.")
    basis = Basis(run, tuple(dict.fromkeys(models)), own_size(run.model.name))
    content = {its.key: its.to_dict() for its in SPACES[run.strategy](basis) if not run.is_shadowed(its.key)}
    if basis.models:
        content = {"model.name": {"categorical": list(basis.models)}, **content}
    return build_space(content, run, source="default space")


def own_size(model: str) -> tuple[int, int] | None:
    """Height and width that a model wants by itself; None where the architecture is built for one size."""
    from timm.models import get_pretrained_cfg

    from kaggle_kit.models import resolve_name
    from kaggle_kit.own_code import is_own

    if is_own(model):
        return None
    cfg = get_pretrained_cfg(resolve_name(model))
    if cfg is None or cfg.fixed_input_size:
        return None
    return cfg.input_size[1], cfg.input_size[2]


def _finetune(basis: Basis) -> list[Dimension]:
    run = basis.run
    lr, head_lr = value_of(run, "optimizer.lr"), value_of(run, "optimizer.head_lr")
    return [
        Dimension("optimizer.lr", "log", (lr / _TENFOLD, lr * _TENFOLD)),
        Dimension("optimizer.head_lr", "log", (head_lr / _TENFOLD, head_lr * _TENFOLD)),
        _weight_decay(run.optimizer.weight_decay),
        Dimension("optimizer.layer_decay", "float", (0.6, 1.0), 0.05),
        Dimension("model.drop_path_rate", "float", (0.0, max(0.4, run.model.drop_path_rate))),
        *_strength(run.augment.preset),
        Dimension("augment.mixup", "float", (0.0, max(0.8, run.augment.mixup))),
        Dimension("loss.label_smoothing", "float", (0.0, max(0.2, run.loss.label_smoothing))),
        *_sizes(basis),
        Dimension("schedule.epochs", "int", (max(1, run.schedule.epochs // 2), 2 * run.schedule.epochs)),
    ]


def _weight_decay(present: float) -> Dimension:
    # A logarithmic range has no zero.
    return Dimension("optimizer.weight_decay", "log", (min(1e-4, present), max(0.3, present))) if present else _NO_DECAY


_NO_DECAY = Dimension("optimizer.weight_decay", "float", (0.0, 0.3))


def _strength(preset: str) -> list[Dimension]:
    """The presets of the ladder that the present one is on; nothing to search for one of somebody's own."""
    return [Dimension("augment.preset", "categorical", ladder) for ladder in LADDERS if preset in ladder]


def _sizes(basis: Basis) -> list[Dimension]:
    """Three quarters, the present size and five quarters, in steps that strides of 32 (small images: 8) divide."""
    if basis.side is None:
        return []
    present = basis.run.data.image_size
    sides = basis.side if present is None else (present, present) if isinstance(present, int) else present
    step = 32 if min(sides) >= 128 else 8

    def scaled(share: float) -> ImageSize:
        height, width = (max(step, round(share * side / step) * step) for side in sides)
        return height if height == width else (height, width)

    choices: list[Any] = [present, *(size for size in (scaled(0.75), scaled(1.25)) if size != scaled(1.0))]
    plain = [list(choice) if isinstance(choice, tuple) else choice for choice in choices]
    return [Dimension("data.image_size", "categorical", tuple(plain))]


def _probe(basis: Basis) -> list[Dimension]:
    """What features and head depend on. Features are kept, so that only another size, fit or preset costs a pass."""
    run = basis.run
    return [
        *_sizes(basis),
        Dimension("data.fit", "categorical", ("crop", "squash", "pad")),
        *_strength(run.augment.preset),
        Dimension("probe.views", "int", (0, max(3, run.probe.views))),
        Dimension("loss.label_smoothing", "float", (0.0, max(0.2, run.loss.label_smoothing))),
    ]


SPACES: dict[str, Callable[[Basis], list[Dimension]]] = {
    "finetune": _finetune,
    "probe": _probe,
    "probe-then-finetune": _finetune,
}
"""Name of ``run.strategy`` -> its dimensions, without the choice of models."""

"""Optimizers by timm's factory, with parameter groups for head rate, layer decay and weight decay."""

from __future__ import annotations

import inspect
from typing import Any

from timm.optim import (
    create_optimizer_v2,
    get_optimizer_class,
    list_optimizers,
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from torch import nn
from torch.optim import Optimizer

from kaggle_kit.config import OptimizerConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.models.heads import head_names


def build_optimizer(model: nn.Module, config: OptimizerConfig, *, fused: bool = True) -> Optimizer:
    """The configured optimizer over the trainable parameters of a timm model.

    Args:
        fused: use the fused kernel where the optimizer has one. Fabric cannot clip the gradients of a fused optimizer under
            float16 loss scaling, so that the loop turns it off there.

    Raises:
        ConfigError: an option that the optimizer has not, or every parameter is frozen.
    """
    groups = parameter_groups(model, config)
    options: dict[str, Any] = dict(config.options)
    if fused and config.name in list_optimizers() and _has_fused(config.name):
        options.setdefault("fused", True)
    try:
        optimizer: Optimizer = create_optimizer_v2(
            groups, opt=config.name, lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum, **options
        )
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise ConfigError(
            f"optimizer {config.name!r} cannot be made with optimizer.options={config.options}: {error}."
        ) from error
    return optimizer


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Groups of trainable parameters: 1-D ones without weight decay, the head at its own rate, deeper layers slower.

    With ``layer_decay`` a group carries ``lr_scale``, which the schedules of timm multiply its rate by.

    Raises:
        ConfigError: every parameter is frozen.
    """
    exempt = set(getattr(model, "no_weight_decay", set)())
    if config.layer_decay is None:
        groups = param_groups_weight_decay(model, config.weight_decay, no_weight_decay_list=exempt)
    else:
        groups = param_groups_layer_decay(
            model, config.weight_decay, no_weight_decay_list=exempt, layer_decay=config.layer_decay
        )
    head = {id(parameter) for parameter in head_parameters(model)}
    split: list[dict[str, Any]] = []
    for group in groups:
        rest = {key: value for key, value in group.items() if key != "params"}
        for own_rate, lr in ((False, config.lr), (True, config.head_lr or config.lr)):
            members = [parameter for parameter in group["params"] if (id(parameter) in head) == own_rate]
            if members:
                split.append({**rest, "params": members, "lr": lr, "part": "head" if own_rate else "backbone"})
    if not split:
        raise ConfigError("every parameter of the model is frozen, so that there is nothing to train; lower model.freeze.")
    return split


def head_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters of the head of a timm model: its classifier (both, of a distilled one) and a pooling that learns."""
    prefixes = tuple(f"{name}." for name in head_names(model))
    return [parameter for name, parameter in model.named_parameters() if name.startswith(prefixes)]


def current_lr(optimizer: Optimizer) -> float:
    """The backbone's learning rate now, without layer decay; the head's where the backbone is frozen."""
    groups = [group for group in optimizer.param_groups if group.get("part") == "backbone"] or optimizer.param_groups
    return max(float(group["lr"]) for group in groups)


def _has_fused(name: str) -> bool:
    return "fused" in inspect.signature(get_optimizer_class(name, bind_defaults=False)).parameters

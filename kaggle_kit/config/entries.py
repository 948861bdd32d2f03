"""Entries of a run's configuration by name: short names, dotted keys, and setting one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaggle_kit.errors import ConfigError
from kaggle_kit.registry import shortened

ALIASES: dict[str, str] = {
    "model": "model.name",
    "pretrained": "model.pretrained",
    "head": "model.head.name",
    "pool": "model.head.pool",
    "freeze": "model.freeze",
    "epochs": "schedule.epochs",
    "schedule": "schedule.name",
    "optimizer": "optimizer.name",
    "lr": "optimizer.lr",
    "head_lr": "optimizer.head_lr",
    "weight_decay": "optimizer.weight_decay",
    "layer_decay": "optimizer.layer_decay",
    "batch_size": "data.batch_size",
    "image_size": "data.image_size",
    "labels": "data.labels",
    "workers": "data.workers",
    "sampler": "data.sampler",
    "augment": "augment.preset",
    "mixup": "augment.mixup",
    "cutmix": "augment.cutmix",
    "loss": "loss.name",
    "label_smoothing": "loss.label_smoothing",
    "precision": "hardware.precision",
    "devices": "hardware.devices",
}
"""Short names of ``key=value`` for the entries set most often."""


def resolve(key: str) -> str:
    """Return the dotted key that a short name stands for; any other name as it is."""
    return ALIASES.get(key, key)


def with_entry(content: Mapping[str, Any], path: Sequence[str], value: Any, key: str) -> dict[str, Any]:
    """Return a copy of ``content`` with the entry at ``path`` set; ``key`` is what it was called, for messages.

    Raises:
        ConfigError: the way there leads through something that is no section.
    """
    head, *rest = path
    if not rest:
        return {**content, head: value}
    inner = content.get(head) or {}
    if not isinstance(inner, Mapping):
        raise ConfigError(f"{key!r} cannot be set: {head!r} is {shortened(inner)}, not a section.")
    return {**content, head: with_entry(inner, rest, value, key)}

"""Where training images are augmented: each by a loader process, or batch by batch on the device."""

from __future__ import annotations

import logging
from typing import Literal

import torch

from kaggle_kit.config import RunConfig
from kaggle_kit.images.device_augment import DeviceTransform, device_obstacle
from kaggle_kit.images.transforms import ImageSpec, TrainTransform, train_transform
from kaggle_kit.machine.host import available_cpus

logger = logging.getLogger(__name__)

Place = Literal["workers", "device"]
LOADERS_WANTED = 4
"""Loader processes that a GPU should have for itself; with fewer, it augments its batches itself.

A core augments 540 to 1,200 decoded images a second (presets heavy to light at 224 pixels, EPYC, measured), and readies 2,200
to 3,800 for the device. On Kaggle two T4s share four slow logical CPUs, one or two loaders each, while small models train on
more images than these augment."""


def augmenting_place(config: RunConfig, spec: ImageSpec, device: torch.device, before: str | None = None) -> Place:
    """Where to augment: as ``augment.where`` says, or for "auto" as the fold was begun, or on a GPU that has few loaders.

    Both ways draw the same crops, flips and colours, but their pixels differ by rounding and filtering. So a fold that goes on,
    perhaps on a machine with other CPUs, stays with its way, unless told otherwise by name.

    ``before``: the place that this fold was begun with, if it goes on.
    """
    asked = config.augment.where
    place: Place = asked if asked != "auto" else _kept(before) or _automatic(config, spec, device)
    if before is not None and place != before:
        logger.warning(
            "this fold was begun with images augmented by the %s, and goes on with the %s: its numbers will not be quite those "
            "of a run that stays with one, as augment.where: auto does",
            *(before, place),
        )
    return place


def require_possible(config: RunConfig) -> None:
    """Raise early what :func:`training_transform` would raise once the images are read.

    Raises:
        ConfigError: "device" is wanted for what the device cannot do.
    """
    if config.augment.where == "device" and config.strategy != "probe":  # whose views are made once, by loader processes
        training_transform(config, ImageSpec(224, 224), "device")


def training_transform(config: RunConfig, spec: ImageSpec, place: Place) -> TrainTransform:
    """What the loader processes apply.

    Raises:
        ConfigError: the device cannot do this augmentation.
    """
    return DeviceTransform(spec, config.augment) if place == "device" else train_transform(spec, config.augment)


def _kept(before: str | None) -> Place | None:
    return "device" if before == "device" else "workers" if before == "workers" else None


def _automatic(config: RunConfig, spec: ImageSpec, device: torch.device) -> Place:
    if device.type != "cuda" or config.augment.preset == "none":
        return "workers"
    loaders = loaders_of(config)
    obstacle = device_obstacle(spec, config.augment)
    if loaders >= LOADERS_WANTED or obstacle:
        few = "" if loaders >= LOADERS_WANTED else f"; that is few, but {obstacle}"
        logger.info("images are augmented by %d loader processes%s", loaders, few)
        return "workers"
    logger.info("batches are augmented on the GPU: %d loader processes for it are few (augment.where)", loaders)
    return "device"


def loaders_of(config: RunConfig) -> int:
    """Loader processes that each training process of this machine has CPUs for, or is told to have."""
    if config.data.workers is not None:
        return config.data.workers
    return max(0, available_cpus() // config.hardware.devices - 1)

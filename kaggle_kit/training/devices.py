"""Where and in which precision a run computes: the settings of Lightning Fabric, checked."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from lightning_fabric import Fabric

from kaggle_kit.config import HardwareConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.inference.inputs import choose_device

PRECISIONS = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}
"""Our names and Fabric's; fp16 comes with loss scaling."""


def make_fabric(hardware: HardwareConfig) -> Fabric:
    """A Fabric for ``hardware``, not launched yet.

    Raises:
        ConfigError: there is no such accelerator here, not as many devices, or they lack the precision.
    """
    strategy: Any = hardware.strategy
    if hardware.devices > 1 and strategy in ("auto", "ddp"):
        # Spawned processes, not the command line run again: the same from a script, the command and a test.
        strategy = "ddp_spawn"
    accelerator = choose_device(hardware.accelerator).type
    precision = resolve_precision(hardware.precision, accelerator)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not used.*", category=UserWarning)
            return Fabric(accelerator=accelerator, devices=hardware.devices, strategy=strategy, precision=PRECISIONS[precision])
    except (ValueError, RuntimeError, TypeError) as error:
        raise ConfigError(
            f"hardware: cannot use accelerator={hardware.accelerator!r}, devices={hardware.devices}, "
            f"strategy={hardware.strategy!r}: {error}"
        ) from error
    except Exception as error:
        # Fabric's MisconfigurationException is an Exception and nothing more, in a package that moved between versions.
        raise ConfigError(f"hardware: accelerator={hardware.accelerator!r} cannot be used here: {error}") from error


def resolve_precision(precision: str, accelerator: str) -> str:
    """bf16, fp16 or fp32: as wanted, or for "auto" the fastest that the device has in hardware.

    Raises:
        ConfigError: fp16 is wanted where there is no GPU.
    """
    gpu = accelerator == "cuda"
    if precision == "auto":
        if not gpu:
            return "fp32"
        # A T4 emulates bf16, slowly; without the argument it would count as supported.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if precision == "fp16" and not gpu:
        raise ConfigError(
            f"precision fp16 needs a CUDA device, but the accelerator is {accelerator!r}; use auto, fp32 or bf16."
        )
    return precision


def precision_of(fabric: Fabric) -> str:
    """Our name of the precision that ``fabric`` computes in."""
    names = {theirs: ours for ours, theirs in PRECISIONS.items()}
    return names[str(fabric.strategy.precision.precision)]


def device_name(fabric: Fabric) -> str:
    """The device in words, for records: "cpu", or the GPU's name and how many."""
    if fabric.device.type != "cuda":
        return fabric.device.type if fabric.world_size == 1 else f"{fabric.world_size} x {fabric.device.type}"
    name = torch.cuda.get_device_name(fabric.device)
    return name if fabric.world_size == 1 else f"{fabric.world_size} x {name}"

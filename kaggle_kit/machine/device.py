"""Where and in which precision to compute: devices, Fabric, autocast, and memory that runs out."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from kaggle_kit.choices import PRECISIONS
from kaggle_kit.config import HardwareConfig
from kaggle_kit.errors import ConfigError, DeviceMemoryError
from kaggle_kit.machine.host import available_cpus

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger(__name__)
T = TypeVar("T")


def make_fabric(hardware: HardwareConfig) -> Fabric:
    """A Fabric for ``hardware``, not launched yet.

    Raises:
        ConfigError: there is no such accelerator here, not as many devices, or they lack the precision.
    """
    from lightning_fabric import Fabric  # which a kernel that only predicts does not have

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


def device_text(device: torch.device) -> str:
    """Return what a device is, in words: a GPU's name, or how many CPUs this process may use."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {available_cpus()} CPUs"


def resolve_precision(precision: str, accelerator: str) -> str:
    """Return bf16, fp16 or fp32: as wanted, or for "auto" the fastest that the device has in hardware.

    The one rule for training and prediction.

    Args:
        accelerator: type of the device, such as "cpu" or "cuda".

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


def choose_device(accelerator: str = "auto") -> torch.device:
    """The device for ``accelerator``: auto, cpu, cuda (or gpu), mps, or a device such as cuda:1.

    A GPU is tried with a real operation, since one may be listed that this build of torch has no kernels for. With "auto" the
    CPU is taken then, and the log says why.

    Raises:
        ConfigError: the device asked for by name does not exist or does not work.
    """
    if accelerator == "auto":
        for name in _present():
            reason = refusal(name)
            if not reason:
                return torch.device(name)
            logger.warning("%s is present but does not work, using the CPU: %s", name, reason)
        return torch.device("cpu")
    name = "cuda" if accelerator == "gpu" else accelerator
    reason = refusal(name)
    if reason:
        raise ConfigError(f"hardware.accelerator: {accelerator!r} cannot be used ({reason}); choose auto or cpu.")
    return torch.device(name)


def _present() -> list[str]:
    return [name for name, found in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())) if found]


def refusal(name: str) -> str:
    """Why ``name`` cannot compute, or an empty string."""
    try:
        weight = torch.ones(2, 3, 3, 3, device=name)
        torch.nn.functional.conv2d(torch.ones(1, 3, 8, 8, device=name), weight).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ""


HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def half_dtype(device: torch.device, precision: str) -> torch.dtype | None:
    """Return the type of autocast when predicting, or None for plain float32, in which everything but a GPU predicts."""
    return HALF.get(resolve_precision(precision, device.type)) if device.type == "cuda" else None


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn an accelerator that is out of memory into an error that says what to lower.

    Raises:
        DeviceMemoryError: the block ran out of GPU memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0]
        raise DeviceMemoryError(
            f"the GPU's memory is too small for this batch ({first}) Lower data.batch_size (predicting: data.eval_batch_size "
            "or --batch-size), lower image_size, take a smaller model, or set model.grad_checkpointing=true."
        ) from error


def agreed(fabric: Fabric, value: T) -> T:
    """The first process's ``value``, in all of them."""
    return value if fabric.world_size == 1 else fabric.broadcast(value)

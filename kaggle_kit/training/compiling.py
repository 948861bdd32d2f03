"""``model.compile``: the model through torch.compile where that is wanted, works and, for ``auto``, is faster here."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kaggle_kit.config import RunConfig
from kaggle_kit.machine.device import precision_of
from kaggle_kit.machine.host import user_cache
from kaggle_kit.models import set_train_mode
from kaggle_kit.training.data import FoldData
from kaggle_kit.training.steps import known_steps, measure_steps

logger = logging.getLogger(__name__)

COMPILE_PAYS_FROM = {"cpu": 20_000 * 224 * 224, "cuda": 250_000 * 224 * 224}
"""Device -> pixels to train on, images times epochs, from which compiling may pay; it takes about a minute, once."""
FASTER = 1.05
"""How many times faster compiled steps must be on a CPU to be taken."""


def compile_pays(config: RunConfig, data: FoldData, fabric: Fabric) -> bool:
    """Whether to compile: as configured, or for "auto" by the work that there is.

    On a CPU it is also left out where steps were slower with it before, on this machine, with this network, batch and size.
    """
    choice = config.model.compile
    if isinstance(choice, bool):
        return choice
    pixels = data.loader.images * fabric.world_size * config.schedule.epochs * data.spec.height * data.spec.width
    enough = bool(pixels >= COMPILE_PAYS_FROM.get(fabric.device.type, math.inf))
    if not enough or fabric.device.type != "cpu":
        return enough
    eager, by_compiler = _ways(fabric)
    known = known_steps(config.model.name, _batch(config, data, fabric), (eager, by_compiler))
    return known is None or known[by_compiler] > FASTER * known[eager]


class Compiled(nn.Module):
    """``module`` through torch.compile for batches of one shape; any other batch, such as an epoch's last, runs as it is.

    Left to itself torch would compile a second time for the odd batch, for lengths of any kind, and from then on choose between
    the two, so that a run which goes on after an interruption would not give the same numbers.
    """

    def __init__(self, module: nn.Module, shape: torch.Size) -> None:
        super().__init__()
        self.module = module
        self._shape = shape
        # In a tuple, which hides it from parameters() and state_dict().
        self._compiled = (torch.compile(module, dynamic=False),)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, C)."""
        output: Tensor = self._compiled[0](images) if images.shape == self._shape else self.module(images)
        return output


def keep_compiled(folder: Path) -> None:
    """Let the compiler keep in ``folder`` what it makes, unless a place is set or the folder cannot be made.

    It is there, then, after the system has emptied its temporary folder; PyTorch names it by versions, processor and graph. It
    is not kept in the workspace: PyTorch reads it back by pickle, and workspaces are passed around.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def compiled(model: nn.Module, config: RunConfig, data: FoldData, fabric: Fabric) -> nn.Module:
    """``model`` through torch.compile where that works and, for "auto" on a CPU, is faster; else ``model`` and one line of why.

    Compiling happens at the first batch, so one of zeros is tried, and what it did to the model is undone.
    """
    keep_compiled(user_cache() / "compiled")
    before = copy.deepcopy(model.state_dict())
    images = torch.zeros(_batch(config, data, fabric), device=fabric.device)
    if config.model.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    candidate: nn.Module = Compiled(model, images.shape)
    set_train_mode(candidate, config.model)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # warns of a missing GPU on machines without one
    started = time.monotonic()
    with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        try:
            with fabric.strategy.precision.forward_context():
                candidate(images).float().sum().backward()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # compilers fail in their own ways: no C compiler, an operation not covered, a defect
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            logger.warning("torch.compile does not work here, training without it: %s", reason)
            candidate = model
        else:
            logger.info("compiled in %.0f s", time.monotonic() - started)
            if config.model.compile == "auto" and fabric.device.type == "cpu":
                candidate = _faster(model, candidate, config.model.name, images, fabric)
    model.zero_grad(set_to_none=True)
    model.load_state_dict(before)
    return candidate


def _faster(model: nn.Module, candidate: nn.Module, network: str, images: Tensor, fabric: Fabric) -> nn.Module:
    """``candidate``, which is compiled, if training steps are faster with it."""

    def forward(module: nn.Module) -> Callable[[Tensor], Tensor]:
        def step(images: Tensor) -> Tensor:
            with fabric.strategy.precision.forward_context():
                found: Tensor = module(images)
            return found

        return step

    eager, by_compiler = _ways(fabric)
    if known_steps(network, images.shape, (eager, by_compiler)) is not None:
        return candidate  # it was faster before, or would not have been compiled
    speeds = measure_steps(network, images, {eager: forward(model), by_compiler: forward(candidate)})
    gain = speeds[by_compiler] / speeds[eager]
    chosen, said = (candidate, "training compiled") if gain > FASTER else (model, "training without it")
    logger.info("%s: steps are %.2f times as fast by torch.compile as without here", said, gain)
    return chosen


def _ways(fabric: Fabric) -> tuple[str, str]:
    precision = precision_of(fabric)
    return f"eager {precision}", f"compiled {precision}"


def _batch(config: RunConfig, data: FoldData, fabric: Fabric) -> torch.Size:
    spec = data.spec
    return torch.Size((config.data.batch_size // fabric.world_size, spec.channels, *spec.size))

"""What trains: the model made ready, compiled and set up by Fabric, with optimizer, schedule, loss and average."""

from __future__ import annotations

import copy
import logging
import math
import time

import torch
from lightning_fabric import Fabric
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3
from torch import nn

from kaggle_kit.config import RunConfig
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.engines import memory_errors
from kaggle_kit.models import build_model, freeze, image_spec, set_train_mode
from kaggle_kit.training.job import FoldJob
from kaggle_kit.training.loop import FoldData
from kaggle_kit.training.losses import build_loss
from kaggle_kit.training.optimizers import build_optimizer
from kaggle_kit.training.schedules import build_schedule
from kaggle_kit.training.state import Learner, derive_seed

logger = logging.getLogger(__name__)

_HEAD = 1  # purpose of the seed
COMPILE_PAYS_FROM = {"cpu": 2_000 * 224 * 224, "cuda": 250_000 * 224 * 224}
"""Device -> pixels to train on, images times epochs, from which compiling (about a minute) pays when ``model.compile`` is auto.

A rule about the work and not about measured time, so that a run which goes on after an interruption decides the same."""


def make_model(job: FoldJob) -> tuple[nn.Module, ImageSpec]:
    """The model with pretrained weights and a new head, frozen as configured, and how it wants its images.

    Sets torch's global seed, since layers draw their first values from no other generator.
    """
    config = job.config.model
    torch.manual_seed(derive_seed(job.config.seed, job.fold, _HEAD))
    model = build_model(config, len(job.folds.classes), weights=job.weights, image_size=job.config.data.image_size)
    if job.initial is not None:
        model.load_state_dict(job.initial)
    freeze(model, config)
    return model, image_spec(model, job.config.data)


def make_learner(job: FoldJob, model: nn.Module, data: FoldData, fabric: Fabric) -> Learner:
    """Everything that a step needs beside the batch.

    Raises:
        ConfigError: an unknown name, an option that does not exist, or nothing left to train.
        DeviceMemoryError: the model does not fit.
    """
    config = job.config
    if fabric.device.type == "cuda" and fabric.world_size > 1:
        model = convert_sync_batchnorm(model)  # timm's: PyTorch's would lose the activations of fused layers
    loss = build_loss(config.loss, job.competition.task, job.folds.classes, job.folds.truth(job.train_rows))
    clips = config.optimizer.clip_norm is not None or config.optimizer.clip_value is not None
    scaled = getattr(fabric.strategy.precision, "scaler", None) is not None
    optimizer = build_optimizer(model, config.optimizer, fused=not (clips and scaled))
    updates = -(-len(data.loader) // config.optimizer.accumulate)
    schedule = build_schedule(
        optimizer, config.schedule, updates_per_epoch=updates, greater_is_better=data.metric.greater_is_better
    )
    with memory_errors():
        model.to(fabric.device)
        candidate = compiled(model, config, data.spec, fabric) if compile_pays(config, data, fabric) else model
        ready, wrapped = fabric.setup(candidate, optimizer)
        # Early updates move the average more, so that it does not remember the untrained head (timm's warm-up).
        ema = ModelEmaV3(model, decay=config.ema, use_warmup=True) if config.ema else None
    return Learner(fabric, ready, model, wrapped, schedule, loss.to(fabric.device), ema)


def compile_pays(config: RunConfig, data: FoldData, fabric: Fabric) -> bool:
    """Whether to compile: as configured, or for "auto" by ``COMPILE_PAYS_FROM``."""
    choice = config.model.compile
    if isinstance(choice, bool):
        return choice
    pixels = data.loader.images * fabric.world_size * config.schedule.epochs * data.spec.height * data.spec.width
    return bool(pixels >= COMPILE_PAYS_FROM.get(fabric.device.type, math.inf))


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

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to (B, C)."""
        output: torch.Tensor = self._compiled[0](images) if images.shape == self._shape else self.module(images)
        return output


def compiled(model: nn.Module, config: RunConfig, spec: ImageSpec, fabric: Fabric) -> nn.Module:
    """``model`` through torch.compile where that works, else ``model`` and one line of why.

    Compiling happens at the first batch, so one of zeros is tried, and what it did to the model is undone.
    """
    before = copy.deepcopy(model.state_dict())
    images = torch.zeros(config.data.batch_size // fabric.world_size, 3, *spec.size, device=fabric.device)
    if config.model.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    candidate: nn.Module = Compiled(model, images.shape)
    set_train_mode(candidate, config.model)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # warns of a missing GPU on machines without one
    logger.info("compiling the model")
    started = time.monotonic()
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
    model.zero_grad(set_to_none=True)
    model.load_state_dict(before)
    return candidate

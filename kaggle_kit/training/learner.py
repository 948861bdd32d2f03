"""What trains: the model made ready, compiled and set up by Fabric, with optimizer, schedule, loss and average."""

from __future__ import annotations

import copy
import logging

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
        ready, wrapped = fabric.setup(compiled(model, config, data.spec, fabric), optimizer)
        # Early updates move the average more, so that it does not remember the untrained head (timm's warm-up).
        ema = ModelEmaV3(model, decay=config.ema, use_warmup=True) if config.ema else None
    return Learner(fabric, ready, model, wrapped, schedule, loss.to(fabric.device), ema)


def compiled(model: nn.Module, config: RunConfig, spec: ImageSpec, fabric: Fabric) -> nn.Module:
    """``model`` through torch.compile where that works, else ``model`` and one line of why.

    Compiling happens at the first batch, so one of zeros is tried, and what it did to the model is undone.
    """
    if not config.model.compile:
        return model
    before = copy.deepcopy(model.state_dict())
    candidate: nn.Module = torch.compile(model)  # type: ignore[assignment]
    images = torch.zeros(config.data.batch_size // fabric.world_size, 3, *spec.size, device=fabric.device)
    if config.model.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    set_train_mode(candidate, config.model)
    try:
        with fabric.strategy.precision.forward_context():
            candidate(images).float().sum().backward()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # compilers fail in their own ways: no C compiler, an operation not covered, a defect
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        logger.warning("torch.compile does not work here, training without it: %s", reason)
        candidate = model
    model.zero_grad(set_to_none=True)
    model.load_state_dict(before)
    return candidate

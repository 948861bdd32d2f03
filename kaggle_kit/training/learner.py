"""What trains: the model made ready, compiled and set up by Fabric, with optimizer, schedule, loss and average."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricOptimizer
from timm.layers import convert_sync_batchnorm
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from kaggle_kit.errors import DataError
from kaggle_kit.events import Phase, Reporter, silent
from kaggle_kit.images.loaders import Batch
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.machine.device import memory_errors
from kaggle_kit.models import build_model, freeze, image_spec
from kaggle_kit.seeds import derive_seed
from kaggle_kit.training.compiling import compile_pays, compiled
from kaggle_kit.training.data import FoldData
from kaggle_kit.training.job import FoldJob
from kaggle_kit.training.losses import HeadLoss, build_loss
from kaggle_kit.training.optimizers import build_optimizer
from kaggle_kit.training.schedules import build_schedule, restore_schedule, schedule_state

_HEAD = 1  # purpose of the seed


def make_model(job: FoldJob) -> tuple[nn.Module, ImageSpec]:
    """The model with its first weights, and how it wants the images of the last stage, which are those of prediction.

    Sets torch's global seed, since layers draw their first values from no other generator.
    """
    data = job.config.last_stage.data
    torch.manual_seed(derive_seed(job.config.seed, job.fold, _HEAD))
    model = build_model(
        *(job.config.model, len(job.classes)),
        weights=job.weights,
        image_size=data.image_size,
        root=job.root,
        channels=job.channels,
    )
    if job.initial is not None:
        model.load_state_dict(job.initial)
    return model, image_spec(model, data, job.channels)


def make_learner(
    job: FoldJob,
    model: nn.Module,
    data: FoldData,
    fabric: Fabric,
    reporter: Reporter = silent,
    *,
    ema: ModelEmaV3 | None = None,
) -> Learner:
    """Everything that a step needs beside the batch; ``model`` is frozen as configured, and what was frozen before is not.

    Args:
        ema: the average of an earlier stage, which goes on.

    Raises:
        ConfigError: an unknown name, an option that does not exist, or nothing left to train.
        DeviceMemoryError: the model does not fit.
    """
    config = job.config
    freeze(model, config.model)
    if fabric.device.type == "cuda" and fabric.world_size > 1:
        model = convert_sync_batchnorm(model)  # timm's: PyTorch's would lose the activations of fused layers
    loss = HeadLoss(build_loss(config.loss, job.task, job.classes, job.train.truth), config.model.head)
    clips = config.optimizer.clip_norm is not None or config.optimizer.clip_value is not None
    scaled = getattr(fabric.strategy.precision, "scaler", None) is not None
    optimizer = build_optimizer(model, config.optimizer, fused=not (clips and scaled))
    updates = -(-len(data.loader) // config.optimizer.accumulate)
    schedule = build_schedule(
        optimizer, config.schedule, updates_per_epoch=updates, greater_is_better=data.metric.greater_is_better
    )
    with memory_errors():
        model.to(fabric.device)
        candidate = model
        if compile_pays(config, data, fabric):
            if fabric.is_global_zero:
                reporter(Phase(job.fold, "compiling the model (about a minute)"))
            candidate = compiled(model, config, data, fabric)
        ready, wrapped = fabric.setup(candidate, optimizer)
        # Early updates move the average more, so that it does not remember the untrained head (timm's warm-up).
        ema = ema or (ModelEmaV3(model, decay=config.ema, use_warmup=True) if config.ema else None)
    return Learner(fabric, ready, model, wrapped, schedule, loss.to(fabric.device), ema, job.starts_trained)


class WeightMean:
    """A running mean of weights.

    Args:
        wanted: how many epochs, from the end of the training, it is to be of.
    """

    def __init__(self, wanted: int = 0) -> None:
        self.wanted = wanted
        self.count = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, state: Mapping[str, Tensor]) -> None:
        """Add one state dict; of whole numbers, such as counters, the last counts."""
        self.count += 1
        for name, value in state.items():
            value = value.detach().to("cpu", copy=True)
            summed = value.double() + self._sums[name] if name in self._sums and value.is_floating_point() else value
            self._sums[name] = summed.double() if value.is_floating_point() else value

    def state(self) -> dict[str, Tensor]:
        """Return the mean; numbers take the type of the parameters that they are loaded into."""
        return {name: value / self.count if value.is_floating_point() else value for name, value in self._sums.items()}

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"count": self.count, "sums": self._sums}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Undo :meth:`to_dict`."""
        self.count, self._sums = int(values["count"]), dict(values["sums"])


@dataclass
class Learner:
    """A model and all that trains it.

    Attributes:
        model: what computes gradients: ``plain``, compiled and wrapped by Fabric.
        plain: the timm model inside, whose weights are saved.
        ema: the averaged copy, which is validated and kept instead, or None.
        mean: of the last epochs' weights, where swa wants it.
        after_epoch: called when an epoch is validated, before its checkpoint is written.
        starts_trained: whether it began with a trained classifier, so that epoch 0 may be kept.
    """

    fabric: Fabric
    model: nn.Module
    plain: nn.Module
    optimizer: _FabricOptimizer
    schedule: Scheduler
    loss: nn.Module
    ema: ModelEmaV3 | None = None
    starts_trained: bool = False
    mean: WeightMean | None = None
    after_epoch: Callable[[], None] = lambda: None

    def targets(self, batch: Batch) -> Tensor:
        """The targets of a training batch on the device, (B,) or (B, C).

        Raises:
            DataError: the loader was made without targets.
        """
        if batch.targets is None:
            raise DataError("training batches need targets; give them to the dataset.")
        return batch.targets.to(self.fabric.device, non_blocking=True)

    @property
    def evaluated(self) -> nn.Module:
        """The model that is validated, and whose weights are kept."""
        return self.plain if self.ema is None else self.ema.module

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "model": self.plain.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": _inner(self.optimizer).state_dict(),
            "schedule": schedule_state(self.schedule),
            "precision": dict(self.fabric.strategy.precision.state_dict()),
            **({} if self.mean is None else {"mean": self.mean.to_dict()}),
        }

    def restore(self, values: dict[str, Any]) -> None:
        """Undo :meth:`to_dict`."""
        self.plain.load_state_dict(values["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(values["ema"])
        optimizer = _inner(self.optimizer)
        optimizer.load_state_dict(values["optimizer"])
        _match_layout(optimizer)
        restore_schedule(self.schedule, values["schedule"])
        if self.mean is not None:
            self.mean.restore(values["mean"])
        if values["precision"]:
            self.fabric.strategy.precision.load_state_dict(values["precision"])


def _inner(optimizer: _FabricOptimizer) -> Optimizer:
    inner: Optimizer = optimizer.optimizer
    return inner


def _match_layout(optimizer: Optimizer) -> None:
    """Give the optimizer's moments the memory layout of their parameters.

    A file holds tensors in row order; fused kernels walk parameter and moments in parallel through memory, and with another
    layout would pair the wrong elements.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

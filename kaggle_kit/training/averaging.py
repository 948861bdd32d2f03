"""One model from the weights of several epochs, made when training ends: ``AVERAGES`` of :mod:`kaggle_kit.choices`.

The average is validated like an epoch and stands in the history after the last one. It competes with the epochs: ``keep: best``
takes whichever scores best.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kaggle_kit.config import RunConfig
from kaggle_kit.errors import DataError
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.metrics import Metric
from kaggle_kit.models import unwrap
from kaggle_kit.runs.history import EpochRow
from kaggle_kit.training.checkpoint import LoopState, load_checkpoint, save_checkpoint
from kaggle_kit.training.data import FoldData
from kaggle_kit.training.job import FoldJob
from kaggle_kit.training.learner import Learner, WeightMean
from kaggle_kit.training.loop import judge

logger = logging.getLogger(__name__)

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Averaging:
    """What an average is made from.

    Attributes:
        config: of the run's last stage, with ``average``.
        folder: of the fold, where weights of epochs lie.
    """

    learner: Learner
    data: FoldData
    config: RunConfig
    state: LoopState
    folder: Path


def last_weights(_averaging: Averaging) -> str | None:
    """Leave the weights as they are."""
    return None


def stochastic_average(averaging: Averaging) -> str | None:
    """Put the mean of the last epochs' weights into the model (Izmailov et al. 2018), and measure batch norm anew."""
    learner, mean = averaging.learner, averaging.learner.mean
    if mean is None or mean.count < 2:
        logger.warning("swa needs two epochs at least; nothing is averaged")
        return None
    learner.evaluated.load_state_dict(mean.state())
    measure_batch_norm(learner, averaging.data, averaging.config)
    return f"swa of the last {mean.count} epochs"


def mean_of(states: Iterable[State]) -> dict[str, Tensor]:
    """Return the mean of several state dicts; of whole numbers, such as counters, the last."""
    mean = WeightMean()
    for state in states:
        mean.add(state)
    return mean.state()


def greedy_soup(averaging: Averaging) -> str | None:
    """Put a mean of the best epochs' weights into the model: one after the other, each as long as the score gains.

    After Wortsman et al. 2022. The epochs are chosen by the very rows that score the fold.
    """
    learner, data = averaging.learner, averaging.data
    candidates = best_epochs(averaging.state.history, data.metric, averaging.config.average.candidates)
    if len(candidates) < 2:
        logger.warning("a soup needs two epochs with a score at least; nothing is averaged")
        return None
    states = {row.epoch: load_checkpoint(epoch_path(averaging.folder, row.epoch))["model"] for row in candidates}
    soup, best = [candidates[0].epoch], candidates[0].score
    for row in candidates[1:]:
        learner.evaluated.load_state_dict(mean_of(states[epoch] for epoch in (*soup, row.epoch)))
        _, score = judge(learner, data, row.epoch)
        if data.metric.better(score, best):
            soup, best = [*soup, row.epoch], score
    if len(soup) == 1:
        logger.info("no mean of epochs scores better than epoch %d; nothing is averaged", soup[0])
        return None
    learner.evaluated.load_state_dict(mean_of(states[epoch] for epoch in soup))
    return f"soup of epochs {', '.join(map(str, sorted(soup)))}"


def best_epochs(history: Iterable[EpochRow], metric: Metric, count: int) -> list[EpochRow]:
    """Return the trained epochs with the best scores, the best first; the loss decides between equal ones."""
    rows = [row for row in history if row.epoch > 0 and row.score == row.score]
    sign = -1 if metric.greater_is_better else 1
    return sorted(rows, key=lambda row: (sign * row.score, row.valid_loss, row.epoch))[:count]


def epoch_path(folder: Path, epoch: int) -> Path:
    """Return where the weights of an epoch lie until the fold is finished."""
    return folder / f"epoch{epoch}.ckpt"


def keep_epoch(job: FoldJob, learner: Learner, state: LoopState) -> None:
    """Keep what an average or a snapshot will want of the epoch that was validated last; only the first process writes.

    What is given up here is never wanted again: an epoch that is not among the best now will not be later.
    """
    epoch, average = state.history[-1].epoch, job.config.average
    if learner.mean is not None and epoch > job.epochs - learner.mean.wanted:
        learner.mean.add(learner.evaluated.state_dict())
    if not learner.fabric.is_global_zero:
        return
    wanted = {row.epoch for row in best_epochs(state.history, job.scorer, average.candidates) if average.name == "soup"}
    wanted |= snapshot_epochs(job)
    if epoch in wanted:
        save_checkpoint(epoch_path(job.folder, epoch), {"epoch": epoch, "model": learner.evaluated.state_dict()})
    for row in state.history:
        if row.epoch not in wanted:
            epoch_path(job.folder, row.epoch).unlink(missing_ok=True)


def snapshot_epochs(job: FoldJob) -> set[int]:
    """Return the epochs that become snapshots; of all data, which may end within a cycle, there are none."""
    return set(job.config.snapshot_epochs().values()) if job.last_epoch is None else set()


def load_epoch(folder: Path, epoch: int, model: nn.Module) -> None:
    """Put the weights of an epoch into ``model``.

    Raises:
        MissingFileError, DataError: they are not there, or damaged.
    """
    saved = load_checkpoint(epoch_path(folder, epoch))
    if int(saved["epoch"]) != epoch:
        raise DataError(f"{epoch_path(folder, epoch)} holds epoch {saved['epoch']}. Train the fold again with --restart.")
    model.load_state_dict(saved["model"])


def measure_batch_norm(learner: Learner, data: FoldData, config: RunConfig) -> None:
    """Set the statistics of the averaged model's batch norm to those of an epoch of training images; frozen ones stay."""
    model = learner.evaluated
    inner = unwrap(model)
    norms = [
        module
        for module in inner.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.running_mean is not None
        and not config.model.freeze_bn
        and any(parameter.requires_grad for parameter in _same(learner.plain, inner, module).parameters())
    ]
    if not norms:
        return
    momenta = [module.momentum for module in norms]
    model.eval()
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # a plain mean over batches
        module.train()
    with torch.no_grad():
        for batch in data.loader.batches(0):
            images = to_input(batch.images, data.spec, learner.fabric.device, channels_last=config.model.channels_last)
            model(images)
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
    model.eval()


def _same(plain: nn.Module, inner: nn.Module, module: nn.Module) -> nn.Module:
    """Return the module of the trained model that stands where ``module`` stands in its copy: a copy does not say what is
    frozen."""
    name = next(name for name, one in inner.named_modules() if one is module)
    return unwrap(plain).get_submodule(name)

"""The images and labels of a fold, as the loop wants them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import nn

from kaggle_kit.events import Reporter, phase, silent
from kaggle_kit.images.dataset import source_for, training_dataset
from kaggle_kit.images.loaders import EvalLoader, TrainLoader
from kaggle_kit.images.samplers import sampler_for
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.engines import EngineOptions
from kaggle_kit.inference.predict import predict_model
from kaggle_kit.machine.device import precision_of
from kaggle_kit.metrics import Metric
from kaggle_kit.seeds import derive_seed
from kaggle_kit.sparse import SparseRows, arranged
from kaggle_kit.stop import Stop
from kaggle_kit.training.job import FoldJob

Probs = npt.NDArray[np.float32]
_ROWS, _PIXELS = 2, 3  # purposes of seeds; the model's is another


@contextlib.contextmanager
def make_data(
    job: FoldJob,
    spec: ImageSpec,
    fabric: Fabric,
    stop: Stop,
    *,
    reporter: Reporter = silent,
    valid_spec: ImageSpec | None = None,
    epochs: int | None = None,
) -> Iterator[FoldData]:
    """Loaders of the fold; their processes end with the context.

    Args:
        spec: of training images.
        valid_spec: of validation images; None: the same.
        epochs: of all stages; None: those of the configuration.

    Of several processes each takes its share of every batch, so that ``batch_size`` is that of a step on all devices, and its
    share of the validation rows.
    """
    config, rank, processes = job.config.data, fabric.global_rank, fabric.world_size
    truth = job.train.truth  # of soft rows, too, labels tell what is rare
    source, valid_spec = job.source or source_for(spec), valid_spec or spec
    dataset = training_dataset(job.train.paths, spec, job.config.augment, truth, source, soft=job.train.soft)
    row_seed, pixel_seed = (derive_seed(job.config.seed, job.fold, purpose) for purpose in (_ROWS, _PIXELS))
    train = TrainLoader(
        dataset,
        sampler_for(config, truth, job.classes, seed=row_seed),
        batch_size=config.batch_size // processes,
        seed=pixel_seed,
        workers=config.workers,
        rank=rank,
        world_size=processes,
    )
    share = job.valid.images[rank::processes]
    valid = EvalLoader(
        share,
        valid_spec,
        batch_size=job.eval_batch_size,
        workers=config.workers,
        source=job.source or source_for(valid_spec),
    )
    with train, valid:
        yield FoldData(
            fold=job.fold,
            epochs=epochs or job.config.schedule.epochs,
            loader=train,
            ids=job.train.ids,
            spec=spec,
            n_classes=len(job.classes),
            predict=_validator(job, valid_spec, valid, fabric, stop, reporter),
            truth=job.valid.truth,
            metric=job.scorer,
        )


def _validator(
    job: FoldJob, spec: ImageSpec, valid: EvalLoader, fabric: Fabric, stop: Stop, reporter: Reporter
) -> Callable[[nn.Module], Probs]:
    """A function from a model to the probabilities (N, C) of all validation rows, the same in every process."""
    report, total = phase(reporter, job.fold, "validating"), len(job.valid.images)

    def predict(model: nn.Module) -> Probs:
        done = 0

        def may_go_on(images: int) -> None:
            nonlocal done
            done += images * fabric.world_size
            if fabric.is_global_zero:
                report(min(done, total), total)
            if fabric.world_size == 1:  # several processes stop together, at the next update
                stop.check()

        places, found = predict_model(
            *(model, valid, spec, job.task),
            n_classes=len(job.classes),
            options=EngineOptions(fabric.device, precision_of(fabric)),
            on_batch=may_go_on,
        )
        # Image p of this process's share is image p * processes + rank of all.
        rows = places * fabric.world_size + fabric.global_rank
        return job.merger(_of_all(fabric, rows, found, total) if fabric.world_size > 1 else arranged([(rows, found)]))

    return predict


def _of_all(fabric: Fabric, rows: npt.NDArray[np.int64], found: Probs, total: int) -> Probs:
    """Return the ``total`` rows of which every process has ``found`` some."""

    def gathered(own: npt.NDArray[Any]) -> npt.NDArray[Any]:
        whole = torch.zeros(total, own.shape[1], dtype=torch.from_numpy(own).dtype, device=fabric.device)
        whole[torch.from_numpy(rows).to(fabric.device)] = torch.from_numpy(own).to(fabric.device)
        every: torch.Tensor = fabric.all_reduce(whole, reduce_op="sum")  # each row is zero everywhere but in one process
        return every.cpu().numpy()

    if isinstance(found, SparseRows):
        return cast(Probs, SparseRows(gathered(found.columns), gathered(found.cells), found.width))
    return gathered(found)


@dataclass(frozen=True)
class FoldData:
    """What a fold is trained and validated on.

    Attributes:
        epochs: of the fold, over all stages.
        loader: training batches of this process.
        ids: id of each training row, to name a batch by.
        predict: the evaluated model to probabilities (N, C) of the validation rows.
        truth: (N,) class positions or (N, C) 0/1 of the validation rows.
    """

    fold: int
    epochs: int
    loader: TrainLoader
    ids: Sequence[str]
    spec: ImageSpec
    n_classes: int
    predict: Callable[[nn.Module], npt.NDArray[np.float32]]
    truth: npt.NDArray[Any]
    metric: Metric

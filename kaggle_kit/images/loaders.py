"""Batches for training and prediction, read by worker processes.

What a batch holds depends on (seed, epoch, position) only. A sampler hands each position its own seed, so another number of
workers, or going on at batch 17 after an interruption, yields the very same pixels.

Workers come from a fork server: a fresh process without threads that has imported what they need. Plain forking would copy a
process in which OpenCV and OpenMP threads hold locks, which then hang in the child.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kaggle_kit.errors import ConfigError, KaggleKitError
from kaggle_kit.images.dataset import ImageDataset, PixelSource, Transform, source_for
from kaggle_kit.images.pixels import pixel_hash
from kaggle_kit.images.samplers import EpochSampler, rank_share
from kaggle_kit.images.transforms import ImageSpec, eval_transform
from kaggle_kit.machine.host import available_cpus
from kaggle_kit.seeds import generator

logger = logging.getLogger(__name__)

Keys = list[tuple[int, int]]
"""(row, seed) of every sample of a batch."""
_SMALL = 512  # rows; starting processes takes longer than reading these
_PREFETCH = 2  # batches per worker
_PRELOAD = ["kaggle_kit.images.forkserver", "kaggle_kit.images.loaders", "albumentations"]


class Batch(NamedTuple):
    """Some samples.

    images: (B, C, H, W) uint8 in channels_last memory. targets: (B,) int64, (B, C) float32 or None. rows: (B,) int64. origins:
    file -> hash of the pixels that were read from it, where they were asked for.
    """

    images: Tensor
    targets: Tensor | None
    rows: Tensor
    origins: dict[str, int] | None = None


class TrainLoader:
    """Training batches of any epoch, from any batch on; the workers live as long as the loader.

    Args:
        sampler: draws the rows of an epoch; all processes of a run must share its seed.
        seed: of the augmentation.
        workers: processes; none: :func:`default_workers`.
        rank, world_size: this process among several that train one model; each takes an equal share.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        sampler: EpochSampler,
        *,
        batch_size: int,
        seed: int,
        workers: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ConfigError(f"need batch_size >= 1 and 0 <= rank < world_size, got {batch_size}, {rank}, {world_size}.")
        self.batch_size = batch_size
        self._sampler = sampler
        self._seed = seed
        self._positions = rank_share(len(sampler), rank, world_size)
        self._workers = _Workers(dataset, workers, batch_size)

    def __len__(self) -> int:
        """Batches of an epoch. A last batch of one sample is left out, because batch norm cannot normalise it."""
        whole, rest = divmod(len(self._positions), self.batch_size)
        return whole + (rest > 1 or (rest == 1 and whole == 0))

    @property
    def images(self) -> int:
        """Samples of an epoch."""
        return min(len(self) * self.batch_size, len(self._positions))

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch``, from number ``start`` on. Finish or drop one iterator before asking for another.

        Raises:
            ImageError: an image cannot be read; the message names its file.
        """
        rows = self._sampler.rows(epoch)[self._positions]
        seeds = generator(self._seed, "augmentation", epoch).integers(0, 2**62, size=len(self._sampler))[self._positions]
        keys = list(zip(rows.tolist(), seeds.tolist(), strict=True))
        size = self.batch_size
        return self._workers.run([keys[size * number : size * (number + 1)] for number in range(start, len(self))])

    def close(self) -> None:
        """End the workers. Also done when the loader is garbage-collected."""
        self._workers.close()

    def __enter__(self) -> TrainLoader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class EvalLoader:
    """Every row exactly once, in order. Can be iterated again; the workers live as long as the loader."""

    def __init__(
        self,
        rows: Sequence[tuple[Any, Path]],
        spec: ImageSpec,
        *,
        batch_size: int,
        workers: int | None = None,
        source: PixelSource | None = None,
        transform: Transform | None = None,
        origins: bool = False,
    ) -> None:
        """``rows``: key and file; the key is for error messages of callers and not used here. ``source``: none: the files.
        ``transform``: none: that of evaluation; another one gets the row's number as seed. ``origins``: say of each file which
        pixels were read from it; of a stack of views, of the first."""
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}.")
        paths = [path for _, path in rows]
        dataset = ImageDataset(paths, transform or eval_transform(spec), source=source or source_for(spec))
        self.batch_size = batch_size
        self._rows = len(paths)
        self._workers = _Workers(dataset, workers, batch_size, hashed=spec.height if origins else None)

    def __len__(self) -> int:
        return -(-self._rows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Raises ImageError when an image cannot be read; the message names its file."""
        starts = range(0, self._rows, self.batch_size)
        return self._workers.run([[(row, row) for row in range(s, min(s + self.batch_size, self._rows))] for s in starts])

    def close(self) -> None:
        """End the workers. Also done when the loader is garbage-collected."""
        self._workers.close()

    def __enter__(self) -> EvalLoader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def eval_batches(
    rows: Sequence[tuple[Any, Path]],
    spec: ImageSpec,
    *,
    batch_size: int,
    workers: int | None = None,
    source: PixelSource | None = None,
    origins: bool = False,
) -> Iterator[Batch]:
    """One pass of an :class:`EvalLoader`, whose workers end with it."""
    with EvalLoader(rows, spec, batch_size=batch_size, workers=workers, source=source, origins=origins) as loader:
        yield from loader


def default_workers(n_rows: int) -> int:
    """One per CPU but the one that trains; none for few rows, or where processes may not be started."""
    if n_rows < _SMALL or multiprocessing.current_process().daemon:
        return 0
    return min(available_cpus() - 1, 16)


class _Workers:
    """A pool that reads given lists of keys as batches, in order; without processes it reads in the caller's."""

    def __init__(self, dataset: ImageDataset, workers: int | None, batch_size: int, *, hashed: int | None = None) -> None:
        count = default_workers(len(dataset)) if workers is None else workers
        if count and multiprocessing.current_process().daemon:
            count = 0  # such a process may not have children
        self._schedule = _Schedule()
        options: dict[str, Any] = {}
        if count:
            options = {
                "num_workers": _fitting_shared_memory(count, dataset, batch_size),
                "persistent_workers": True,
                "prefetch_factor": _PREFETCH,
                "multiprocessing_context": worker_context(),
                "worker_init_fn": _start_worker,
            }
        self._loader: DataLoader[Any] | None = DataLoader(
            _Reader(dataset, hashed),
            batch_size=None,
            sampler=self._schedule,
            collate_fn=_as_is,
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def run(self, batches: list[Keys]) -> Iterator[Batch]:
        if self._loader is None:
            raise KaggleKitError("this loader was closed; make a new one.")
        self._schedule.batches = batches
        try:
            for item in self._loader if batches else ():
                if isinstance(item, _Failure):
                    raise item.error
                yield item
        except RuntimeError as error:
            if isinstance(error, KaggleKitError) or "DataLoader worker" not in str(error):
                raise
            raise KaggleKitError(
                f"a loader process ended unexpectedly: {str(error).splitlines()[0]} Most often memory ran out: lower "
                "data.workers (0 reads without processes) or data.batch_size. A script of your own must start its work "
                'below `if __name__ == "__main__":`.'
            ) from error

    def close(self) -> None:
        self._loader = None  # its iterator ends the processes


class _Schedule(Sampler[Keys]):
    """The batches of the next pass."""

    def __init__(self) -> None:
        self.batches: list[Keys] = []

    def __iter__(self) -> Iterator[Keys]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error on its way to the main process; torch would bury its message in a traceback."""

    error: KaggleKitError


class _Reader(Dataset[Batch | _Failure]):
    """Reads one batch; runs in the worker. Of each image the first ``hashed`` rows of pixels are hashed, by its file."""

    def __init__(self, dataset: ImageDataset, hashed: int | None) -> None:
        self._dataset = dataset
        self._hashed = hashed

    def __getitem__(self, keys: Keys) -> Batch | _Failure:
        try:
            samples = [self._dataset.pixels(row, seed) for row, seed in keys]
        except KaggleKitError as error:
            return _Failure(error)
        images = np.stack(samples)  # (B, H, W, 3)
        rows = torch.tensor([row for row, _ in keys], dtype=torch.int64)
        targets = None if self._dataset.targets is None else self._dataset.targets[rows]
        origins = None
        if self._hashed is not None:
            # By file, not by place in the batch: whatever happens to the order later, this is what the file holds.
            named = zip(keys, samples, strict=True)
            origins = {str(self._dataset.paths[row]): pixel_hash(pixels[: self._hashed]) for (row, _), pixels in named}
        return Batch(torch.from_numpy(images).permute(0, 3, 1, 2), targets, rows, origins)


def _as_is(batch: Any) -> Any:
    return batch


def _start_worker(worker: int) -> None:  # noqa: ARG001
    """torch has set its own threads to one already."""
    cv2.setNumThreads(0)
    # Ctrl-C reaches every process of a terminal, SIGTERM often every process of a job; the main one writes its checkpoint and
    # needs batches until then. A loader that is closed ends its processes by a message.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def worker_context() -> BaseContext:
    """How worker processes are started, here and wherever else images are read in parallel."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # inherited by the server, which imports it
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)  # without effect once the server runs
    return context


def _fitting_shared_memory(workers: int, dataset: ImageDataset, batch_size: int) -> int:
    """Batches travel through /dev/shm, of which a container often has 64 MB only; a full one kills the workers."""
    folder = Path("/dev/shm")
    spec = getattr(dataset.transform, "spec", None)
    if spec is None or not folder.is_dir():
        return workers
    batch_bytes = spec.channels * spec.height * spec.width * batch_size
    fitting = int(0.8 * shutil.disk_usage(folder).free / (batch_bytes * (_PREFETCH + 1)))
    if fitting < workers:
        logger.warning("using %d instead of %d loader processes: /dev/shm is too small for more", fitting, workers)
    return max(min(workers, fitting), 1)

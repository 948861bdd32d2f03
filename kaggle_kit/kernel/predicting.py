"""Predicting a test set with every GPU that works, within a time budget, whatever single images or devices do."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from kaggle_kit.errors import DataError, DeviceMemoryError, ImageError, KaggleKitError
from kaggle_kit.images.dataset import FileSource, source_for
from kaggle_kit.images.decode import Pixels
from kaggle_kit.inference import Compute, predict_rows
from kaggle_kit.inference.tta import make_views
from kaggle_kit.kernel.budget import NO_VIEWS, Governor, RunShare, Share
from kaggle_kit.machine.device import refusal
from kaggle_kit.machine.host import available_cpus
from kaggle_kit.models import LoadedModel, load_model

logger = logging.getLogger(__name__)
Say = Callable[[str], None]
Key = tuple[str, int]
"""Run and fold."""
Rows = Sequence[tuple[str, Path]]
_SMALL = 512  # rows; below, loader processes take longer to start than to read


@dataclass(frozen=True, slots=True)
class TolerantSource:
    """Reads files; one that cannot be read becomes a grey image and a note in ``notes``, from whichever process."""

    files: FileSource
    notes: Path

    def __call__(self, path: Path) -> Pixels:
        try:
            return self.files(path)
        except ImageError as error:
            name = hashlib.sha256(str(path).encode()).hexdigest()
            (self.notes / name).write_text(f"{path}\n{error}", encoding="utf-8")
            return np.full((*self.files.size, 3), 128, dtype=np.uint8)


@dataclass
class Predicted:
    """What came out.

    Attributes:
        probs: run -> (N, C) float32, NaN in rows that there was no time for.
        unreadable: file -> reason.
    """

    probs: dict[str, npt.NDArray[np.float32]]
    unreadable: dict[Path, str] = field(default_factory=dict)


def load_models(paths: Mapping[Key, Path], say: Say) -> dict[Key, LoadedModel]:
    """The models that can be loaded here; of the others it is said why not."""
    loaded = {}
    for (run, fold), path in paths.items():
        try:
            loaded[run, fold] = load_model(path)
        except KaggleKitError as error:
            say(f"run {run} goes on without fold {fold}: {error}")
    return loaded


def usable_devices(say: Say) -> list[str]:
    """Every GPU that a real operation succeeds on, else the CPU; says what is used and why."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    working = []
    for number in range(count):
        reason = refusal(f"cuda:{number}")
        if reason:
            say(f"GPU {number} does not work and is left out: {reason}")
            continue
        working.append(f"cuda:{number}")
        say(f"GPU {number}: {torch.cuda.get_device_name(number)}, works")
    if not working:
        say(("none of the GPUs works" if count else "there is no GPU") + "; predicting on the CPU, which is slow")
    return working or ["cpu"]


def full_share(
    runs: Sequence[Mapping[str, object]], models: Mapping[Key, LoadedModel], weights: Sequence[float], say: Say
) -> Share:
    """All that was planned, of the models that are there; without views where ttach is not installed.

    Args:
        weights: the share of each run in the blend.
    """
    shares = []
    with_views = importlib.util.find_spec("ttach") is not None
    for run, weight in zip(runs, weights, strict=True):
        name, views = str(run["name"]), str(run["views"])
        folds = tuple(fold for one, fold in models if one == name)
        if not folds:
            continue
        if views != NO_VIEWS and not with_views:
            say(f"ttach is not installed: run {name} is predicted without its {views} views")
            views = NO_VIEWS
        spec = models[name, folds[0]].spec
        count = 1 if views == NO_VIEWS else len(make_views(views, spec.height, spec.width))
        shares.append(RunShare(name, folds, views, str(run["merge"]), count, weight))
    return tuple(shares)


def predict_all(
    models: Mapping[Key, LoadedModel],
    rows: Rows,
    governor: Governor,
    *,
    devices: Sequence[str],
    batch_size: int,
    notes: Path,
    say: Say,
) -> Predicted:
    """Predict ``rows`` in parts that ``governor`` hands out, a thread for each device.

    Args:
        notes: an empty folder for notes on unreadable images.

    Raises:
        KaggleKitError: the CPU, too, cannot compute.
    """
    n_classes = len(next(iter(models.values())).classes)
    names = dict.fromkeys(run for run, _ in models)
    result = Predicted({name: np.full((len(rows), n_classes), np.nan, dtype=np.float32) for name in names})
    job = _Job(rows, governor, result, notes, say, batch_size, len(devices))
    workers = [_Worker(device, models if at == 0 else _copies(models), job) for at, device in enumerate(devices)]
    _run(workers)
    if governor.left and any(worker.lost for worker in workers) and all(worker.lost for worker in workers):
        say("no GPU is left; going on with the CPU")
        _run([_Worker("cpu", models, replace(job, beside=1))])
    for note in notes.iterdir():
        path, _, reason = note.read_text(encoding="utf-8").partition("\n")
        result.unreadable[Path(path)] = reason
    return result


def _copies(models: Mapping[Key, LoadedModel]) -> dict[Key, LoadedModel]:
    """A model lives on one device."""
    return {key: replace(loaded, model=copy.deepcopy(loaded.model)) for key, loaded in models.items()}


def _run(workers: Sequence[_Worker]) -> None:
    if len(workers) == 1:
        workers[0].work()  # in this thread, so that errors and Ctrl-C come through as they are
    else:
        threads = [threading.Thread(target=worker.work, name=worker.device) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    failed = next((worker.error for worker in workers if worker.error is not None), None)
    if failed is not None:
        raise failed


@dataclass(frozen=True)
class _Job:
    """What all devices work on; ``beside`` of them at the same time."""

    rows: Rows
    governor: Governor
    result: Predicted
    notes: Path
    say: Say
    batch_size: int
    beside: int


class _Worker:
    """One device: takes parts until none are left, or until it does not work any more."""

    def __init__(self, device: str, models: Mapping[Key, LoadedModel], job: _Job) -> None:
        self.device, self.lost = device, False
        self.error: KaggleKitError | None = None
        self._models, self._job = models, job
        self._batch_size, self._precision = job.batch_size, "auto"
        self._loaders = max(1, available_cpus() // job.beside)

    def work(self) -> None:
        while (taken := self._job.governor.take()) is not None:
            part, share = taken
            begin = time.monotonic()
            try:
                found = self._predict(self._job.rows[part.start : part.stop], share)
            except (KaggleKitError, RuntimeError) as error:  # RuntimeError: what CUDA raises when a device breaks down
                self._job.governor.give_back(part)
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                if self.device == "cpu":
                    self.error = error if isinstance(error, KaggleKitError) else KaggleKitError(f"predicting failed: {first}")
                    return
                self._job.say(f"{self.device} stopped working ({first}); its images go to the other devices")
                self.lost = True
                return
            for name, probs in found.items():
                self._job.result.probs[name][part.start : part.stop] = probs
            self._job.governor.measured(len(part), share, time.monotonic() - begin)

    def _predict(self, rows: Rows, share: Share) -> dict[str, npt.NDArray[np.float32]]:
        """Run -> mean over its folds, (n, C). Runs with the same input and views share the decoding."""
        totals: dict[str, list[npt.NDArray[np.float32]]] = {run.name: [] for run in share}
        groups: dict[tuple[object, str, str], list[Key]] = {}
        for run in share:
            for fold in run.folds:
                groups.setdefault((self._models[run.name, fold].spec, run.views, run.merge), []).append((run.name, fold))
        for (_, views, merge), keys in groups.items():
            for (name, _), probs in zip(keys, self._group(keys, rows, views, merge), strict=True):
                totals[name].append(probs)
        # In float64 and then float32, as `kk blend` averages the folds of a run.
        return {name: np.asarray(np.mean(parts, axis=0, dtype=np.float64), np.float32) for name, parts in totals.items()}

    def _group(self, keys: Sequence[Key], rows: Rows, views: str, merge: str) -> npt.NDArray[np.float32]:
        """(M, n, C) of models with one input; smaller batches when memory runs out, float32 when float16 overflows."""
        models = [self._models[key] for key in keys]
        source = TolerantSource(source_for(models[0].spec), self._job.notes)
        while True:
            compute = Compute(
                batch_size=self._batch_size,
                workers=self._loaders if len(rows) >= _SMALL else 0,
                device=self.device,
                precision=self._precision,
                engine="torch",
                source=source,
            )
            try:
                return predict_rows(models, rows, views=views, merge=merge, compute=compute)
            except DeviceMemoryError:
                if self._batch_size == 1:
                    raise
                self._batch_size = -(-self._batch_size // 2)
                self._job.say(f"{self.device}: memory is too small; going on with batches of {self._batch_size}")
                torch.cuda.empty_cache()
            except DataError as error:
                if self._precision == "fp32" or self.device == "cpu":
                    raise
                self._precision = "fp32"
                self._job.say(f"{self.device}: going on in float32, since {error}")

"""Predicting with every device that works, whatever single devices or images do: a thread for each device."""

from __future__ import annotations

import copy
import hashlib
import logging
import threading
import time
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from kaggle_kit.errors import DataError, DeviceMemoryError, ImageError, KaggleKitError
from kaggle_kit.images.dataset import FileSource, PixelSource, source_for
from kaggle_kit.images.decode import Pixels, Progress
from kaggle_kit.inference.predict import Compute, Predictor, Rows, Said, row_type
from kaggle_kit.inference.time_limit import Part, Share, Worklist
from kaggle_kit.machine.device import choose_device, refusal
from kaggle_kit.machine.host import available_cpus
from kaggle_kit.models import LoadedModel

logger = logging.getLogger(__name__)

Say = Callable[[str], None]
Key = tuple[str, int]
"""Run and fold."""
_SMALL = 512  # rows of a part; below, loader processes take longer to start than to read
_RESTARTS = 8


@dataclass(frozen=True, slots=True)
class TolerantSource:
    """Reads images; one that cannot be read becomes a grey image and a note in ``notes``, from whichever process."""

    source: PixelSource
    shape: tuple[int, int, int]
    notes: Path

    def __call__(self, path: Path) -> Pixels:
        try:
            return self.source(path)
        except ImageError as error:
            name = hashlib.sha256(str(path).encode()).hexdigest()
            (self.notes / name).write_text(f"{path}\n{error}", encoding="utf-8")
            return np.full(self.shape, 128, dtype=np.uint8)

    def at(self, size: tuple[int, int]) -> TolerantSource:
        return TolerantSource(self.source.at(size), (*size, self.shape[2]), self.notes)


def tolerant_source(source: PixelSource | None, model: LoadedModel, notes: Path) -> TolerantSource:
    """Return a source for ``model`` that reads from ``source``, or from the files, and notes what it cannot read."""
    files: FileSource = source_for(model.spec)
    return TolerantSource(source or files, (*files.size, files.channels), notes)


def read_notes(notes: Path) -> dict[Path, str]:
    """Return file -> reason of the images that could not be read."""
    found = (note.read_text(encoding="utf-8").partition("\n") for note in sorted(notes.iterdir()))
    return {Path(path): reason for path, _, reason in found}


@dataclass
class StreamResult:
    """What came out of a pass over all rows.

    Attributes:
        said: run and fold -> (N,) rows of :func:`~kaggle_kit.inference.predict.row_type`, NaN where there was no time.
        origins: run and fold -> file -> hash of the pixels that were read from it, as the model wants them: a part for each
            predictor that was at work, the later ones last.
        rounding: what the models computed in: fp32, bf16, fp16 or int8.
    """

    said: dict[Key, Said]
    origins: dict[Key, list[dict[str, int]]] = field(default_factory=dict)
    rounding: str = "fp32"

    def note(self, keys: Iterable[Key], origins: dict[str, int]) -> None:
        """Take the origins of a predictor of ``keys``, which grow as it goes on."""
        for key in keys:
            known = self.origins.setdefault(key, [])
            if not any(one is origins for one in known):
                known.append(origins)

    def origins_of(self, key: Key) -> Mapping[str, int]:
        """Return file -> hash of the pixels that were read from it for the model of ``key``."""
        return ChainMap(*reversed(self.origins.get(key, [])))


def usable_devices(accelerator: str, say: Say) -> list[str]:
    """Return every GPU that a real operation succeeds on, else the CPU; or the one device that is asked for by its name.

    Raises:
        ConfigError: the device asked for does not exist or does not work.
    """
    if accelerator not in ("auto", "cuda", "gpu"):
        return [str(choose_device(accelerator))]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    working = []
    for number in range(count):
        reason = refusal(f"cuda:{number}")
        if reason:
            say(f"GPU {number} does not work and is left out: {reason}")
            continue
        working.append(f"cuda:{number}")
        say(f"GPU {number}: {torch.cuda.get_device_name(number)}, works")
    if count and not working:
        say("none of the GPUs works; predicting on the CPU, which is slow")
    return working or [str(choose_device(accelerator))]


class OutOfTimeError(KaggleKitError):
    """The time is up in the middle of a part."""


@dataclass(frozen=True)
class Stream:
    """What all devices work on.

    Attributes:
        rows: id and file of each row.
        models: of every run and fold.
        computes: how each run wants to be computed.
        worklist: hands out the rows.
        notes: an empty folder for notes on images that cannot be read, which then count as grey; None: they stop the pass.
        advance: called with the number of images done after each batch.
    """

    rows: Rows
    models: Mapping[Key, LoadedModel]
    computes: Mapping[str, Compute]
    worklist: Worklist
    notes: Path | None
    say: Say
    advance: Callable[[int], None] = lambda _images: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def counter(self) -> Progress:
        """Return what is called after each batch of a part: it counts, and ends a part that the time does not reach for."""
        before = 0

        def count(done: int, of: int) -> None:
            nonlocal before
            with self.lock:
                self.advance(done - before)
            before = done
            if done < of and self.worklist.is_over:
                raise OutOfTimeError("the time is up")

        return count


def predict_stream(stream: Stream, devices: Sequence[str]) -> StreamResult:
    """Predict the rows in the parts that the work list hands out.

    Raises:
        KaggleKitError: an image cannot be read, a model overflows, or the CPU, too, cannot compute.
    """
    first = next(iter(stream.models.values()))
    kind = row_type(len(first.classes), first.task)
    result = StreamResult({key: np.zeros(len(stream.rows), dtype=kind) for key in stream.models})
    for said in result.said.values():
        said["probs"] = np.nan
    work = _Work(stream, result, len(devices))
    workers = [_Worker(device, stream.models if at == 0 else _copies(stream.models), work) for at, device in enumerate(devices)]
    for _ in range(_RESTARTS):
        _run([worker for worker in workers if not worker.lost])
        if not stream.worklist.left or stream.worklist.is_over or not any(worker.lost for worker in workers):
            break
        if all(worker.lost for worker in workers):
            stream.say("no GPU is left; going on with the CPU")
            workers = [_Worker("cpu", stream.models, replace(work, beside=1))]
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
class _Work:
    """The stream, where its results go, and how many devices work beside each other."""

    stream: Stream
    result: StreamResult
    beside: int

    def keep(self, part: Part, wanted: Share, found: Mapping[Key, Said]) -> None:
        """Take over what was predicted of the runs that still count."""
        for run in wanted:
            for fold in run.folds:
                if (run.name, fold) in found:
                    self.result.said[run.name, fold][part.rows.start : part.rows.stop] = found[run.name, fold]


_Group = tuple[object, ...]


class _Worker:
    """One device: takes parts until none are left, or until it does not work any more."""

    def __init__(self, device: str, models: Mapping[Key, LoadedModel], work: _Work) -> None:
        self.device, self.lost = device, False
        self.error: KaggleKitError | None = None
        self._models, self._work, self._stream = models, work, work.stream
        self._largest: int | None = None  # batch that fits into memory
        self._precision: str | None = None
        self._predictors: dict[tuple[_Group, tuple[Key, ...]], Predictor] = {}

    def work(self) -> None:
        worklist = self._stream.worklist
        while (part := self._take()) is not None:
            begin = time.monotonic()
            try:
                found = self._predict(part)
            except OutOfTimeError:
                worklist.give_back(part)
                return
            except (KaggleKitError, RuntimeError) as error:  # RuntimeError: what CUDA raises when a device breaks down
                worklist.give_back(part)
                self._fail(error)
                return
            self._work.keep(part, worklist.done(part, time.monotonic() - begin), found)

    def _take(self) -> Part | None:
        try:
            return self._stream.worklist.take()
        except KaggleKitError as error:
            self.error = error
            return None

    def _fail(self, error: Exception) -> None:
        """A GPU that breaks down is left out; what is wrong with images is wrong everywhere."""
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, ImageError) or (isinstance(error, KaggleKitError) and self.device == "cpu"):
            self.error = error
        elif self.device == "cpu":
            self.error = KaggleKitError(f"predicting failed: {first}")
            self.error.__cause__ = error
        else:
            self._stream.say(f"{self.device} stopped working ({first}); its images go to the other devices")
            self.lost = True

    def _predict(self, part: Part) -> dict[Key, Said]:
        """Return what each model says. Runs with the same input, views and way of computing share the decoding."""
        groups: dict[_Group, list[Key]] = {}
        views: dict[Key, str] = {}
        for run in part.share:
            compute = self._stream.computes[run.name]
            how = (run.tta, run.merge, compute.engine, compute.precision)
            views |= {(run.name, fold): run.views_of(fold) for fold in run.folds}
            for fold in run.folds:
                groups.setdefault((self._models[run.name, fold].spec, *how), []).append((run.name, fold))
        found: dict[Key, Said] = {}
        for group, keys in groups.items():
            texts = tuple(views[key] for key in keys)
            found |= zip(keys, self._predict_group((*group, texts), tuple(keys), part.rows), strict=True)
        return found

    def _predict_group(self, group: _Group, keys: tuple[Key, ...], rows: range) -> Said:
        """Return (M, n) of models with one input; smaller batches when memory runs out, float32 when float16 overflows."""
        while True:
            predictor = self._predictor(group, keys, rows)
            try:
                said = predictor.predict(rows, progress=self._stream.counter())
                with self._stream.lock:
                    self._work.result.note(keys, predictor.origins)
                return said
            except DeviceMemoryError:
                batch = self._batch_size(keys)
                if batch == 1:
                    raise
                self._largest = -(-batch // 2)
                self._stream.say(f"{self.device}: memory is too small; going on with batches of {self._largest}")
                torch.cuda.empty_cache()
            except DataError as error:
                if isinstance(error, ImageError) or self._precision == "fp32" or self.device == "cpu":
                    raise
                self._precision = "fp32"
                self._stream.say(f"{self.device}: going on in float32, since {error}")
            self._predictors.clear()

    def _predictor(self, group: _Group, keys: tuple[Key, ...], rows: range) -> Predictor:
        """Return a predictor of these models, made ready once and kept."""
        if (group, keys) not in self._predictors:
            models, first = [self._models[key] for key in keys], self._stream.computes[keys[0][0]]
            source, notes = first.source, self._stream.notes
            cpus = max(1, available_cpus() // self._work.beside)
            compute = replace(
                first,
                batch_size=self._batch_size(keys),
                workers=self._workers(first.workers, len(rows), cpus),
                device=self.device,
                precision=self._precision or first.precision,
                source=source if notes is None else tolerant_source(source, models[0], notes),
            )
            _, _, merge, *_, texts = group
            self._predictors[group, keys] = Predictor(
                models,
                self._stream.rows,
                tta=texts,  # type: ignore[arg-type]
                merge=str(merge),
                compute=compute,
            )
            if self._predictors[group, keys].rounding != "fp32":
                self._work.result.rounding = self._predictors[group, keys].rounding
        return self._predictors[group, keys]

    def _workers(self, asked: int | None, rows: int, cpus: int) -> int | None:
        """Return the loader processes: what is asked for, else none for short parts, else a device's share of the CPUs."""
        if asked is not None or (self._work.beside == 1 and rows == len(self._stream.rows)):
            return asked
        return cpus if rows >= _SMALL else 0

    def _batch_size(self, keys: Sequence[Key]) -> int:
        wanted = min(self._stream.computes[run].batch_size for run, _ in keys)
        return wanted if self._largest is None else min(wanted, self._largest)

"""How long models take on this machine, by the engines that predict: a row for each model, engine and batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from kaggle_kit import figures, runs
from kaggle_kit.config import DataConfig, ModelConfig
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.engines import Engine, EngineOptions, make_engine, usable_engines
from kaggle_kit.inference.predict import Rows
from kaggle_kit.machine.device import choose_device, device_text
from kaggle_kit.machine.host import kept_heap
from kaggle_kit.models import build_model, image_spec, load_model, model_name
from kaggle_kit.results import Result
from kaggle_kit.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WARM_UP, _MOST, _SECONDS = 2, 20, 1.5
_CLASSES = 1000
"""Outputs of a model that is only named."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Timed:
    """A model to be timed.

    Attributes:
        run: that it is of; "" for one that is only named, and has random weights, which take the same time.
        score: of the run, the mean of its folds; None for others.
        megabytes: of its weights.
    """

    name: str
    model: torch.nn.Module
    spec: ImageSpec
    megabytes: float
    run: str = ""
    score: float | None = None


@dataclass(frozen=True, repr=False)
class Latency(Result):
    """What was measured.

    Attributes:
        device: that it was measured on, in words.
        rows: columns run, model, size, engine, batch, ms (of a batch, the median), img/s, MB, score.
    """

    device: str
    rows: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """Return the rows, without columns that say nothing."""
        shown = self.rows.replace("", None).dropna(axis=1, how="all")
        shown.attrs["optional"], shown.attrs["shortened"] = ("MB", "size"), ("run", "model")
        return shown

    def describe(self) -> str:
        """Return on what it was measured."""
        return f"median of up to {_MOST} batches on {self.device}; one model each: a run of 5 folds takes 5 times as long"

    def plot_latency(self) -> Figure:
        """Return images a second over the batch size, a line for each model and engine."""
        return figures.plot_latency(self.rows)


def measure_latency(
    timed: Iterable[Timed],
    engines: Sequence[str],
    batch_sizes: Sequence[int],
    *,
    device: str = "auto",
    calibration: Rows = (),
    say: Say,
) -> Latency:
    """Measure each model with each engine and batch size.

    Args:
        engines: none: all that are exact and can be used on the device.
        calibration: images, id and file, for engine int8.
        say: is given a line for each measurement.

    Raises:
        ConfigError: there is no such engine, or it cannot use the device.
        DependencyError: an engine's package is not installed.
    """
    where, rows = choose_device(device), []
    options = EngineOptions(where, calibration=calibration)
    for one in timed:
        for name in engines or usable_engines(where):
            engine = make_engine(name, one.model, one.spec, options=options)
            for size in batch_sizes:
                images = torch.zeros(size, one.spec.channels, *one.spec.size, device=where)
                with kept_heap(where.type):  # as in kk predict
                    taken = float(np.median(seconds_each(engine, images.contiguous(memory_format=torch.channels_last))))
                rows.append(_row(one, name, size, taken))
                say(f"{one.run or one.name} by {name}, batches of {size}: {1000 * taken:.1f} ms")
    return Latency(device_text(where), pd.DataFrame(rows))


def _row(one: Timed, engine: str, size: int, taken: float) -> dict[str, object]:
    return {
        "run": one.run,
        "model": one.name,
        "size": f"{one.spec.height}x{one.spec.width}",
        "engine": engine,
        "batch": size,
        "ms": round(1000 * taken, 3),
        "img/s": round(size / taken, 2),
        "MB": round(one.megabytes, 1),
        "score": one.score,
    }


def seconds_each(engine: Engine, images: torch.Tensor) -> list[float]:
    """Return what ``engine`` took for each of some batches, after a few that do not count."""
    taken: list[float] = []
    end = time.monotonic() + _SECONDS
    while len(taken) < _MOST + _WARM_UP and (len(taken) <= _WARM_UP or time.monotonic() < end):
        start = time.perf_counter()
        engine.logits(images).sum().item()  # waits for a GPU
        taken.append(time.perf_counter() - start)
    return taken[_WARM_UP:]


def latency_of_one(path: Path) -> float:
    """Return the milliseconds that a model takes for one decoded image on one core by PyTorch, the quickest of some runs.

    Raises:
        KaggleKitError: the model cannot be loaded.
    """
    loaded = load_model(path)
    engine = make_engine("torch", loaded.model, loaded.spec)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several would wait for each other on a busy machine, and measure that
    try:
        return 1000 * min(seconds_each(engine, torch.zeros(1, loaded.spec.channels, *loaded.spec.size)))
    finally:
        torch.set_num_threads(threads)


def models_to_time(names: Sequence[str], chosen: Sequence[Run], *, image_size: int | None = None) -> Iterator[Timed]:
    """Yield models by their names, with random weights, and the first finished fold's of each run.

    Args:
        image_size: of models that are only named; None: their own.

    Raises:
        ConfigError: there is no such model.
        DataError: a run has no finished fold.
    """
    for name in names:
        model = build_model(ModelConfig(name=name), _CLASSES, image_size=image_size).eval()
        spec = image_spec(model, DataConfig(image_size=image_size))
        numbers = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
        yield Timed(model_name(model), model, spec, numbers / 1e6)
    for run in chosen:
        done = run.finished_folds()
        path = done[0].path / runs.MODEL
        loaded, score = load_model(path), float(np.mean([fold.record.score for fold in done]))
        yield Timed(loaded.name, loaded.model, loaded.spec, path.stat().st_size / 1e6, run.name, score)

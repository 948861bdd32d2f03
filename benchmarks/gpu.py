"""One GPU: does reading images keep up with it, and how does it compare with timm's settings?

    python benchmarks/gpu.py [FOLDER] [--models resnet50,...] [--images 4096] [--rounds 3] [--competition DIR] [--out FILE]

For each model, training and prediction with two views, in turns A B A B: end to end, from the warm image store through the
steps that `kk train` and `kk predict` run (A), and the very same step fed from batches that lie on the GPU already (B); for
training also timm's loader, prefetcher and mixed precision with channels_last (C). Rates count from an epoch's second batch on.
FOLDER holds photographs in folders of classes; without it some are generated. Weights are random, so that no network is needed.
With --competition, five folds of the packaged tf_efficientnet_lite0 are fine-tuned, predicted and blended to a checked
submission, and the minutes are told.

Where there is no CUDA device it says so and measures nothing. `--device cpu` tries the script itself with a tiny model.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, available_cpus, describe, hardware, judge, median, photographs, print_table, say, write_results
from lightning_fabric import Fabric
from peers import MEAN, STD, Files
from torch import nn

from kaggle_kit.competition import Competition, Setup, init_workspace, load_competition
from kaggle_kit.config import CacheConfig, FoldsConfig, load_config
from kaggle_kit.folds import create_folds
from kaggle_kit.images.loaders import Batch
from kaggle_kit.images.store import open_store
from kaggle_kit.inference.engines import EngineOptions, TorchEngine
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.inference.predict import Compute, predict_rows
from kaggle_kit.inference.tta import make_views, to_probs
from kaggle_kit.machine.device import half_dtype, make_fabric, precision_of
from kaggle_kit.models import image_spec, load_model, save_model, set_train_mode
from kaggle_kit.training import FoldJob, Stop
from kaggle_kit.training.checkpoint import new_state
from kaggle_kit.training.data import FoldData, make_data
from kaggle_kit.training.learner import Learner, make_learner, make_model
from kaggle_kit.training.loop import train_step, update
from kaggle_kit.training.losses import LossGuard
from kaggle_kit.training.prepare import prepare_run
from kaggle_kit.workspace import Workspace

MODELS = "resnet50,convnext_tiny,efficientnet_b0,vit_small_patch16_224"
VIEWS = "hflip"
WANTED = 0.95
RESIDENT = 4  # batches that lie on the device


@dataclass(frozen=True)
class Settings:
    """What is measured, and on what."""

    device: str
    size: int
    batch: int
    images: int
    rounds: int
    compile: bool
    workers: int

    def overrides(self, model: str) -> list[str]:
        """For a run configuration."""
        return [
            *(f"model={model}", "pretrained=false", f"image_size={self.size}", f"batch_size={self.batch}", "epochs=1000"),
            *(f"model.compile={str(self.compile).lower()}", f"workers={self.workers}", f"hardware.accelerator={self.device}"),
            *(f"data.samples_per_epoch={self.images}", "nan=stop"),
        ]


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Rate:
    """Images a second, from the second batch on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._images, self._start = -1, 0.0

    def count(self, images: int) -> None:
        """A batch was given to the device."""
        if self._images < 0:
            wait(self._device)
            self._images, self._start = 0, time.perf_counter()
        else:
            self._images += images

    def read(self) -> float:
        """When all is done."""
        wait(self._device)
        return self._images / (time.perf_counter() - self._start)


# Training.


def train_epoch(learner: Learner, batches: Iterable[Batch], data: FoldData, job: FoldJob) -> float:
    """The steps of the package's own loop over ``batches``, with its looks at the loss."""
    device = learner.fabric.device
    state, guard, rate = new_state(device), LossGuard(job.config.nan, data.ids, learner.fabric), Rate(device)
    set_train_mode(learner.model, job.config.model)
    for number, batch in enumerate(batches):
        state.batch = 0  # an endless epoch of whole groups
        train_step(learner, batch, data, job.config, state, guard)
        update(learner, job.config, state, guard)
        if number % 20 == 19:
            guard.check(1)
        rate.count(len(batch.rows))
    return rate.read()


def resident(batches: Iterator[Batch], device: torch.device, count: int) -> Iterator[Batch]:
    """``count`` batches made of a few that are moved to the device first."""
    kept = [
        batch._replace(
            images=batch.images.to(device),
            targets=None if batch.targets is None else batch.targets.to(device),
        )
        for batch in itertools.islice(batches, RESIDENT)
    ]
    wait(device)
    return itertools.islice(itertools.cycle(kept), count)


def train_like_timm(model_name: str, rows: list[list[Any]], classes: int, settings: Settings, device: torch.device) -> Any:
    """A function that trains an epoch as timm's script does with --amp --channels-last (and --torchcompile)."""
    import timm
    from timm.data import create_loader

    loader = create_loader(
        Files(rows), input_size=(3, settings.size, settings.size), batch_size=settings.batch, is_training=True,
        mean=MEAN, std=STD, scale=(0.5, 1.0), color_jitter=None, interpolation="bicubic",
        num_workers=max(1, settings.workers), device=device, use_prefetcher=True, pin_memory=device.type == "cuda",
    )  # fmt: skip
    model = timm.create_model(model_name, num_classes=classes).to(device, memory_format=torch.channels_last)
    ready: nn.Module = torch.compile(model) if settings.compile else model  # type: ignore[assignment]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    dtype = half_dtype(device, "auto")
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)

    def epoch() -> float:
        model.train()
        rate = Rate(device)
        for images, labels in loader:
            with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                output = ready(images.contiguous(memory_format=torch.channels_last))
                loss = nn.functional.cross_entropy(output, labels.to(device))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            rate.count(len(images))
        return rate.read()

    return epoch


def measure_training(job: FoldJob, fabric: Fabric, settings: Settings) -> dict[str, Any]:
    """End to end, resident, and timm's way, in turns."""
    model, spec = make_model(job)
    device, steps = fabric.device, max(2, settings.images // settings.batch)
    rows = [[str(path), number % len(job.classes)] for number, (_, path) in enumerate(job.train.images)]
    rows = list(itertools.islice(itertools.cycle(rows), steps * settings.batch))
    found: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    with make_data(job, spec, fabric, Stop()) as data:
        learner = make_learner(job, model, data, fabric)
        theirs = train_like_timm(job.config.model.name, rows, len(job.classes), settings, device)
        train_epoch(learner, data.loader.batches(1), data, job)  # warm up
        theirs()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        for number in range(settings.rounds):
            found["a"].append(train_epoch(learner, data.loader.batches(2 + number), data, job))
            few = resident(data.loader.batches(2 + number), device, steps)
            found["b"].append(train_epoch(learner, few, data, job))
            if number == 0 and device.type == "cuda":
                found["memory"] = [torch.cuda.max_memory_allocated(device) / 2**30]
            found["c"].append(theirs())
    return _row("train", job, found, fabric)


def _row(kind: str, job: FoldJob, found: dict[str, list[float]], fabric: Fabric) -> dict[str, Any]:
    share = median(a / b for a, b in zip(found["a"], found["b"], strict=True))
    ratio = median(a / c for a, c in zip(found["a"], found["c"], strict=True)) if found.get("c") else None
    row = {
        "model": job.config.model.name,
        "pass": kind,
        "precision": precision_of(fabric),
        "end to end, img/s": round(median(found["a"]), 1),
        "resident, img/s": round(median(found["b"]), 1),
        "share of resident": round(share, 3),
        "timm's way, img/s": round(median(found["c"]), 1) if found.get("c") else None,
        "x timm": None if ratio is None else round(ratio, 2),
        "peak memory, GB": round(found["memory"][0], 2) if found.get("memory") else None,
    }
    say(" ".join(f"{key}={value}" for key, value in row.items()))
    return row


# Prediction.


def measure_prediction(job: FoldJob, fabric: Fabric, settings: Settings, folder: Path) -> dict[str, Any]:
    """End to end through ``predict_rows``, and its step fed from the device."""
    model, spec = make_model(job)
    path = folder / f"{job.config.model.name}.safetensors"
    save_model(path, model.eval(), classes=job.classes, spec=spec, task="multiclass", meta={})
    loaded, device = load_model(path), fabric.device
    compute = Compute(settings.batch, settings.workers, str(device), engine="torch", source=job.source)
    rows = list(itertools.islice(itertools.cycle(job.train.images), settings.images))
    engine = TorchEngine(load_model(path).model, EngineOptions(device))
    views = make_views(VIEWS, *spec.size)
    with make_data(job, spec, fabric, Stop()) as data:
        kept = list(resident(data.loader.batches(1), device, RESIDENT))

    def end_to_end() -> float:
        rate, before = Rate(device), 0

        def progress(done: int, _all: int) -> None:
            nonlocal before
            rate.count(done - before)
            before = done

        predict_rows([loaded], rows, tta=VIEWS, compute=compute, progress=progress)
        return rate.read()

    def from_device() -> float:
        rate = Rate(device)
        for batch in itertools.islice(itertools.cycle(kept), max(2, settings.images // settings.batch)):
            with torch.inference_mode():
                images = to_input(batch.images, spec, device)
                probs = torch.stack([to_probs(engine.logits(view(images)), "multiclass") for view in views]).mean(0)
                probs.cpu()
            rate.count(len(batch.rows))
        return rate.read()

    end_to_end(), from_device()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    found = {"a": [], "b": [], "c": []}
    for _ in range(settings.rounds):
        found["a"].append(end_to_end())
        found["b"].append(from_device())
    if device.type == "cuda":
        found["memory"] = [torch.cuda.max_memory_allocated(device) / 2**30]
    return _row(f"predict, {len(views)} views", job, found, fabric)


# The competition.


def minutes_to_submission(data_dir: Path, folder: Path, device: str) -> dict[str, Any]:
    """Five folds fine-tuned, predicted, blended and checked, from the files on."""
    from kaggle_kit.blending.blend import blend
    from kaggle_kit.images.duplicates import find_competition_duplicates
    from kaggle_kit.inference import PredictOptions, predict_runs
    from kaggle_kit.training import TrainOptions, train_run

    started = time.perf_counter()
    folder.mkdir()
    init_workspace(data_dir, folder)
    overrides = ["model=tf_efficientnet_lite0", "epochs=8", "lr=1e-3", f"hardware.accelerator={device}"]
    workspace, config = Workspace(folder), load_config(folder / "kk.yaml", overrides)
    competition = load_competition(workspace, config.competition)
    found = find_competition_duplicates(competition, config.folds)
    create_folds(workspace, competition, config.folds, duplicates=found)
    setup = Setup(workspace, config, competition)
    summary = train_run(setup, TrainOptions("finetune"))
    trained = time.perf_counter()
    predict_runs(setup, ["finetune"], PredictOptions(VIEWS))
    result = blend(setup, name="finetune", force=True)
    return {
        "images": len(competition.train),
        "out-of-fold score": round(summary.oof_score, 4),
        "training, minutes": round((trained - started) / 60, 2),
        "all, minutes": round((time.perf_counter() - started) / 60, 2),
        "checks passed": result.passed,
    }


# Preparation.


def make_competition(source: Path | None, folder: Path, images: int) -> tuple[Workspace, Competition]:
    """A workspace with photographs in folders of classes, and one hold-out fold."""
    if source is None:
        generate(folder / "data", images)
    else:
        for number, path in enumerate(photographs(source, images)):
            target = folder / "data" / "train" / path.parent.name / f"{number}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        (folder / "data" / "test").mkdir()
        shutil.copyfile(path, folder / "data" / "test" / path.name)
    init_workspace(folder / "data", folder)
    workspace, config = Workspace(folder), load_config(folder / "kk.yaml")
    competition = load_competition(workspace, config.competition)
    create_folds(workspace, competition, FoldsConfig(scheme="holdout", duplicates="off"))
    return workspace, competition


def generate(data: Path, images: int) -> None:
    """Smooth noise of 500x375 in two classes, and one test image; as large as photographs are after JPEG."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    for number in range(images):
        target = data / "train" / str(number % 2) / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        cv2.imwrite(str(target), cv2.resize(small, (500, 375), interpolation=cv2.INTER_CUBIC))
    (data / "test").mkdir()
    shutil.copyfile(target, data / "test" / "one.jpg")


def make_job(workspace: Workspace, competition: Competition, model: str, settings: Settings) -> FoldJob:
    """A fold of a run whose images are in the store already."""
    from kaggle_kit.folds import folds_for

    config = load_config(workspace.root / "kk.yaml", settings.overrides(model))
    folds = folds_for(workspace, competition, "folds")
    job = prepare_run(Setup(workspace, config, competition), folds, run=model, fold_list=[0], restart=True)[0]
    size = image_spec(make_model(job)[0], config.run.data).prepare_size
    rows = [(row.id, row.path) for row in competition.train]
    return replace(job, source=open_store(workspace.cache_dir, rows, size, CacheConfig()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="photographs in folders of classes; none: generated ones")
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--images", type=int, default=4096, help="of an epoch")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=max(1, available_cpus() - 1))
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, for both")
    parser.add_argument("--competition", type=Path, help="a competition's folder, to be fine-tuned to a submission")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.json")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("skipped: there is no CUDA device here, so nothing was measured and nothing is written")
        return
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else "none: a trial on the CPU, no measurement"
    facts = hardware(gpu=device)
    sizes = (arguments.device, arguments.size, arguments.batch, arguments.images, arguments.rounds)
    settings = Settings(*sizes, compile=not arguments.no_compile, workers=arguments.workers)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        workspace, competition = make_competition(arguments.folder, Path(temporary) / "workspace", arguments.images)
        for name in arguments.models.split(","):
            job = make_job(workspace, competition, name, settings)
            fabric = make_fabric(job.config.hardware)
            passes: list[Callable[[], dict[str, Any]]] = [
                lambda job=job, fabric=fabric: measure_training(job, fabric, settings),
                lambda job=job, fabric=fabric: measure_prediction(job, fabric, settings, Path(temporary)),
            ]
            rows += [measure() for measure in passes]
        whole = (
            minutes_to_submission(arguments.competition, Path(temporary) / "whole", arguments.device)
            if arguments.competition
            else None
        )
    lines = [judge(f"{row['model']}, {row['pass']}: share of resident", row["share of resident"], WANTED) for row in rows]
    print_table(rows)
    if whole:
        print_table([whole])
    print(describe(facts), f"GPU: {device}", *lines, sep="\n")
    write_results(arguments.out, rows, facts, settings=vars(settings), targets=lines, competition=whole)


if __name__ == "__main__":
    main()

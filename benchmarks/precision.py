"""Is training in bfloat16, or by torch.compile, faster on this CPU, and do models of bfloat16 score the same?

    python benchmarks/precision.py [--models MODEL ...] [--sizes 64 160 224]     # speed of training steps, in turns
    python benchmarks/precision.py --compile                                     # and compiled ones, which takes minutes
    python benchmarks/precision.py --features FOLDER             # a probe's features by PyTorch, heap kept and not, in turns
    python benchmarks/precision.py --scores FOLDER [--size 96] [--epochs 3]      # the same folds of a competition in both

Steps are timed as training itself does to decide (`kaggle_kit/training/steps.py`), of 32 images; and once more with the heap of
the C library as it is by default ("fp32, heap not kept"). Scores are of out-of-fold rows, which a CPU predicts in float32
whatever a run was trained in; differences are paired by row, over the folds that are trained.
A processor that only emulates bfloat16 gives the same scores, slowly.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import describe, hardware, print_table, say

_BATCH, _IMAGES, _ROUNDS = 32, 384, 3
MODELS = ("tf_efficientnet_lite0", "resnet18", "convnext_atto")


def steps(models: list[str], sizes: list[int], *, by_compiler: bool) -> list[dict[str, Any]]:
    """A row for each network and size: images a second in training."""
    import torch

    from kaggle_kit.config import RunConfig, derive
    from kaggle_kit.models import build_model
    from kaggle_kit.training.rounding import ways_to_round
    from kaggle_kit.training.steps import time_steps

    rows = []
    for name in models:
        model = build_model(derive(RunConfig(), [f"model={name}", "pretrained=false"]).model, 17)
        model = model.train().to(memory_format=torch.channels_last)
        for size in sizes:
            images = torch.rand(_BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
            ways = ways_to_round(model)
            if by_compiler:
                ways |= {f"compiled {way}": step for way, step in ways_to_round(torch.compile(model)).items()}
            with _default_heap("kaggle_kit.training.steps"):
                plain = time_steps(images, {"fp32": ways["fp32"]})["fp32"]
            speeds = {**time_steps(images, ways), "fp32, heap not kept": plain}
            rows.append({"model": name, "size": size, **{way: round(speed, 1) for way, speed in speeds.items()}})
            say(str(rows[-1]))
    return rows


@contextlib.contextmanager
def _default_heap(module: str) -> Iterator[None]:
    """Have ``module`` leave the heap of the C library as it is."""
    from importlib import import_module
    from unittest.mock import patch

    with patch.object(import_module(module), "kept_heap", lambda _: contextlib.nullcontext()):
        yield


def features(data: Path, models: list[str], size: int) -> list[dict[str, Any]]:
    """A row for each network: images a second from files to features, as `kk train --strategy probe` without OpenVINO."""
    import torch

    from kaggle_kit.config import DataConfig, ModelConfig
    from kaggle_kit.inference.engines import EngineOptions, make_engine
    from kaggle_kit.inference.features import Extractor, FeatureCache, ViewPlan
    from kaggle_kit.models import build_model, image_spec

    rows, device = [(str(path), path) for path in sorted(data.resolve().rglob("*.jpg"))[:_IMAGES]], torch.device("cpu")
    heaps = {"heap kept": contextlib.nullcontext, "heap not kept": partial(_default_heap, "kaggle_kit.inference.features")}
    table = []
    for name in models:
        model = build_model(ModelConfig(name=name), 0, image_size=size).eval()
        spec = image_spec(model, DataConfig(image_size=size))
        extractor = Extractor(make_engine("torch", model, spec, options=EngineOptions(device)), spec, device)
        speeds: dict[str, list[float]] = {way: [] for way in heaps}
        for _ in range(_ROUNDS + 1):  # the first does not count
            for way, heap in heaps.items():
                with tempfile.TemporaryDirectory() as folder, heap():
                    started = time.perf_counter()
                    extractor.complete(FeatureCache(Path(folder), "train").table("", spec, device, "fp32"), rows, ViewPlan())
                    speeds[way].append(len(rows) / (time.perf_counter() - started))
        medians = {way: round(float(np.median(found[1:])), 1) for way, found in speeds.items()}
        table.append({"model": name, "size": size, **medians})
        say(str(table[-1]))
    return table


def scores(data: Path, size: int, epochs: int, folds: list[int]) -> list[dict[str, Any]]:
    """A row for each precision, and one for the difference."""
    from kaggle_kit import Project
    from kaggle_kit.diagnosis import paired_difference
    from kaggle_kit.metrics import METRICS
    from kaggle_kit.runs import read_oof, read_run
    from kaggle_kit.tables import read_folds

    with tempfile.TemporaryDirectory() as folder:
        project = Project.init(data.resolve(), Path(folder) / "work")
        project.folds()
        table = read_folds(project.workspace.folds_path("folds"))
        found, rows = {}, []
        for precision in ("fp32", "bf16"):
            started = time.perf_counter()
            entries = [f"image_size={size}", f"epochs={epochs}", "model.compile=false", "lr=0.0005"]
            project.train(*entries, run=precision, precision=precision, fold=",".join(map(str, folds)))
            seconds = time.perf_counter() - started
            found[precision] = read_oof(read_run(project.workspace, precision))
            truth = table.truth(table.rows_of(found[precision].ids))
            told = {name: round(float(METRICS[name](truth, found[precision].probs)), 4) for name in ("accuracy", "log_loss")}
            rows.append({"precision": precision, "rows": len(truth), **told, "seconds": round(seconds)})
            say(str(rows[-1]))
        first, second = found["fp32"], found["bf16"].take(found["fp32"].ids)
        truth, row = table.truth(table.rows_of(first.ids)), {"precision": "bf16 - fp32", "rows": len(first)}
        for name in ("accuracy", "log_loss"):
            gap, low, high = paired_difference(METRICS[name], truth, np.asarray(first.probs), np.asarray(second.probs))
            row[name] = f"{gap:+.4f} ({low:+.4f} to {high:+.4f})"
        return [*rows, row]


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 160, 224])
    parser.add_argument("--compile", action="store_true", help="time compiled steps, too")
    parser.add_argument("--features", type=Path, help="a folder of images; computes a probe's features, at the last size")
    parser.add_argument("--scores", type=Path, help="a competition's folder; trains instead of timing steps")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--folds", nargs="+", type=int, default=[0, 1])
    args = parser.parse_args()
    from kaggle_kit.machine.host import CPUINFO, has_bf16

    native = has_bf16(CPUINFO)
    say(f"{describe(hardware())}; bfloat16 {'in hardware' if native else 'emulated'}")
    if args.scores:
        print_table(scores(args.scores, args.size, args.epochs, args.folds))
    elif args.features:
        print_table(features(args.features, args.models, args.sizes[-1]))
    else:
        print_table(steps(args.models, args.sizes, by_compiler=args.compile))


if __name__ == "__main__":
    main()

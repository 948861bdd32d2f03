"""Is training in bfloat16 faster on this CPU, and do its models score the same? What ``precision: auto`` decides by.

    python benchmarks/precision.py [--models MODEL ...] [--sizes 64 160 224]     # speed of training steps, in turns
    python benchmarks/precision.py --scores FOLDER [--size 96] [--epochs 3]      # the same folds of a competition in both

Steps are those that training itself measures (`kaggle_kit/training/rounding.py`), of 8 images. Scores are of out-of-fold rows,
which a CPU predicts in float32 whatever a run was trained in; differences are paired by row, over the folds that are trained.
A processor that only emulates bfloat16 gives the same scores, slowly.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import describe, hardware, print_table, say

MODELS = ("tf_efficientnet_lite0", "resnet18", "convnext_atto")


def steps(models: list[str], sizes: list[int]) -> list[dict[str, Any]]:
    """A row for each network and size: images a second in training."""
    import torch

    from kaggle_kit.config import RunConfig, derive
    from kaggle_kit.models import build_model
    from kaggle_kit.training.rounding import measure_steps

    rows = []
    for name in models:
        model = build_model(derive(RunConfig(), [f"model={name}", "pretrained=false"]).model, 17)
        for size in sizes:
            speeds = measure_steps(model, torch.rand(8, 3, size, size))
            gain = round(speeds["bf16"] / speeds["fp32"], 2)
            rows.append({"model": name, "size": size, **{key: round(one, 1) for key, one in speeds.items()}, "gain": gain})
            say(str(rows[-1]))
    return rows


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
    else:
        print_table(steps(args.models, args.sizes))


if __name__ == "__main__":
    main()

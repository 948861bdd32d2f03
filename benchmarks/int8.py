"""What 8-bit integers gain and cost: out-of-fold rows predicted by OpenVINO in float32 and by engine int8, in turns.

    python benchmarks/int8.py WORKSPACE --runs probe,tuned [--turns 3] [--images 256]

For each run: images a second of its first fold's model (medians of the turns, of ``--images`` training images that are decoded
already), and the score of all its out-of-fold rows by either, with the paired difference and its interval. Calibration, which
is done once for a model, is timed apart. Nothing in the workspace changes but its cache.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, describe, hardware, median, print_table, say, write_results

EXACT, COARSE = "openvino", "int8"


def seconds_of(engines: dict[str, Any], batches: list[Any], turns: int) -> dict[str, float]:
    """Median seconds of each engine for all batches, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(turns + 1):
        for name, engine in engines.items():
            start = time.perf_counter()
            for batch in batches:
                engine.logits(batch)
            if turn:  # the first warms up
                taken[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in taken.items()}


def measure(project: Any, name: str, turns: int, images: int) -> dict[str, Any]:
    """A row of the table."""
    import torch

    from kaggle_kit.diagnosis import paired_difference
    from kaggle_kit.images.loaders import eval_batches
    from kaggle_kit.inference.engines import EngineOptions
    from kaggle_kit.inference.groups import group_models, make_group_engine
    from kaggle_kit.inference.inputs import to_input
    from kaggle_kit.inference.predict import predict_rows
    from kaggle_kit.inference.run import compute_of, engine_of
    from kaggle_kit.models import load_model
    from kaggle_kit.runs import MODEL, OOF, average_by_id, read_run
    from kaggle_kit.runs.scored import score
    from kaggle_kit.tables import Predictions, read_folds, read_predictions

    run, setup = read_run(project.workspace, name), project._open()
    paths = {row.id: row.path for row in setup.competition.train}
    models = {fold.fold: load_model(fold.path / MODEL) for fold in run.finished_folds()}
    wanted = {engine: engine_of(engine, setup.competition) for engine in (EXACT, COARSE)}
    computes = {engine: compute_of(project.workspace, run, **fields) for engine, fields in wanted.items()}
    first = next(iter(models.values()))
    (group,) = group_models([first], [0], engine=COARSE)
    engines, cpu = {}, torch.device("cpu")
    for engine, compute in computes.items():
        start = time.perf_counter()
        engines[engine] = make_group_engine(group, engine, EngineOptions(cpu, calibration=compute.calibration))
        ready = time.perf_counter() - start  # the last is int8
    rows = list(paths.items())[:: max(1, len(paths) // images)][:images]
    decoded = eval_batches(rows, first.spec, batch_size=32)
    batches = [to_input(batch.images, first.spec, cpu, channels_last=False) for batch in decoded]
    seconds, scored = seconds_of(engines, batches, turns), {}
    for engine, compute in computes.items():
        parts = []
        for fold, model in models.items():
            own = read_predictions(project.workspace.fold_dir(name, fold) / OOF).ids
            probs = predict_rows([model], [(row_id, paths[row_id]) for row_id in own], compute=compute)[0]
            parts.append(Predictions(own, probs, model.classes))
        folds = read_folds(project.workspace.folds_path(run.record.folds))
        scored[engine] = score(average_by_id(parts, run.classes), folds, setup.metric)
    exact, coarse = scored[EXACT], scored[COARSE]
    gap, low, high = paired_difference(exact.metric, exact.truth, exact.probs, coarse.probs)
    return {
        "run": name,
        "float32 img/s": round(len(rows) / seconds[EXACT], 1),
        "int8 img/s": round(len(rows) / seconds[COARSE], 1),
        "times": round(seconds[EXACT] / seconds[COARSE], 2),
        "calibration s": round(ready, 1),
        exact.metric.name: round(exact.score, 4),
        "in int8": round(coarse.score, 4),
        "difference": f"{gap:+.4f} ({low:+.4f} to {high:+.4f})",
        "same class": round(float((exact.probs.argmax(1) == coarse.probs.argmax(1)).mean()), 4),
        "largest change": round(float(np.abs(exact.probs - coarse.probs).max()), 3),
    }


def main() -> None:
    from kaggle_kit import Project

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--runs", required=True, help="names with commas between them")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--out", type=Path, default=RESULTS / "int8.json")
    arguments = parser.parse_args()
    project, rows, facts = Project.open(arguments.workspace), [], hardware()
    for name in arguments.runs.split(","):
        rows.append(measure(project, name.strip(), arguments.turns, arguments.images))
        say(str(rows[-1]))
    print_table(rows)
    print(describe(facts))
    write_results(arguments.out, rows, facts, turns=arguments.turns, images=arguments.images)


if __name__ == "__main__":
    main()

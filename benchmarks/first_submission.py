"""From raw files to a checked submission: the commands that a competitor types, timed.

    python benchmarks/first_submission.py FOLDER [--model tf_efficientnet_lite0] [--fastai PYTHON] [--set KEY=VALUE ...]

In a new workspace, with nothing cached, `kk init`, `folds`, `train --strategy probe`, `predict --tta hflip`, `blend` and
`check` run as processes of their own, so that start-up counts. FOLDER is a competition that `kk init` understands without
questions. Prints a table and writes it as JSON. Beside it, when PYTHON can import fastai: the time of one fine-tuned fold there
(frozen epoch, then one unfrozen), on the same images, weights, size and split. Wanted on 2,819 + 1,040 scenes with two CPUs and
the cpu extra: at most 120 s, and an out-of-fold accuracy of at least 0.935.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RESULTS, available_cpus, describe, hardware, judge, print_table, say, write_results

SECONDS_WANTED = 120.0
ACCURACY_WANTED = 0.935
NAME = "first"
ENTRIES = ["data.crop_pct=1.0"]
"""Photographs are seen whole: a frozen backbone cannot learn to do without the borders that the model's own crop cuts off."""
FASTAI = """
import json, sys, time
start = time.perf_counter()
import timm, torch
from fastai.vision.all import *
settings = json.load(open(sys.argv[1]))
rows = settings["rows"]  # path, label, held out
frame = pd.DataFrame(rows, columns=["path", "label", "valid"])
loaders = ImageDataLoaders.from_df(
    frame, path="/", fn_col="path", label_col="label", valid_col="valid", bs=32, num_workers=settings["workers"],
    item_tfms=RandomResizedCrop(224, min_scale=0.5), batch_tfms=Normalize.from_stats([0.5] * 3, [0.5] * 3),
)
learner = vision_learner(loaders, settings["model"], pretrained=False, normalize=False, metrics=accuracy)
weights = torch.load(settings["weights"], map_location="cpu", weights_only=True)
body = learner.model[0].model
names = [name for name in body.state_dict()]
body.load_state_dict(dict(zip(names, list(weights.values())[: len(names)])))
learner.freeze()
learner.fine_tune(1)
score = float(learner.validate()[1])
print(json.dumps({"accuracy": score, "seconds": time.perf_counter() - start}))
"""
"""One fold as fastai's own tutorial would train it, on our split."""


def kk(workspace: Path, *arguments: str) -> dict[str, Any]:
    """Run one command in ``workspace``; seconds that passed and that CPUs worked."""
    command = [str(Path(sys.executable).parent / "kk"), *arguments]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    say(f"{seconds:6.1f} s  kk {' '.join(arguments)}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"step": f"kk {arguments[0]}", "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}


def first_submission(data: Path, workspace: Path, model: str, entries: list[str]) -> list[dict[str, Any]]:
    """All commands in order."""
    return [
        kk(workspace, "init", str(data.resolve()), "--metric", "accuracy"),
        kk(workspace, "folds"),
        kk(workspace, "train", "--fold", "all", "--strategy", "probe", f"model={model}", *entries),
        kk(workspace, "predict", "--tta", "hflip"),
        kk(workspace, "blend", "--name", NAME),
        kk(workspace, "check", f"submissions/{NAME}.csv"),
    ]


def has_fastai(python: str) -> bool:
    """Whether that Python can import it."""
    return subprocess.run([python, "-c", "import fastai.vision.all"], capture_output=True, check=False).returncode == 0


def rows_of_folds(workspace: Path) -> list[list[tuple[str, str, bool]]]:
    """For each fold of the workspace the rows as the scripts for fastai take them: path, label, whether it is held out."""
    from kaggle_kit import Project
    from kaggle_kit.tables import read_folds

    project = Project.open(workspace)
    paths = {row.id: str(row.path.resolve()) for row in project.competition.train}
    table = read_folds(project.workspace.folds_path("folds"))
    held_out = [set(table.split(fold)[1].tolist()) for fold in range(table.n_splits)]
    return [[(paths[table.ids[row]], table.labels[row][0], row in held) for row in range(len(table))] for held in held_out]


def run_fastai(python: str, workspace: Path, script: str, model: str, **settings: Any) -> dict[str, Any]:
    """Run a script for fastai, with the weights that this package would take; returns what it prints last."""
    from kaggle_kit.models import find_weights

    settings |= {"model": model, "weights": str(find_weights(model, True).path), "workers": available_cpus()}
    (workspace / "fastai.json").write_text(json.dumps(settings))
    (workspace / "fastai_script.py").write_text(script)
    command = [python, "fastai_script.py", "fastai.json"]
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"fastai failed:\n{done.stderr[-3000:]}")
    facts: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return facts


def fastai_fold(python: str, workspace: Path, model: str) -> dict[str, Any]:
    """Fold 0 of the workspace, fine-tuned by fastai."""
    start = time.perf_counter()
    facts = run_fastai(python, workspace, FASTAI, model, rows=rows_of_folds(workspace)[0])
    return {"seconds": round(time.perf_counter() - start, 1), "accuracy": round(facts["accuracy"], 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a competition")
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--set", nargs="*", default=ENTRIES, metavar="KEY=VALUE", help="entries of the run's configuration")
    parser.add_argument("--fastai", default=sys.executable, metavar="PYTHON", help="a Python that can import fastai")
    parser.add_argument("--out", type=Path, default=RESULTS / "first_submission.json")
    arguments = parser.parse_args()
    facts = hardware()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        rows = first_submission(arguments.folder, workspace, arguments.model, arguments.set)
        record = json.loads((workspace / "submissions" / f"{NAME}.json").read_text())
        if has_fastai(arguments.fastai):
            fastai: dict[str, Any] | None = fastai_fold(arguments.fastai, workspace, arguments.model)
        else:
            fastai = None
            say(f"{arguments.fastai} cannot import fastai; its fine-tuned fold is left out of the table")
    total = sum(row["seconds"] for row in rows)
    accuracy = float(record["scores"]["cross_fitted"])
    rows.append({"step": "all", "seconds": round(total, 2), "cpu_seconds": round(sum(row["cpu_seconds"] for row in rows), 2)})
    if fastai is not None:
        rows.append({"step": "fastai, one fine-tuned fold", "seconds": fastai["seconds"], "cpu_seconds": None})
    print_table(rows)
    print(f"\nout-of-fold accuracy {accuracy:.4f}" + (f"; fastai, fold 0: {fastai['accuracy']:.4f}" if fastai else ""))
    print(describe(facts))
    print(judge("120 s over the time taken", SECONDS_WANTED / total, 1.0))
    print(judge("out-of-fold accuracy", accuracy, ACCURACY_WANTED, unit=""))
    settings = {"folder": arguments.folder.name, "model": arguments.model, "entries": arguments.set}
    write_results(arguments.out, rows, facts, settings=settings, oof_accuracy=accuracy, fastai=fastai)


if __name__ == "__main__":
    main()

"""Training on a CPU beside the others: the same images, model, size, batch and augmentation, in turns.

    python benchmarks/train_cpu.py FOLDER [--fastai-python PATH] [--images 320] [--epochs 4] [--out FILE]

FOLDER holds a folder of photographs a class. Each contestant is a process that trains an epoch when it is its turn and else
does nothing: A B C A B C. This package runs its real path, ``train_run``, from kk.yaml to out-of-fold predictions. The rate is
the median over all epochs but the first, training alone; the whole run counts everything but imports: preparation, compiling
with empty caches, validation, checkpoints, and here a last pass of out-of-fold predictions. Since a short run is mostly
compiling, "fold of scenes" says what 10 epochs of 2,255 images would come to, from the two measured parts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from common import (
    RESULTS,
    Contestant,
    Stage,
    describe,
    hardware,
    in_turns,
    judge,
    median,
    print_table,
    start_all,
    write_results,
)

OURS = "kaggle_kit"
MODEL, SIZE, BATCH = "tf_efficientnet_lite0", 224, 32
FOLD_IMAGES, FOLD_EPOCHS = 2255, 10
WANTED = {"fastai": 2.2, "timm, compile + channels_last": 1.1}
PEERS = {
    "plain PyTorch": "train-plain",
    "timm, NCHW eager": "train-timm",
    "timm, compile + channels_last": "train-timm-best",
    "fastai": "train-fastai",
}


def make_data(source: Path, folder: Path, images: int, valid: int) -> dict[str, Any]:
    """Copy as many images of each class as needed, and say which are trained on and which validated on."""
    names = sorted(path.name for path in source.iterdir() if path.is_dir())
    by_class = {name: sorted((source / name).iterdir()) for name in names}
    rows: list[list[Any]] = []
    for number in range(max(map(len, by_class.values()))):
        for position, name in enumerate(names):
            if number < len(by_class[name]) and len(rows) < images + valid:
                target = folder / "train" / name / by_class[name][number].name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(by_class[name][number], target)
                rows.append([str(target), position])
    if len(rows) < images + valid:
        raise SystemExit(f"{source} has only {len(rows)} images in folders of classes; lower --images")
    (folder / "test").mkdir()
    shutil.copyfile(rows[0][0], folder / "test" / "one.jpg")
    return {"train": rows[:images], "valid": rows[images:], "classes": len(names)}


def train_ours(job: dict[str, Any], stage: Stage) -> None:
    """What `kk init` and `kk train` do, with one turn an epoch."""
    import numpy as np

    from kaggle_kit.competition import Setup, init_workspace, load_competition
    from kaggle_kit.config import load_config
    from kaggle_kit.events import EpochEnded
    from kaggle_kit.tables import FoldTable
    from kaggle_kit.training import TrainOptions, train_run
    from kaggle_kit.workspace import Workspace

    root = Path(job["folder"]) / "workspace"
    root.mkdir()
    init_workspace(Path(job["folder"]) / "data", root)
    overrides = [f"model={job['model']}", f"image_size={job['size']}", f"epochs={job['epochs']}", f"batch_size={BATCH}"]
    overrides += [f"pretrained={'true' if job['model'] == MODEL else 'false'}", f"workers={job['workers']}", "lr=1e-3"]
    # What "auto" comes to in the fold of the last column ("Precision and compiling on a CPU"); this run is too short for it.
    config = load_config(root / "kk.yaml", [*overrides, "augment=light", "model.compile=false"])
    competition = load_competition(Workspace(root), config.competition)
    validated = {Path(path).relative_to(Path(job["folder"]) / "data" / "train").as_posix() for path, _ in job["valid"]}
    rows = competition.train
    folds = np.array([[0 if row.id in validated else -1 for row in rows]])
    table = FoldTable(
        tuple(row.id for row in rows), tuple(row.labels for row in rows), np.arange(len(rows)), folds, 1, competition.classes
    )

    def end_of_epoch(event: Any) -> None:
        if isinstance(event, EpochEnded) and event.row.epoch:
            stage.report(images=round(event.row.images_per_second * event.row.seconds), seconds=event.row.seconds)

    stage.report()
    setup = Setup(Workspace(root), config, competition)
    train_run(setup, TrainOptions("run"), folds=table, reporter=end_of_epoch)
    stage.report()


def summarize(contestant: Contestant, epochs: int) -> dict[str, Any]:
    """A row of the table."""
    trained, last = contestant.turns[:epochs], contestant.turns[epochs]
    later = trained[1:]
    whole = sum(turn["active_seconds"] for turn in contestant.turns)
    start = trained[0]["active_seconds"] - median(turn["active_seconds"] for turn in later) + last["active_seconds"]
    rate = median(turn["images"] / turn["seconds"] for turn in later)
    fold = start + FOLD_EPOCHS * FOLD_IMAGES / rate
    return {
        "contestant": contestant.name,
        "img/s": round(rate, 2),
        "CPU ms an image": round(1000 * median(turn["cpu_seconds"] / turn["images"] for turn in later), 1),
        "start and end, s": round(start, 1),
        "whole run, s": round(whole, 1),
        "fold of scenes, s": round(fold),
        "rounds, img/s": ", ".join(f"{turn['images'] / turn['seconds']:.1f}" for turn in later),
    }


def compare(contestants: list[Contestant], rows: list[dict[str, Any]], epochs: int) -> list[str]:
    """Targets. Ratios are medians over the rounds, each against the same round of ours."""
    lines = []
    by_name = {contestant.name: contestant for contestant in contestants}
    for row in rows:
        ours, other = by_name[OURS].turns[1:epochs], by_name[row["contestant"]].turns[1:epochs]
        pairs = zip(ours, other, strict=True)
        row["ours is faster by"] = round(median(a["images"] / a["seconds"] * b["seconds"] / b["images"] for a, b in pairs), 2)
        row["whole fold"] = round(row["fold of scenes, s"] / rows[0]["fold of scenes, s"], 2)
    for name, wanted in WANTED.items():
        row = next((row for row in rows if row["contestant"] == name), None)
        lines.append(judge(f"against {name}, steady", row and row["ours is faster by"], wanted))
        lines.append(judge(f"against {name}, fold with compiling", row and row["whole fold"], wanted))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="a folder of photographs a class")
    parser.add_argument("--fastai-python", help="the interpreter of an environment with fastai and timm")
    parser.add_argument("--images", type=int, default=320, help="trained on in an epoch; rounded to whole batches")
    parser.add_argument("--epochs", type=int, default=4, help="the first is not counted in the rate")
    parser.add_argument("--workers", type=int, default=1, help="loader processes of each contestant")
    parser.add_argument("--model", default=MODEL, help="another one, with --size, to try the script")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--out", type=Path, default=RESULTS / "train_cpu.json")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        return train_ours(json.loads(arguments.worker.read_text(encoding="utf-8")), Stage())
    if arguments.folder is None or arguments.epochs < 2:
        parser.error("a folder of photographs and at least two epochs are needed")
    facts = hardware()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = BATCH * max(1, arguments.images // BATCH)
        data = make_data(arguments.folder, folder / "data", images, valid=2 * BATCH)
        settings = {key: getattr(arguments, key) for key in ("model", "size", "epochs", "workers")} | {"batch": BATCH}
        job = {**data, **settings, "folder": str(folder)}
        contestants = start_all({OURS: []}, PEERS, job, folder, arguments.fastai_python)
        in_turns(contestants, arguments.epochs + 1)
        for contestant in contestants:
            contestant.close()
    rows = [summarize(contestant, arguments.epochs) for contestant in contestants]
    lines = compare(contestants, rows, arguments.epochs)
    facts["load"] = max(facts["load"], round(os.getloadavg()[0], 2))
    print_table(rows)
    print(describe(facts), *lines, sep="\n")
    turns = {contestant.name: contestant.turns for contestant in contestants}
    write_results(arguments.out, rows, facts, settings={**settings, "images": images}, targets=lines, turns=turns)
    return None


if __name__ == "__main__":
    main()

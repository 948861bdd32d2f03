"""Predicting with 5 fold models and 5 views on a CPU beside the others, in turns.

    python benchmarks/predict_cpu.py FOLDER [--fastai-python PATH] [--images 64] [--rounds 3] [--out FILE]

Five models of the same architecture with different weights, and photographs of FOLDER. This package predicts as
`kk predict --tta five-crop` does, with OpenVINO (the `cpu` extra) and with PyTorch; beside it a straightforward PyTorch loop
over folds and views, and fastai's ``tta``. Each contestant is a process that predicts all images once when it is its turn; the
first turn, in which models are exported, is shown apart. A later turn of ours includes reading the exported models.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
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
    photographs,
    print_table,
    start_all,
    write_results,
)

MODEL, SIZE, BATCH, FOLDS, CLASSES = "tf_efficientnet_lite0", 224, 32, 5, 13
VIEWS = "five-crop"
OURS = {"kaggle_kit, OpenVINO": ["--engine", "openvino"], "kaggle_kit, PyTorch": ["--engine", "torch"]}
PEERS = {"PyTorch loop": "predict-plain", "fastai tta": "predict-fastai"}
WANTED = {"PyTorch loop": 4.0, "fastai tta": 8.0}


def make_models(folder: Path, name: str, size: int) -> list[str]:
    """Five models around the pretrained weights, in this package's format and as plain state dicts; paths of the latter."""
    import torch

    from kaggle_kit.config import DataConfig, ModelConfig
    from kaggle_kit.models import build_model, find_weights, image_spec, save_model
    from kaggle_kit.tables import Classes

    config = ModelConfig(name=name, pretrained=name == MODEL)
    classes = Classes(tuple(f"class {number:02}" for number in range(CLASSES)))
    plain = []
    for fold in range(FOLDS):
        torch.manual_seed(fold)
        model = build_model(config, CLASSES, weights=find_weights(name, config.pretrained)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 + 0.01 * torch.randn_like(parameter))
        spec = image_spec(model, DataConfig(image_size=size))
        save_model(folder / f"{fold}.safetensors", model, classes=classes, spec=spec, task="multiclass", meta={"fold": fold})
        plain.append(str(folder / f"{fold}.pth"))
        torch.save(model.state_dict(), plain[-1])
    return plain


def predict_ours(job: dict[str, Any], engine: str, stage: Stage) -> None:
    """One call of the function that `kk predict` calls, a turn."""
    from kaggle_kit.inference.predict import Compute, predict_rows
    from kaggle_kit.models import load_model

    folder = Path(job["folder"])
    models = [load_model(folder / f"{fold}.safetensors") for fold in range(FOLDS)]
    rows = [(str(number), Path(path)) for number, path in enumerate(job["images"])]
    compute = Compute(batch_size=job["batch"], workers=job["workers"], device="cpu", engine=engine, cache_dir=folder / "cache")
    stage.report()
    while True:
        started = time.perf_counter()
        predict_rows(models, rows, tta=VIEWS, compute=compute)
        stage.report(images=len(rows), seconds=time.perf_counter() - started)


def summarize(contestant: Contestant, best: Contestant) -> dict[str, Any]:
    """A row of the table; the ratio is the median over the rounds, each against the same round of ours."""
    first, later = contestant.turns[0], contestant.turns[1:]
    pairs = zip(best.turns[1:], later, strict=True)
    return {
        "contestant": contestant.name,
        "images/s": round(median(turn["images"] / turn["seconds"] for turn in later), 3),
        "forward passes/s": round(median(25 * turn["images"] / turn["seconds"] for turn in later), 1),
        "CPU s an image": round(median(turn["cpu_seconds"] / turn["images"] for turn in later), 3),
        "first turn, s": round(first["seconds"], 1),
        "later turns, s": ", ".join(f"{turn['seconds']:.1f}" for turn in later),
        "ours is faster by": round(median(theirs["seconds"] / ours["seconds"] for ours, theirs in pairs), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="photographs")
    parser.add_argument("--fastai-python", help="the interpreter of an environment with fastai and timm")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="beside the first, which is shown apart")
    parser.add_argument("--workers", type=int, default=1, help="loader processes of each contestant")
    parser.add_argument("--model", default=MODEL, help="another one, with --size, to try the script")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--out", type=Path, default=RESULTS / "predict_cpu.json")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        return predict_ours(json.loads(arguments.worker.read_text(encoding="utf-8")), arguments.engine, Stage())
    if arguments.folder is None:
        parser.error("a folder of photographs is needed")
    facts = hardware()
    settings = {"model": arguments.model, "size": arguments.size, "batch": BATCH, "classes": CLASSES, "views": VIEWS}
    settings["workers"] = arguments.workers
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = [str(path.resolve()) for path in photographs(arguments.folder, arguments.images)]
        job = {
            **settings,
            "models": make_models(folder, arguments.model, arguments.size),
            "images": images,
            "folder": str(folder),
        }
        contestants = start_all(OURS, PEERS, job, folder, arguments.fastai_python)
        in_turns(contestants, 1 + arguments.rounds)
        for contestant in contestants:
            contestant.close()
    rows = [summarize(contestant, contestants[0]) for contestant in contestants]
    found = {row["contestant"]: row["ours is faster by"] for row in rows}
    lines = [judge(f"against {name}", found.get(name), wanted) for name, wanted in WANTED.items()]
    facts["load"] = max(facts["load"], hardware()["load"])
    print_table(rows)
    print(describe(facts), *lines, sep="\n")
    turns = {contestant.name: contestant.turns for contestant in contestants}
    write_results(arguments.out, rows, facts, settings={**settings, "images": len(images)}, targets=lines, turns=turns)
    return None


if __name__ == "__main__":
    main()

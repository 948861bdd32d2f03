"""Two versions of this package beside each other, in turns: training, prediction, and the way to a first submission.

    python benchmarks/versions.py OLD SCENES [--rounds 5] [--out FILE]

OLD is a checkout of an earlier version (``git worktree add --detach ../old TAG``); the other version is the checkout that this
script lies in. Each runs the worker of its own ``train_cpu.py`` and ``predict_cpu.py``, on the same images, in processes that
do nothing but in their turns (old, new, old, new ...); then the commands of ``first_submission.py``, each command by both
versions before the next, in two workspaces. SCENES is a competition with a folder a class in ``train``. Ratios are medians
over the rounds, each round of the new version against the same round of the old one. Wanted: within 3 %.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import first_submission
import predict_cpu
import train_cpu
from common import RESULTS, Contestant, describe, hardware, in_turns, median, photographs, print_table, say, write_results

NEW = Path(__file__).resolve().parent.parent
WANTED = 1.03
KK = "from kaggle_kit.cli import main; main()"
COMMANDS = (
    ("init", "--metric", "accuracy"),
    ("folds",),
    ("train", "--fold", "all", "--strategy", "probe", f"model={train_cpu.MODEL}", *first_submission.ENTRIES),
    ("predict", "--tta", "hflip"),
    ("blend", "--name", first_submission.NAME),
    ("check", f"submissions/{first_submission.NAME}.csv"),
)


def worker(name: str, tree: Path, script: str, job: dict[str, Any], folder: Path, *arguments: str) -> Contestant:
    """Start the worker of ``script`` of one version, with files of its own below ``folder``."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    description = folder / name / f"job-{len(list(folder.glob('*/job-*')))}.json"
    description.write_text(json.dumps({**job, "folder": str(folder / name)}), encoding="utf-8")
    python = ["env", f"PYTHONPATH={tree}", sys.executable, str(tree / "benchmarks" / script)]
    return Contestant(name, [*python, "--worker", str(description), *arguments])


def compare(what: str, old: list[float], new: list[float], **more: Any) -> dict[str, Any]:
    """Return a row of the table from the seconds of both versions, round by round."""
    ratio = median(b / a for a, b in zip(old, new, strict=True))
    return {
        "what": what,
        "old, s": round(median(old), 2),
        "new, s": round(median(new), 2),
        "new / old": round(ratio, 3),
        "rounds": ", ".join(f"{b / a:.3f}" for a, b in zip(old, new, strict=True)),
        **more,
        "within 3 %": "yes" if ratio <= WANTED else "no",
    }


def training(trees: dict[str, Path], source: Path, rounds: int) -> list[dict[str, Any]]:
    """Compare an epoch of training, and the CPU seconds that it takes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = {"model": train_cpu.MODEL, "size": train_cpu.SIZE, "epochs": rounds + 1, "workers": 1, "batch": 32}
        contestants = []
        for name, tree in trees.items():
            data = train_cpu.make_data(source, folder / name / "data", images=256, valid=64)
            contestants.append(worker(name, tree, "train_cpu.py", {**data, **settings}, folder))
        return turns_of("epoch of training", contestants, rounds + 1)


def prediction(trees: dict[str, Path], source: Path, rounds: int) -> list[dict[str, Any]]:
    """Compare five folds with five views, by both engines."""
    rows = []
    for engine in ("openvino", "torch"):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            images = [str(path.resolve()) for path in photographs(source, 48)]
            job = {"images": images, "batch": predict_cpu.BATCH, "workers": 1}
            for name in trees:
                (folder / name).mkdir()
                predict_cpu.make_models(folder / name, predict_cpu.MODEL, predict_cpu.SIZE)
            contestants = [
                worker(name, tree, "predict_cpu.py", job, folder, "--engine", engine) for name, tree in trees.items()
            ]
            rows += turns_of(f"prediction, {engine}", contestants, rounds + 1)
    return rows


def turns_of(what: str, contestants: list[Contestant], rounds: int) -> list[dict[str, Any]]:
    """Let them work in turns; the first round, in which models are compiled, is left out of the medians."""
    in_turns(contestants, rounds)
    for contestant in contestants:
        contestant.close()
    old, new = (contestant.turns[1:] for contestant in contestants)
    return [
        compare(what, [turn["seconds"] for turn in old], [turn["seconds"] for turn in new]),
        compare(f"{what}, CPU", [turn["cpu_seconds"] for turn in old], [turn["cpu_seconds"] for turn in new]),
    ]


def submissions(trees: dict[str, Path], competition: Path, rounds: int) -> list[dict[str, Any]]:
    """Compare the commands from raw files to a checked submission, in fresh workspaces, and the files written."""
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in trees}
    fingerprints: dict[str, set[str]] = {name: set() for name in trees}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as temporary:
            for command in COMMANDS:
                for name, tree in trees.items():
                    wall, cpu = run(tree, Path(temporary) / name, competition, command)
                    seconds[name].setdefault(f"kk {command[0]}", []).append(wall)
                    seconds[name].setdefault(f"kk {command[0]}, CPU", []).append(cpu)
            for name in trees:
                path = Path(temporary) / name / "submissions" / f"{first_submission.NAME}.csv"
                fingerprints[name].add(hashlib.sha256(path.read_bytes()).hexdigest())
    for ending in ("", ", CPU"):
        for times in seconds.values():
            steps = [times[f"kk {command[0]}{ending}"] for command in COMMANDS]
            times[f"first submission{ending}"] = [sum(step) for step in zip(*steps, strict=True)]
    say("submissions are byte for byte the same: " + ("yes" if len(set.union(*fingerprints.values())) == 1 else "no"))
    old, new = seconds.values()
    return [compare(what, old[what], new[what]) for what in old]


def run(tree: Path, workspace: Path, competition: Path, command: tuple[str, ...]) -> tuple[float, float]:
    """Run one command of one version; return the seconds that passed and those that CPUs worked."""
    workspace.mkdir(exist_ok=True)
    arguments = [command[0], str(competition.resolve()), *command[1:]] if command[0] == "init" else list(command)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", KK, *arguments], cwd=workspace, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tree), "NO_ALBUMENTATIONS_UPDATE": "1"},
    )  # fmt: skip
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        said = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        raise SystemExit(f"kk {' '.join(arguments)} of {tree} ended with {done.returncode}:\n{said}")
    say(f"{wall:6.1f} s  {workspace.name}: kk {' '.join(arguments)}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a checkout of the earlier version")
    parser.add_argument("scenes", type=Path, help="a competition with a folder a class in train")
    parser.add_argument("--rounds", type=int, default=5, help="of training and prediction; first submissions take two fewer")
    parser.add_argument("--out", type=Path, default=RESULTS / "versions.json")
    arguments = parser.parse_args()
    trees = {"old": arguments.old.resolve(), "new": NEW}
    facts = hardware()
    rows = training(trees, arguments.scenes / "train", arguments.rounds)
    rows += prediction(trees, arguments.scenes / "test", arguments.rounds)
    rows += submissions(trees, arguments.scenes, max(1, arguments.rounds - 2))
    facts["load"] = max(facts["load"], hardware()["load"])
    print_table(rows)
    print(describe(facts))
    write_results(arguments.out, rows, facts, settings={"rounds": arguments.rounds})


if __name__ == "__main__":
    main()

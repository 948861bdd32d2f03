"""How long should threads of PyTorch wait actively? Steps of training and prediction, alone and beside another process.

    python benchmarks/waiting.py [--counts 1000 10000] [--rounds 3] [--seconds 5] [--model MODEL] [--out FILE]

Between two operations of a network, the threads of GNU's OpenMP spin before they sleep: `GOMP_SPINCOUNT` times round a loop, by
default 300,000 times, some milliseconds. A process that has the machine to itself need not be woken then; of two that share its
CPUs each waits for threads whose CPU the other's spend on waiting. Every count (and the default, "unset") has two processes:
one of them works alone, then both at the same time, the counts in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

from common import RESULTS, Contestant, Stage, describe, hardware, median, print_table, say, write_results

VARIABLE, UNSET = "GOMP_SPINCOUNT", "unset"
JOBS = (("train", 96, 16), ("train", 224, 32), ("predict", 224, 32))
"""What is done, at which size, and of how many images a step is."""


def work(job: dict[str, Any], stage: Stage) -> None:
    """Every job of every round, once for each word of ``job["turns"]``."""
    import timm
    import torch  # before kaggle_kit, which sets the variable

    from kaggle_kit.machine.host import kept_heap

    model = timm.create_model(job["model"], num_classes=10).to(memory_format=torch.channels_last)
    stage.report()
    for what, size, batch in JOBS * job["rounds"]:
        images = torch.rand(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        model.train(what == "train")
        for _ in range(job["turns"]):
            with kept_heap("cpu"), torch.set_grad_enabled(what == "train"):  # given back between turns
                step(model, images)
                steps, started = 0, time.perf_counter()
                while time.perf_counter() - started < job["seconds"]:
                    step(model, images)
                    steps += 1
                facts = {"images": batch * steps, "seconds": time.perf_counter() - started}
            stage.report(**facts)


def step(model: Any, images: Any) -> None:
    """One of prediction, or of training where gradients are on."""
    outputs = model(images)
    if outputs.requires_grad:
        outputs.square().mean().backward()
        model.zero_grad()


def measure(counts: list[str], args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each count: images a second of each job, alone and of each of two."""
    pairs = {count: [_start(count, args, turns) for turns in (2, 1)] for count in counts}
    found: dict[tuple[str, str], list[float]] = {}
    with ThreadPoolExecutor(2) as both:
        for _ in range(args.rounds):
            for what, size, _ in JOBS:
                for count, pair in pairs.items():
                    alone = pair[0].turn()
                    beside = list(both.map(Contestant.turn, pair))
                    speeds = {"alone": _speed(alone), "of two": median(map(_speed, beside))}
                    say(f"{what} at {size}, {count}: " + ", ".join(f"{way} {speed:.1f}" for way, speed in speeds.items()))
                    for way, speed in speeds.items():
                        found.setdefault((count, f"{what} {size}, {way}"), []).append(speed)
    for pair in pairs.values():
        for contestant in pair:
            contestant.close()
    titles = dict.fromkeys(title for _, title in found)
    return [{"count": count, **{title: round(median(found[count, title]), 1) for title in titles}} for count in counts]


def _start(count: str, args: argparse.Namespace, turns: int) -> Contestant:
    job = {"model": args.model, "rounds": args.rounds, "seconds": args.seconds, "turns": turns}
    kept = {name: value for name, value in os.environ.items() if name != VARIABLE}
    with patch.dict(os.environ, kept | ({} if count == UNSET else {VARIABLE: count}), clear=True):
        return Contestant(count, [sys.executable, __file__, "--worker", json.dumps(job)])


def _speed(facts: dict[str, Any]) -> float:
    return float(facts["images"] / facts["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", nargs="+", default=["1000", "3000", "10000"], help="beside the default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each turn")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="without weights")
    parser.add_argument("--out", type=Path, default=RESULTS / "waiting.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(json.loads(args.worker), Stage())
    facts = hardware()
    rows = measure([UNSET, *args.counts], args)
    print_table(rows)
    print(describe(facts))
    write_results(args.out, rows, facts, model=args.model)
    return None


if __name__ == "__main__":
    main()

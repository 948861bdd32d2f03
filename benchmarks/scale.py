"""Does the time for an image, and the memory of the parent process, stay the same from a thousand images to a hundred thousand?

    python benchmarks/scale.py [--sizes 1000,10000,100000] [--stages store,probe,predict,blend] [--out FILE]

For each size small photographs are generated in a temporary folder, half of them for training, half for testing. Then, each
in a process of its own: the image store is filled with all of them; `kk train --strategy probe` trains one hold-out fold;
`kk predict` predicts the test images with a view that no features were kept of, so that each is read; and `kk blend` blends 50
made-up runs of 150 classes with as many out-of-fold rows as the size says and a fifth as many test rows.

Starting up takes the same few seconds at any size: it is measured with 100 images, shown, and taken off before times are
compared. Memory is the parent's largest resident set, and the part of it that is its own and not a file in the page cache
(sampled 20 times a second).
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import HERE, RESULTS, describe, hardware, print_table, say, write_results

BASE = 100
RUNS, CLASSES = 50, 150
FLAT = 1.2
OVERRIDES = ("model=test_resnet", "pretrained=false", "image_size=32", "batch_size=64", "data.crop_pct=1.0", "workers=1")


class PeakMemory:
    """The largest resident set of this process in MB, all of it and the part that is no file's."""

    def __init__(self) -> None:
        self.own = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.own = max(self.own, status_mb("RssAnon"))

    def stop(self) -> dict[str, float]:
        """What was found."""
        self._done.set()
        self._thread.join()
        return {"peak_mb": round(status_mb("VmHWM")), "peak_own_mb": round(max(self.own, status_mb("RssAnon")))}


def status_mb(key: str) -> float:
    """An entry of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def make_images(root: Path, images: int) -> None:
    """Small noisy JPEG files of ten colours, in folders of classes; half of them without a class."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    colours = rng.integers(40, 216, (10, 3))
    noise = rng.normal(0, 25, (64, 44, 52, 3))
    for number in range(images):
        label = number // 2 % 10
        kind = f"train/{label}" if number % 2 else "test"
        folder = root / "data" / kind
        if number < 40:
            folder.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(colours[label] + noise[number % 64], 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:06}.jpg"), pixels)


def prepare(root: Path, images: int) -> None:
    """What `kk init` and `kk folds` leave; not timed."""
    from kaggle_kit.competition import init_workspace, load_competition
    from kaggle_kit.config import FoldsConfig, load_config
    from kaggle_kit.folds import create_folds
    from kaggle_kit.workspace import Workspace

    make_images(root, images)
    init_workspace(root / "data", root)
    competition = load_competition(Workspace(root), load_config(root / "kk.yaml").competition)
    create_folds(Workspace(root), competition, FoldsConfig(scheme="holdout", duplicates="off"))


def load(root: Path) -> Any:
    """Workspace, configuration and competition."""
    from kaggle_kit.competition import open_setup
    from kaggle_kit.workspace import Workspace

    return open_setup(Workspace(root), [*OVERRIDES, "strategy=probe"])


def run_store(root: Path, _: int) -> int:
    """Fill the store."""
    from kaggle_kit.images.store import open_store

    paths = [(path.name, path) for path in sorted((root / "data").rglob("*.jpg"))]
    store = open_store(root / "store", paths, (36, 36))
    return len(store)


def run_probe(root: Path, _: int) -> int:
    """Train a probe; features of training and test images are computed."""
    from kaggle_kit.training import TrainOptions, train_run

    setup = load(root)
    train_run(setup, TrainOptions("run"))
    competition = setup.competition
    return len(competition.train) + len(competition.test)


def run_predict(root: Path, _: int) -> int:
    """Predict the test images and the control rows."""
    from kaggle_kit.inference import PredictOptions, predict_runs

    done = predict_runs(load(root), ["run"], PredictOptions("vflip", oof=False))[0]
    return done.n_test + done.n_control


def prepare_blend(root: Path, rows: int) -> None:
    """Runs as `kk train` and `kk predict` leave them, with made-up probabilities."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from factories import make_workspace

    make_workspace(root, n_classes=CLASSES, n_train=max(rows, 2 * CLASSES), n_test=rows // 5, n_runs=RUNS, n_folds=2)


def run_blend(root: Path, rows: int) -> int:
    """Blend and check."""
    from kaggle_kit.blending.blend import blend
    from kaggle_kit.competition import open_setup
    from kaggle_kit.workspace import Workspace

    blend(open_setup(Workspace(root)))
    return max(rows, 2 * CLASSES)


STAGES: dict[str, tuple[Callable[[Path, int], None] | None, Callable[[Path, int], int]]] = {
    "store": (prepare, run_store),
    "probe": (None, run_probe),
    "predict": (None, run_predict),
    "blend": (prepare_blend, run_blend),
}
"""Stage -> what is to be there before, unless the stage before it has left it, and the stage itself."""


def work(stage: str, part: str, root: Path, size: int) -> None:
    """In a process of its own: prepare a stage, or run it and print what it took."""
    logging.disable(logging.INFO)
    make, run = STAGES[stage]
    if part == "prepare":
        if make is not None:
            make(root, size)
        return
    memory, start = PeakMemory(), time.perf_counter()
    images = run(root, size)
    print(json.dumps({"images": images, "seconds": time.perf_counter() - start, **memory.stop()}))


def call(stage: str, part: str, root: Path, size: int) -> str:
    """The last line that the process printed."""
    command = [sys.executable, __file__, "--worker", stage, part, str(root), str(size)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{stage} with {size} images failed:\n{done.stderr[-4000:]}")
    return done.stdout.strip().rpartition("\n")[2]


def measure(size: int, stages: list[str]) -> list[dict[str, Any]]:
    """All stages at one size."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for stage in stages:
            root = Path(folder) / ("blend" if stage == "blend" else "images")
            root.mkdir(exist_ok=True)
            call(stage, "prepare", root, size)
            rows.append({"stage": stage, "size": size, **json.loads(call(stage, "run", root, size))})
            say(f"{stage} {size:,}: {rows[-1]['seconds']:.1f} s, {rows[-1]['peak_mb']:,} MB")
    return rows


def tabulate(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Time for an image without the start, and both measures of memory, against the smallest size."""
    table = []
    for row in found:
        if row["size"] == BASE:
            continue
        base, first = (
            next(one for one in found if one["stage"] == row["stage"] and test(one)) for test in (_is_base, _is_size)
        )
        each = 1000 * (row["seconds"] - base["seconds"]) / (row["images"] - base["images"])
        table.append(
            {
                "stage": row["stage"],
                "images": row["images"],
                "start, s": round(base["seconds"], 1),
                "seconds": round(row["seconds"], 1),
                "ms an image": round(each, 3),
                "peak MB": row["peak_mb"],
                "own MB": row["peak_own_mb"],
                "memory, x first": round(row["peak_mb"] / first["peak_mb"], 2),
                "own, x first": round(row["peak_own_mb"] / first["peak_own_mb"], 2),
            }
        )
    return table


def _is_base(row: dict[str, Any]) -> bool:
    return bool(row["size"] == BASE)


def _is_size(row: dict[str, Any]) -> bool:
    return not _is_base(row)


def verdicts(table: list[dict[str, Any]]) -> list[str]:
    """For each stage: how much the largest size differs from the smallest."""
    lines = []
    for stage in dict.fromkeys(row["stage"] for row in table):
        rows = [row for row in table if row["stage"] == stage]
        times, memory, own = (rows[-1][key] / rows[0][key] for key in ("ms an image", "peak MB", "own MB"))
        flat = "met" if max(times, memory) <= FLAT else "missed"
        lines.append(f"{stage}: time x{times:.2f}, memory x{memory:.2f}, own memory x{own:.2f}; wanted at most x{FLAT}: {flat}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000", help="numbers of images, ascending")
    parser.add_argument("--stages", default=",".join(STAGES), help="store must come before probe, and probe before predict")
    parser.add_argument("--out", type=Path, default=RESULTS / "scale.json")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        stage, part, root, size = arguments.worker
        return work(stage, part, Path(root), int(size))
    facts = hardware()
    sizes, stages = [int(size) for size in arguments.sizes.split(",")], arguments.stages.split(",")
    found = [row for size in (BASE, *sizes) for row in measure(size, stages)]
    table = sorted(tabulate(found), key=lambda row: stages.index(row["stage"]))
    lines = verdicts(table)
    facts["load"] = max(facts["load"], hardware()["load"])
    print_table(table)
    print(describe(facts), *lines, sep="\n")
    write_results(arguments.out, table, facts, settings={"runs": RUNS, "classes": CLASSES}, targets=lines, measured=found)
    return None


if __name__ == "__main__":
    main()

"""Does the time for an image, and the memory of the parent process, stay the same from a thousand images to a hundred thousand?

    python benchmarks/scale.py [--sizes 1000,10000,100000] [--stages store,probe,predict,blend] [--out FILE]
    python benchmarks/scale.py --classes 15000,64500

For each size small photographs are generated in a temporary folder, half of them for training, half for testing. Then, each
in a process of its own: the image store is filled with all of them; `kk train --strategy probe` trains one hold-out fold;
`kk predict` predicts the test images with a view that no features were kept of, so that each is read; and `kk blend` blends 50
made-up runs of 150 classes with as many out-of-fold rows as the size says and a fifth as many test rows.

With ``--classes`` it is asked instead how much memory and time so many classes take: from a CSV with a label an image (5,500
more images than classes) by `kk init`, `kk folds` (a hold-out), two runs of `kk train` (tf_efficientnet_lite0 with 1,280
features, AdamW, 1,024 images, then all of the hold-out), `kk predict` of 4,000 test images, and `kk blend --method weights`
with its check.

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
MORE_IMAGES, TEST_IMAGES = 5_500, 4_000
LARGE_HEAD = (
    *("model=tf_efficientnet_lite0", "pretrained=false", "image_size=32", "batch_size=32", "data.crop_pct=1.0", "epochs=1"),
    *("data.samples_per_epoch=1024", "model.compile=false", "augment=none", "ema=0"),
)
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


def run_init(root: Path, classes: int) -> int:
    """Lay out a competition of many classes, read it and deal its rows to a hold-out."""
    import cv2
    import numpy as np
    import pandas as pd

    from kaggle_kit import Project

    rng = np.random.default_rng(0)
    rows = np.concatenate([np.arange(classes), rng.integers(0, classes, MORE_IMAGES)])
    for kind, count in (("train", len(rows)), ("test", TEST_IMAGES)):
        (root / "data" / kind).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(root / "data" / kind / f"{kind}{number:06}.png"), rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    train = pd.DataFrame({"image": [f"train{at:06}.png" for at in range(len(rows))], "label": [f"taxon{at:05}" for at in rows]})
    train.to_csv(root / "data" / "train.csv", index=False)
    test = [f"test{at:06}.png" for at in range(TEST_IMAGES)]
    pd.DataFrame({"image": test, "label": "taxon00000"}).to_csv(root / "data" / "sample_submission.csv", index=False)
    project = Project.init(root / "data", root / "work", metric="accuracy")
    project.folds(scheme="holdout", duplicates="off")
    return len(rows)


def run_train(root: Path, _: int) -> int:
    """Train two runs."""
    from kaggle_kit import Project

    for seed in (0, 1):
        settings = [*LARGE_HEAD, f"seed={seed}"]
        Project.open(root / "work").train(*settings, run=f"run{seed}")
    return 2


def run_predict_classes(root: Path, _: int) -> int:
    """Predict the test images with both."""
    from kaggle_kit import Project

    Project.open(root / "work").predict()
    return TEST_IMAGES


def run_blend_classes(root: Path, _: int) -> int:
    """Blend both with weights, write the submission and check it."""
    from kaggle_kit import Project

    blend = Project.open(root / "work").blend(method="weights")
    failed = [check.name for check in blend.report.checks if check.status == "failed"]
    if failed:
        raise SystemExit(f"the check of the submission failed: {failed}")
    return TEST_IMAGES


CLASS_STAGES: dict[str, Callable[[Path, int], int]] = {
    "init, folds": run_init,
    "train, two runs": run_train,
    "predict, two runs": run_predict_classes,
    "blend, check": run_blend_classes,
}


def measure_classes(classes: int) -> list[dict[str, Any]]:
    """All stages of so many classes."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for stage in CLASS_STAGES:
            done = json.loads(call(stage, "run", Path(folder), classes))
            row = {"classes": classes, "stage": stage, "seconds": round(done["seconds"], 1)}
            rows.append({**row, "peak MB": done["peak_mb"], "own MB": done["peak_own_mb"]})
            say(f"{stage}, {classes:,} classes: {rows[-1]['seconds']} s, {rows[-1]['peak MB']:,} MB")
    return rows


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
    make, run = STAGES[stage] if stage in STAGES else (None, CLASS_STAGES[stage])
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
    parser.add_argument("--classes", default="", help="numbers of classes to be tried instead")
    parser.add_argument("--out", type=Path, default=RESULTS / "scale.json")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        stage, part, root, size = arguments.worker
        return work(stage, part, Path(root), int(size))
    facts = hardware()
    if arguments.classes:
        table = [row for classes in arguments.classes.split(",") for row in measure_classes(int(classes))]
        facts["load"] = max(facts["load"], hardware()["load"])
        print_table(table)
        print(describe(facts))
        return write_results(RESULTS / "scale_classes.json", table, facts)
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

"""Are classes in an order better learnt as such? Quadratic kappa on photographs that are blurred to five grades.

    python benchmarks/ordinal.py PHOTOGRAPHS [--images 600] [--seeds 2] [--epochs 4]

PHOTOGRAPHS is a folder of real photographs. Each is blurred by a strength that nobody tells, of which five grades are made as
doctors grade retinas: half of all images are of grade 0, and one label in six is off by one. Five ways are compared, each
cross-validated and scored on images that no model has seen: softmax with the most probable class, softmax with cuts of the mean
grade found out of fold, the cumulative-link head without and with such cuts, and regression with such cuts.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from common import describe, hardware, print_table, say

from kaggle_kit import Project
from kaggle_kit.diagnosis import paired_difference
from kaggle_kit.metrics import METRICS

KAPPA = METRICS["quadratic_kappa"]
SIDE = 64
SHARES = (0.5, 0.13, 0.2, 0.09, 0.08)
"""Of grades 0 to 4."""
OFF = 1 / 6
TRAINED = {
    "softmax": [],
    "cumulative link": ["model.head.name=ordinal"],
    "regression": ["model.head.name=regression", "loss=squared_grade"],
}
WAYS = (
    ("softmax", "mean"),
    ("softmax", "grades"),
    ("cumulative link", "mean"),
    ("cumulative link", "grades"),
    ("regression", "grades"),
)


def blurred(path: Path, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A photograph of 64 x 64 pixels, blurred, with the noise and the light of another camera each time."""
    image = cv2.resize(cv2.imread(str(path)), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    blurry = cv2.GaussianBlur(image, (0, 0), 0.2 + 2.4 * strength).astype(np.float32)
    shone = (blurry - 127) * rng.uniform(0.6, 1.2) + 127 + rng.uniform(-25, 25) + rng.normal(0, 3, blurry.shape)
    return np.clip(shone, 0, 255).astype(np.uint8)


def write_competition(folder: Path, photographs: list[Path], seed: int) -> dict[str, int]:
    """Lay out a competition like APTOS; returns the grades of its test images."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(photographs))
    strengths = rng.random(len(photographs))
    grades = np.searchsorted(np.cumsum(SHARES)[:-1], strengths)
    moved = np.where(rng.random(len(grades)) < OFF, rng.choice([-1, 1], len(grades)), 0)
    labels = np.clip(grades + moved, 0, len(SHARES) - 1)
    n_train = 2 * len(photographs) // 3
    ids = [f"{seed}_{row:05}" for row in range(len(photographs))]
    for row, row_id in enumerate(ids):
        part = folder / ("train_images" if row < n_train else "test_images")
        part.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(part / f"{row_id}.png"), blurred(photographs[chosen[row]], strengths[row], rng))
    pd.DataFrame({"id_code": ids[:n_train], "diagnosis": labels[:n_train]}).to_csv(folder / "train.csv", index=False)
    sample = pd.DataFrame({"id_code": ids[n_train:], "diagnosis": 0})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return dict(zip(ids[n_train:], labels[n_train:].tolist(), strict=True))


@dataclass(frozen=True)
class Found:
    """What a way scores cross-fitted, and what it says of N test images whose grades are ``truth``: (N, 5) of 0 and 1."""

    out_of_fold: float
    truth: np.ndarray
    said: np.ndarray

    @property
    def test(self) -> float:
        """Quadratic kappa of the test images."""
        return KAPPA(self.truth, self.said)


def measure(folder: Path, photographs: list[Path], seed: int, epochs: int) -> dict[tuple[str, str], Found]:
    """Way -> what it found."""
    answers = write_competition(folder / "data", photographs, seed)
    project = Project.init(folder / "data", folder / "work", metric="quadratic_kappa")
    project.folds(n_folds=2, seed=seed, duplicates="off")
    settings = [f"image_size={SIDE}", f"epochs={epochs}", f"seed={seed}", "lr=1e-3", "data.crop_pct=1.0", "model.compile=false"]
    for name, entries in TRAINED.items():
        project.train(*settings, *entries, run=name.replace(" ", "-"))
        project.predict(run=name.replace(" ", "-"))
    found = {}
    for trained, method in WAYS:
        blend = project.blend(trained.replace(" ", "-"), method=method)
        sent = pd.read_csv(blend.path, dtype=str).set_index("id_code")["diagnosis"]
        truth = np.array([answers[row_id] for row_id in sent.index])
        said = np.eye(len(SHARES))[sent.astype(int).to_numpy()]
        one = found[trained, method] = Found(blend.scores.cross_fitted, truth, said)
        say(f"seed {seed}, {trained}, {method}: {one.out_of_fold:.4f} out of fold, {one.test:.4f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder of photographs")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    photographs = sorted(path for path in arguments.photographs.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    step = max(1, len(photographs) // arguments.images)
    photographs = photographs[::step][: arguments.images]
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(Path(folder), photographs, seed, arguments.epochs))
    table = []
    for way in WAYS:
        found, plain = [row[way] for row in rows], [row[WAYS[0]] for row in rows]
        truth, said, before = (
            np.concatenate(parts)
            for parts in ([one.truth for one in found], [one.said for one in found], [one.said for one in plain])
        )
        gap, low, high = paired_difference(KAPPA, truth, before, said)
        table.append(
            {
                "trained as": way[0],
                "read by": "the most probable class" if way[1] == "mean" else "cuts of the mean grade",
                "out of fold": f"{np.mean([one.out_of_fold for one in found]):.4f}",
                "test": f"{np.mean([one.test for one in found]):.4f}",
                "gain on all test images": f"{gap:+.4f}",
                "95 % of it": f"{low:+.4f} to {high:+.4f}",
            }
        )
    seconds = time.perf_counter() - began
    images = f"{len(photographs):,} photographs of which a third is the test"
    print(f"quadratic kappa, {images}, {arguments.seeds} seeds, {seconds:.0f} s")
    print_table(table)
    print(describe(hardware()))


if __name__ == "__main__":
    main()

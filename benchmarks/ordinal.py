"""Are classes in an order better learnt as such? Quadratic kappa on photographs that are blurred to five grades.

    python benchmarks/ordinal.py PHOTOGRAPHS [--images 1200] [--seeds 3] [--epochs 4]

PHOTOGRAPHS is a folder of real photographs. Each is blurred by a strength that nobody tells, of which five grades are made as
doctors grade retinas: half of all images are of grade 0, and one label in six is off by one. Five ways are compared, each
cross-validated and scored on images that no model has seen: softmax with the most probable class, softmax with cuts of the mean
grade found out of fold, the cumulative-link head without and with such cuts, and regression with such cuts.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from common import describe, hardware, print_table, say

from kaggle_kit import Project
from kaggle_kit.metrics import METRICS

SIDE = 96
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
    """A photograph of 96 x 96 pixels, blurred, with the noise and the light of another camera each time."""
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


def measure(folder: Path, photographs: list[Path], seed: int, epochs: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Way -> quadratic kappa cross-fitted and on the test images."""
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
        found[trained, method] = blend.scores.cross_fitted, METRICS["quadratic_kappa"](truth, said)
        say(f"seed {seed}, {trained}, {method}: {found[trained, method][0]:.4f} out of fold, {found[trained, method][1]:.4f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder of photographs")
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    photographs = sorted(path for path in arguments.photographs.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    step = max(1, len(photographs) // arguments.images)
    photographs = photographs[::step][: arguments.images]
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(Path(folder), photographs, seed, arguments.epochs))
    table = []
    for way in WAYS:
        scores = np.array([row[way] for row in rows])  # (S, 2)
        gains = scores - np.array([row[WAYS[0]] for row in rows])
        table.append(
            {
                "trained as": way[0],
                "read by": "the most probable class" if way[1] == "mean" else "cuts of the mean grade",
                "out of fold": round(float(scores[:, 0].mean()), 4),
                "test": round(float(scores[:, 1].mean()), 4),
                "gain on the test": round(float(gains[:, 1].mean()), 4),
                "least and most": f"{gains[:, 1].min():+.4f} {gains[:, 1].max():+.4f}",
            }
        )
    print(f"quadratic kappa, {len(photographs):,} photographs of which a third is the test, {arguments.seeds} seeds")
    print_table(table)
    print(describe(hardware()))


if __name__ == "__main__":
    main()

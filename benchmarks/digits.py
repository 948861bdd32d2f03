"""Digit Recognizer's form with real digits: from two CSV files to a checked submission, by the commands of the README.

    python benchmarks/digits.py [--seed 0]

All 1,797 handwritten digits of scikit-learn, 8 x 8 pixels, become ``train.csv``: a label and a column a pixel, 0 to 255.
``test.csv`` has 300 of them moved by a pixel, whose labels are kept back. Printed are the accuracy out of fold, that of the
submission, and the verdict of ``kk check``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from kaggle_kit import Project

SETTINGS = (
    "model=resnet10t pretrained=false image_size=32 epochs=10 lr=3e-3 batch_size=64 augment=shift data.crop_pct=1.0 "
    "schedule.warmup_epochs=1"
)
TEST = 300


def write_competition(folder: Path, seed: int) -> list[str]:
    """Lay the digits out as Digit Recognizer's; returns the labels of the test rows."""
    found = load_digits()
    pixels, labels = np.rint(found.images * 255 / 16).astype(int), found.target
    names = [f"pixel{at}" for at in range(pixels[0].size)]
    frame = pd.DataFrame(pixels.reshape(len(pixels), -1), columns=names)
    frame.insert(0, "label", labels)
    frame.to_csv(folder / "train.csv", index=False)
    rows = np.random.default_rng(seed).permutation(len(labels))[:TEST]
    moved = np.roll(pixels[rows], 1, axis=1)
    pd.DataFrame(moved.reshape(TEST, -1), columns=names).to_csv(folder / "test.csv", index=False)
    sample = pd.DataFrame({"ImageId": range(1, TEST + 1), "Label": 0})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return [str(label) for label in labels[rows]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        data = Path(root) / "digit-recognizer"
        data.mkdir()
        answers = write_competition(data, seed)
        project = Project.init(data, Path(root) / "work")
        project.folds(seed=seed)
        project.train(*SETTINGS.split(), f"seed={seed}")
        project.predict(tta="multiscale")
        blend = project.blend()
        sent = pd.read_csv(project.workspace.submission_path(blend.name), dtype=str)["Label"]
        verdict = project.check().verdict
    print(
        f"{len(load_digits().target):,} digits: {blend.scores.cross_fitted:.4f} out of fold, submission "
        f"{np.mean(sent == answers):.4f} of {TEST}, kk check: {verdict}, {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    main()

"""The main job on an embedded competition: scikit-learn's 1,797 handwritten digits.

The digits come with scikit-learn (Alpaydin & Kaynak 1998, UCI "Optical Recognition of Handwritten Digits"): real scans, 8x8
pixels in 17 shades of grey. They are enlarged to 32x32 and written out as a competitor would find them: a folder per class, a
test folder without labels and a sample submission. The answers stay outside the competition's folder.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from kaggle_kit import files
from kaggle_kit.errors import ConfigError
from kaggle_kit.results import Result
from kaggle_kit.workspace import Workspace

SIDE = 32


@dataclass(frozen=True)
class Size:
    """How large a demo is.

    Attributes:
        digits: that are taken, the ``test`` of the test set among them.
    """

    digits: int
    test: int
    epochs: int

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """What is typed in the demo's workspace, without the leading ``kk``."""
        return (
            ("init", "../data", "--name", "digits"),
            ("folds",),
            # A small ResNet from scratch: pretrained weights would need a network, and digits do not need them.
            (
                *("train", "--fold", "all", "model=resnet10t", "pretrained=false", "image_size=32", f"epochs={self.epochs}"),
                *("lr=3e-3", "batch_size=64", "augment=shift", "data.crop_pct=1.0", "schedule.warmup_epochs=1"),
            ),
            ("predict", "--tta", "multiscale"),
            ("blend", "--name", "blend"),
            ("check", "submissions/blend.csv", "--answers", "../answers.csv"),
        )


FULL, QUICK = Size(1797, 360, epochs=10), Size(600, 120, epochs=6)


@dataclass(frozen=True, repr=False)
class DemoResult(Result):
    """What the demo ended with.

    Attributes:
        submission: the file that one would upload.
        score: accuracy of the submission on the private answers.
        seconds: wall-clock time of each step.
    """

    submission: Path
    score: float
    seconds: dict[str, float]

    def describe(self) -> str:
        """Return the score and the time of each step."""
        steps = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in self.seconds.items())
        return f"\nThe submission scores {self.score:.4f} on the private answers: {self.submission}\ntime: {steps}"


def run_demo(folder: Path, *, force: bool, execute: Callable[[Sequence[str]], None], size: Size = FULL) -> DemoResult:
    """Write the competition to ``folder``/data and do the whole job in ``folder``/work.

    Args:
        force: throw away a demo that is there already.
        execute: runs one command of ``kk`` in the current folder; raises when it fails.

    Raises:
        ConfigError: ``folder`` holds something, and ``force`` is not set or it is no demo.
        LockedError: another process makes a demo there.
    """
    workspace = Workspace(folder / "work")
    seconds: dict[str, float] = {}
    with files.lock_beside(folder, patience=1.0):
        _clear(folder, force=force)
        write_competition(folder / "data", folder / "answers.csv", size=size)
        workspace.root.mkdir()
        with contextlib.chdir(workspace.root):
            for step in size.steps:
                start = perf_counter()
                execute(step)
                seconds[step[0]] = perf_counter() - start
    return DemoResult(
        workspace.submission_path("blend"), share_right(workspace.submission_path("blend"), folder / "answers.csv"), seconds
    )


def write_competition(folder: Path | str, answers: Path | str, *, seed: int = 0, size: Size = FULL) -> None:
    """Write the digits as a competition: ``folder``/{train/<digit>/*.png, test/*.png, sample_submission.csv}.

    Args:
        answers: where the private answers go, a CSV with the columns id and label.
        seed: which digits are taken, and become the test set.
    """
    import cv2
    from sklearn.datasets import load_digits

    folder, digits = Path(folder), load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.images))
    labels: dict[str, str] = {}
    for position, index in enumerate(order[: size.digits]):
        pixels = np.round(digits.images[index] * (255 / 16)).astype(np.uint8)  # (8, 8), from shades 0..16
        image = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        name, label = f"digit_{position:04d}", str(digits.target[index])
        path = folder / ("test" if position < size.test else f"train/{label}") / f"{name}.png"
        if position < size.test:
            labels[name] = label
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    files.write_table(folder / "sample_submission.csv", pd.DataFrame({"id": list(labels), "label": "0"}))
    files.write_table(Path(answers), pd.DataFrame({"id": list(labels), "label": list(labels.values())}))


def _clear(folder: Path, *, force: bool) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        return
    is_demo = {path.name for path in folder.iterdir()} <= {"data", "work", "answers.csv"}
    if not (force and is_demo):
        remedy = "Add --force to start anew" if is_demo else "It is no demo: choose another folder"
        raise ConfigError(f"{folder} is not empty. {remedy}.")
    shutil.rmtree(folder)


def share_right(submission: Path | str, answers: Path | str) -> float:
    """Return the share of the private answers that a submission has right, read without the package's own readers."""
    given = pd.read_csv(submission, dtype=str).set_index("id")["label"]
    truth = pd.read_csv(answers, dtype=str).set_index("id")["label"]
    return float((given.loc[truth.index] == truth).mean())

"""What is killed in `kills.py`, and when: commands, and random moments of each.

A moment is a function of the workspace and of the seconds since the start, asked again and again until it says that it is due.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kills_compare import Difference, blend_differences, folds_differences, run_differences, store_differences, tune_differences

from kaggle_kit import runs
from kaggle_kit.workspace import Workspace

KK = str(Path(sys.executable).with_name("kk"))
FOLDS, EPOCHS = 2, 6
SETTINGS = (
    *("model=test_resnet", "pretrained=false", "image_size=32", f"epochs={EPOCHS}", "batch_size=8", "workers=0", "lr=3e-3"),
    *("ema=0.9", "mixup=0.4", "model.drop_rate=0.2", "optimizer.accumulate=2", "checkpoint_minutes=0.002"),
    *("hardware.accelerator=cpu", "data.crop_pct=1.0"),
)
BUILD = """
import sys
from pathlib import Path
from kaggle_kit.config import CacheConfig
from kaggle_kit.images.store import open_store
rows = [(path.name, path) for path in sorted(Path(sys.argv[1]).iterdir())]
open_store(Path(".kk_cache"), rows, (256, 256), CacheConfig(budget=10**9), workers=1)
"""
TRAIN = [KK, "train", "--run", "run", *SETTINGS]
STAGES = (
    "stages=[{epochs: 2, freeze: -1, image_size: 24}, {epochs: 4, schedule: {name: warm_restarts, options: {cycles: 2}}}]",
    "snapshots=2",
)
"""The same number of epochs; the models of two cycles are runs of their own."""
TRAIN_STAGES = [*TRAIN, *STAGES]
PREDICT = [KK, "predict", "--run", "run", "--tta", "hflip"]
STORE = [sys.executable, "-c", BUILD, "../photographs"]
BLEND, NAMED_BLEND = [KK, "blend"], [KK, "blend", "--name", "mine"]
FOLDS_NEW = [KK, "folds", "--name", "other", "--seed", "3", "--n-folds", "4"]
FOLDS_FORCED = [KK, "folds", "--seed", "3", "--force"]
TRIALS = 3
TUNE = [KK, "tune", "--trials", str(TRIALS), "--pruner", "none", *SETTINGS, "epochs=2"]


@dataclass(frozen=True)
class Reference:
    """What commands leave that were never killed: the workspace after each, by name, and the seconds that each took."""

    states: dict[str, Path]
    seconds: dict[str, float]

    @property
    def epoch(self) -> float:
        """Seconds of an epoch."""
        record = runs.read_fold(Workspace(self.states["trained"]).fold_dir("run", 0), 0).record
        return record.seconds / EPOCHS


Due = Callable[[Path, float], bool]
"""(workspace, seconds since the start) -> whether to kill now."""


@dataclass(frozen=True)
class Kind:
    """A kind of moment: the command that is killed, the workspace that it starts from, and when.

    Attributes:
        start, end: names of the states before and after the command.
        differences: compares a workspace with those two.
        progress: says how far the killed command was.
        still: looked at with the processes halted; where it does not hold, they go on, and the next such moment is waited for.
        ended: whether the killed command had done all its work, and was about to exit; then another moment is drawn.
    """

    command: Sequence[str]
    start: str
    end: str
    due: Callable[[Reference, random.Random], Due]
    differences: Difference
    progress: Callable[[Path], str]
    still: Callable[[Path], bool] = lambda _: True
    ended: Callable[[Path], bool] = lambda _: False


def anywhere(step: str) -> Callable[[Reference, random.Random], Due]:
    """At a random time of the command, its start included."""

    def make(reference: Reference, rng: random.Random) -> Due:
        moment = rng.uniform(0.02, 1.0) * reference.seconds[step]
        return lambda _, passed: passed >= moment

    return make


def after(condition: Callable[[Path], bool], delay: float) -> Due:
    """``delay`` seconds after a condition first holds."""
    since: list[float] = []

    def due(workspace: Path, passed: float) -> bool:
        if not since and condition(workspace):
            since.append(passed)
        return bool(since) and passed - since[0] >= delay

    return due


def in_an_epoch(reference: Reference, rng: random.Random) -> Due:
    fold, epoch = rng.randrange(FOLDS), rng.randrange(EPOCHS)

    def begun(workspace: Path) -> bool:
        path = workspace / f"runs/run/fold{fold}" / runs.HISTORY
        return path.exists() and path.read_text().count("\n") >= epoch + 2  # the header, and epoch 0

    return after(begun, rng.uniform(0, reference.epoch))


def while_saving(_: Reference, rng: random.Random) -> Due:
    """While the temporary file of a checkpoint is there, from the n-th time that it is seen."""
    wanted, seen = rng.randint(1, 12), set()

    def due(workspace: Path, _: float) -> bool:
        found = being_saved(workspace)
        seen.update(found)
        return bool(found) and len(seen) >= wanted

    return due


def being_saved(workspace: Path) -> list[str]:
    """Temporary files of checkpoints; a fast look, since they live for milliseconds."""
    found = []
    for fold in range(FOLDS):
        try:
            with os.scandir(workspace / f"runs/run/fold{fold}") as entries:
                found += [entry.name for entry in entries if entry.name.startswith(".") and entry.name.endswith(".ckpt")]
        except FileNotFoundError:
            break
    return found


def between_folds(_: Reference, rng: random.Random) -> Due:
    return after(lambda workspace: (workspace / "runs/run/fold0" / runs.MODEL).exists(), rng.uniform(0, 0.6))


def while_cycles_are_written(_: Reference, rng: random.Random) -> Due:
    """From the first file of a cycle's run on, of the first or second fold."""
    fold = rng.randrange(FOLDS)
    return after(lambda workspace: any(workspace.glob(f"runs/run-cycle*/fold{fold}/*")), rng.uniform(0, 0.4))


def while_predicting(reference: Reference, rng: random.Random) -> Due:
    if rng.random() < 0.5:
        return after(lambda workspace: any(workspace.glob("runs/run/fold*/.*.parquet")), rng.uniform(0, 0.02))
    moment = rng.uniform(0.5, 1.0) * reference.seconds["predict"]
    return lambda _, passed: passed >= moment


def while_storing(reference: Reference, rng: random.Random) -> Due:
    return after(
        lambda workspace: any(workspace.glob(".kk_cache/images/*/store.json")), rng.uniform(0, reference.seconds["fill"])
    )


def in_folder(name: str, step: str) -> Callable[[Reference, random.Random], Due]:
    """While files are written to a folder: from the first temporary one on; or, in one of three, anywhere in the command."""

    def make(reference: Reference, rng: random.Random) -> Due:
        if rng.random() < 1 / 3:
            return anywhere(step)(reference, rng)
        return after(
            lambda workspace: bool(temporary_files(workspace / name)), rng.uniform(0, reference.seconds[f"{step} writes"])
        )

    return make


def temporary_files(folder: Path) -> list[str]:
    """Names of the files that are being written in a folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.name.startswith(".") and ".tmp" in entry.name]
    except FileNotFoundError:
        return []


def train_progress(root: Path) -> str:
    """The epochs of each fold that was begun."""
    parts = []
    for fold in range(FOLDS):
        folder = root / f"runs/run/fold{fold}"
        history = folder / runs.HISTORY
        if history.exists():
            written = [path.suffix for path in folder.glob(".*")]
            done = history.read_text().count("\n") - 2
            state = "finished" if runs.read_fold(folder, fold).finished else f"epoch {done}/{EPOCHS} done"
            parts.append(f"fold {fold} {state}" + (f", writing {' '.join(written)}" if written else ""))
    return ", ".join(parts) or "starting"


def predict_progress(root: Path) -> str:
    return f"{len(list(root.glob('runs/run/fold*/*.parquet'))) - FOLDS} of {3 * FOLDS} tables"


def store_progress(root: Path) -> str:
    shards = len(list(root.glob(".kk_cache/images/*/*.bin")))
    return f"{shards} shards, {len(list(root.glob('.kk_cache/images/*/.*')))} in work"


def files_progress(folder: str) -> Callable[[Path], str]:
    """Names the files in a folder that are there, and counts those that are being written."""

    def tell(root: Path) -> str:
        there = sorted(path.name for path in (root / folder).glob("*") if not path.name.startswith("."))
        return f"{', '.join(there) or 'nothing'}; {len(temporary_files(root / folder))} in work"

    return tell


def tune_progress(root: Path) -> str:
    trials = len(list(root.glob("tune/tune/trial-*")))
    finished = len([path for path in root.glob("tune/tune/trial-*/fold0") if runs.read_fold(path, 0).finished])
    return f"{finished} of {TRIALS} trials finished, {trials} begun"


def train_kind(
    due: Callable[[Reference, random.Random], Due], still: Callable[[Path], bool] = lambda _: True, *, staged: bool = False
) -> Kind:
    command, end = (TRAIN_STAGES, "staged") if staged else (TRAIN, "trained")
    return Kind(command, "untrained", end, due, run_differences, train_progress, still)


KINDS = {
    "anywhere in kk train": train_kind(anywhere("train")),
    "kk train, in an epoch": train_kind(in_an_epoch),
    "kk train, saving": train_kind(while_saving, lambda root: bool(being_saved(root))),
    "kk train, between folds": train_kind(between_folds),
    "stages and snapshots, in an epoch": train_kind(in_an_epoch, staged=True),
    "stages and snapshots, saving": train_kind(while_saving, lambda root: bool(being_saved(root)), staged=True),
    "stages and snapshots, cycles written": train_kind(while_cycles_are_written, staged=True),
    "kk predict": Kind(PREDICT, "trained", "predicted", while_predicting, run_differences, predict_progress),
    "building the store": Kind(STORE, "untrained", "stored", while_storing, store_differences, store_progress),
    "kk blend": Kind(
        BLEND, "sent", "blended", in_folder("submissions", "blend"), blend_differences, files_progress("submissions")
    ),
    "kk blend --name": Kind(
        NAMED_BLEND,
        "sent",
        "named",
        in_folder("submissions", "blend"),
        blend_differences,
        files_progress("submissions"),
        ended=lambda root: (root / "submissions/mine.check.json").exists(),
    ),
    "kk folds, a new table": Kind(
        FOLDS_NEW, "trained", "divided", in_folder("folds", "folds"), folds_differences, files_progress("folds")
    ),
    "kk folds --force": Kind(
        FOLDS_FORCED, "trained", "redivided", in_folder("folds", "folds"), folds_differences, files_progress("folds")
    ),
    "kk tune": Kind(TUNE, "untrained", "tuned", anywhere("tune"), tune_differences, tune_progress),
}

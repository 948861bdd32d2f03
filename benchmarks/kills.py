"""What is lost when a command is killed: wanted, nothing.

    python benchmarks/kills.py [--kills 30] [--kinds train,predict,store] [--seed 0] [--out FILE]

A small competition is made and worked on once, undisturbed: two folds of a tiny ResNet at 32 pixels, with averaged weights,
mixing, dropout and gradient accumulation, and a checkpoint every 0.12 s; then predictions, blends, fold tables and a search of
three trials. Then, `--kills` times, a command is begun anew and killed by SIGKILL, all its processes at once, at a random
moment of a kind: anywhere in `kk train`, in an epoch, while a checkpoint is written, while a fold ends and the next one begins,
in `kk predict`, while the store is filled, while a blend, a fold table or a study is written. The command is started again, and
all that it leaves is compared with what one leaves that was never killed: see `kills_compare.py`.

In every other round a power loss is simulated on top: each file that the killed process wrote, and had not synced as it stood
(os.fsync is watched), is cut to a random length. Renames are taken to survive in order, as journalling file systems have it.
SQLite syncs by itself, unseen by this; its files are not cut.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
from kills_compare import Difference, blend_differences, folds_differences, run_differences, store_differences, tune_differences

from kaggle_kit import files, runs
from kaggle_kit.competition import init_workspace, load_competition
from kaggle_kit.config import load_config
from kaggle_kit.folds import create_folds
from kaggle_kit.kaggle_api.records import write_entry
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
PREDICT = [KK, "predict", "--run", "run", "--tta", "hflip"]
STORE = [sys.executable, "-c", BUILD, "../photographs"]
BLEND, NAMED_BLEND = [KK, "blend"], [KK, "blend", "--name", "mine"]
FOLDS_NEW = [KK, "folds", "--name", "other", "--seed", "3", "--n-folds", "4"]
FOLDS_FORCED = [KK, "folds", "--seed", "3", "--force"]
TRIALS = 3
TUNE = [KK, "tune", "--trials", str(TRIALS), "--pruner", "none", *SETTINGS, "epochs=2"]
TIMEOUT = 600.0
DONE = (0, 3)
"""Exit codes of a command that came to its end: 3 says that a submission is not proven."""


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


@dataclass
class Trial:
    """One kill, and what came of it."""

    kind: str
    power_loss: bool
    moment: str = ""
    cut: int = 0
    went_on: str = ""
    lost: list[str] = field(default_factory=list)


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
    """

    command: Sequence[str]
    start: str
    end: str
    due: Callable[[Reference, random.Random], Due]
    differences: Difference
    progress: Callable[[Path], str]
    still: Callable[[Path], bool] = lambda _: True


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


def train_kind(due: Callable[[Reference, random.Random], Due], still: Callable[[Path], bool] = lambda _: True) -> Kind:
    return Kind(TRAIN, "untrained", "trained", due, run_differences, train_progress, still)


KINDS = {
    "anywhere in kk train": train_kind(anywhere("train")),
    "kk train, in an epoch": train_kind(in_an_epoch),
    "kk train, saving": train_kind(while_saving, lambda root: bool(being_saved(root))),
    "kk train, between folds": train_kind(between_folds),
    "kk predict": Kind(PREDICT, "trained", "predicted", while_predicting, run_differences, predict_progress),
    "building the store": Kind(STORE, "untrained", "stored", while_storing, store_differences, store_progress),
    "kk blend": Kind(
        BLEND, "sent", "blended", in_folder("submissions", "blend"), blend_differences, files_progress("submissions")
    ),
    "kk blend --name": Kind(
        NAMED_BLEND, "sent", "named", in_folder("submissions", "blend"), blend_differences, files_progress("submissions")
    ),
    "kk folds, a new table": Kind(
        FOLDS_NEW, "trained", "divided", in_folder("folds", "folds"), folds_differences, files_progress("folds")
    ),
    "kk folds --force": Kind(
        FOLDS_FORCED, "trained", "redivided", in_folder("folds", "folds"), folds_differences, files_progress("folds")
    ),
    "kk tune": Kind(TUNE, "untrained", "tuned", anywhere("tune"), tune_differences, tune_progress),
}


class Bench:
    """Runs commands in copies of a workspace, with the ledger of synced files under them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hook = folder / "hook"
        self.hook.mkdir()
        shutil.copy(Path(__file__).with_name("kills_fsync.py"), self.hook / "sitecustomize.py")
        # A copy of the package as it is now: all trials must run the same code, whatever is edited meanwhile.
        shutil.copytree(Path(files.__file__).parent, self.hook / "kaggle_kit", ignore=shutil.ignore_patterns("__pycache__"))
        self.ledger = folder / "ledger.txt"

    def start(self, command: Sequence[str], workspace: Path, log: Path) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(self.hook), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = {**os.environ, "PYTHONPATH": path, "KILLS_LEDGER": str(self.ledger), "OMP_NUM_THREADS": "1"}
        with open(log, "wb") as handle:
            # A group of its own, so that loader processes are killed with it.
            return subprocess.Popen(command, cwd=workspace, env=env, stdout=handle, stderr=handle, start_new_session=True)

    def finish(self, command: Sequence[str], workspace: Path) -> tuple[float, str]:
        """Run a command to its end; returns its seconds and what it printed."""
        log, begun = self.folder / "finish.log", time.monotonic()
        process = self.start(command, workspace, log)
        if process.wait(TIMEOUT) not in DONE:
            raise SystemExit(f"{' '.join(command[:2])} failed:\n{log.read_text()[-3000:]}")
        return time.monotonic() - begun, log.read_text()

    def kill(self, kind: Kind, workspace: Path, due: Due) -> float | None:
        """Kill a command when it is due; returns after how many seconds, or None when it had ended before."""
        self.ledger.write_text("")
        process, begun = self.start(kind.command, workspace, self.folder / "killed.log"), time.monotonic()
        while process.poll() is None:
            passed = time.monotonic() - begun
            if due(workspace, passed):
                os.killpg(process.pid, signal.SIGSTOP)
                if kind.still(workspace):
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    return passed
                os.killpg(process.pid, signal.SIGCONT)
            time.sleep(0.0003)
        return None

    def lose_power(self, workspace: Path, since_ns: int, rng: random.Random) -> int:
        """Cut what was written and not synced; returns how many files."""
        synced = set(self.ledger.read_text().splitlines())
        cut = 0
        for path in sorted(workspace.rglob("*")):
            state = path.lstat()
            of_sqlite = path.name.startswith("study.db")
            if not path.is_file() or state.st_mtime_ns < since_ns or state.st_size == 0 or of_sqlite:
                continue
            if f"{state.st_ino} {state.st_size} {state.st_mtime_ns}" not in synced:
                os.truncate(path, rng.randrange(state.st_size))
                cut += 1
        return cut


def make_reference(bench: Bench) -> Reference:
    """Data, and the undisturbed run after each of its commands."""
    write_images(bench.folder)
    root = bench.folder / "untrained"
    root.mkdir()
    init_workspace(bench.folder / "data", root, choices={}, name="colours")
    workspace = Workspace(root)
    config = load_config(workspace.config_path)
    competition = load_competition(workspace, config.competition)
    create_folds(workspace, competition, config.folds.model_copy(update={"n_folds": FOLDS, "duplicates": "off"}))
    states, seconds = {"untrained": root}, {}

    def step(command: Sequence[str], before: str, state: str, name: str) -> Path:
        states[state] = bench.folder / state
        shutil.copytree(states[before], states[state])
        seconds[name] = bench.finish(command, states[state])[0]
        return states[state]

    step(TRAIN, "untrained", "trained", "train")
    step(PREDICT, "trained", "predicted", "predict")
    stored = step(STORE, "untrained", "stored", "store")
    sent = step(BLEND, "predicted", "sent", "blend")
    submission = sent / "submissions/blend-0001.csv"
    write_entry(submission, {"ref": 7, "sha256": files.file_fingerprint(submission), "public_score": 0.9})
    seconds["fill"] = written_within(stored.glob(".kk_cache/images/*/*"))
    seconds["blend writes"] = written_within(step(BLEND, "sent", "blended", "blend").glob("submissions/blend-0002*")) + 0.3
    step(NAMED_BLEND, "sent", "named", "blend")
    step(FOLDS_NEW, "trained", "divided", "folds")
    seconds["folds writes"] = written_within(step(FOLDS_FORCED, "trained", "redivided", "folds").glob("folds/folds*")) + 0.02
    step(TUNE, "untrained", "tuned", "tune")
    return Reference(states, seconds)


def written_within(paths: Iterable[Path]) -> float:
    """Seconds from the first to the last of files that a command wrote one after the other."""
    stamps = [path.stat().st_mtime for path in paths]
    return max(stamps) - min(stamps)


def write_images(folder: Path) -> None:
    """144 small images of three colours to train on, 24 to predict, and 600 photographs of noise to store."""
    rng = np.random.default_rng(0)
    colours = {"blue": (60, 60, 200), "green": (60, 200, 60), "red": (200, 60, 60)}
    for number in range(168):
        name = sorted(colours)[number % 3]
        part = f"train/{name}" if number < 144 else "test"
        write_image(folder / f"data/{part}/{number:03}.png", rng.normal(colours[name], 60, (36, 36, 3)))
    for number in range(600):
        coarse = rng.normal(128, 60, (20, 20, 3))
        write_image(folder / f"photographs/{number:03}.jpg", cv2.resize(coarse, (400, 400), interpolation=cv2.INTER_CUBIC))


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.clip(pixels, 0, 255).astype(np.uint8))


def run_trial(name: str, power_loss: bool, bench: Bench, reference: Reference, rng: random.Random) -> Trial:
    """Begin, kill, begin again, compare. Where the command was done before its moment came, another moment is drawn."""
    kind, trial = KINDS[name], Trial(name, power_loss)
    root = bench.folder / "trial"
    while True:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(reference.states[kind.start], root)
        since_ns = time.time_ns()
        passed = bench.kill(kind, root, kind.due(reference, rng))
        if passed is not None:
            break
    trial.moment = f"{passed:.2f} s: {kind.progress(root)}"
    if power_loss:
        trial.cut = bench.lose_power(root, since_ns, rng)
    text = bench.finish(kind.command, root)[1]
    trial.went_on = "; ".join(re.findall(r"(?:going on from|Going back|from the last epoch)[^\n]*", text))
    trial.lost = kind.differences(root, reference.states[kind.end], reference.states[kind.start])
    return trial


def table(trials: Sequence[Trial]) -> str:
    """A row a kind, and a line for each trial that lost something."""
    lines = [f"{'killed':<26} {'kills':>5} {'with power loss':>15} {'files cut':>9} {'nothing lost':>12}"]
    for name in KINDS:
        of_kind = [trial for trial in trials if trial.kind == name]
        if of_kind:
            counts = (sum(trial.power_loss for trial in of_kind), sum(trial.cut for trial in of_kind))
            whole = sum(not trial.lost for trial in of_kind)
            lines.append(f"{name:<26} {len(of_kind):>5} {counts[0]:>15} {counts[1]:>9} {whole:>5} of {len(of_kind):>3}")
    whole = sum(not trial.lost for trial in trials)
    lines.append(f"{'all':<26} {len(trials):>5}  nothing lost in {whole} of {len(trials)}")
    lines += [f"lost after {trial.kind}, {trial.moment}: {', '.join(trial.lost)}" for trial in trials if trial.lost]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--kinds", default="train,predict,store", help="parts of their names, such as blend,folds,tune")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "kills.json")
    arguments = parser.parse_args()
    parts = arguments.kinds.split(",")
    kinds = [name for name in KINDS if any(part in name for part in parts)]
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        reference = make_reference(bench)
        for number in range(arguments.kills):
            name = kinds[number % len(kinds)]
            # Alternating by rounds, so that each kind comes with and without.
            power_loss = bool(number // len(kinds) % 2)
            trials.append(run_trial(name, power_loss, bench, reference, random.Random(f"{arguments.seed} {number}")))
            latest = trials[-1]
            loss = f"; {latest.cut} files cut" if power_loss else ""
            verdict = f"LOST {', '.join(latest.lost)}" if latest.lost else "nothing lost"
            print(f"{number + 1:>3}  {name}, {latest.moment}{loss}; {latest.went_on or 'began anew'}: {verdict}", flush=True)
    text = table(trials)
    print(text)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    hardware = {"machine": platform.machine(), "system": platform.platform(), "cpus": os.cpu_count()}
    undisturbed = {name: round(value, 2) for name, value in reference.seconds.items()}
    record = {"hardware": hardware, "versions": files.versions(), "seed": arguments.seed, "undisturbed_seconds": undisturbed}
    files.write_json(arguments.out, {**record, "trials": [asdict(trial) for trial in trials]})
    files.write_text(arguments.out.with_suffix(".txt"), text + "\n")


if __name__ == "__main__":
    main()

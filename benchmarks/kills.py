"""What is lost when a command is killed: wanted, nothing.

    python benchmarks/kills.py [--kills 30] [--kinds train,predict,store] [--seed 0] [--out FILE]

A small competition is made and worked on once, undisturbed: two folds of a tiny ResNet at 32 pixels, with averaged weights,
mixing, dropout and gradient accumulation, and a checkpoint every 0.12 s; the same in two stages with snapshots; then
predictions, blends, fold tables and a search of three trials. Then, `--kills` times, a command is begun anew and killed by
SIGKILL, all its processes at once, at a random moment of a kind: anywhere in `kk train`, in an epoch, while a checkpoint is
written, while a fold ends and the next one begins, in `kk predict`, while the store is filled, while a blend, a fold table or
a study is written. The command is started again, and all that it leaves is compared with what one leaves that was never
killed: see `kills_compare.py`.

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
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
from kills_kinds import (
    BLEND,
    FOLDS,
    FOLDS_FORCED,
    FOLDS_NEW,
    KINDS,
    NAMED_BLEND,
    PREDICT,
    STORE,
    TRAIN,
    TRAIN_STAGES,
    TUNE,
    Due,
    Kind,
    Reference,
)

from kaggle_kit import files
from kaggle_kit.competition import init_workspace, load_competition
from kaggle_kit.config import load_config
from kaggle_kit.folds import create_folds
from kaggle_kit.kaggle_api.records import write_entry
from kaggle_kit.workspace import Workspace

TIMEOUT = 600.0
DONE = (0, 3)
"""Exit codes of a command that came to its end: 3 says that a submission is not proven."""


@dataclass
class Trial:
    """One kill, and what came of it."""

    kind: str
    power_loss: bool
    moment: str = ""
    cut: int = 0
    went_on: str = ""
    lost: list[str] = field(default_factory=list)


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
    step(TRAIN_STAGES, "untrained", "staged", "train in stages")
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
        if passed is not None and not kind.ended(root):
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
    lines = [f"{'killed':<37} {'kills':>5} {'with power loss':>15} {'files cut':>9} {'nothing lost':>12}"]
    for name in KINDS:
        of_kind = [trial for trial in trials if trial.kind == name]
        if of_kind:
            counts = (sum(trial.power_loss for trial in of_kind), sum(trial.cut for trial in of_kind))
            whole = sum(not trial.lost for trial in of_kind)
            lines.append(f"{name:<37} {len(of_kind):>5} {counts[0]:>15} {counts[1]:>9} {whole:>5} of {len(of_kind):>3}")
    whole = sum(not trial.lost for trial in trials)
    lines.append(f"{'all':<37} {len(trials):>5}  nothing lost in {whole} of {len(trials)}")
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
            keep(arguments.out, trials, reference, arguments.seed)
            latest = trials[-1]
            loss = f"; {latest.cut} files cut" if power_loss else ""
            verdict = f"LOST {', '.join(latest.lost)}" if latest.lost else "nothing lost"
            print(f"{number + 1:>3}  {name}, {latest.moment}{loss}; {latest.went_on or 'began anew'}: {verdict}", flush=True)
    print(table(trials))


def keep(out: Path, trials: Sequence[Trial], reference: Reference, seed: int) -> None:
    """Write what there is so far, as JSON and as a table."""
    out.parent.mkdir(parents=True, exist_ok=True)
    hardware = {"machine": platform.machine(), "system": platform.platform(), "cpus": os.cpu_count()}
    undisturbed = {name: round(value, 2) for name, value in reference.seconds.items()}
    record = {"hardware": hardware, "versions": files.versions(), "seed": seed, "undisturbed_seconds": undisturbed}
    files.write_json(out, {**record, "trials": [asdict(trial) for trial in trials]})
    files.write_text(out.with_suffix(".txt"), table(trials) + "\n")


if __name__ == "__main__":
    main()

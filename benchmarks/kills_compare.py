"""What must agree between a workspace whose command was killed and begun again, and one whose command never was.

Each function takes the workspace, the state after an undisturbed command and the state before it, and returns what differs:
files that are missing, other, half, or there and not wanted; and of what was finished before, whatever was touched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from kaggle_kit import files, runs
from kaggle_kit.images.store import ImageStore, list_stores, verify_store
from kaggle_kit.runs.history import TIMINGS
from kaggle_kit.tables import read_folds, read_predictions
from kaggle_kit.tune.result import study_rows
from kaggle_kit.tune.storage import default_storage, hushed
from kaggle_kit.workspace import Workspace

Difference = Callable[[Path, Path, Path], list[str]]
TABLES = (".probs.parquet", ".oof.parquet")


def run_differences(root: Path, undisturbed: Path, _before: Path) -> list[str]:
    """Weights and tables byte by byte, histories but for their timings, how each fold stands; of the runs of cycles, too."""
    return unlike(dict(outcome(root)), dict(outcome(undisturbed)))


def unlike(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Names that one side lacks, or that differ."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def outcome(root: Path, pattern: str = "runs/run*/fold*/*") -> Iterator[tuple[str, str]]:
    """Name and content, as a digest, of all that must agree in the folders of folds."""
    for path in sorted(root.glob(pattern)):
        name = str(path.relative_to(root))
        if path.name.startswith("."):  # what a killed writer left: no result, and removed by the next training
            continue
        if path.suffix in (".safetensors", ".parquet"):
            yield name, files.file_fingerprint(path)
        elif path.name == runs.HISTORY:
            yield name, pd.read_csv(path, dtype=str).drop(columns=list(TIMINGS)).to_csv()
        elif path.name == runs.FOLD_RECORD:
            record = json.loads(path.read_text())
            yield name, str([record.get(key) for key in ("state", "score", "epoch")])


def store_differences(root: Path, undisturbed: Path, _before: Path) -> list[str]:
    """The pixels of each stored photograph."""
    return unlike(stored(root), stored(undisturbed))


def stored(root: Path) -> dict[str, str]:
    """Digest of each stored photograph, and what is wrong with the stores."""
    found: dict[str, str] = {}
    for info in list_stores(root / ".kk_cache"):
        found |= dict.fromkeys(verify_store(info.directory), "problem")
        store = ImageStore(info.directory)
        paths = [Path(path) for path in store.index if Path(path).parent.name == "photographs"]
        found |= {path.name: hashlib.sha256(store(path)).hexdigest() for path in paths}
    return found


def blend_differences(root: Path, undisturbed: Path, before: Path) -> list[str]:
    """Each submission is whole and holds the bytes of the undisturbed one, and what was there before is as it was.

    A killed blend may have used up a number, and may have left files without a CSV, which are no submission.
    """
    workspace, folder = Workspace(root), root / "submissions"
    reference = Workspace(undisturbed).latest_submission()
    earlier = {path.name for path in (before / "submissions").glob("*") if not path.name.startswith(".")} - {"latest"}
    lost = [name for name in sorted(earlier) if (folder / name).read_bytes() != (before / "submissions" / name).read_bytes()]
    for path in sorted(folder.glob("[!.]*.csv")):
        if path.name not in earlier and not path.name.endswith(".control.csv"):
            lost += [f"{path.name}: {what}" for what in _unlike_blend(path, reference)]
    latest = workspace.latest_submission()
    if latest.name in earlier or (folder / "latest").read_text().strip() != latest.stem:
        lost.append("latest")
    verdicts = [json.loads(path.with_suffix(".check.json").read_text())["verdict"] for path in (latest, reference)]
    return lost + (["verdict"] if len(set(verdicts)) > 1 else [])


def _unlike_blend(path: Path, reference: Path) -> list[str]:
    """What of a submission is not as that of an undisturbed blend."""
    found = []
    for suffix in (".csv", ".control.csv"):
        if path.with_suffix(suffix).read_bytes() != reference.with_suffix(suffix).read_bytes():
            found.append(suffix)
    record = json.loads(path.with_suffix(".json").read_text())
    if record["sha256"] != files.file_fingerprint(path):
        found.append("record")
    for suffix in TABLES:
        mine, other = (read_predictions(one.with_suffix(suffix)) for one in (path, reference))
        if mine.ids != other.ids or not np.array_equal(mine.probs, other.probs):
            found.append(suffix)
        if record["tables"][suffix] != files.file_fingerprint(path.with_suffix(suffix)):
            found.append(f"record of {suffix}")
    return found


def folds_differences(root: Path, undisturbed: Path, _before: Path) -> list[str]:
    """All fold tables with their records, byte by byte; each can be read."""
    lost = unlike(_contents(root / "folds"), _contents(undisturbed / "folds"))
    for path in sorted((root / "folds").glob("[!.]*.csv")):
        read_folds(path)
    return lost


def _contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*") if not path.name.startswith(".")}


def tune_differences(root: Path, undisturbed: Path, _before: Path) -> list[str]:
    """As many finished trials with the same entries and scores, their out-of-fold rows, the best configuration and the page."""
    found, expected = _trials(root), _trials(undisturbed)
    lost = [f"trials {found} instead of {expected}"] if found != expected else []
    best = [(one / "tune/tune/best.yaml").read_text().partition("\n")[2] for one in (root, undisturbed)]
    page = (root / "tune/tune/report.html").read_text()
    return lost + ([] if best[0] == best[1] else ["best.yaml"]) + ([] if page.rstrip().endswith("</html>") else ["report.html"])


def _trials(root: Path) -> list[str]:
    """Entries, score and out-of-fold rows of the trials that came to an end, in order."""
    workspace = Workspace(root)
    with hushed():
        study = optuna.load_study(study_name="tune", storage=default_storage(workspace, "tune"))
        rows, trials = study_rows(study), study.get_trials(deepcopy=False)
    listed = []
    for row, trial in zip(rows, trials, strict=True):
        if row.state != "interrupted":
            folder = workspace.tune_dir("tune") / trial.user_attrs["run"] / "fold0"
            oof = hashlib.sha256(read_predictions(folder / runs.OOF).probs.tobytes()).hexdigest()[:8]
            listed.append(f"{row.state} {row.score} {sorted(row.changes.items())} {oof}")
    return listed

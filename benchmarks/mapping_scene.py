"""Workspaces for `mapping_faults.py`: made up or real ones, and the means to break one thing in them.

A fault is put where it would happen: into what the model pass gave (so that control rows suffer it, too), into a file after the
pass, into the writer (so that the control submission suffers it, too), into the submission alone, or into the configuration.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from factories import make_workspace

from kaggle_kit import files, runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.check import CheckReport, check_submission
from kaggle_kit.check.readback import Answers, read_answers, read_cells
from kaggle_kit.competition import Competition, Setup, load_competition
from kaggle_kit.config import Config, SubmissionConfig, load_config
from kaggle_kit.errors import KaggleKitError
from kaggle_kit.runs import FoldRun, list_runs, read_run
from kaggle_kit.tables import Classes, Predictions, read_predictions
from kaggle_kit.workspace import Workspace

Array = npt.NDArray[Any]
Change = Callable[[Array], Array]
"""(N, C) probabilities to as many."""
NAME = "blend"

SCENES = ("MITcoast", "MITforest", "MIThighway", "Suburb", "bedroom", "kitchen", "livingroom", "office", "store", "street10")
SCENES = (*SCENES, "street2", "tallbuilding", "Industrial")
NUMBERS = tuple(str(number) for number in range(1, 154))
SYNTHETIC: dict[str, dict[str, Any]] = {
    "digits": {"form": "index", "class_names": tuple("0123456789"), "n_train": 1437, "n_test": 360, "accuracy": 0.95},
    "flowers": {
        "form": "probability",
        "class_names": tuple(sorted(NUMBERS[:17])),
        "n_train": 1020,
        "n_test": 340,
        "accuracy": 0.9,
        "views": "hflip",
    },
    "scenes": {"form": "label", "class_names": tuple(sorted(SCENES)), "n_train": 2819, "n_test": 1040, "accuracy": 0.93},
    "plants": {"form": "label", "class_names": NUMBERS, "n_train": 3060, "n_test": 600, "accuracy": 0.85},
    "tags": {"form": "labels", "n_classes": 6, "n_train": 900, "n_test": 200, "accuracy": 0.88},
    "leaves": {
        "form": "probability",
        "task": "multilabel",
        "metric": "roc_auc_columns",
        "n_classes": 4,
        "sample_order": "reversed",
        "n_train": 900,
        "n_test": 250,
    },
    "binary": {"form": "positive", "n_classes": 2, "n_train": 900, "n_test": 250},
}
"""Like the demo, Oxford flowers, the 13 scenes, a 153-class set with numeric names, two multi-label sets and a binary one."""


def make_base(root: Path, name: str, **changes: Any) -> Path:
    """A made-up workspace with two runs of five folds."""
    options = {"n_runs": 2, "n_folds": 5, "control": 256, **SYNTHETIC[name], **changes}
    make_workspace(root, **options)
    return root


@dataclass
class Scene:
    """A copy of a workspace that one fault may spoil; the competition's data stay where they are and are never touched."""

    workspace: Workspace
    config: Config
    competition: Competition
    rng: np.random.Generator
    method: str = "weights"

    @property
    def setup(self) -> Setup:
        return Setup(self.workspace, self.config, self.competition)

    @property
    def classes(self) -> Classes:
        return self.competition.classes

    @property
    def form(self) -> SubmissionConfig:
        return self.config.competition.submission

    @property
    def path(self) -> Path:
        return self.workspace.submission_path(NAME)

    @property
    def record_path(self) -> Path:
        return self.path.with_suffix(".json")

    def reload(self) -> None:
        """After a change of kk.yaml or of the data."""
        self.config = load_config(self.workspace.config_path)
        self.competition = load_competition(self.workspace, self.config.competition)

    def blend(self) -> CheckReport:
        """Blend, which also checks."""
        report = blend(self.setup, name=NAME, method=self.method, force=True).report
        if report is None:
            raise SystemExit(
                f"{self.workspace.root}: a blend without a test set is not checked, so no fault can be found in it"
            )
        return report

    def check(self) -> CheckReport:
        return check_submission(self.path, workspace=self.workspace, config=self.config, competition=self.competition)

    def answers(self) -> Answers | None:
        """What a grader would read; None when it would refuse the file."""
        try:
            return read_answers(read_cells(self.path), self.form, self.classes)
        except KaggleKitError:
            return None

    def folds(self, *, run: int | None = None, fold: int | None = None) -> Iterator[FoldRun]:
        """Finished folds; of one run, or of one fold of each run."""
        names = list_runs(self.workspace)
        for name in names if run is None else names[run : run + 1]:
            for one in read_run(self.workspace, name).finished_folds():
                if fold is None or one.fold == fold:
                    yield one

    def edit_yaml(self, change: Callable[[dict[str, Any]], None]) -> None:
        content = yaml.safe_load(self.workspace.config_path.read_text(encoding="utf-8"))
        change(content["competition"])
        self.workspace.config_path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
        self.reload()

    def own_data(self) -> Path:
        """A copy of the data in this workspace, to be changed."""
        data = self.workspace.root / self.config.competition.data_dir
        copy = self.workspace.root / "own_data"
        shutil.copytree(data, copy)
        self.edit_yaml(lambda competition: competition.update(data_dir="own_data"))
        return copy

    def edit_frame(self, change: Callable[[pd.DataFrame, Array], pd.DataFrame], *, writer: bool) -> None:
        """Change the submission as its writer would: its record knows the outcome. ``writer``: the control submission, too."""
        self._rewrite(self.path, change, self.blended(self.path.with_suffix(".probs.parquet")))
        control = self.path.with_suffix(".control.csv")
        if writer and control.exists():
            self._rewrite(control, change, self.blended_control())
        self.sign()

    def _rewrite(self, path: Path, change: Callable[[pd.DataFrame, Array], pd.DataFrame], table: Predictions) -> None:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        probs = table.take(frame[self.form.id_column].tolist()).probs
        change(frame, probs).to_csv(path, index=False, lineterminator="\n")

    def blended(self, path: Path) -> Predictions:
        return read_predictions(path).align(self.classes, here="the benchmark")

    def blended_control(self) -> Predictions:
        """The plain mean of the control rows: near enough to draw wrong answers from."""
        tables = [read_predictions(fold.path / runs.CONTROL) for fold in self.folds()]
        ids = tables[0].ids
        return Predictions(ids, np.mean([table.take(ids).probs for table in tables], axis=0), tables[0].classes)

    def edit_text(self, change: Callable[[bytes], bytes]) -> None:
        """Change the submission's bytes, as its writer would."""
        self.path.write_bytes(change(self.path.read_bytes()))
        self.sign()

    def sign(self) -> None:
        """Make the record describe the files as they are: the fault was there when they were written."""
        record = json.loads(self.record_path.read_text(encoding="utf-8"))
        record["sha256"] = files.file_fingerprint(self.path)
        control = self.path.with_suffix(".control.csv")
        if record.get("control") and control.exists():
            record["control"]["sha256"] = files.file_fingerprint(control)
        files.write_json(self.record_path, record)


def open_scene(base: Path, target: Path, *, seed: int = 0, method: str = "weights") -> Scene:
    """Copy all but the data of ``base`` to ``target``."""
    for name in ("runs", "folds", "submissions"):
        if (base / name).exists():
            shutil.copytree(base / name, target / name, ignore=shutil.ignore_patterns("*.ckpt", "logs", "tensorboard"))
    content = yaml.safe_load((base / "kk.yaml").read_text(encoding="utf-8"))
    content["competition"]["data_dir"] = str((base / content["competition"]["data_dir"]).resolve())
    target.mkdir(parents=True, exist_ok=True)
    (target / "kk.yaml").write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    workspace, config = Workspace(target), load_config(target / "kk.yaml")
    return Scene(workspace, config, load_competition(workspace, config.competition), np.random.default_rng(seed), method)


def edit_file(path: Path, change: Callable[[Predictions], Predictions]) -> None:
    """Change a prediction file after it was written; what it says of its origin stays."""
    if path.exists():
        table = read_predictions(path)
        changed = change(table)
        Predictions(
            changed.ids, changed.probs, changed.classes, table.meta if changed.meta is table.meta else changed.meta
        ).write(path)


def edit_pass(fold: FoldRun, change: Change, rng: np.random.Generator) -> None:
    """Change what the test pass gave, test and control rows alike, before they were parted."""
    test, control = read_predictions(fold.path / runs.TEST), read_predictions(fold.path / runs.CONTROL)
    together = np.concatenate([test.probs, control.probs])
    order = rng.permutation(len(together))
    changed = np.empty_like(together)
    changed[order] = change(together[order])
    about = {"test_rows": runs.rows_fingerprint(test.ids, changed[: len(test)])}
    Predictions(test.ids, changed[: len(test)], test.classes, {**test.meta, **about}).write(fold.path / runs.TEST)
    Predictions(control.ids, changed[len(test) :], control.classes, {**control.meta, **about}).write(fold.path / runs.CONTROL)


def edit_everywhere(fold: FoldRun, change: Change, rng: np.random.Generator) -> None:
    """Change what the model says wherever it speaks: out of fold, with views, and in the test pass."""
    for name in (runs.OOF, runs.OOF_VIEWS):
        edit_file(fold.path / name, lambda table: Predictions(table.ids, change(table.probs), table.classes, table.meta))
    edit_pass(fold, change, rng)

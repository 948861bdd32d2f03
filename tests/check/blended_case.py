"""Blended synthetic workspaces, made once per set of options and copied for each test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from factories import make_workspace

from kaggle_kit import files, runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.check import Check, CheckReport, check_submission
from kaggle_kit.competition import Competition, Setup, load_competition
from kaggle_kit.config import Config, load_config
from kaggle_kit.tables import Predictions, read_predictions
from kaggle_kit.workspace import Workspace


@dataclass
class Blended:
    """A workspace with a blended submission that a test may spoil."""

    workspace: Workspace
    config: Config
    competition: Competition
    answers: dict[str, tuple[str, ...]]

    @property
    def path(self) -> Path:
        return self.workspace.submission_path("blend")

    def check(self, **options: Any) -> CheckReport:
        return check_submission(
            self.path, workspace=self.workspace, config=self.config, competition=self.competition, **options
        )

    def line(self, name: str) -> Check:
        """The check called ``name``."""
        return next(check for check in self.check().checks if check.name == name)

    def reblend(self, **options: Any) -> None:
        blend(Setup(self.workspace, self.config, self.competition), name="blend", force=True, **options)

    def frame(self, path: Path | None = None) -> pd.DataFrame:
        return pd.read_csv(path or self.path, dtype=str, keep_default_na=False)

    def write(self, frame: pd.DataFrame, path: Path | None = None) -> None:
        """Write the submission as its writer would: the record knows it."""
        frame.to_csv(path or self.path, index=False, lineterminator="\n")
        self.sign()

    def sign(self) -> None:
        record = json.loads(self.record_path.read_text(encoding="utf-8"))
        record["sha256"] = files.file_fingerprint(self.path)
        record["control"]["sha256"] = files.file_fingerprint(self.path.with_suffix(".control.csv"))
        files.write_json(self.record_path, record)

    @property
    def record_path(self) -> Path:
        return self.path.with_suffix(".json")

    def fold_file(self, name: str, *, run: str = "run0", fold: int = 0) -> Path:
        return self.workspace.fold_dir(run, fold) / name

    def edit(self, path: Path, change: Callable[[Predictions], Predictions]) -> None:
        change(read_predictions(path)).write(path)

    def edit_all(self, change: Callable[[Any], Any], *names: str) -> None:
        """Change the probabilities in these files of every fold, as if the model had said so."""
        for run in runs.choose_runs(self.workspace):
            for fold in run.finished_folds():
                for name in names:
                    self.edit(fold.path / name, lambda table: with_probs(table, change(table.probs)))
                test = read_predictions(fold.path / runs.TEST)
                print_of_test = {"test_rows": runs.rows_fingerprint(test.ids, test.probs)}
                for name in (runs.TEST, runs.CONTROL):
                    self.edit(fold.path / name, lambda table: with_meta(table, print_of_test))  # noqa: B023


def with_probs(table: Predictions, probs: Any) -> Predictions:
    return Predictions(table.ids, probs, table.classes, table.meta)


def with_meta(table: Predictions, meta: dict[str, Any]) -> Predictions:
    return Predictions(table.ids, table.probs, table.classes, {**table.meta, **meta})


@pytest.fixture(scope="session")
def _bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, dict[str, tuple[str, ...]]]]:
    made: dict[str, tuple[Path, dict[str, tuple[str, ...]]]] = {}

    def base(**options: Any) -> tuple[Path, dict[str, tuple[str, ...]]]:
        key = repr(sorted(options.items()))
        if key not in made:
            root = tmp_path_factory.mktemp("base")
            workspace = make_workspace(root, **options)
            blend(workspace.setup, name="blend")
            made[key] = (root, workspace.answers)
        return made[key]

    return base


@pytest.fixture
def blended(_bases: Callable[..., tuple[Path, dict[str, tuple[str, ...]]]], tmp_path: Path) -> Callable[..., Blended]:
    """``blended(**options)``: a fresh copy of such a workspace; options are those of the factory."""

    def copy(**options: Any) -> Blended:
        base, answers = _bases(**{"n_train": 150, "n_test": 40, **options})
        root = tmp_path / f"workspace{len(list(tmp_path.iterdir()))}"
        shutil.copytree(base, root)
        workspace, config = Workspace(root), load_config(root / "kk.yaml")
        return Blended(workspace, config, load_competition(workspace, config.competition), answers)

    return copy

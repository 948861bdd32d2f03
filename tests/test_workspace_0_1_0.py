"""A workspace that version 0.1.0 left goes on: its runs are listed, blended and checked, and a cut fold is finished.

``workspace_0_1_0`` holds what 0.1.0 wrote for 18 images of three colours: run ``whole`` (two folds, predicted and blended),
run ``probed`` (one of two folds) and run ``cut``, whose fold 1 was stopped in its second epoch.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from kaggle_kit import files, runs
from kaggle_kit.cli import main
from kaggle_kit.runs.comparison import runs_table
from kaggle_kit.workspace import Workspace

LEFT = Path(__file__).parent / "workspace_0_1_0"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    shutil.copytree(LEFT, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    return Workspace(tmp_path / "here")


def kk(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["kk", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_runs_are_listed(workspace: Workspace) -> None:
    table = runs_table(workspace).set_index("run")
    assert table["state"].to_dict() == {"whole": "finished", "probed": "partial", "cut": "partial"}
    assert table["image_size"].tolist() == ["16"] * 3
    assert table.loc["whole", ["strategy", "lr", "epochs"]].tolist() == ["finetune", 0.05, 3]
    assert pd.isna(table.loc["probed", "lr"])
    assert table.loc["whole", "score"] == pytest.approx(0.5)


def test_they_are_blended_and_checked(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before = workspace.submission_path("blend").read_bytes()
    assert kk(monkeypatch, "check", "submissions/blend.csv") in (0, 3)
    assert kk(monkeypatch, "blend", "--runs", "whole", "--name", "again") in (0, 3)
    assert workspace.submission_path("again").read_bytes() == before


def test_training_goes_on(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.read_run(workspace, "cut")
    finished = {name: files.file_fingerprint(run.path / "fold0" / name) for name in (runs.MODEL, runs.OOF, runs.FOLD_RECORD)}
    first = pd.read_csv(run.path / "fold1" / runs.HISTORY, dtype=str)
    config = workspace.root / "cut.yaml"
    files.write_text(config, json.dumps(files.read_json(run.path / runs.RUN_RECORD, made_by="kk train")["config"]))
    assert kk(monkeypatch, "train", "--run", "cut", "--config", "cut.yaml") == 0
    assert "going on from epoch 2, batch 2" in (run.path / runs.TRAIN_LOG).read_text()
    assert {name: files.file_fingerprint(run.path / "fold0" / name) for name in finished} == finished
    history = pd.read_csv(run.path / "fold1" / runs.HISTORY, dtype=str)  # with a column more, for the epochs to come
    pd.testing.assert_frame_equal(history[first.columns].head(len(first)), first)
    assert len(history) == len(first) + 2
    record = runs.read_run(workspace, "cut").folds[1].record
    assert (record.state, record.epochs, record.image_size) == ("finished", 3, (16, 16))

"""Several images an id from training to the check: what is said of all of them stands in one row of the id."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from kaggle_kit import Project
from kaggle_kit.tables import read_predictions

TINY = {
    "model": "test_resnet",
    "pretrained": False,
    "image_size": 32,
    "epochs": 3,
    "batch_size": 8,
    "lr": 3e-3,
    "augment": "none",
    "data.workers": 0,
    "data.crop_pct": 1.0,
}
LESIONS, TESTS = 24, 10


def view(kind: int, number: int, at: int) -> np.ndarray:
    """The first view of a lesion shows nothing; only the second tells the class."""
    noise = np.random.default_rng(1000 * number + at).integers(0, 40, (32, 32, 3)).astype(np.uint8)
    if at:
        noise[8:24, 8:24, 2 * kind] += 180
    return noise


@pytest.fixture
def project(tmp_path: Path) -> Project:
    data = tmp_path / "lesions"
    for place, count in (("train", LESIONS), ("test", TESTS)):
        (data / place).mkdir(parents=True)
        rows = []
        for number in range(count):
            for at in range(1 + number % 3):  # one, two or three views
                name = f"{place}_{number:02}_{at}"
                cv2.imwrite(str(data / place / f"{name}.png"), view(number % 2, number, at))
                rows.append({"view": name, "lesion": f"{place[0]}{number:02}", "kind": ("benign", "malignant")[number % 2]})
        frame = pd.DataFrame(rows)
        frame[["view", "lesion", "kind"] if place == "train" else ["view", "lesion"]].to_csv(data / f"{place}.csv", index=False)
    ids = [f"t{number:02}" for number in range(TESTS)]
    pd.DataFrame({"lesion": ids, "malignant": 0.5}).to_csv(data / "sample_submission.csv", index=False)
    made = Project.init(data, tmp_path / "work", choose={"label_column": "kind"})
    made.folds(n_folds=2, duplicates="off")
    return made


@pytest.mark.parametrize("strategy", ["finetune", "probe"])
def test_folds_out_of_fold_rows_and_submission_are_by_id(project: Project, strategy: str):
    train = project.config.competition.train
    assert train.id_columns == ["lesion"]
    folds = pd.read_csv(project.workspace.folds_path("folds"))
    assert len(folds) == LESIONS
    project.train(**TINY, strategy=strategy)
    project.predict(tta="hflip")
    blend = project.blend()
    assert blend.path is not None
    assert blend.report is not None
    assert len(pd.read_csv(blend.path)) == TESTS
    failed = [check for check in blend.report.checks if check.status == "failed"]
    assert not failed
    run = next(project.workspace.runs_dir.iterdir())
    oof = read_predictions(run / "fold0" / "oof.parquet")
    assert set(oof.ids) <= set(folds["id"])
    assert oof.pixels is not None
    assert (oof.pixels[:, 0] == oof.pixels[:, 1]).all()


def test_each_image_counts(project: Project):
    """Another further image of a test id is another prediction of it, and a change that is named."""
    project.train(**TINY, fold="0")
    project.predict()
    run = next(project.workspace.runs_dir.iterdir())
    before = read_predictions(run / "fold0" / "test.parquet")
    changed = project.workspace.root / project.config.competition.data_dir / "test" / "test_05_2.png"
    cv2.imwrite(str(changed), view(1, 77, 1)[::-1] // 2)
    project.predict()
    after = read_predictions(run / "fold0" / "test.parquet").take(before.ids)
    moved = np.flatnonzero(np.abs(before.probs - after.probs).max(axis=1) > 0)
    assert [before.ids[row] for row in moved] == ["t05"]


def test_the_rule_is_settled_out_of_fold_and_kept(project: Project):
    import json

    project.train(**TINY, fold="0")
    run = next(project.workspace.runs_dir.iterdir())
    assert json.loads((run / "fold0" / "fold.json").read_text())["several"] in ("mean", "max")

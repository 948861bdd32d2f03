"""``kk update``: new rows join the folds, old ones stay, and models are trained further from their own fold's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from kaggle_kit import Project, runs
from kaggle_kit.errors import DataError, FoldError
from kaggle_kit.tables import read_folds

COLOURS = {"red": (40, 40, 220), "blue": (220, 40, 40)}
SMALL = {"model": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 1, "batch_size": 8, "data.workers": 0}


def add_images(data: Path, first: int, last: int) -> None:
    rng = np.random.default_rng(first)
    for name, colour in COLOURS.items():
        for number in range(first, last):
            path = data / "train" / name / f"{name[0]}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.clip(rng.normal(colour, 60, (40, 48, 3)), 0, 255).astype(np.uint8))


@pytest.fixture
def project(tmp_path):
    add_images(tmp_path / "data", 0, 8)
    made = Project.init(tmp_path / "data", tmp_path / "work")
    made.folds(n_folds=2)
    made.train(run="a", **SMALL)
    return made


def began_with(project: Project, run: str) -> list[str]:
    return [fold.record.weights for fold in runs.read_run(project.workspace, run).folds]


def test_new_rows_join_and_folds_go_on_from_their_own_models(project, tmp_path):
    before = read_folds(project.workspace.folds_path("folds"))
    new = shutil.copytree(tmp_path / "data", tmp_path / "grown")
    add_images(new, 8, 11)
    found = project.update(new, epochs=1)
    assert (found.added, found.relabelled, found.changed) == (6, 0, True)
    after = read_folds(project.workspace.folds_path(found.folds))
    where = dict(zip(after.ids, after.assignments[0], strict=True))
    assert [where[row_id] for row_id in before.ids] == before.assignments[0].tolist()
    assert len(after) == 22
    (row,) = found.rows.to_dict("records")
    assert row["run"] == "a"
    updated = runs.read_run(project.workspace, row["updated"])
    assert updated.record.config.init_from == "a"
    assert [f"fold {fold}" in text for fold, text in enumerate(began_with(project, row["updated"]))] == [True, True]
    oof = {fold: set(runs.read_predictions_of(updated, updated.folds[fold], runs.OOF).ids) for fold in (0, 1)}
    assert oof == {fold: {row_id for row_id, its in where.items() if its == fold} for fold in (0, 1)}
    assert 0 <= row["new rows"] <= 1
    assert Path(project.config.competition.data_dir) == new.resolve()

    again = project.update(new, epochs=1)  # the daily call on a day without news
    assert not again.changed
    assert len(runs.list_runs(project.workspace)) == 2

    add_images(new, 11, 12)
    third = project.update(new, runs="a", epochs=1)
    assert third.rows["run"].tolist() == [row["updated"]]  # from the newest of its kind
    assert runs.read_run(project.workspace, third.rows["updated"][0]).record.config.init_from == row["updated"]
    assert third.rows["updated"][0].count("-u") == 1


def test_the_same_call_goes_on_after_a_kill(project, tmp_path, monkeypatch):
    add_images(tmp_path / "data", 8, 10)
    train = Project.train
    monkeypatch.setattr(Project, "train", lambda self, **options: train(self, **{**options, "fold": "0"}))
    project.update(tmp_path / "data", epochs=1)  # fold 1 is missing: as if the process had ended there
    monkeypatch.setattr(Project, "train", train)
    kept = runs.list_runs(project.workspace)
    found = project.update(tmp_path / "data", runs="a", epochs=1)
    assert found.rows["updated"].tolist() == [name for name in kept if name != "a"]
    assert all(fold.finished for fold in runs.read_run(project.workspace, found.rows["updated"][0]).folds)


def test_a_probe_is_fitted_anew(tmp_path):
    add_images(tmp_path / "data", 0, 8)
    made = Project.init(tmp_path / "data", tmp_path / "work")
    made.folds(n_folds=2)
    made.train(run="p", strategy="probe", model="test_resnet", pretrained=False, image_size=32)
    add_images(tmp_path / "data", 8, 10)
    found = made.update(tmp_path / "data")
    assert runs.read_run(made.workspace, found.rows["updated"][0]).record.config.init_from is None
    assert found.added == 4


def test_data_that_lack_old_rows_leave_everything_as_it_was(project, tmp_path):
    add_images(tmp_path / "only new", 8, 10)
    text = project.workspace.config_path.read_text()
    with pytest.raises(FoldError, match=r"lacks 16 of 16 rows.*the old data and the new"):
        project.update(tmp_path / "only new")
    with pytest.raises(DataError, match="no folder"):
        project.update(tmp_path / "nowhere")
    assert project.workspace.config_path.read_text() == text
    assert list((project.workspace.root / "folds").glob("*-u*")) == []


def test_updated_runs_become_a_submission_once(project, tmp_path):
    add_images(tmp_path / "data", 8, 10)
    for number in range(3):
        cv2.imwrite(str(tmp_path / "data" / f"t{number}.png"), np.full((40, 48, 3), 60 * number, np.uint8))
    (tmp_path / "data" / "test").mkdir()
    for path in (tmp_path / "data").glob("t?.png"):
        path.rename(tmp_path / "data" / "test" / path.name)
    rows = "".join(f"t{number}.png,red\n" for number in range(3))
    (tmp_path / "data" / "sample_submission.csv").write_text(f"id,label\n{rows}")
    Project.init(tmp_path / "data", project.workspace.root, force=True)
    found = project.update(tmp_path / "data", epochs=1, blend="nightly")
    assert [run.name for run in found.blend.runs] == found.rows["updated"].tolist()
    assert found.blend.path == project.workspace.submission_path("nightly")
    assert found.exit_code == found.blend.exit_code
    again = project.update(tmp_path / "data", epochs=1, blend="nightly")
    assert (again.changed, again.blend) == (False, None)
    found.blend.path.unlink()  # as if it had been killed before it was blended
    assert project.update(tmp_path / "data", epochs=1, blend="nightly").blend is not None


def test_what_the_result_says_as_json(project, tmp_path):
    add_images(tmp_path / "data", 8, 9)
    plain = project.update(tmp_path / "data", epochs=1).to_dict()
    json.dumps(plain)
    assert plain["added"] == 2
    assert set(plain["rows"][0]) == {"run", "updated", "before", "after", "new rows"}

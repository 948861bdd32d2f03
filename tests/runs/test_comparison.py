"""Runs beside each other: sorted by score, compared fold by fold, and deleted only when nothing rests on them."""

import json

import numpy as np
import pytest
from factories import make_workspace
from filelock import FileLock

from kaggle_kit import files, runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.errors import ConfigError, LockedError, MissingFileError
from kaggle_kit.runs.comparison import compare_runs, oof_table, remove_runs, runs_table


@pytest.fixture
def made(tmp_path):
    return make_workspace(tmp_path, n_runs=3, n_train=60, n_test=12)


def set_scores(made, run, scores):
    for fold, score in enumerate(scores):
        path = made.workspace.fold_dir(run, fold) / runs.FOLD_RECORD
        files.write_json(path, json.loads(path.read_text()) | {"score": score})


def set_record(made, run, **values):
    path = made.workspace.run_dir(run) / runs.RUN_RECORD
    files.write_json(path, json.loads(path.read_text()) | values)


def test_the_best_run_is_first_by_the_metrics_direction(made):
    for run, score in (("run0", 0.3), ("run1", 0.5), ("run2", 0.1)):
        set_scores(made, run, [score] * 3)
    assert list(runs_table(made.workspace)["run"]) == ["run1", "run0", "run2"]
    for run in ("run0", "run1", "run2"):
        set_record(made, run, metric="log_loss")
    assert list(runs_table(made.workspace)["run"]) == ["run2", "run0", "run1"]


def test_runs_without_a_score_are_last(tmp_path):
    made = make_workspace(tmp_path, n_runs=2, unfinished={"run0": [0, 1, 2]})
    table = runs_table(made.workspace)
    assert list(table["run"]) == ["run1", "run0"]
    assert np.isnan(table["score"].iloc[1])


def test_only_what_differs_is_shown_and_folds_are_paired(made):
    set_scores(made, "run0", [0.5, 0.6, 0.7])
    set_scores(made, "run1", [0.6, 0.55, 0.9])
    record = runs.read_run(made.workspace, "run0").path / runs.RUN_RECORD
    config = json.loads(record.read_text())["config"]
    set_record(made, "run1", config={**config, "optimizer": {**config["optimizer"], "lr": 0.5}})
    set_record(made, "run0", config=config)
    found = compare_runs(made.workspace, ["run0", "run1"])
    assert found.differences == {"optimizer.lr": (config["optimizer"]["lr"], 0.5)}
    (pair,) = found.paired
    gaps = [0.1, -0.05, 0.2]
    assert pair.mean == pytest.approx(np.mean(gaps))
    assert pair.spread == pytest.approx(np.std(gaps, ddof=1))
    assert (pair.better, pair.folds) == (2, 3)
    assert "run1 against run0: accuracy +0.0833 ± 0.1258, better on 2 of 3 folds" in found.describe()
    assert list(found.table()["run1"])[1] == "0.6000 (+0.1000)"


def test_a_fold_that_one_run_lacks_is_left_out_of_the_pairs(tmp_path):
    made = make_workspace(tmp_path, n_runs=2, unfinished={"run1": [1]})
    (pair,) = compare_runs(made.workspace, ["run0", "run1"]).paired
    assert pair.folds == 2


def test_runs_on_other_folds_are_not_paired(made):
    set_record(made, "run1", folds_fingerprint="0" * 64)
    found = compare_runs(made.workspace, ["run0", "run1"])
    assert found.paired == ()
    assert "different fold tables" in found.describe()


@pytest.mark.parametrize("names", [["run0"], ["run0", "run0"], []])
def test_two_different_runs_are_needed(made, names):
    with pytest.raises(ConfigError, match="two different runs"):
        compare_runs(made.workspace, names)


def test_deleting_names_what_goes_and_takes_nothing_else(made):
    done = remove_runs(made.workspace, ["run1"])
    assert not made.workspace.run_dir("run1").exists()
    assert runs.list_runs(made.workspace)
    assert "run1" in done.describe()
    assert done.to_dict()["deleted"] == ["run1"]
    assert set(runs.list_runs(made.workspace)) == {"run0", "run2"}


def test_a_run_that_a_submission_rests_on_stays_unless_forced(made):
    name = blend(made.setup, runs=["run0", "run1"]).path.stem
    with pytest.raises(ConfigError, match=f"run run0: {name}.*--force"):
        remove_runs(made.workspace, ["run2", "run0"])
    assert len(runs.list_runs(made.workspace)) == 3  # neither of the two is deleted
    record = made.workspace.submission_path(name).with_suffix(".json")
    files.write_json(record, json.loads(record.read_text()) | {"kaggle": {"ref": 1}})
    with pytest.raises(ConfigError, match=rf"{name} \(sent\)"):
        remove_runs(made.workspace, ["run0"])
    remove_runs(made.workspace, ["run0"], force=True)
    assert set(runs.list_runs(made.workspace)) == {"run1", "run2"}


def test_unknown_and_busy_runs_are_not_deleted(made):
    with pytest.raises(MissingFileError, match="no run 'runX'"):
        remove_runs(made.workspace, ["run0", "runX"])
    with pytest.raises(ConfigError, match="name the runs"):
        remove_runs(made.workspace, [])
    with FileLock(made.workspace.run_dir("run0") / ".lock"), pytest.raises(LockedError, match="being trained"):
        remove_runs(made.workspace, ["run0"])
    assert len(runs.list_runs(made.workspace)) == 3


def test_out_of_fold_rows_carry_their_labels(made):
    table = oof_table(made.workspace, "run0")
    truth = {row.id: row.labels[0] for row in made.competition.train}
    assert sorted(table["id"]) == sorted(truth)
    assert list(table["label"]) == [truth[row] for row in table["id"]]
    names = [f"p_{name}" for name in made.competition.classes]
    assert list(table[names].to_numpy().argmax(axis=1)) == [names.index(f"p_{name}") for name in table["predicted"]]
    assert set(table["fold"]) == {0, 1, 2}

"""Reading runs: out-of-fold rows once an id, test rows aligned by id, and refusal of what does not belong together."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from factories import Made, make_workspace

from kaggle_kit import files, runs
from kaggle_kit.errors import ClassMappingError, DataError, MissingFileError
from kaggle_kit.runs import comparison
from kaggle_kit.tables import Classes, Predictions, read_predictions
from kaggle_kit.workspace import Workspace


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_workspace(tmp_path, n_train=30, n_test=9, n_runs=2, control=6)


def rewrite(path: Path, **changes) -> None:
    old = read_predictions(path)
    parts = {"ids": old.ids, "probs": old.probs, "classes": old.classes, "meta": old.meta}
    Predictions(**{**parts, **changes}).write(path)


class TestListing:
    def test_oldest_first(self, made: Made) -> None:
        for age, name in enumerate(["run1", "run0"]):
            os.utime(made.workspace.run_dir(name) / runs.RUN_RECORD, (age, age))
        assert runs.list_runs(made.workspace) == ["run1", "run0"]

    def test_choose(self, made: Made) -> None:
        assert {run.name for run in runs.choose_runs(made.workspace)} == {"run0", "run1"}
        assert [run.name for run in runs.choose_runs(made.workspace, ["run1"])] == ["run1"]

    def test_none(self, tmp_path: Path) -> None:
        workspace = Workspace(tmp_path)
        assert runs.list_runs(workspace) == []
        assert comparison.runs_table(workspace).empty
        with pytest.raises(MissingFileError, match="Run `kk train` first"):
            runs.choose_runs(workspace)

    def test_unknown_run_names_those_there_are(self, made: Made) -> None:
        with pytest.raises(MissingFileError, match=r"no run 'rum0' .*There are: run"):
            runs.read_run(made.workspace, "rum0")

    def test_damaged_record(self, made: Made) -> None:
        path = made.workspace.run_dir("run0") / runs.RUN_RECORD
        files.write_json(path, {"classes": ["a"], "config": {}})
        with pytest.raises(DataError, match=r"lacks task, metric, folds_fingerprint, n_splits\. Train the run again"):
            runs.read_run(made.workspace, "run0")


class TestFolds:
    def test_finished_and_unfinished(self, tmp_path: Path) -> None:
        made = make_workspace(tmp_path, n_train=30, n_test=5, n_runs=1, unfinished={"run0": [1]}, control=0)
        run = runs.read_run(made.workspace, "run0")
        assert [fold.finished for fold in run.folds] == [True, False, True]
        assert [fold.fold for fold in run.finished_folds()] == [0, 2]
        assert comparison.runs_table(made.workspace).loc[0, ["folds", "state"]].tolist() == ["2/3", "partial"]

    def test_not_begun(self, made: Made) -> None:
        (made.workspace.fold_dir("run0", 2) / runs.FOLD_RECORD).unlink()
        assert runs.read_run(made.workspace, "run0").folds[2].record.state == "empty"

    def test_nothing_finished(self, tmp_path: Path) -> None:
        made = make_workspace(tmp_path, n_train=30, n_test=5, n_runs=1, unfinished={"run0": [0, 1, 2]}, control=0)
        with pytest.raises(DataError, match=r"run 'run0' has no finished fold. Run `kk train --run run0` first"):
            runs.read_oof(runs.read_run(made.workspace, "run0"))
        assert comparison.runs_table(made.workspace).loc[0, "state"] == "begun"


class TestOof:
    def test_every_row_once(self, made: Made) -> None:
        oof = runs.read_oof(runs.read_run(made.workspace, "run0"))
        assert sorted(oof.ids) == sorted(made.folds.ids)
        path = made.workspace.fold_dir("run0", 1) / runs.OOF
        part = read_predictions(path)
        np.testing.assert_array_equal(oof.take(part.ids).probs, part.probs)

    def test_repeats_are_averaged(self, tmp_path: Path) -> None:
        made = make_workspace(tmp_path, n_train=20, n_test=5, n_runs=1, repeats=2, control=0)
        run = runs.read_run(made.workspace, "run0")
        oof = runs.read_oof(run)
        assert len(oof) == 20
        parts = [read_predictions(fold.path / runs.OOF) for fold in run.folds]
        row_id = oof.ids[7]
        own = [part.take([row_id]).probs[0] for part in parts if row_id in part.ids]
        assert len(own) == 2
        np.testing.assert_allclose(oof.take([row_id]).probs[0], np.mean(own, axis=0), rtol=1e-6)

    def test_views(self, tmp_path: Path) -> None:
        made = make_workspace(tmp_path, n_train=20, n_test=5, n_runs=1, views="hflip", control=0)
        run = runs.read_run(made.workspace, "run0")
        assert runs.read_oof(run, tta="hflip").meta["views"] == "hflip"
        assert runs.read_oof(run).meta["views"] == "none"
        with pytest.raises(DataError, match=r"made with views 'hflip', expected 'd4'. Run `kk predict` again"):
            runs.read_oof(run, tta="d4")

    def test_other_classes(self, made: Made) -> None:
        path = made.workspace.fold_dir("run0", 1) / runs.OOF
        names = read_predictions(path).classes.names
        rewrite(path, classes=Classes(names[::-1]))
        with pytest.raises(ClassMappingError, match=r"oof\.parquet hold the same classes in another order"):
            runs.read_oof(runs.read_run(made.workspace, "run0"))

    def test_missing_file(self, made: Made) -> None:
        (made.workspace.fold_dir("run0", 1) / runs.OOF).unlink()
        with pytest.raises(MissingFileError, match=r"fold1.*oof\.parquet does not exist"):
            runs.read_oof(runs.read_run(made.workspace, "run0"))


class TestTest:
    def test_rows_of_all_folds_are_aligned_by_id(self, made: Made) -> None:
        path = made.workspace.fold_dir("run0", 2) / runs.TEST
        before = read_predictions(path)
        order = np.random.default_rng(0).permutation(len(before))
        rewrite(path, ids=tuple(before.ids[row] for row in order), probs=before.probs[order])
        parts = runs.read_test(runs.read_run(made.workspace, "run0"))
        assert len(parts) == 3
        assert len({part.ids for part in parts}) == 1
        np.testing.assert_array_equal(parts[2].take(before.ids).probs, before.probs)

    def test_control_rows_likewise(self, made: Made) -> None:
        assert {len(part) for part in runs.read_test(runs.read_run(made.workspace, "run0"), runs.CONTROL)} == {6}

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"ids": tuple(f"x{row}" for row in range(9))}, DataError, "hold other ids"),
            ({"meta": {"views": "d4"}}, DataError, "made with other views than the folds before it"),
            ({"classes": Classes(("x", "y", "z"))}, ClassMappingError, "only in .*test.parquet: x, y, z"),
        ],
    )
    def test_what_does_not_belong_together(self, made: Made, changes: dict, error: type[Exception], message: str) -> None:
        rewrite(made.workspace.fold_dir("run0", 1) / runs.TEST, **changes)
        with pytest.raises(error, match=message):
            runs.read_test(runs.read_run(made.workspace, "run0"))


def test_table_of_runs(made: Made) -> None:
    table = comparison.runs_table(made.workspace).set_index("run")
    scores = [fold.record.score for fold in runs.read_run(made.workspace, "run0").folds]
    assert table.loc["run0", "score"] == pytest.approx(np.mean(scores))
    assert table.loc["run0", "spread"] == pytest.approx(np.std(scores, ddof=1))
    assert table.loc["run0", "state"] == "finished"
    assert table.loc["run0", "seconds"] == pytest.approx(37.5)

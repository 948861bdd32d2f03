"""From runs on disk to a submission: on fabricated workspaces, read back by pandas."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from factories import FORMS, make_workspace, write_run

from kaggle_kit import files, runs
from kaggle_kit.blending import fitted_from_dict
from kaggle_kit.blending.blend import blend
from kaggle_kit.choices import BLENDERS
from kaggle_kit.errors import ClassMappingError, ConfigError, DataError, FoldError, MissingFileError, SubmissionError
from kaggle_kit.metrics import get_metric
from kaggle_kit.runs import comparison
from kaggle_kit.tables import Classes, Predictions, read_folds, read_predictions


def run_blend(made, **options):
    return blend(made.setup, **options)


def read(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def record_of(result):
    return json.loads(result.path.with_suffix(".json").read_text())


def rewrite(path, change):
    """Replace the predictions at ``path`` by ``change(predictions)``."""
    change(read_predictions(path)).write(path)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_written_in_the_samples_rows_and_columns(tmp_path, form):
    made = make_workspace(tmp_path, form=form, n_classes=2 if form == "positive" else 4)
    result = run_blend(made)
    sample, cells = read(made.competition.sample_path), read(result.path)
    assert list(cells.columns) == list(sample.columns)
    assert list(cells["id"]) == list(sample["id"])
    blended = read_predictions(result.path.with_suffix(".probs.parquet")).take(list(cells["id"]))
    assert get_metric(made.competition.metric)(made.truth, blended.probs) > 0.7
    control = read(result.path.with_suffix(".control.csv"))
    assert list(control.columns) == list(sample.columns)
    assert len(control) == 48
    assert result.passed


@pytest.mark.parametrize("method", list(BLENDERS))
def test_the_written_labels_are_the_blended_ones_and_the_record_can_make_them_again(tmp_path, method):
    made = make_workspace(tmp_path, n_classes=3, n_runs=3)
    result = run_blend(made, method=method)
    record = record_of(result)
    fitted = fitted_from_dict(record["blend"])
    per_run = []
    for name in made.spec.run_names:
        parts = [read_predictions(made.workspace.fold_dir(name, fold) / runs.TEST).probs for fold in range(3)]
        per_run.append(np.mean(parts, axis=0))
    probs = fitted.apply(per_run)
    expected = [made.competition.classes.names[row.argmax()] for row in probs]
    assert list(read(result.path)["label"]) == expected
    assert record["method"] == method
    assert record["sha256"] == files.file_fingerprint(result.path)


def test_scores_are_those_of_the_rows(tmp_path):
    made = make_workspace(tmp_path, n_runs=2, metric="log_loss")
    result = run_blend(made)
    folds, metric = made.folds, get_metric("log_loss")
    oof = [runs.read_oof(runs.read_run(made.workspace, name)).take(folds.ids).probs for name in ("run0", "run1")]
    for entry, probs in zip(result.runs, oof, strict=True):
        assert entry.score == pytest.approx(metric(folds.truth(), probs), abs=1e-6)
        assert entry.weight == 0.5
        assert entry.folds == (0, 1, 2)
    assert result.scores.in_sample == pytest.approx(metric(folds.truth(), np.mean(oof, axis=0)), abs=1e-5)
    # A mean learns nothing, so holding rows back makes no difference.
    assert result.scores.cross_fitted == pytest.approx(result.scores.in_sample, abs=1e-6)
    assert result.scores.n == 120


def test_the_out_of_fold_file_is_cross_fitted(tmp_path):
    made = make_workspace(tmp_path, n_runs=2)
    result = run_blend(made, method="stack")
    oof = read_predictions(result.path.with_suffix(".oof.parquet")).take(made.folds.ids)
    assert get_metric("accuracy")(made.folds.truth(), oof.probs) == pytest.approx(result.scores.cross_fitted)


def test_record_names_what_it_was_made_from(tmp_path):
    made = make_workspace(tmp_path, n_runs=2, views="hflip")
    record = record_of(run_blend(made, method="weights", seed=5))
    assert record["competition_fingerprint"] == made.competition.fingerprint
    assert record["classes"] == list(made.competition.classes)
    assert record["classes_fingerprint"] == made.competition.classes.fingerprint
    assert record["folds_fingerprint"] == made.folds.fingerprint
    assert record["form"] == made.competition.submission.model_dump(mode="json")
    assert (record["views"], record["seed"], record["n_test"]) == ("hflip", 5, 40)
    assert record["scores"]["n"] == 120
    entry = record["runs"][1]
    assert entry["name"] == "run1"
    assert entry["folds"] == [0, 1, 2]
    assert entry["oof_views"] == "hflip"
    assert entry["weight"] == pytest.approx(record["blend"]["parameters"]["weights"][1])
    model = made.workspace.fold_dir("run1", 2) / runs.MODEL
    assert entry["models"]["2"] == files.file_fingerprint(model)
    assert "numpy" in record["versions"]


def test_columns_in_another_order_in_one_run_change_nothing(tmp_path):
    made = make_workspace(tmp_path, n_runs=2, n_classes=4, form="probability")
    before = run_blend(made).path.read_text()
    path = made.workspace.run_dir("run1")
    turned = Classes(made.competition.classes.names[::-1])
    record = json.loads((path / runs.RUN_RECORD).read_text())
    files.write_json(path / runs.RUN_RECORD, {**record, "classes": list(turned)})
    for fold in range(3):
        for name in (runs.OOF, runs.TEST, runs.CONTROL):
            rewrite(path / f"fold{fold}" / name, lambda old: old.align(turned, here="test"))
    assert run_blend(made).path.read_text() == before


def test_rows_in_another_order_in_one_run_change_nothing(tmp_path):
    made = make_workspace(tmp_path, n_runs=2, form="probability")
    before = run_blend(made).path.read_text()
    for fold in range(3):
        for name in (runs.OOF, runs.TEST, runs.CONTROL):
            rewrite(made.workspace.fold_dir("run1", fold) / name, lambda old: old.take(old.ids[::-1]))
    assert run_blend(made).path.read_text() == before


def test_runs_can_be_chosen(tmp_path):
    made = make_workspace(tmp_path, n_runs=3)
    result = run_blend(made, runs=["run2", "run0"], name="two")
    assert [run.name for run in result.runs] == ["run2", "run0"]
    assert result.path.name == "two.csv"


def test_views_are_compared_like_with_like(tmp_path):
    made = make_workspace(tmp_path, n_runs=1, views="hflip", metric="log_loss")
    run = runs.read_run(made.workspace, "run0")
    result = run_blend(made)
    with_views = runs.read_oof(run, tta="hflip").take(made.folds.ids).probs
    assert result.runs[0].score == pytest.approx(get_metric("log_loss")(made.folds.truth(), with_views), abs=1e-6)
    assert not result.notes


@pytest.mark.parametrize("how", ["missing", "other views"])
def test_unlike_views_are_said(tmp_path, how):
    made = make_workspace(tmp_path, n_runs=1, views="hflip", metric="log_loss")
    path = made.workspace.fold_dir("run0", 1) / runs.OOF_VIEWS
    if how == "missing":
        path.unlink()
    else:
        rewrite(path, lambda old: Predictions(old.ids, old.probs, old.classes, {**old.meta, "views": "d4"}))
    result = run_blend(made)
    assert any("unlike views" in note for note in result.notes)
    plain = runs.read_oof(runs.read_run(made.workspace, "run0")).take(made.folds.ids).probs
    assert result.runs[0].score == pytest.approx(get_metric("log_loss")(made.folds.truth(), plain), abs=1e-6)


def test_unfinished_folds_take_no_part_and_it_is_said(tmp_path):
    made = make_workspace(tmp_path, n_runs=2, unfinished={"run1": [2]})
    result = run_blend(made)
    assert result.runs[1].folds == (0, 1)
    assert result.runs[1].n_splits == 3
    assert result.scores.n == 80
    assert any("run run1 takes part with the folds that are finished; not finished: 2" in note for note in result.notes)
    assert any("40 out-of-fold rows are left out" in note for note in result.notes)


def test_a_single_finished_fold_is_enough(tmp_path):
    made = make_workspace(tmp_path, n_runs=2, unfinished={"run0": [1, 2], "run1": [1, 2]})
    result = run_blend(made, method="weights")
    assert result.scores.n == 40
    assert np.isfinite(result.scores.cross_fitted)


def test_a_run_without_finished_folds_is_left_out_unless_named(tmp_path):
    made = make_workspace(tmp_path, n_runs=2, unfinished={"run1": [0, 1, 2]})
    result = run_blend(made)
    assert [run.name for run in result.runs] == ["run0"]
    assert any("run run1 is left out" in note for note in result.notes)
    with pytest.raises(DataError, match="run 'run1' has no finished fold"):
        run_blend(made, runs=["run1"])


@pytest.mark.parametrize("options", [{"scheme": "holdout"}, {"repeats": 2}, {"sample": False}, {"control": 0}])
def test_other_workspaces(tmp_path, options):
    made = make_workspace(tmp_path, n_runs=2, **options)
    result = run_blend(made, method="hill-climb")
    assert list(read(result.path)["id"]) == [row.id for row in made.competition.test]
    assert result.path.with_suffix(".control.csv").exists() == (made.spec.control > 0)


def test_a_control_file_of_an_earlier_blend_does_not_stay(tmp_path):
    made = make_workspace(tmp_path, n_runs=1)
    control = run_blend(made, name="blend").path.with_suffix(".control.csv")
    assert control.exists()
    (made.workspace.fold_dir("run0", 0) / runs.CONTROL).unlink()
    result = run_blend(made, name="blend", force=True)
    assert not control.exists()
    assert any("no control submission: run0" in note for note in result.notes)


def test_tuned_thresholds_are_written_and_help(tmp_path):
    made = make_workspace(tmp_path, form="labels", n_train=300, imbalance=1.0)
    for name in made.spec.run_names:
        for fold in range(3):
            for file in (runs.OOF, runs.TEST, runs.CONTROL):
                path = made.workspace.fold_dir(name, fold) / file
                rewrite(path, lambda old: Predictions(old.ids, old.probs**4, old.classes, old.meta))  # timid probabilities
    plain, tuned = run_blend(made), run_blend(made, thresholds="tuned", name="tuned")
    assert plain.thresholds is None
    assert len(tuned.thresholds) == 3
    assert max(tuned.thresholds) < 0.5
    assert tuned.scores.cross_fitted > plain.scores.cross_fitted
    assert tuned.scores.in_sample >= tuned.scores.cross_fitted - 0.02
    assert record_of(tuned)["thresholds"] == list(tuned.thresholds)
    assert tuned.path.read_text() != plain.path.read_text()


def test_awkward_names_survive(tmp_path):
    names = ("id", "a,b", '"q"', "Ünï code", "Rust", "rust", "10", "9", "NA")
    made = make_workspace(tmp_path, class_names=names, form="label", n_train=180, accuracy=0.95)
    cells = read(run_blend(made).path)
    truth = [made.answers[row_id][0] for row_id in cells["id"]]
    assert np.mean(cells["label"] == truth) > 0.9


class TestRefusals:
    def test_other_folds(self, tmp_path):
        made = make_workspace(tmp_path, n_runs=2)
        path = made.workspace.run_dir("run1") / runs.RUN_RECORD
        files.write_json(path, {**json.loads(path.read_text()), "folds_fingerprint": "f" * 64, "folds": "other"})
        with pytest.raises(FoldError, match=r"must share one fold table.*run1: other \(ffffffff\)"):
            run_blend(made)

    def test_a_fold_table_made_anew(self, tmp_path):
        made = make_workspace(tmp_path, n_runs=1)
        path = made.workspace.folds_path("folds")
        folds = read_folds(path)
        moved = type(folds)(folds.ids, folds.labels, folds.groups, np.roll(folds.assignments, 1), 3, folds.classes)
        moved.write(path)
        with pytest.raises(FoldError, match="is not the table that the runs"):
            run_blend(made)

    def test_other_classes(self, tmp_path):
        made = make_workspace(tmp_path, n_runs=2)
        path = made.workspace.fold_dir("run1", 0) / runs.TEST
        other = Classes(("class 0", "class 1", "rust"))
        rewrite(path, lambda old: Predictions(old.ids, old.probs, other, old.meta))
        with pytest.raises(ClassMappingError, match=r"only in .*test.parquet: rust"):
            run_blend(made)

    def test_test_rows_of_another_state_of_the_data(self, tmp_path):
        made = make_workspace(tmp_path, n_runs=1)
        path = made.workspace.fold_dir("run0", 2) / runs.TEST
        stale = {"competition_fingerprint": "0"}
        rewrite(path, lambda old: Predictions(old.ids, old.probs, old.classes, {**old.meta, **stale}))
        with pytest.raises(DataError, match="Run `kk predict --run run0` again"):
            run_blend(made)

    def test_test_rows_that_differ_between_runs(self, tmp_path):
        made = make_workspace(tmp_path, n_runs=2)
        for fold in range(3):
            rewrite(made.workspace.fold_dir("run1", fold) / runs.TEST, lambda old: old.take(old.ids[1:]))
        with pytest.raises(DataError, match="run1 lacks 1 ids of run0"):
            run_blend(made)

    def test_test_rows_that_the_sample_lacks(self, tmp_path):
        made = make_workspace(tmp_path, n_runs=1)
        for fold in range(3):
            rewrite(made.workspace.fold_dir("run0", fold) / runs.TEST, lambda old: old.take(old.ids[1:]))
        with pytest.raises(SubmissionError, match="1 have no prediction"):
            run_blend(made)

    def test_out_of_fold_rows_that_differ_without_a_reason(self, tmp_path):
        made = make_workspace(tmp_path, n_runs=2)
        path = made.workspace.fold_dir("run1", 0) / runs.OOF
        rewrite(path, lambda old: old.take(old.ids[1:]))
        with pytest.raises(DataError, match="run1 lacks 1 ids of run0"):
            run_blend(made)

    def test_rows_left_out_in_training_are_a_reason(self, tmp_path):
        made = make_workspace(tmp_path, n_runs=2)
        folder = made.workspace.fold_dir("run1", 0)
        left_out = read_predictions(folder / runs.OOF).ids[0]
        rewrite(folder / runs.OOF, lambda old: old.take(old.ids[1:]))
        record = json.loads((folder / runs.FOLD_RECORD).read_text())
        files.write_json(folder / runs.FOLD_RECORD, {**record, "left_out": [left_out]})
        assert run_blend(made).scores.n == 119

    def test_missing_test_predictions(self, tmp_path):
        made = make_workspace(tmp_path, n_runs=1)
        (made.workspace.fold_dir("run0", 1) / runs.TEST).unlink()
        with pytest.raises(MissingFileError, match="kk predict"):
            run_blend(made)

    def test_unknown_run_method_and_thresholds(self, tmp_path):
        made = make_workspace(tmp_path, n_runs=1)
        with pytest.raises(MissingFileError, match=r"no run 'nope'.*run0"):
            run_blend(made, runs=["nope"])
        with pytest.raises(ConfigError, match="unknown blending method 'meen'"):
            run_blend(made, method="meen")
        with pytest.raises(ConfigError, match="form 'labels', this one is 'label'"):
            run_blend(made, thresholds="tuned")
        with pytest.raises(ConfigError, match="'config' or 'tuned', got 'best'"):
            run_blend(made, thresholds="best")
        with pytest.raises(ConfigError, match="found twice: run0"):
            run_blend(made, runs=["run0", "run0"])
        assert not made.workspace.submission_path("blend").exists()

    def test_nothing_trained(self, tmp_path):
        made = make_workspace(tmp_path, n_runs=1)
        shutil.rmtree(made.workspace.runs_dir)
        with pytest.raises(MissingFileError, match="Run `kk train` first"):
            run_blend(made)


def test_runs_table_says_what_there_is(tmp_path):
    made = make_workspace(tmp_path, n_runs=3, unfinished={"run1": [1], "run2": [0, 1, 2]})
    table = comparison.runs_table(made.workspace).set_index("run").loc[["run0", "run1", "run2"]]
    assert list(table["folds"]) == ["3/3", "2/3", "0/3"]
    assert list(table["state"]) == ["finished", "partial", "begun"]
    scores = [fold.record.score for fold in runs.read_run(made.workspace, "run0").folds]
    assert table.loc["run0", "score"] == pytest.approx(np.mean(scores))
    assert table.loc["run0", "spread"] == pytest.approx(np.std(scores, ddof=1))
    assert table.loc["run0", "seconds"] == 37.5
    assert np.isnan(table.loc["run2", "score"])


def test_runs_table_of_no_runs_is_empty(tmp_path):
    made = make_workspace(tmp_path, n_runs=0)
    assert comparison.runs_table(made.workspace).empty


def test_runs_table_shows_the_image_size(tmp_path):
    made = make_workspace(tmp_path, n_runs=1)
    size = made.config.run.data.model_copy(update={"image_size": (96, 128)})
    write_run(made, "wide", seed=1, config=made.config.run.model_copy(update={"data": size}))
    table = comparison.runs_table(made.workspace).set_index("run")
    assert table.loc["wide", "image_size"] == "96x128"
    assert table.loc["run0", "image_size"] == "model's own"


def test_blending_never_imports_torch():
    heavy = "('torch', 'sklearn', 'scipy')"
    code = (
        f"import sys, kaggle_kit.blending.blend, kaggle_kit.runs; sys.exit(int(any(name in sys.modules for name in {heavy})))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

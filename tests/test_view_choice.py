"""`--tta auto` on a run made by hand: chosen without a fold's own rows, kept, resumed, repeated by kernels' code."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "inference"))
from handmade_run import N_FOLDS, make_world

from kaggle_kit import runs, view_choice
from kaggle_kit.blending.views import choose_mix
from kaggle_kit.errors import ConfigError
from kaggle_kit.inference import Compute, PredictOptions, predict_runs
from kaggle_kit.inference.job import make_job
from kaggle_kit.inference.predict import Predictor, predict_rows
from kaggle_kit.inference.run import predict_jobs
from kaggle_kit.runs.view_record import views_of_model
from kaggle_kit.tables import read_predictions
from kaggle_kit.view_choice import choose_views

OPTIONS = PredictOptions("auto:hflip,larger,stretched", engine="torch")
MIXES = ["0.60*none+0.40*hflip", "0.50*larger+0.50*stretched"]


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


@pytest.fixture
def decided(monkeypatch):
    """The folds' mixes, given in the order in which they are asked for; and the rows that they were asked with."""
    asked = []

    def choose(rows):
        asked.append(rows)
        return {"0": {"none": 0.6, "hflip": 0.4}, "1": {"larger": 0.5, "stretched": 0.5}}[str((len(asked) - 1) % N_FOLDS)]

    monkeypatch.setattr(view_choice, "choose_mix", choose)
    return asked


def predict_auto(world, options=OPTIONS, **more):
    left = choose_views(world.setup, [], options, **more)
    return predict_runs(world.setup, options=options, time_limit=left)


def test_each_fold_is_predicted_with_views_chosen_without_its_rows(world, decided):
    (found,) = predict_auto(world)
    assert found.predicted == (0, 1)
    assert [len(rows.truth) for rows in decided] == [15, 15]
    record = runs.read_views(world.run.path)
    assert record.mixes == dict(enumerate(MIXES))
    assert record.honest
    assert record.name.startswith("auto-")
    paths = {row.id: row.path for row in (*world.competition.train, *world.competition.test)}
    for fold, mix in enumerate(MIXES):
        folder = world.fold(fold)
        assert {read_predictions(folder / name).meta["views"] for name in (runs.TEST, runs.OOF_VIEWS)} == {record.name}
        model = view_choice.RunJob.load(_job(world), world.run.folds[fold])
        for name in (runs.TEST, runs.OOF_VIEWS):
            table = read_predictions(folder / name)
            compute = Compute(workers=0, device="cpu", engine="torch")
            again = predict_rows([model], [(row_id, paths[row_id]) for row_id in table.ids], tta=mix, compute=compute)[0]
            np.testing.assert_allclose(again, table.probs, atol=1e-5)
            assert table.of_other_images() == ()


def _job(world):
    return make_job(world.workspace, world.competition, world.run, world.folds, PredictOptions(), compute=Compute())


def test_the_choice_never_sees_the_rows_of_its_fold(world, decided):
    """Whatever the truth of a fold's rows is, the rows that its views are chosen by are the same."""
    predict_auto(world)
    own = {row_id for row_id, fold in zip(world.folds.ids, world.folds.assignments[0], strict=True) if fold == 0}
    names = {group: row_id for row_id, group in zip(world.folds.ids, world.folds.groups, strict=True)}
    assert not own & {names[group] for group in decided[0].groups}


def test_control_rows_equal_out_of_fold_rows(world, decided):
    predict_auto(world)
    for fold in range(N_FOLDS):
        oof, control = (read_predictions(world.fold(fold) / name) for name in (runs.OOF_VIEWS, runs.CONTROL))
        np.testing.assert_allclose(control.take(oof.ids).probs, oof.probs, atol=1e-5)


def test_what_was_done_is_not_done_again(world, decided, monkeypatch):
    predict_auto(world)
    monkeypatch.setattr(Predictor, "predict", lambda *_args, **_options: pytest.fail("predicted again"))
    (again,) = predict_auto(world)
    assert (again.predicted, again.current) == ((), (0, 1))
    assert len(decided) == N_FOLDS


def test_a_choice_that_was_stopped_goes_on_with_the_next_fold(world, decided, monkeypatch):
    real, rows = Predictor.predict, []

    def stopping(self, part=None, *, progress=None):
        rows.append(len(self._rows))
        if len(rows) == 2:
            raise KeyboardInterrupt
        return real(self, part, progress=progress)

    monkeypatch.setattr(Predictor, "predict", stopping)
    with pytest.raises(KeyboardInterrupt):
        choose_views(world.setup, [], OPTIONS)
    choose_views(world.setup, [], OPTIONS)
    assert len(rows) == 3  # fold 0 once, fold 1 twice


def test_out_of_fold_rows_with_chosen_views_are_not_predicted_again(world, decided, monkeypatch):
    choose_views(world.setup, [], OPTIONS)
    made = []
    real = Predictor.__init__

    def spy(self, models, rows, **options):
        made.append({row_id for row_id, _ in rows})
        real(self, models, rows, **options)

    monkeypatch.setattr(Predictor, "__init__", spy)
    predict_runs(world.setup, options=OPTIONS)
    assert len(made) == 1
    assert {row.id for row in world.competition.test} <= made[0]


def test_models_trained_further_want_a_new_choice(world, decided):
    predict_auto(world)
    record = runs.read_views(world.run.path)
    runs.write_views(world.run.path, replace(record, models={**record.models, 1: "other"}))
    with pytest.raises(ConfigError, match="trained further"):
        predict_runs(world.setup, options=OPTIONS)
    with pytest.raises(ConfigError, match="trained again"):
        views_of_model(world.fold(1) / runs.MODEL)
    assert views_of_model(world.fold(0) / runs.MODEL) == MIXES[0]
    (world.run.path / runs.VIEWS_RECORD).unlink()
    with pytest.raises(ConfigError, match="no views were chosen"):
        predict_runs(world.setup, options=OPTIONS)


def test_a_damaged_record_is_chosen_anew(world, decided):
    predict_auto(world)
    (world.run.path / runs.VIEWS_RECORD).write_text("{}")
    predict_auto(world)
    assert len(decided) == 2 * N_FOLDS


def test_where_nothing_pays_the_run_is_predicted_without_views(world, monkeypatch):
    monkeypatch.setattr(view_choice, "choose_mix", lambda rows: {"none": 1.0})
    (found,) = predict_auto(world)
    assert found.predicted == (0, 1)
    assert read_predictions(world.fold(0) / runs.TEST).meta["views"] == "none"
    assert not (world.fold(0) / runs.OOF_VIEWS).exists()
    record = runs.read_views(world.run.path)
    assert record.after == record.before


def test_a_short_time_leaves_out_views_and_says_so(world, monkeypatch, caplog):
    monkeypatch.setattr(view_choice, "choose_mix", lambda rows: {"none": 1.0})
    caplog.set_level("INFO")
    now = [0.0]
    monkeypatch.setattr(view_choice.time, "monotonic", lambda: now.__setitem__(0, now[0] + 10) or now[0])
    left = choose_views(world.setup, [], OPTIONS, time_limit=50)
    assert "run r is tried with none" in caplog.text
    assert set(runs.read_views(world.run.path).pool) < {"none", "hflip", "larger", "stretched"}
    assert left < 50


def test_the_mixes_travel_as_a_kernel_gives_them(world, decided):
    """As at Kaggle: no fold table, the views by fold from the plan."""
    predict_auto(world)
    before = [read_predictions(world.fold(fold) / runs.TEST) for fold in range(N_FOLDS)]
    for fold in range(N_FOLDS):
        (world.fold(fold) / runs.TEST).unlink()
    record = runs.read_views(world.run.path)
    competition = replace(world.competition, train=())
    compute = Compute(batch_size=8, workers=0, device="cpu", engine="torch")
    job = view_choice.RunJob(competition, world.run, None, record.name, "mean", compute, with_oof=False, mixes=record.mixes)
    predict_jobs([job], tolerant=True)
    for fold, old in enumerate(before):
        np.testing.assert_allclose(read_predictions(world.fold(fold) / runs.TEST).take(old.ids).probs, old.probs, atol=1e-5)


def test_the_real_choice_is_the_one_that_is_used():
    assert view_choice.choose_mix is choose_mix

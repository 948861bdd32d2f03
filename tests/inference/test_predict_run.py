from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from handmade_run import CLASSES, N_FOLDS, N_TEST, N_TRAIN, make_world, save_fresh

from kaggle_kit import files, runs
from kaggle_kit.choices import INT8
from kaggle_kit.errors import ClassMappingError, ConfigError, DataError, FoldError, ImageError
from kaggle_kit.images.dataset import source_for
from kaggle_kit.images.pixels import batch_hashes
from kaggle_kit.images.transforms import eval_transform
from kaggle_kit.inference import Compute, PredictOptions, compute_of, job, predict_runs, time_limit, workers
from kaggle_kit.inference.job import make_job
from kaggle_kit.inference.outputs import kept_features
from kaggle_kit.inference.run import predict_jobs
from kaggle_kit.inference.time_limit import TimeLimit
from kaggle_kit.project_parts import int8_costs
from kaggle_kit.tables import Classes, FoldTable, read_predictions

COMPUTE = Compute(batch_size=8, workers=0, device="cpu", engine="torch")


def predict(world, *, folds=None, limit=None, progress=None, **options):
    wanted = PredictOptions(**options)
    made = make_job(world.workspace, world.competition, world.run, folds or world.folds, wanted, compute=COMPUTE)
    return predict_jobs([made], limit=limit, progress=progress)[0]


def read(world, fold, name):
    return read_predictions(world.fold(fold) / name)


def test_every_fold_gets_test_and_control_rows(world):
    summary = predict(world)
    assert (summary.predicted, summary.current, summary.n_test, summary.n_control) == ((0, 1), (), N_TEST, N_TRAIN)
    for fold in range(N_FOLDS):
        test, control = read(world, fold, runs.TEST), read(world, fold, runs.CONTROL)
        assert test.ids == tuple(row.id for row in world.competition.test)
        assert set(control.ids) == set(world.folds.ids)
        assert not (world.fold(fold) / runs.OOF_VIEWS).exists()
        for kind, part in (("test", test), ("control", control)):
            assert part.classes == CLASSES
            assert (part.meta["kind"], part.meta["views"], part.meta["merge"], part.meta["fold"]) == (
                kind,
                "none",
                "mean",
                fold,
            )
            assert part.meta["model_fingerprint"] == files.file_fingerprint(world.fold(fold) / runs.MODEL)
            assert part.meta["folds_fingerprint"] == world.folds.fingerprint
            assert part.meta["competition_fingerprint"] == world.competition.fingerprint
    assert len(runs.read_test(world.run)) == N_FOLDS


def test_models_that_want_other_sizes_each_have_the_hashes_of_their_own_pixels(world):
    loaded = save_fresh(world.fold(1) / runs.MODEL, size=(48, 48), run="r", fold=1, folds_fingerprint=world.folds.fingerprint)
    files.write_json(world.fold(1) / runs.FOLD_RECORD, {"state": "finished", "model_fingerprint": loaded.fingerprint})
    predict(world)
    small, large = (read(world, fold, runs.TEST) for fold in range(N_FOLDS))
    assert small.of_other_images() == large.of_other_images() == ()
    assert not np.isin(small.pixels, large.pixels).any()


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_control_rows_equal_out_of_fold_rows(task, tmp_path):
    """The sharp test of the whole path: what training validated must come out of the test pass again."""
    world = make_world(tmp_path, task)
    predict(world)
    for fold in range(N_FOLDS):
        oof, control = read(world, fold, runs.OOF), read(world, fold, runs.CONTROL)
        np.testing.assert_allclose(control.take(oof.ids).probs, oof.probs, atol=1e-5)
        assert len(np.unique(oof.probs.round(4), axis=0)) == len(oof)


def test_rows_in_eight_bits_are_compared_with_such_rows_alone(world):
    pytest.importorskip("nncf")
    predict_runs(world.setup, ["r"], PredictOptions(engine=INT8))
    for fold in range(N_FOLDS):
        trained, oof, control = (read(world, fold, name) for name in (runs.OOF, runs.OOF_VIEWS, runs.CONTROL))
        assert oof.meta["views"] == control.meta["views"] == read(world, fold, runs.TEST).meta["views"] == "none, int8"
        assert oof.meta["precision"] == control.meta["precision"] == INT8
        np.testing.assert_allclose(control.take(oof.ids).probs, oof.probs, atol=1e-5)
        assert 1e-4 < np.abs(oof.probs - trained.take(oof.ids).probs).max() < 0.3
    (told,) = int8_costs(world.setup, ["r"])
    assert told.startswith("r: accuracy ")
    assert "with views none, int8" in told
    again = predict_runs(world.setup, ["r"], PredictOptions(engine=INT8))[0]
    assert (again.predicted, again.current) == ((), (0, 1))
    exact = predict_runs(world.setup, ["r"], PredictOptions(engine="torch"))[0]
    assert exact.predicted == (0, 1)
    assert read(world, 0, runs.TEST).meta["views"] == "none"
    (world.fold(1) / runs.OOF_VIEWS).unlink()  # as where there was no time for it
    assert not list(int8_costs(world.setup, ["r"]))


def test_kept_features_are_no_answer_in_eight_bits(world):
    """They are floats, and control rows are to be of one kind with out-of-fold rows."""
    assert kept_features(replace(COMPUTE, cache_dir=world.workspace.cache_dir), "test") is not None
    assert kept_features(replace(COMPUTE, cache_dir=world.workspace.cache_dir, engine=INT8), "test") is None


def test_control_rows_equal_out_of_fold_rows_with_the_same_views(world):
    predict(world, tta="flips")
    for fold in range(N_FOLDS):
        oof, control = read(world, fold, runs.OOF_VIEWS), read(world, fold, runs.CONTROL)
        plain = read(world, fold, runs.OOF)
        assert oof.ids == plain.ids
        np.testing.assert_allclose(control.take(oof.ids).probs, oof.probs, atol=1e-5)
        assert np.abs(oof.probs - plain.probs).max() > 1e-4
        assert oof.meta["kind"] == "oof"
    assert len(runs.read_oof(world.run, tta="flips")) == N_TRAIN


def test_test_and_control_rows_go_through_one_pass_under_ids_alike(world, monkeypatch):
    passes = []

    class Spy(workers.Predictor):
        def __init__(self, models, rows, **options):
            passes.append([row_id for row_id, _ in rows])
            super().__init__(models, rows, **options)

    monkeypatch.setattr(workers, "Predictor", Spy)
    predict(world, control=12)
    (ids,) = passes
    assert len(ids) == len(set(ids)) == N_TEST + 12
    assert all(len(row_id) == 4 and row_id.isdigit() for row_id in ids)
    test_ids = {row.id for row in world.competition.test}
    where = [place for place, row_id in enumerate(ids) if row_id not in test_ids]
    assert len(where) == 12
    assert where != list(range(where[0], where[0] + 12))  # not in one block


def spoil(monkeypatch, change):
    """Change what comes out of the pass, (M, N) rows."""
    real = workers.Predictor.predict
    monkeypatch.setattr(
        workers.Predictor, "predict", lambda self, part=None, *, progress=None: change(real(self, part, progress=progress))
    )


def test_an_id_that_slides_in_the_pass_shows_in_the_control_rows(world, monkeypatch):
    spoil(monkeypatch, lambda said: np.roll(said, 1, axis=1))
    predict(world)
    oof, control = read(world, 0, runs.OOF), read(world, 0, runs.CONTROL)
    assert np.abs(control.take(oof.ids).probs - oof.probs).max() > 0.01


def test_current_work_is_not_done_again(world, monkeypatch):
    predict(world, tta="hflip")
    before = (world.fold(0) / runs.TEST).stat().st_mtime_ns
    monkeypatch.setattr(job, "load_model", lambda _: pytest.fail("a model was loaded"))
    again = predict(world, tta="hflip")
    assert (again.predicted, again.current) == ((), (0, 1))
    assert (world.fold(0) / runs.TEST).stat().st_mtime_ns == before


def test_what_is_not_current_is_done_again(world):
    predict(world)
    assert predict(world, tta="hflip").predicted == (0, 1)
    assert predict(world, tta="hflip", merge="gmean").predicted == (0, 1)
    (world.fold(1) / runs.CONTROL).unlink()
    assert predict(world, tta="hflip", merge="gmean").predicted == (1,)
    (world.fold(0) / runs.TEST).write_bytes(b"damaged")
    assert predict(world, tta="hflip", merge="gmean").predicted == (0,)
    about = {"competition": "c", "run": "r", "fold": 1, "folds_fingerprint": world.folds.fingerprint}
    trained_again = save_fresh(world.fold(1) / runs.MODEL, seed=99, **about)
    record = {"state": "finished", "model_fingerprint": trained_again.fingerprint}
    files.write_json(world.fold(1) / runs.FOLD_RECORD, record)
    assert predict(world, tta="hflip", merge="gmean").predicted == (1,)


def test_without_control_rows_an_old_file_goes(world):
    predict(world)
    predict(world, tta="hflip", control=0, oof=False)
    assert not (world.fold(0) / runs.CONTROL).exists()
    assert not (world.fold(0) / runs.OOF_VIEWS).exists()


def test_images_that_training_left_out_stay_out(world):
    oof = read(world, 0, runs.OOF)
    bad = oof.ids[3]
    path = next(row.path for row in world.competition.train if row.id == bad)
    path.write_bytes(b"")
    oof.take([row_id for row_id in oof.ids if row_id != bad]).write(world.fold(0) / runs.OOF)
    for fold in range(N_FOLDS):
        record = json.loads((world.fold(fold) / runs.FOLD_RECORD).read_text())
        files.write_json(world.fold(fold) / runs.FOLD_RECORD, {**record, "left_out": [bad]})
    predict(world, tta="hflip")
    assert bad not in read(world, 0, runs.CONTROL).ids
    assert bad not in read(world, 0, runs.OOF_VIEWS).ids


def test_an_unreadable_test_image_stops_before_anything_is_written(world):
    world.competition.test[4].path.write_bytes(b"nothing")
    with pytest.raises(ImageError, match="0004"):
        predict(world)
    assert not (world.fold(0) / runs.TEST).exists()


def test_only_finished_folds_are_predicted(world):
    files.write_json(world.fold(1) / runs.FOLD_RECORD, {"state": "running"})
    assert predict(world).predicted == (0,)
    files.write_json(world.fold(0) / runs.FOLD_RECORD, {"state": "running"})
    with pytest.raises(DataError, match="no finished fold"):
        predict(world)


def test_a_model_of_another_fold_is_refused(world):
    (world.fold(1) / runs.MODEL).write_bytes((world.fold(0) / runs.MODEL).read_bytes())
    with pytest.raises(DataError, match=r"fold1.*is not the model.*fold, model_fingerprint"):
        predict(world)


def test_a_model_of_other_classes_is_refused(world):
    save_fresh(world.fold(0) / runs.MODEL, classes=Classes(CLASSES.names[::-1]))
    with pytest.raises(ClassMappingError, match="another order"):
        predict(world)


def test_folds_of_another_competition_are_refused(world):
    other = FoldTable(world.folds.ids, world.folds.labels, world.folds.groups, 1 - world.folds.assignments, N_FOLDS, CLASSES)
    with pytest.raises(FoldError, match="trained on other folds"):
        predict(world, folds=other)


@pytest.mark.parametrize("options", [{"tta": "hflop"}, {"merge": "median"}])
def test_unknown_views_and_merges(world, options):
    with pytest.raises(ConfigError, match="unknown"):
        predict(world, **options)


def test_progress_reaches_its_total_over_all_passes(world):
    seen = []
    predict(world, tta="hflip", control=10, progress=lambda done, total: seen.append((done, total)))
    total = N_TEST + 10 + N_TRAIN
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


def test_all_runs_with_their_own_configuration(world):
    runs.write_run_record(world.workspace.run_dir("begun"), replace(world.run.record, name="begun"))
    (summary,) = predict_runs(world.setup)
    assert summary.run == "r"
    compute = compute_of(world.workspace, world.run, engine="torch", workers=None)
    assert (compute.batch_size, compute.workers, compute.engine) == (8, 0, "torch")


def test_exchanged_test_images_are_predicted_again_and_named(world, caplog):
    predict(world)
    before = read(world, 0, runs.TEST)
    one, other = (world.competition.test[row].path for row in (2, 5))
    pixels = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(pixels)
    assert predict(world).predicted == (0, 1)
    assert "contents of 2 of 14 test images have changed: 0002, 0005" in caplog.text
    after = read(world, 0, runs.TEST)
    np.testing.assert_allclose(after.take(["0002", "0005"]).probs, before.take(["0005", "0002"]).probs, atol=1e-5)
    assert predict(world).predicted == ()


@pytest.fixture
def clock(monkeypatch):
    """A clock on which each pass of an image takes a second; parts are of three images."""
    now = [0.0]

    class Slow(workers.Predictor):
        def __init__(self, models, rows, **options):
            self.each = len(models) * (2 if "hflip" in options["tta"] else 1)
            super().__init__(models, rows, **options)

        def predict(self, part=None, *, progress=None):
            now[0] += self.each * len(part)
            return super().predict(part, progress=progress)

    monkeypatch.setattr(time_limit, "_FIRST", 3)
    monkeypatch.setattr(time_limit, "_SMALLEST", 2)
    monkeypatch.setattr(workers, "Predictor", Slow)
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    return now


def limit(clock, seconds):
    return TimeLimit(seconds, started=0.0, clock=lambda: clock[0])


def test_views_that_there_is_no_time_for_are_left_out_of_every_file(world, clock):
    """All takes (14 + 6) x 4 passes and 30 x 2 for out-of-fold rows, 140 s; without views 40 s, and what was done before."""
    summary = predict(world, tta="hflip", control=6, limit=limit(clock, 120))
    assert summary.predicted == (0, 1)
    assert summary.left_out == ("the hflip views of run r",)
    assert "left out: the hflip views of run r" in summary.describe()
    assert clock[0] <= 120
    for fold in range(N_FOLDS):
        test, control = read(world, fold, runs.TEST), read(world, fold, runs.CONTROL)
        assert test.meta["views"] == control.meta["views"] == "none"
        assert test.meta["left_out"] == {"views": "hflip", "folds": [], "in_words": ["the hflip views of run r"]}
        assert not (world.fold(fold) / runs.OOF_VIEWS).exists()
    plain = [read(world, fold, runs.TEST).probs for fold in range(N_FOLDS)]
    predict(world, control=5)
    for fold, probs in enumerate(plain):
        np.testing.assert_allclose(read(world, fold, runs.TEST).probs, probs, atol=1e-6)


def test_a_fold_that_there_is_no_time_for_is_left_out_and_made_up_for_later(world, clock):
    predict(world, control=5)
    clock[0] = 0.0
    assert predict(world, control=6, limit=limit(clock, 34)).left_out == ("fold 1 of run r",)
    assert not (world.fold(1) / runs.TEST).exists()  # one of the earlier call would be taken for this one's
    assert read(world, 0, runs.TEST).meta["left_out"]["folds"] == [1]
    assert [fold.fold for fold in runs.predicted_folds(world.run)] == [0]
    assert len(runs.read_test(world.run)) == 1
    assert predict(world, control=6).predicted == (1,)
    assert len(runs.read_test(world.run)) == 2


def test_a_time_limit_that_does_not_suffice_for_one_fold_writes_nothing(world, clock):
    with pytest.raises(ConfigError, match="time limit is too short"):
        predict(world, control=6, limit=limit(clock, 15))
    assert not (world.fold(0) / runs.TEST).exists()


def test_every_row_carries_the_pixels_of_its_own_image(world):
    predict(world, tta="hflip", control=10)
    for name in (runs.TEST, runs.CONTROL, runs.OOF_VIEWS):
        tables = [read(world, fold, name) for fold in range(N_FOLDS)]
        for table in tables:
            assert table.of_other_images() == ()
            assert len(np.unique(table.pixels)) == len(table)
        if name != runs.OOF_VIEWS:
            np.testing.assert_array_equal(tables[0].pixels, tables[1].take(tables[0].ids).pixels)
    one = next(row.path for row in world.competition.test if row.id == read(world, 0, runs.TEST).ids[3])
    assert (
        batch_hashes(torch.from_numpy(pixels_of(one, world))[None].permute(0, 3, 1, 2))[0]
        == read(world, 0, runs.TEST).pixels[3, 0]
    )


def pixels_of(path, world):
    spec = job.load_model(world.fold(0) / runs.MODEL).spec
    return eval_transform(spec)(source_for(spec)(path), 0)


def test_rows_that_slide_take_their_pixels_along(world, monkeypatch):
    spoil(monkeypatch, lambda said: np.roll(said, 1, axis=1))
    predict(world)
    assert set(read(world, 0, runs.TEST).of_other_images()) == {row.id for row in world.competition.test}


def test_runs_with_the_same_input_share_the_decoding(world, monkeypatch):
    shutil.copytree(world.workspace.run_dir("r"), world.workspace.run_dir("s"))
    made = []

    class Spy(workers.Predictor):
        def __init__(self, models, rows, **options):
            made.append(len(models))
            super().__init__(models, rows, **options)

    monkeypatch.setattr(workers, "Predictor", Spy)
    found = predict_runs(world.setup, options=PredictOptions(engine="torch"))
    assert [one.predicted for one in found] == [(0, 1), (0, 1)]
    assert made == [4]
    np.testing.assert_allclose(
        read_predictions(world.workspace.fold_dir("s", 1) / runs.TEST).probs, read(world, 1, runs.TEST).probs, atol=1e-6
    )

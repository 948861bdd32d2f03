"""Runs of specialists: trained on groups of confused classes from another run's models, and runs like any other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_teaching import COMPUTE, world

from kaggle_kit import runs
from kaggle_kit.errors import ConfigError, DataError, FoldError
from kaggle_kit.events import EpochEnded
from kaggle_kit.folds import pairs_of
from kaggle_kit.inference import PredictOptions
from kaggle_kit.inference.job import make_job
from kaggle_kit.inference.run import predict_jobs
from kaggle_kit.models import load_model
from kaggle_kit.runs.provenance import seen_by_fold
from kaggle_kit.specialists import groups_of
from kaggle_kit.tables import read_predictions
from kaggle_kit.training import TrainOptions, prepare_run, train_run

GROUP = ("strategy=specialists", "init_from=general", "specialists.groups=[[red, green]]")
FOUND = ("strategy=specialists", "init_from=general", "specialists.confused_by=teacher", "specialists.largest=2")


def train(tiny, name, *overrides, fold="all", folds=None, **options):
    return train_run(tiny.setup(*overrides), TrainOptions(name, fold), folds=folds or tiny.folds, **options)


def oof(tiny, run, fold):
    return read_predictions(tiny.workspace.fold_dir(run, fold) / runs.OOF)


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_run_of_specialists_is_a_run_like_any_other(tmp_path, multilabel):
    tiny = world(tmp_path, multilabel=multilabel)
    train(tiny, "general", fold="0,1")
    summary = train(tiny, "special", *GROUP, fold="0,1")
    assert summary.n_oof == 24
    run = runs.read_run(tiny.workspace, "special")
    for fold in run.finished_folds():
        before, after = oof(tiny, "general", fold.fold), oof(tiny, "special", fold.fold)
        assert before.ids == after.ids
        red, green, blue = (tiny.competition.classes.index(name) for name in ("red", "green", "blue"))
        if not multilabel:
            mass = before.probs[:, [red, green]].sum(axis=1)
            np.testing.assert_allclose(after.probs[:, [red, green]].sum(axis=1), mass, atol=1e-5)
        np.testing.assert_allclose(before.probs[:, blue], after.probs[:, blue], atol=1e-5)
        assert np.abs(before.probs[:, red] - after.probs[:, red]).max() > 1e-3
        assert {path.name for path in fold.path.iterdir() if not path.name.startswith("events")} >= {runs.MODEL, runs.OOF}
        assert not list(fold.path.glob("specialist*"))
        assert fold.record.parameters == 2 * runs.read_run(tiny.workspace, "general").folds[0].record.parameters
        seen = {(one.run, one.fold) for one in seen_by_fold(run, fold, tiny.workspace)}
        assert seen == {("special", fold.fold), ("general", fold.fold)}
    history = (run.path / "fold0" / runs.HISTORY).read_text().splitlines()
    general = runs.read_run(tiny.workspace, "general").folds[0].record.score
    assert float(history[1].split(",")[3]) == pytest.approx(general)
    assert float(history[2].split(",")[3]) == pytest.approx(run.folds[0].record.score)
    predict_jobs([make_job(tiny.workspace, tiny.competition, run, tiny.folds, PredictOptions("hflip"), compute=COMPUTE)])
    assert len(runs.read_test(run)[0]) == len(tiny.competition.test)


def test_a_stopped_run_goes_on_with_the_numbers_of_one_that_was_not(tmp_path):
    tiny = world(tmp_path)
    train(tiny, "general", fold="0")
    two = (*GROUP[:2], "specialists.groups=[[red, blue]]")
    train(tiny, "whole", *two, fold="0")

    class Killed(Exception):
        pass

    for epoch in (1, 2):  # in the middle, and with the specialist trained but nothing put together

        def kill(event, epoch=epoch):
            if isinstance(event, EpochEnded) and event.row.epoch == epoch and event.metric == "log_loss":
                raise Killed

        with pytest.raises(Killed):
            train(tiny, "parts", *two, fold="0", reporter=kill)
    train(tiny, "parts", *two, fold="0")
    np.testing.assert_array_equal(oof(tiny, "whole", 0).probs, oof(tiny, "parts", 0).probs)


def test_a_finished_specialist_is_not_trained_again(tmp_path, monkeypatch):
    from kaggle_kit.training import specialists

    tiny = world(tmp_path)
    train(tiny, "general", fold="0")

    def fail(*args, **options):
        raise RuntimeError

    monkeypatch.setattr(specialists, "_finish", fail)
    with pytest.raises(RuntimeError):
        train(tiny, "special", *GROUP, fold="0")
    monkeypatch.undo()
    epochs = []
    train(
        tiny,
        "special",
        *GROUP,
        fold="0",
        reporter=lambda event: epochs.append(event) if isinstance(event, EpochEnded) else None,
    )
    assert [event.metric for event in epochs] == ["accuracy"]  # the fold's own


def teacher(tiny):
    """Train a quick run on pairs of folds that does not tell classes well."""
    table = pairs_of(tiny.folds, "folds")
    how = ("strategy=probe", "hardware.engine=torch", "augment=none", "probe.strengths=[30.0]", "folds=pairs")
    train(tiny, "teacher", *how, folds=table)


def test_groups_are_found_without_any_label_of_the_validated_fold(tmp_path):
    planted = [number for number in range(36) if number // 3 % 3 == 0]
    found = []
    for name, wrong in (("a", ()), ("b", planted)):
        tiny = world(tmp_path / name, wrong=wrong)
        teacher(tiny)
        train(tiny, "general", "epochs=1", fold="0")
        groups = groups_of(tiny.setup(*FOUND), tiny.folds, fold=0)
        assert {one.run for one in groups.seen} == {"teacher"}
        found.append(groups.names)
    assert found[0] == found[1]
    assert len(found[0]) == 1
    assert len(found[0][0]) == 2


def test_groups_need_models_that_have_not_seen_the_fold(tmp_path):
    tiny = world(tmp_path)
    train(tiny, "general", "epochs=1")
    with pytest.raises(DataError, match="kk folds --pairs-of"):
        groups_of(tiny.setup(*FOUND[:2], "specialists.confused_by=general"), tiny.folds, fold=0)


def test_what_cannot_begin_is_refused_before_anything_is_written(tmp_path):
    tiny = world(tmp_path)
    train(tiny, "general", "epochs=1", fold="0")
    other = dataclasses.replace(tiny.folds, assignments=(tiny.folds.assignments + 1) % 3)
    cases = [
        (GROUP, tiny.folds, 1, FoldError, "run general has no finished fold 1 to begin from"),
        ((*GROUP, "image_size=48"), tiny.folds, 0, ConfigError, "data.image_size: 32 there, 48 here"),
        ((*GROUP, "model=test_vit"), tiny.folds, 0, ConfigError, "a model of its own architecture"),
        ((*GROUP, "model.head.dropout=0.5"), tiny.folds, 0, ConfigError, "model.head: "),
        ((*GROUP[:2], "specialists.groups=[[red, gren]]"), tiny.folds, 0, ConfigError, "gren.*Did you mean"),
        (GROUP, other, 0, FoldError, "not in .*folds any more|was trained on"),
    ]
    for overrides, folds, fold, error, match in cases:
        with pytest.raises(error, match=match):
            train(tiny, "special", *overrides, fold=str(fold), folds=folds)
        assert not (tiny.workspace.run_dir("special") / runs.RUN_RECORD).exists()


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["strategy=specialists"], "needs init_from"),
        (["strategy=specialists", "init_from=a"], "one of the two"),
        (
            ["strategy=specialists", "init_from=a", "specialists.groups=[[x, y]]", "specialists.confused_by=b"],
            "one of the two",
        ),
        (["specialists.count=2"], "is for strategy: specialists"),
        ([*GROUP, "schedule=cyclic", "epochs=4", "snapshots=1"], "leave snapshots out"),
        (["strategy=specialists", "init_from=a", "specialists.groups=[[x, y], [y, z]]"], "found twice: y"),
        (["strategy=specialists", "init_from=a", "specialists.groups=[[x]]"], "specialists.groups"),
    ],
)
def test_senseless_settings_are_refused(tmp_path, overrides, match):
    with pytest.raises(ConfigError, match=match):
        world(tmp_path).config(*overrides)


def test_a_group_without_images_to_validate_on_stays_as_the_general_model_is(tmp_path, caplog):
    tiny = world(tmp_path)
    keep = [row for row in range(36) if not (row // 3 % 3 == 0 and row % 3 in (0, 1))]  # fold 0 validates on blue alone
    part = dataclasses.replace(
        tiny.folds,
        ids=tuple(tiny.folds.ids[row] for row in keep),
        labels=tuple(tiny.folds.labels[row] for row in keep),
        groups=tiny.folds.groups[keep],
        assignments=tiny.folds.assignments[:, keep],
    )
    part.write(tiny.workspace.folds_path("folds"))
    train(tiny, "general", "epochs=1", fold="0", folds=part)
    train(tiny, "special", *GROUP, fold="0", folds=part)
    assert "too few images of red, green" in caplog.text
    np.testing.assert_allclose(oof(tiny, "general", 0).probs, oof(tiny, "special", 0).probs, atol=1e-6)
    assert load_model(tiny.workspace.fold_dir("special", 0) / runs.MODEL).name == "test_resnet.r160_in1k"


def test_there_are_no_specialists_for_all_data(tmp_path):
    tiny = world(tmp_path)
    train(tiny, "general", "epochs=1", fold="0")
    train(tiny, "general", "epochs=1", fold="full")
    with pytest.raises(ConfigError, match="there is no model of all data"):
        train(tiny, "special", *GROUP, fold="full")


def test_rows_keep_their_images(tmp_path):
    tiny = world(tmp_path)
    (job, *_) = prepare_run(tiny.setup(), tiny.folds, run="r", fold_list=[0])
    rows = job.valid
    several = dataclasses.replace(rows, images=[image for image in rows.images for _ in range(2)])
    some = several.take(np.array([1, 4]))
    assert some.owners.ids == (rows.ids[1], rows.ids[4])
    assert len(some.images) == 4
    np.testing.assert_array_equal(some.truth, rows.truth[[1, 4]])
    each = several.each_image().take(np.array([2, 3, 8]))
    assert each.ids == [rows.ids[1], rows.ids[1], rows.ids[4]]
    np.testing.assert_array_equal(each.truth, rows.truth[[1, 1, 4]])

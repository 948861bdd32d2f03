"""Folds that begin from the same folds of an earlier run."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_competition import Tiny, at_epochs, make_tiny

from kaggle_kit import runs
from kaggle_kit.competition import ImageRow
from kaggle_kit.errors import ConfigError, FoldError, MissingFileError
from kaggle_kit.runs.provenance import seen_by
from kaggle_kit.tables import Classes, FoldTable
from kaggle_kit.training.learner import make_model
from kaggle_kit.training.prepare import prepare_run
from kaggle_kit.training.run import TrainOptions, train_run


def train(tiny, *overrides, run="second", fold="all", **options):
    return train_run(tiny.setup("epochs=1", *overrides), TrainOptions(run, fold), folds=tiny.folds, **options)


def scores_of(tiny, run):
    return {fold.fold: fold.record.score for fold in runs.read_run(tiny.workspace, run).folds if fold.finished}


def start_of(tiny, *overrides, fold=0):
    """Return the weights that a fold begins with, and those of the run that it begins from."""
    (job,) = prepare_run(tiny.setup(*overrides, "init_from=first"), tiny.folds, run="new", fold_list=[fold], restart=True)
    begun, _ = make_model(job)
    return job, begun.state_dict(), load_file(tiny.workspace.fold_dir("first", fold) / runs.MODEL)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A competition with a run to begin from."""
    torch.set_num_threads(1)
    tiny = make_tiny(tmp_path_factory.mktemp("tiny"))
    tiny.folds.write(tiny.workspace.folds_path("kept"))
    train(tiny, "epochs=3", run="first")
    return tiny


def test_each_fold_begins_from_its_own_and_never_ends_below(first):
    begun = {}
    train(first, "init_from=first", "lr=5", "nan=skip", reporter=at_epochs(lambda fold, row: begun.setdefault(fold, row.score)))
    assert begun == pytest.approx(scores_of(first, "first"))  # epoch 0 is the score of what it began from
    assert min(begun.values()) > 0.5
    assert scores_of(first, "second") == pytest.approx(begun)  # a rate that ruins the model leaves what it began from
    for fold in runs.read_run(first.workspace, "second").folds:
        assert fold.record.epoch == 0
        assert fold.record.weights == f"weights of fold {fold.fold} of run first"
        assert [(one.run, one.fold) for one in seen_by(fold.path / runs.MODEL)] == [("second", fold.fold), ("first", fold.fold)]


def test_weights_are_the_same_but_for_another_size(first):
    for override in ("image_size=32", "image_size=48"):
        job, begun, given = start_of(first, override, fold=1)
        assert job.starts_trained
        assert all(torch.equal(begun[name], given[name]) for name in given)


@pytest.mark.parametrize(
    "override",
    ["model.head={name: mlp, hidden: [8]}", "model.head={pool: gem}", "model.head={pool: avg-max}", "model.head.name=cosine"],
)
def test_another_head_begins_anew(first, override):
    job, begun, given = start_of(first, override)
    assert not job.starts_trained
    assert job.weights.text.endswith("its head begins anew")
    same = [name for name in given if name in begun and torch.equal(begun[name], given[name])]
    assert all(name in same for name in given if not name.startswith("fc."))
    assert not any(name.startswith("fc.weight") for name in same)


def test_a_pooling_that_learns_is_left_behind(tmp_path):
    tiny = make_tiny(tmp_path)
    train(tiny, "model.head={pool: gem}", run="first", fold="0")
    job, begun, _ = start_of(tiny)
    assert not job.starts_trained
    assert not any("pooling" in name for name in begun)


@pytest.mark.parametrize("names", [("a", "b", "c"), ("blue", "red", "green"), ("a", "b")])
def test_other_classes_get_a_new_head(first, names):
    """As many, the same in another order, or fewer: the head of one class is never taken for another."""
    kept = [row for row in range(36) if row % 3 < len(names)]
    classes = Classes(names)
    rows = tuple(replace(first.competition.train[row], labels=(classes.names[row % 3],)) for row in kept)
    labels = tuple(row.labels for row in rows)
    ids = tuple(row.id for row in rows)
    folds = FoldTable(ids, labels, np.array(kept), first.folds.assignments[:, kept], 3, classes, False, {})
    other = Tiny(first.workspace, replace(first.competition, classes=classes, train=rows), folds)
    job, begun, given = start_of(other)
    assert not job.starts_trained
    assert all(torch.equal(begun[name], given[name]) for name in given if not name.startswith("fc."))
    assert not torch.equal(begun["fc.weight"], given["fc.weight"][: len(names)])
    assert begun["fc.weight"].shape[0] == len(names)


def test_a_run_that_cannot_be_begun_from_is_refused_before_anything_is_written(first, tmp_path):
    tiny = make_tiny(tmp_path)
    tiny.folds.write(tiny.workspace.folds_path("kept"))
    train(tiny, run="part", fold="0-1")
    for overrides, fold, error, message in (
        (["init_from=none"], "0", MissingFileError, "no run 'none'.*part"),
        (["init_from=part"], "all", FoldError, "run part has no finished fold 2 to begin from; it has 0, 1"),
        (["init_from=wrong"], "0", ConfigError, "cannot begin from itself"),
        (["init_from=part", "model=test_vit"], "0", ConfigError, "run part is of model test_resnet.*got test_vit"),
    ):
        with pytest.raises(error, match=message):
            train(tiny, *overrides, run="wrong", fold=fold)
        assert not (tiny.workspace.run_dir("wrong") / runs.RUN_RECORD).exists()
    train(tiny, "init_from=part", fold="0")


def test_folds_that_do_not_agree_are_named(first):
    rolled = replace(first.folds, assignments=np.roll(first.folds.assignments, 3, axis=1))
    with pytest.raises(
        FoldError, match=r"not those of this run:\n  fold 0: fold 0 of run 'first' was trained on 12 (.|\n)*fold 2:"
    ):
        train(replace(first, folds=rolled), "init_from=first", run="leaky")


def test_a_source_that_was_trained_anew_is_begun_from_anew(tmp_path):
    tiny = make_tiny(tmp_path)
    train(tiny, run="first", fold="0")
    train(tiny, "init_from=first", fold="0")
    assert train(tiny, "init_from=first", fold="0").trained == ()
    train_run(tiny.setup("epochs=2"), TrainOptions("first", "0", restart=True), folds=tiny.folds)
    assert train(tiny, "init_from=first", fold="0").trained == (0,)


def test_new_images_are_trained_on_from_the_last_models(tmp_path):
    """The table is extended: old rows keep their folds, so that no fold is validated on what its start has seen."""
    from kaggle_kit.config import FoldsConfig
    from kaggle_kit.folds import make_folds

    tiny = make_tiny(tmp_path)
    tiny.folds.write(tiny.workspace.folds_path("kept"))
    train(tiny, "epochs=3", run="first")
    more = []
    for row in tiny.competition.train[:9]:
        path = row.path.with_name(f"new-{row.path.name}")
        path.write_bytes(row.path.read_bytes())
        more.append(ImageRow(path.name, path, row.labels, None, False, None))
    competition = replace(tiny.competition, train=(*tiny.competition.train, *more))
    config = FoldsConfig(n_folds=3, duplicates="off")
    grown = replace(tiny, competition=competition, folds=make_folds(competition, config, before=tiny.folds))
    assert np.bincount(grown.folds.assignments[0]).tolist() == [15, 15, 15]
    summary = train(grown, "init_from=first")
    assert min(summary.scores) >= 0.5
    history = pd.read_csv(grown.workspace.fold_dir("second", 0) / runs.HISTORY)
    assert history["accuracy"].iloc[0] > 0.5
    fresh = replace(grown, folds=make_folds(competition, config.model_copy(update={"seed": 3})))
    with pytest.raises(FoldError, match="was trained on"):
        train(fresh, "init_from=first", run="leaky")


@pytest.mark.parametrize("strategy", ["probe", "probe-then-finetune"])
def test_a_head_is_fitted_to_the_features_of_each_folds_own_start(first, strategy):
    summary = train(first, "init_from=first", f"strategy={strategy}", run=strategy)
    assert min(summary.scores) > 0.5
    seen = seen_by(first.workspace.fold_dir(strategy, 2) / runs.MODEL)
    assert [(one.run, one.fold) for one in seen] == [(strategy, 2), ("first", 2)]

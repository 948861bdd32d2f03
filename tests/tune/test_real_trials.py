"""Trials that really train a tiny model: the same as ``kk train`` with the same settings."""

import math

import pytest
from tiny_search import Silent

from kaggle_kit.competition import Setup
from kaggle_kit.config import load_config
from kaggle_kit.training import TrainOptions
from kaggle_kit.tune import TuneOptions, tune

pytestmark = pytest.mark.usefixtures("pages")


def test_a_search_trains_prunes_and_its_best_trains_again(search):
    from kaggle_kit.training import train_run

    space = search.write_space("lr: {log: [1e-4, 1e-1]}\nmodel: {categorical: [test_resnet, nosuchmodel]}\n")
    config = search.with_run("model=test_resnet", "pretrained=false", "image_size=32", "epochs=2", "workers=0", "lr=0.01")
    reporter = Silent()
    result = search.tune(reporter, config=config, space=space, trials=4, promote=0.5, pruner="median", seed=1)
    assert {row.changes.get("model.name") for row in result.rows} >= {"nosuchmodel"}
    for row in result.rows:
        unknown = row.changes.get("model.name") == "nosuchmodel"
        assert (row.state == "failed") == unknown
        assert ("nosuchmodel" in (row.error or "")) == unknown
    assert {fold for number, fold, _ in reporter.epochs if number == 0} == {0, 1, 2}
    assert len(result.rows[0].scores) == 3
    assert [epoch for number, fold, epoch in reporter.epochs if (number, fold) == (0, 0)] == [0, 1, 2]
    best = load_config(search.workspace.config_path, run_file=result.best_path)
    again = train_run(Setup(search.workspace, best, search.competition), TrainOptions("again", "0"), folds=search.folds)
    assert again.mean == result.best.score


def test_probes_are_tuned(search):
    config = search.with_run(
        "model=test_resnet", "pretrained=false", "image_size=32", "workers=0", "strategy=probe", "augment=none"
    )
    options = TuneOptions(trials=3)
    result = tune(Setup(search.workspace, config, search.competition), options, folds=search.folds, reporter=Silent())
    assert [row.state for row in result.rows] == ["complete"] * 3
    assert [row.epochs for row in result.rows] == [(1, 1)] * 3
    assert not any(math.isnan(row.score) for row in result.rows)
    assert load_config(search.workspace.config_path, run_file=result.best_path).run.strategy == "probe"

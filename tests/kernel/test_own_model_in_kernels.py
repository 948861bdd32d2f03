"""A model that a file of the workspace makes: trained, predicted, blended, and taken along by both kinds of kernel."""

import shutil

import numpy as np
import pytest

from kaggle_kit import kernel, runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.competition import open_setup
from kaggle_kit.errors import ConfigError, DataError, WeightsError
from kaggle_kit.inference import PredictOptions, predict_runs
from kaggle_kit.kernel import Address, Content
from kaggle_kit.tables import read_predictions
from kaggle_kit.training import TrainOptions, train_run
from kaggle_kit.workspace import Workspace

NET = """
from torch import nn

def make(n_classes, width=8):
    features = nn.Sequential(nn.Conv2d(3, width, 5, 4), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(features, nn.Flatten(), nn.Linear(width, n_classes))
"""
ENTRIES = [
    *("model=own/net.py:make", "model.options={width: 6}", "image_size=32", "epochs=2", "batch_size=6", "workers=0"),
    *("augment=none", "hardware.engine=torch"),
]


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """A workspace with a run of the own model, predicted and blended, and its setup."""
    home = tmp_path_factory.mktemp("own") / "home"
    shutil.copytree(world.workspace.root, home)
    (home / "own").mkdir()
    (home / "own/net.py").write_text(NET)
    setup = open_setup(Workspace(home), ENTRIES)
    train_run(setup, TrainOptions("net"))
    predict_runs(setup, ["net"], PredictOptions("hflip", control=4))
    blend(setup, runs=["net"], name="own")
    return setup


@pytest.fixture
def copied(trained, tmp_path):
    """The same, to be changed."""
    shutil.copytree(trained.workspace.root, tmp_path / "home")
    return open_setup(Workspace(tmp_path / "home"), ENTRIES)


def test_it_is_trained_and_predicted_like_any_other(trained):
    run = runs.read_run(trained.workspace, "net")
    assert [fold.record.model for fold in run.folds] == ["own/net.py:make"] * 2
    assert len(run.folds[0].record.inputs_fingerprint) == 64
    assert all((fold.path / runs.TEST).is_file() for fold in run.folds)


def test_a_changed_file_is_another_input(copied):
    assert train_run(copied, TrainOptions("net")).trained == ()
    net = copied.workspace.root / "own/net.py"
    net.write_text(NET + "# changed\n")
    with pytest.raises((DataError, WeightsError), match="another version"):
        predict_runs(copied, ["net"], PredictOptions("none", control=4))
    with pytest.raises(DataError, match=r"has changed since fold 0 of run net was trained"):
        kernel.build_kernel(copied, copied.workspace.root / "k", Address("ada"), Content(("net",), force=True))
    assert train_run(copied, TrainOptions("net")).trained == (0, 1)
    predict_runs(copied, ["net"], PredictOptions("none", control=4))


def test_a_file_that_is_not_there_is_said_at_once(copied):
    (copied.workspace.root / "own/net.py").unlink()
    with pytest.raises(ConfigError, match=r"model 'own/net\.py:make': there is no own/net\.py in"):
        open_setup(copied.workspace, ENTRIES)
    with pytest.raises(ConfigError, match=r"there is no own/net\.py in"):
        train_run(copied, TrainOptions("other"))
    assert not (copied.workspace.run_dir("other") / runs.RUN_RECORD).exists()


def test_an_inference_kernel_takes_the_file_along(trained, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(trained.workspace.root, home)
    setup = open_setup(Workspace(home), ENTRIES)
    built = kernel.build_kernel(setup, tmp_path / "k", Address("ada"), Content(blend="own", force=True))
    expected = read_predictions(home / "submissions/own.probs.parquet")
    shutil.copytree(built.dataset, tmp_path / "input/x")
    shutil.copytree(setup.workspace.root / "data", tmp_path / "input/colours")
    shutil.rmtree(home)
    result = kernel.run_inference_kernel(tmp_path / "input", tmp_path / "working")
    assert (result.passed, result.n_prior, result.left_out) == (True, 0, ())
    found = read_predictions(tmp_path / "working/submission.probs.parquet")
    np.testing.assert_allclose(found.take(expected.ids).probs, expected.probs, atol=1e-5)


def test_a_training_kernel_takes_the_file_along(trained, tmp_path):
    built = kernel.build_kernel(trained, tmp_path / "k", Address("ada"), Content(train=True))
    shutil.copytree(built.dataset, tmp_path / "input/x")
    shutil.copytree(trained.workspace.root / "data", tmp_path / "input/colours")
    result = kernel.run_training_kernel(tmp_path / "input", tmp_path / "working")
    assert (result.finished, result.failed) == (True, None)
    there = runs.read_run(Workspace(tmp_path / "working/kk"), result.run)
    here = runs.read_run(trained.workspace, "net")
    for folds in zip(there.folds, here.folds, strict=True):
        one, other = (read_predictions(fold.path / runs.OOF).probs for fold in folds)
        np.testing.assert_allclose(one, other, atol=1e-5)

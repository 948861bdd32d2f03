import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaggle_kit import kernel, runs
from kaggle_kit.competition import open_setup
from kaggle_kit.config import FoldsConfig, load_config
from kaggle_kit.errors import DataError
from kaggle_kit.folds import create_folds, pairs_of
from kaggle_kit.inference import predict_runs
from kaggle_kit.kernel import Address, Content
from kaggle_kit.kernel.bundle import read_bundle
from kaggle_kit.kernel.training import TrainingResult
from kaggle_kit.runs.provenance import seen_by
from kaggle_kit.tables import read_folds, read_predictions
from kaggle_kit.training import TrainOptions, train_run
from kaggle_kit.workspace import Workspace

ENTRIES = ["model=test_resnet", "pretrained=false", "image_size=32", "epochs=2", "batch_size=6", "workers=0", "augment=none"]


@pytest.fixture(scope="module")
def trainer(world, tmp_path_factory):
    """Builds the inputs of a session: the dataset and the data, and outputs of earlier sessions."""
    out = tmp_path_factory.mktemp("training") / "k"
    config = load_config(world.workspace.config_path, ENTRIES)
    built = kernel.build_kernel(replace(world.setup, config=config), out, Address("somebody"), Content(train=True))

    def session(root, *, before=None, stop_at="never", damaged=None, **options) -> tuple[TrainingResult, list[str]]:
        shutil.copytree(built.dataset, root / "input/datasets/somebody/x")
        if damaged is not None:
            path = root / "input/datasets/somebody/x" / damaged
            path.write_bytes(path.read_bytes()[::-1])
        shutil.copytree(world.data, root / "input/competitions/colours")
        if before is not None:
            shutil.copytree(before, root / "input/notebooks/somebody/colours-training")
        lines: list[str] = []

        def say(line):
            lines.append(line)
            if stop_at in line:
                os.kill(os.getpid(), signal.SIGTERM)

        return kernel.run_training_kernel(root / "input", root / "working", say=say, **options), lines

    return session


def oof(root, run):
    return [read_predictions(fold.path / runs.OOF) for fold in runs.read_run(Workspace(root / "working/kk"), run).folds]


def test_sessions_go_on_from_each_others_output_and_give_the_same(trainer, tmp_path):
    whole, lines = trainer(tmp_path / "whole")
    assert whole.finished
    assert any("training begins" in line for line in lines)
    assert any("finished: log_loss" in line for line in lines)  # the package's log reaches the notebook
    first, _ = trainer(tmp_path / "first", stop_at="fold 1  epoch 1/2")
    assert not first.finished
    assert list(first.scores) == [0]
    assert "attach this notebook's output" in str(first)
    second, lines = trainer(tmp_path / "second", before=tmp_path / "first" / "working")
    assert any("going on from" in line and "finished folds: 1," in line for line in lines)
    assert not any("fold 0  epoch" in line for line in lines)
    assert second.finished
    assert second.scores == whole.scores
    for one, other in zip(oof(tmp_path / "whole", whole.run), oof(tmp_path / "second", second.run), strict=True):
        np.testing.assert_array_equal(one.probs, other.probs)
    assert not (tmp_path / "second/working/kk/.kk_cache").exists()


def test_finished_folds_are_not_trained_again(trainer, tmp_path):
    whole, _ = trainer(tmp_path / "whole")
    again, lines = trainer(tmp_path / "again", before=tmp_path / "whole" / "working")
    assert again.scores == whole.scores
    assert any("finished folds: 2," in line for line in lines)
    assert not any("epoch 1/2" in line for line in lines)


def test_the_output_that_has_come_furthest_is_taken(trainer, tmp_path):
    whole, _ = trainer(tmp_path / "whole")
    first, _ = trainer(tmp_path / "first", budget_seconds=0.0)
    assert "time limit" in str(first.stopped)
    both = tmp_path / "both"
    both.mkdir()
    shutil.copytree(tmp_path / "first/working", both / "a")
    shutil.copytree(tmp_path / "whole/working", both / "b")
    again, lines = trainer(tmp_path / "again", before=both)
    assert any("colours-training/b/kk/runs" in line for line in lines)
    assert again.scores == whole.scores


def test_relative_folders_are_those_of_the_notebook(trainer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result, _ = trainer(Path("session"))
    assert result.finished
    assert (tmp_path / "session/working/kk/runs" / result.run / "fold1" / runs.OOF).is_file()


def test_a_damaged_fold_table_is_refused(trainer, tmp_path):
    with pytest.raises(DataError, match=r"damaged.*folds.csv: its sha256"):
        trainer(tmp_path, damaged="folds.csv")


def test_a_failed_fold_is_said_not_raised(trainer, tmp_path, monkeypatch):
    import kaggle_kit.training
    from kaggle_kit.errors import TrainingError

    real = kaggle_kit.training.train_run

    def fail(*args, **options):
        real(*args, **options)
        raise TrainingError("1 of 2 folds failed: the loss is NaN")

    monkeypatch.setattr(kaggle_kit.training, "train_run", fail)
    result, _ = trainer(tmp_path)
    assert result.failed == "1 of 2 folds failed: the loss is NaN"
    assert "the loss is NaN" in str(result)


def test_weights_have_the_same_path_in_every_session(world, tmp_path):
    """It is part of the run's configuration, which must not change between sessions."""
    from kaggle_kit.kernel.training import _pretrained

    weights = tmp_path / "w.safetensors"
    shutil.copy(world.workspace.fold_dir("a", 0) / runs.MODEL, weights)
    config = load_config(world.workspace.config_path, [f"pretrained={weights}", "model=test_efficientnet"])
    out = tmp_path / "k"
    built = kernel.build_kernel(replace(world.setup, config=config), out, Address("somebody"), Content(train=True))
    shutil.copytree(built.dataset, tmp_path / "elsewhere")
    paths = {_pretrained(read_bundle(folder), "pretrained.safetensors") for folder in (built.dataset, tmp_path / "elsewhere")}
    assert len(paths) == 1
    assert _pretrained(read_bundle(built.dataset), None) is False


def test_an_own_metric_is_taken_along(world, tmp_path, monkeypatch):
    """At Kaggle the fold is scored by the file of home's workspace, wherever one stands at either place."""
    home = tmp_path / "home"
    shutil.copytree(world.workspace.root, home)
    (home / "own").mkdir()
    (home / "own" / "share.py").write_text("def sevenths(truth, probs):\n    return len(truth) / 7\n")
    text = (home / "kk.yaml").read_text()
    (home / "kk.yaml").write_text(re.sub(r"(?m)^  metric: .*$", "  metric: own/share.py:sevenths", text))
    monkeypatch.chdir(tmp_path)
    built = kernel.build_kernel(open_setup(Workspace(home), ENTRIES), tmp_path / "k", Address("ada"), Content(train=True))
    shutil.rmtree(home)
    shutil.copytree(built.dataset, tmp_path / "input/x")
    shutil.copytree(world.data, tmp_path / "input/colours")
    result = kernel.run_training_kernel(tmp_path / "input", tmp_path / "working")
    assert (result.finished, result.failed) == (True, None)
    run = runs.read_run(Workspace(tmp_path / "working/kk"), result.run)
    assert [fold.record.score for fold in run.folds] == [len(read_predictions(fold.path / runs.OOF)) / 7 for fold in run.folds]


def test_the_run_to_begin_from_is_taken_along(world, tmp_path):
    """Each fold begins at Kaggle from the same fold's model of home; the models are no output of the session."""
    home = tmp_path / "home"
    shutil.copytree(world.workspace.root, home)
    setup = open_setup(Workspace(home), [*ENTRIES, "model=test_efficientnet", "epochs=1", "init_from=a"])
    before = read_folds(home / "folds" / "folds.csv")
    before.write(home / "folds" / "other.csv")  # a table with the fingerprint that run a has seen, under another name
    built = kernel.build_kernel(setup, tmp_path / "k", Address("ada"), Content(train=True))
    shutil.copytree(built.dataset, tmp_path / "input/x")
    shutil.copytree(world.data, tmp_path / "input/colours")
    shutil.rmtree(home)
    result = kernel.run_training_kernel(tmp_path / "input", tmp_path / "working")
    assert result.finished
    assert not (result.runs_dir / "a").exists()
    for fold in runs.read_run(Workspace(tmp_path / "working/kk"), result.run).folds:
        assert fold.record.weights.startswith(f"weights of fold {fold.fold} of run a")
        assert [(one.run, one.fold) for one in seen_by(fold.path / runs.MODEL)][1] == ("a", fold.fold)


def test_what_folds_learn_from_travels_without_the_models_that_said_it(world, tmp_path):
    """Soft labels of a run on pairs of folds: training at Kaggle gives what training at home does."""
    home = tmp_path / "home"
    shutil.copytree(world.workspace.root, home)
    workspace = Workspace(home)
    shutil.rmtree(workspace.runs_dir)
    folds = create_folds(workspace, world.competition, FoldsConfig(n_folds=3, duplicates="off"), force=True)
    pairs_of(folds, "folds").write(workspace.folds_path("pairs"))
    entries = [*ENTRIES, "epochs=1"]
    train_run(open_setup(workspace, [*entries, "folds=pairs"]), TrainOptions("teacher"))
    predict_runs(open_setup(workspace), ["teacher"])
    learn = ["teacher.runs=teacher", "teacher.mix=0.5", "teacher.pseudo=soft", "teacher.pseudo_confidence=0.3"]
    setup = open_setup(workspace, [*entries, *learn])
    built = kernel.build_kernel(setup, tmp_path / "k", Address("ada"), Content(train=True))
    train_run(setup, TrainOptions("here"))
    shutil.copytree(built.dataset, tmp_path / "input/x")
    shutil.copytree(world.data, tmp_path / "input/colours")
    expected = [read_predictions(workspace.fold_dir("here", fold) / runs.OOF).probs for fold in range(3)]
    shutil.rmtree(home)
    result = kernel.run_training_kernel(tmp_path / "input", tmp_path / "working")
    assert result.finished
    assert not (result.runs_dir / "teacher").exists()
    for fold, one in zip(runs.read_run(Workspace(tmp_path / "working/kk"), result.run).folds, expected, strict=True):
        np.testing.assert_array_equal(read_predictions(fold.path / runs.OOF).probs, one)
        assert [(seen.run, seen.fold) for seen in seen_by(fold.path / runs.MODEL)][1:] == [
            ("teacher", split) for split in range(3) if split != 2 - fold.fold
        ]

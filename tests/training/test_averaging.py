"""Averages of epochs and snapshots of cycles: what they are the mean of, that they compete fairly, and exact resume."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_workspace import make_small
from test_resume import Killed, kill_at, outcome, saving_always
from tiny_competition import make_tiny

from kaggle_kit import runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.config import derive
from kaggle_kit.errors import ConfigError
from kaggle_kit.files import read_json
from kaggle_kit.inference import PredictOptions, predict_runs
from kaggle_kit.metrics import get_metric
from kaggle_kit.runs.history import EpochRow
from kaggle_kit.tables import read_predictions
from kaggle_kit.training import TrainOptions, averaging, fold, loop, train_run
from kaggle_kit.training.fold import train_fold
from kaggle_kit.training.learner import WeightMean
from kaggle_kit.training.prepare import prepare_run

SWA = ("epochs=4", "average={name: swa, share: 0.5}", "keep=last", "augment=none")
SOUP = ("epochs=5", "average={name: soup, candidates: 3}", "schedule=constant", "augment=none", "lr=3e-3")
CYCLES = ("epochs=4", "schedule=warm_restarts", "schedule.options={cycles: 2}", "snapshots=2", "augment=none")


def job_of(tiny, *overrides, run="run", fold=0):
    return prepare_run(tiny.setup(*overrides), tiny.folds, run=run, fold_list=[fold], restart=True)[0]


def history(job):
    return pd.read_csv(job.folder / runs.HISTORY)


def weights_of_epochs(monkeypatch):
    """Collect the evaluated weights after each trained epoch."""
    found = {}
    real = loop.note

    def look(learner, data, config, state, checkpoints, row):
        found[row.epoch] = {name: value.clone() for name, value in learner.evaluated.state_dict().items()}
        return real(learner, data, config, state, checkpoints, row)

    monkeypatch.setattr(loop, "note", look)
    return found


def is_norm(name):
    return "running" in name or "num_batches" in name


def test_swa_is_the_mean_of_the_last_epochs_with_batch_norm_measured_anew(tiny, monkeypatch):
    found = weights_of_epochs(monkeypatch)
    job = job_of(tiny, *SWA)
    train_fold(job)
    kept = load_file(job.folder / runs.MODEL)
    for name, value in kept.items():
        mean = (found[3][name].double() + found[4][name].double()) / 2
        if not is_norm(name):
            torch.testing.assert_close(value.double(), mean, atol=1e-6, rtol=1e-6)
    moved = [name for name in kept if name.endswith("running_mean")]
    assert moved
    assert any(not torch.allclose(kept[name], (found[3][name] + found[4][name]) / 2, atol=1e-4) for name in moved)
    rows = history(job)
    assert rows["epoch"].tolist() == [0, 1, 2, 3, 4, 5]
    assert np.isnan(rows["train_loss"].iloc[-1])
    record = read_json(job.folder / runs.FOLD_RECORD, made_by="test")
    assert (record["average"], record["epoch"], record["epochs"]) == ("swa of the last 2 epochs", 5, 4)
    assert record["score"] == pytest.approx(rows["accuracy"].iloc[-1])
    assert not list(job.folder.glob("*.ckpt"))


def test_frozen_batch_norm_keeps_its_statistics(tiny, monkeypatch):
    found = weights_of_epochs(monkeypatch)
    job = job_of(tiny, *SWA, "model.freeze_bn=true")
    train_fold(job)
    kept = load_file(job.folder / runs.MODEL)
    for name in (name for name in kept if name.endswith("running_var")):
        torch.testing.assert_close(kept[name], found[0][name])


def test_an_average_that_is_worse_is_not_kept(tiny, monkeypatch):
    real = averaging.stochastic_average

    def ruined(about):
        text = real(about)
        with torch.no_grad():
            for parameter in about.learner.evaluated.parameters():
                parameter.mul_(-3)
        return text

    monkeypatch.setattr(averaging, "stochastic_average", ruined)
    job = job_of(tiny, *SWA, "keep=best", "epochs=6")
    result = train_fold(job)
    assert result.epoch <= 6
    assert result.average is None
    assert result.score == pytest.approx(history(job)["accuracy"].iloc[1:].max())


def test_a_soup_never_scores_below_the_best_epoch_and_says_that_it_was_fitted(tiny, monkeypatch):
    found = weights_of_epochs(monkeypatch)
    scores = iter([0.1, 0.5, 0.7, 0.6, 0.65, 0.3, 0.72, 0.71])  # epochs 0 to 5, then two tries: the second is no gain

    class Fake:
        name, greater_is_better = "accuracy", True
        better = staticmethod(get_metric("accuracy").better)

        def __call__(self, *_):
            return next(scores, 0.72)

    monkeypatch.setattr("kaggle_kit.training.job.get_metric", lambda *_: Fake())
    job = job_of(tiny, *SOUP)
    result = train_fold(job)
    assert (result.average, result.fitted, result.epoch) == ("soup of epochs 2, 4", True, 6)
    kept = load_file(job.folder / runs.MODEL)
    for name in (name for name in kept if name.endswith("weight")):
        torch.testing.assert_close(kept[name], (found[2][name] + found[4][name]) / 2, atol=1e-6, rtol=1e-5)


def test_the_candidates_are_the_best_and_only_they_lie_on_disk(tiny, monkeypatch):
    rows = [
        EpochRow(epoch, 0.1, loss, score, 0.1, 1.0, 1.0)
        for epoch, (score, loss) in enumerate([(0.9, 0.1), (0.5, 0.4), (0.7, 0.3), (0.7, 0.2), (float("nan"), 0.1), (0.6, 0.9)])
    ]
    best = averaging.best_epochs(rows, get_metric("accuracy"), 3)
    assert [row.epoch for row in best] == [3, 2, 5]
    assert [row.epoch for row in averaging.best_epochs(rows, get_metric("log_loss"), 2)] == [1, 5]
    seen = []
    real = averaging.keep_epoch

    def counted(job, *rest):
        real(job, *rest)
        seen.append(len(list(job.folder.glob("epoch*.ckpt"))))

    monkeypatch.setattr(fold, "keep_epoch", counted)
    train_fold(job_of(tiny, *SOUP))
    assert seen == [1, 2, 3, 3, 3]


def test_a_mean_of_weights():
    mean = WeightMean(2)
    for value in (1.0, 4.0):
        mean.add({"weight": torch.tensor([value]), "count": torch.tensor(int(value))})
    other = WeightMean(2)
    other.restore(mean.to_dict())
    assert other.state()["weight"].item() == 2.5
    assert other.state()["count"].item() == 4


@pytest.mark.parametrize(
    "overrides", [SWA, SOUP, (*SWA, "ema=0.9", "stages=[{epochs: 2, image_size: 24}, {epochs: 2}]"), CYCLES]
)
@pytest.mark.parametrize("steps", [(5, 9), (15,)])
def test_killed_they_go_on(tmp_path, monkeypatch, overrides, steps):
    tiny = make_tiny(tmp_path)
    job = job_of(tiny, *overrides)
    train_fold(job)
    expected = outcome(job)
    cycles = [path.read_bytes() for path in sorted(job.folder.parent.parent.glob(f"run-cycle*/fold0/{runs.MODEL}"))]
    shutil.rmtree(job.folder)
    for module, name, step in (*((loop, "update", step) for step in steps), (fold, "save_outputs", 0)):
        with monkeypatch.context() as patch:
            kill_at(patch, module, name, step)
            with pytest.raises(Killed):
                train_fold(saving_always(job))
    train_fold(job)
    assert outcome(job) == expected
    assert cycles == [path.read_bytes() for path in sorted(job.folder.parent.parent.glob(f"run-cycle*/fold0/{runs.MODEL}"))]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["snapshots=1"], "snapshots need schedule warm_restarts or cyclic, got cosine"),
        (["snapshots=9", "schedule=cyclic", "epochs=8"], "snapshots=9 need as many cycles"),
        (["snapshots=2", "schedule=cyclic", "epochs=10"], "there are 4 in 10 epochs"),
        (["snapshots=2", "schedule=cyclic", "epochs=8", "early_stopping.patience=2"], "must not stop early"),
        (["average.name=swa", "early_stopping.patience=2"], "must not stop early"),
        (["average.name=swaa"], "Did you mean 'swa'"),
        (["average.name=soup", "strategy=probe"], "a probe has no epochs"),
    ],
)
def test_what_cannot_be_is_refused_at_once(tiny, overrides, message):
    with pytest.raises(ConfigError, match=message):
        tiny.config(*overrides)


def test_snapshots_of_a_stage(tiny):
    config = tiny.config("stages=[{epochs: 3}, {epochs: 8, schedule: cyclic}]", "snapshots=3")
    assert config.snapshot_epochs() == {2: 7, 3: 9, 4: 11}
    assert tiny.config(*CYCLES).snapshot_epochs() == {1: 2, 2: 4}
    assert tiny.config("snapshots=0").fingerprint == tiny.config().fingerprint


@pytest.fixture(scope="module")
def cycled(tmp_path_factory):
    torch.set_num_threads(1)
    made = make_small(tmp_path_factory.mktemp("cycles"))
    train_run(made.setup("workers=0", *CYCLES), TrainOptions("a"))
    return made


def test_each_cycle_is_a_run_that_predicts_and_blends(cycled):
    assert sorted(runs.list_runs(cycled.workspace)) == ["a", "a-cycle1", "a-cycle2"]
    rows = pd.read_csv(cycled.workspace.fold_dir("a", 0) / runs.HISTORY)
    for number, epoch in ((1, 2), (2, 4)):
        run = runs.read_run(cycled.workspace, f"a-cycle{number}")
        assert [fold.record.epoch for fold in run.finished_folds()] == [epoch] * 3
        assert run.folds[0].record.score == pytest.approx(rows["accuracy"][epoch])
        assert run.record.snapshot_of == "a"
    setup = cycled.setup("workers=0", *CYCLES)
    predict_runs(setup, [], PredictOptions(control=8))
    result = blend(setup, runs=["a-cycle1", "a-cycle2"], name="cycles")
    parts = [
        np.mean([part.probs for part in runs.read_test(runs.read_run(cycled.workspace, f"a-cycle{n}"))], axis=0) for n in (1, 2)
    ]
    blended = read_predictions(cycled.workspace.submission_path("cycles").with_suffix(".probs.parquet"))
    ids = runs.read_test(runs.read_run(cycled.workspace, "a-cycle1"))[0].ids
    np.testing.assert_allclose(blended.take(ids).probs, np.mean(parts, axis=0), atol=1e-6)
    assert not [check for check in result.report.checks if check.status == "failed"]


def test_a_cycle_is_not_trained_by_itself_and_goes_with_its_run(cycled):
    config = ("workers=0", *CYCLES)
    with pytest.raises(ConfigError, match=r"run a-cycle1 is made of a cycle of run a\. Train that one"):
        train_run(cycled.setup(*config), TrainOptions("a-cycle1"))
    train_run(cycled.setup("workers=0", "epochs=1"), TrainOptions("b-cycle1", "0"))
    with pytest.raises(ConfigError, match="a cycle of run b would be called b-cycle1"):
        train_run(cycled.setup(*config), TrainOptions("b", "0"))
    train_run(cycled.setup("workers=0", "epochs=1"), TrainOptions("a", "0", restart=True))
    assert sorted(runs.list_runs(cycled.workspace)) == ["a", "b-cycle1"]


def test_all_data_take_the_average_and_no_snapshot(cycled):
    config = derive(cycled.config().run, ["workers=0", *SWA])
    setup = cycled.setup().with_run(config)
    train_run(setup, TrainOptions("full-swa", "0"))
    train_run(setup, TrainOptions("full-swa", "full"))
    record = runs.read_run(cycled.workspace, "full-swa").full.record
    assert record.average == "swa of the last 2 epochs"
    train_run(cycled.setup("workers=0", *CYCLES), TrainOptions("c", "0"))
    train_run(cycled.setup("workers=0", *CYCLES), TrainOptions("c", "full"))
    assert not runs.read_run(cycled.workspace, "c-cycle1").full.finished

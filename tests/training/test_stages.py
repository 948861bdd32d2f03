"""Several stages in one run: what each takes from the run, that they go on from each other, and exact resume within any."""

import shutil
from itertools import pairwise

import pandas as pd
import pytest
import torch
from test_resume import Killed, kill_at, outcome, saving_always
from tiny_competition import make_tiny

from kaggle_kit import runs
from kaggle_kit.config import derive
from kaggle_kit.errors import ConfigError
from kaggle_kit.events import Phase
from kaggle_kit.files import read_json
from kaggle_kit.models import load_model
from kaggle_kit.tables import read_predictions
from kaggle_kit.training import checkpoint, loop
from kaggle_kit.training.fold import train_fold
from kaggle_kit.training.prepare import prepare_run

STAGES = (
    "stages=[{epochs: 1, freeze: -1, lr: 1e-2}, "
    "{epochs: 2, image_size: 24, batch_size: 4, optimizer: adamw, schedule: cyclic, augment: heavy, mixup: 0.3}, "
    "{optimizer: {name: sgd, lr: 0.01, accumulate: 2}, epochs: 2, schedule.warmup_epochs: 0.5, sampler: weighted}]",
    "ema=0.9",
    "model.drop_rate=0.2",
)


def job_of(tiny, *overrides, run="run", fold=0):
    return prepare_run(tiny.setup(*overrides), tiny.folds, run=run, fold_list=[fold], restart=True)[0]


def history(job):
    return pd.read_csv(job.folder / runs.HISTORY)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A job of three stages and what comes out when nothing happens to it."""
    torch.set_num_threads(1)
    job = job_of(make_tiny(tmp_path_factory.mktemp("tiny")), *STAGES)
    train_fold(job)
    return job, outcome(job)


@pytest.fixture
def job(whole):
    shutil.rmtree(whole[0].folder)
    return whole[0]


def test_each_stage_takes_what_it_does_not_say_from_the_run(tiny):
    config = tiny.config(*STAGES)
    first, second, third = config.stage_configs
    assert (first.model.freeze, second.model.freeze, third.model.freeze) == (-1, 0, 0)
    assert (first.data.image_size, second.data.image_size, third.data.image_size) == (32, 24, 32)
    assert (second.data.batch_size, third.data.batch_size) == (4, 6)
    assert (second.optimizer.name, third.optimizer.name, third.optimizer.lr, second.optimizer.lr) == (
        "adamw",
        "sgd",
        0.01,
        3e-3,
    )
    assert (third.data.sampler, second.augment.preset, third.augment.preset) == ("weighted", "heavy", "light")
    assert config.total_epochs == 5
    assert all(stage.ema == 0.9 and not stage.stages for stage in config.stage_configs)


def test_the_spelling_of_a_key_does_not_matter(tiny):
    short = tiny.config("stages=[{epochs: 3, lr: 0.1}, {}]")
    long = tiny.config("stages=[{schedule: {epochs: 3}, optimizer.lr: 0.1}, {}]")
    assert short.fingerprint == long.fingerprint != tiny.config().fingerprint
    assert tiny.config("stages=[]").fingerprint == tiny.config().fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages=[{epoch: 3}]", r"stage 1 cannot set 'epoch'\. Did you mean 'epochs'"),
        ("stages=[{}, {model: resnet18}]", r"stage 2 cannot set 'model.name'.*data.image_size"),
        ("stages=[{epochs: 0}]", "stage 1: schedule.epochs: .*greater than or equal to 1, got 0"),
        ("stages=[{optimizer: adamm}]", "stage 1: .*Did you mean 'adam"),
        ("stages=[3]", "stage 1 should hold entries"),
        ("stages=[{image_size: 2}]", "stage 1: data.image_size: image_size must be at least 8"),
        ("stages=4", "stages: .*list"),
        ("stages=[{model.head: {name: mlp}}]", "cannot set 'model.head'"),
    ],
)
def test_a_stage_that_cannot_be_is_named(tiny, text, message):
    with pytest.raises(ConfigError, match=message):
        tiny.config(text)


def test_entries_that_no_stage_would_see_are_refused(tiny):
    with pytest.raises(ConfigError, match=r"epochs=7 would change nothing: every stage of `stages` sets schedule.epochs"):
        derive(tiny.config("stages=[{epochs: 1}, {epochs: 2}]"), ["epochs=7"])
    assert derive(tiny.config("stages=[{epochs: 1}, {}]"), ["epochs=7"]).total_epochs == 8
    with pytest.raises(ConfigError, match="a probe is fitted at once"):
        tiny.config("stages=[{epochs: 1}]", "strategy=probe")


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("{freeze: 99}", "stages, got 99"),
        ("{schedule.warmup_epochs: 9}", "warmup_epochs must be below"),
        ("{batch_size: 5}", "multiple of devices"),
        ("{augment.transforms: [{name: CLAHE, q: 1}]}", "no argument 'q'"),
    ],
)
def test_options_of_a_later_stage_are_tried_before_the_first_begins(tiny, stage, message):
    setup = tiny.setup(f"stages=[{{epochs: 1}}, {stage}]", *(["devices=2"] if "batch" in stage else []))
    with pytest.raises(ConfigError, match=message):
        prepare_run(setup, tiny.folds, run="wrong", fold_list=[0])
    assert runs.list_runs(tiny.workspace) == []


def test_a_model_of_one_size_is_refused_at_once(tiny):
    sizes = "stages=[{image_size: 64}, {image_size: 96}]"
    with pytest.raises(ConfigError, match="was built for"):
        prepare_run(tiny.setup("model=test_vit", sizes), tiny.folds, run="wrong", fold_list=[0])
    job = job_of(
        tiny,
        "model=test_vit",
        "model.options={dynamic_img_size: true}",
        "stages=[{image_size: 32}, {image_size: 48}]",
        "epochs=1",
    )
    train_fold(job)
    assert load_model(job.folder / runs.MODEL).spec.size == (48, 48)


def test_one_history_and_one_checkpoint_line(whole):
    rows = history(whole[0])
    assert rows["epoch"].tolist() == list(range(6))
    assert rows["stage"].tolist() == [1, 1, 2, 2, 3, 3]
    record = read_json(whole[0].folder / runs.FOLD_RECORD, made_by="test")
    assert (record["epochs"], record["image_size"]) == (5, [32, 32])
    assert load_model(whole[0].folder / runs.MODEL).spec.size == (32, 32)
    assert rows["lr"].iloc[-1] < rows["lr"].iloc[-2] <= 0.01  # a schedule of its own


def test_all_stages_are_validated_at_the_size_of_the_last(tiny, monkeypatch):
    """Their scores compare, and the best weights of all stages are kept."""
    sizes = {"train": set(), "valid": set()}
    real_input, real_predict = loop.to_input, loop.validate
    monkeypatch.setattr(
        loop, "to_input", lambda images, *a, **o: sizes["train"].add(images.shape[-1]) or real_input(images, *a, **o)
    )
    predict = "kaggle_kit.inference.predict.to_input"
    monkeypatch.setattr(predict, lambda images, *a, **o: sizes["valid"].add(images.shape[-1]) or real_input(images, *a, **o))
    train_fold(job_of(tiny, "stages=[{epochs: 1, image_size: 24}, {epochs: 1, image_size: 40}]"))
    assert sizes == {"train": {24, 40}, "valid": {40}}
    assert real_predict is loop.validate


def test_the_best_weights_of_any_stage_are_kept(tiny):
    job = job_of(tiny, "stages=[{epochs: 5, augment: none}, {epochs: 1, lr: 5}]", "nan=skip")
    result = train_fold(job)
    assert result.epoch <= 5
    assert result.score == pytest.approx(history(job)["accuracy"].iloc[1:].max())


def test_frozen_in_one_stage_trained_in_the_next(tiny, monkeypatch):
    seen = []
    real = loop.validate

    def look(learner, *rest, epoch):
        seen.append({name: value.clone() for name, value in learner.plain.named_parameters()})
        real(learner, *rest, epoch=epoch)

    monkeypatch.setattr(loop, "validate", look)
    train_fold(job_of(tiny, "stages=[{freeze: -1}, {freeze: 1}, {freeze: 0}]", "epochs=1"))
    moved = [{name for name in one if not torch.equal(one[name], two[name])} for one, two in pairwise(seen)]
    assert moved[0] == {"fc.weight", "fc.bias"}
    assert moved[0] < moved[1] < moved[2]
    assert moved[2] == set(seen[0])


def test_early_stopping_goes_on_with_the_next_stage(tiny):
    stop = "early_stopping={patience: 1, min_delta: 2}"
    job = job_of(tiny, "stages=[{epochs: 5}, {epochs: 4}]", stop)
    train_fold(job)
    assert history(job)["stage"].tolist() == [1, 1, 1, 2, 2]
    by_loss = job_of(tiny, "epochs=6", "early_stopping={patience: 1, min_delta: 9, monitor: valid_loss}", run="loss")
    train_fold(by_loss)
    assert len(history(by_loss)) == 3


def test_stages_are_told(tiny):
    told = []
    train_fold(job_of(tiny, "stages=[{epochs: 1, freeze: -1}, {epochs: 2, image_size: 40}]"), reporter=told.append)
    texts = [event.name for event in told if isinstance(event, Phase) and event.name.startswith("stage")]
    assert texts == [
        "stage 1 of 2: 1 epochs at 32x32, batches of 6, adamw, head only",
        "stage 2 of 2: 2 epochs at 40x40, batches of 6, adamw",
    ]


@pytest.mark.parametrize("steps", [(2, 3), (5, 0, 6), (9, 9), (18,)])
def test_killed_within_any_stage(whole, job, monkeypatch, steps):
    job = saving_always(job)
    for step in steps:
        with monkeypatch.context() as patch:
            kill_at(patch, loop, "update", step)
            with pytest.raises(Killed):
                train_fold(job)
    torch.manual_seed(len(steps))
    train_fold(job)
    assert outcome(job) == whole[1]


@pytest.mark.parametrize(("name", "call"), [("save", 0), ("save", 1), ("save", 3)])
def test_killed_between_stages(whole, job, monkeypatch, name, call):
    """Before and after the last checkpoint of a stage."""
    with monkeypatch.context() as patch:
        kill_at(patch, checkpoint.Checkpoints, name, call)
        with pytest.raises(Killed):
            train_fold(job)
    with monkeypatch.context() as patch:
        kill_at(patch, loop, "train_step", 1)
        with pytest.raises(Killed):
            train_fold(job)
    train_fold(job)
    assert outcome(job) == whole[1]


def test_multilabel_and_a_probe_first(tiny_multilabel):
    job = job_of(
        tiny_multilabel, "strategy=probe-then-finetune", "stages=[{epochs: 1, image_size: 24}, {epochs: 1}]", "lr=1e-4"
    )
    from kaggle_kit.training.probe import train_probe_then_finetune

    result = train_probe_then_finetune(job)
    assert result.score >= history(job)["f1_macro"].iloc[0] - 1e-9
    assert read_predictions(job.folder / runs.OOF).probs.shape == (12, 3)

"""A fold that was killed and goes on ends with the numbers of one that was not."""

import shutil
import threading
from dataclasses import replace

import pandas as pd
import pytest
import torch
from tiny_competition import at_epochs, make_tiny

from kaggle_kit import runs
from kaggle_kit.config import derive
from kaggle_kit.files import read_json
from kaggle_kit.runs.history import TIMINGS
from kaggle_kit.stop import Stop, StopRequested
from kaggle_kit.training import checkpoint, fold, loop
from kaggle_kit.training.fold import train_fold
from kaggle_kit.training.prepare import prepare_run

RICH = (
    "epochs=3",
    "ema=0.9",
    "model.drop_rate=0.3",
    "model.drop_path_rate=0.2",
    "mixup=0.4",
    "cutmix=1.0",
    "optimizer.accumulate=2",
    "optimizer.clip_norm=1.0",
    "optimizer.clip_value=0.5",
    "schedule.warmup_epochs=0.5",
    "sampler=weighted",
    "data.samples_per_epoch=28",
)
"""Everything that has a state or draws random numbers; 5 batches and 3 updates an epoch."""
PLAIN = (
    "epochs=3",
    "data.samples_per_epoch=1.3x",
    "loss.logit_adjustment=0.5",
    "optimizer=sgd",
    "schedule=plateau",
    "schedule.options={patience: 0}",
    "keep=last",
)
HEAD = (
    "epochs=3",
    "model.head={name: mlp, hidden: [12], batch_norm: all, dropout: 0.4, samples: 3, pool: gem}",
    "optimizer.layer_decay=0.7",
    "head_lr=1e-2",
    "model.freeze=1",
)
HEAVY = ("epochs=3", "augment=heavy", "cutmix=1.0")


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


def job_of(tiny, name, overrides):
    return prepare_run(tiny.setup(*overrides), tiny.folds, run=name, fold_list=[0])[0]


def saving_always(job):
    """The same job with a checkpoint after each update."""
    return replace(job, config=derive(job.config, ["checkpoint_minutes=1.0e-9"]))


def outcome(job):
    """All that must agree, as bytes."""
    history = pd.read_csv(job.folder / runs.HISTORY, dtype=str).drop(columns=list(TIMINGS))
    files = [(job.folder / name).read_bytes() for name in (runs.MODEL, runs.OOF)]
    record = read_json(job.folder / runs.FOLD_RECORD, made_by="test")
    return [history.to_csv(), *files, record["score"], record["epoch"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A job and what comes out when nothing happens to it."""
    torch.set_num_threads(1)
    job = job_of(make_tiny(tmp_path_factory.mktemp("tiny")), "run", RICH)
    train_fold(job)
    return job, outcome(job)


@pytest.fixture
def job(whole):
    shutil.rmtree(whole[0].folder)
    return whole[0]


def kill_at(patch, module, name, call):
    """Die at a call of a function, counted from 0."""
    real, count = getattr(module, name), [0]

    def counted(*arguments, **options):
        if count[0] == call:
            raise Killed
        count[0] += 1
        return real(*arguments, **options)

    patch.setattr(module, name, counted)


def killed(job, monkeypatch, module, name, call):
    with monkeypatch.context() as patch:
        kill_at(patch, module, name, call)
        with pytest.raises(Killed):
            train_fold(job)


@pytest.mark.parametrize(("steps", "saving"), [((0, 1, 2, 1), True), ((4, 2), False), ((8,), True)])
def test_killed_within_epochs(whole, job, monkeypatch, steps, saving):
    job = saving_always(job) if saving else job
    for step in steps:
        killed(job, monkeypatch, loop, "update", step)
    torch.manual_seed(len(steps))  # the caller's random state must not matter
    train_fold(job)
    assert outcome(job) == whole[1]


@pytest.mark.parametrize("overrides", [PLAIN, HEAVY, HEAD], ids=["optimizer", "heavy", "head"])
def test_other_settings(tiny, monkeypatch, overrides):
    job = job_of(tiny, "run", overrides)
    train_fold(job)
    expected = outcome(job)
    shutil.rmtree(job.folder)
    job = saving_always(job)
    for step in (3, 5):
        killed(job, monkeypatch, loop, "update", step)
    train_fold(job)
    assert outcome(job) == expected


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (loop, "validate", 0),
        (loop, "validate", 2),
        (checkpoint.Checkpoints, "save", 1),
        (loop, "write_history", 2),
        (checkpoint.os, "replace", 3),
        (fold, "save_model", 0),
        (fold, "predict_with_pixels", 0),
        (checkpoint.Checkpoints, "remove", 0),
    ],
)
def test_killed_elsewhere(whole, job, monkeypatch, module, name, call):
    killed(job, monkeypatch, module, name, call)
    train_fold(job)
    assert outcome(job) == whole[1]


def test_the_last_checkpoint_cut_short(whole, job, monkeypatch, caplog):
    killed(job, monkeypatch, loop, "validate", 3)
    last = job.folder / runs.LAST
    last.write_bytes(last.read_bytes()[:1000])
    train_fold(job)
    assert "Going back" in caplog.text
    assert outcome(job) == whole[1]


def test_both_checkpoints_damaged_starts_anew(whole, job, monkeypatch):
    killed(job, monkeypatch, loop, "validate", 3)
    for name in (runs.LAST, checkpoint.PREVIOUS):
        (job.folder / name).write_bytes(b"")
    train_fold(job)
    assert outcome(job) == whole[1]


def test_a_stop_is_clean_at_any_time(whole, job):
    for calls in (0, 2, 2):  # first validation; third; out-of-fold rows
        stop = Stop()
        real, count = stop.check, [0]

        def check(stop=stop, real=real, count=count, calls=calls):
            if count[0] == calls:
                stop.request("a test wants it")
            count[0] += 1
            real()

        stop.check = check
        with pytest.raises(StopRequested, match="a test wants it"):
            train_fold(job, stop=stop)
        assert read_json(job.folder / runs.FOLD_RECORD, made_by="test")["state"] == "stopped"
    train_fold(job)
    assert outcome(job) == whole[1]


def test_a_stop_request_ends_within_an_update(whole, job, monkeypatch):
    stop, done = Stop(), []
    monkeypatch.setattr(loop, "update", lambda *a, real=loop.update: (real(*a), done.append(1), stop.request("now"))[0])
    with pytest.raises(StopRequested):
        train_fold(job, stop=stop)
    assert len(done) == 1
    monkeypatch.undo()
    train_fold(job)
    assert outcome(job) == whole[1]


def test_pruning_keeps_the_checkpoint(whole, job):
    class Pruned(Exception):
        pass

    def prune(number, row):
        if row.epoch == 2:
            raise Pruned

    with pytest.raises(Pruned):
        train_fold(job, reporter=at_epochs(prune))
    seen = []
    train_fold(job, reporter=at_epochs(lambda number, row: seen.append((number, row.epoch))))
    assert seen == [(0, 3)]
    assert outcome(job) == whole[1]


def test_other_threads_may_train(whole, job):
    thread = threading.Thread(target=lambda: train_fold(job))
    thread.start()
    thread.join()
    assert outcome(job) == whole[1]

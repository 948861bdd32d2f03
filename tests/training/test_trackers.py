"""Trackers as sinks of events: TensorBoard always, others by name, none of which may stop a run."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from tiny_competition import make_tiny

from kaggle_kit.choices import TRACKERS
from kaggle_kit.errors import DependencyError
from kaggle_kit.events import EpochEnded, FoldEnded
from kaggle_kit.runs.history import EpochRow
from kaggle_kit.training.fold import train_fold
from kaggle_kit.training.prepare import prepare_run
from kaggle_kit.training.trackers import trackers

EPOCH = EpochEnded(0, EpochRow(1, 0.5, 0.4, 0.9, float("nan"), 1.0, 10.0, 0.8), "accuracy", 2, best=True)
END = FoldEnded(0, "finished", "accuracy 0.9000 with the weights of epoch 1")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tracked"))


@pytest.fixture(scope="module")
def trained(tiny):
    """The job of a fold that was trained for an epoch."""
    job = job_of(tiny, "epochs=1")
    train_fold(job)
    return job


def job_of(tiny, *overrides, run="run"):
    return prepare_run(tiny.setup(*overrides), tiny.folds, run=run, fold_list=[0])[0]


def tracked_by(job, name):
    with trackers(job_with(job, name), epochs=0) as track:
        track(EPOCH)
        track(END)


def job_with(job, name):
    from dataclasses import replace

    return replace(job, config=job.config.model_copy(update={"track": name}))


def test_tensorboard_has_numbers_settings_outcome_and_the_confusion(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(trained.folder))
    log.Reload()
    tags = log.Tags()
    assert {"train_loss", "valid_loss", "accuracy", "train_accuracy", "final_accuracy"} <= set(tags["scalars"])
    assert tags["images"] == ["confusion"]
    assert "outcome/text_summary" in tags["tensors"]
    plugins = {meta.plugin_data.plugin_name for meta in log.summary_metadata.values()}
    assert "hparams" in plugins


def test_what_is_tracked_does_not_make_another_run(tiny):
    assert tiny.config("track=mlflow").fingerprint == tiny.config().fingerprint


def test_mlflow_keeps_a_fold_in_a_folder(trained, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    tracked_by(trained, "mlflow")
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert run.data.metrics["valid_loss"] == 0.4
    assert "lr" not in run.data.metrics  # a number that is not defined
    assert run.data.params["schedule.epochs"] == "1"
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == {"confusion.png", "outcome.txt"}
    assert run.info.status == "FINISHED"


def test_wandb_works_offline(trained, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracked_by(trained, "wandb")
    (folder,) = (trained.folder / "wandb").glob("offline-run-*")
    assert any(path.stat().st_size for path in folder.glob("*.wandb"))
    assert list(folder.glob("files/media/images/confusion*.png"))


def test_a_tracker_that_fails_is_named_once_and_stops_nothing(trained, monkeypatch, caplog):
    def fail(*_given, **_named):
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: SimpleNamespace(log=fail, finish=fail)))
    tracked_by(trained, "wandb")
    assert caplog.text.count("tracker wandb has failed, going on without it: OSError: no network") == 1


def test_a_missing_package_is_said_with_the_command(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DependencyError, match=r"pip install 'kaggle-kit\[wandb\]'"):
        tracked_by(trained, "wandb")


def test_processes_but_the_first_write_nothing(tiny):
    with trackers(job_of(tiny, run="silent"), epochs=0, writes=False) as track:
        track(EPOCH)
    assert not list(tiny.workspace.fold_dir("silent", 0).glob("events*"))
    assert set(TRACKERS) == {"tensorboard", "wandb", "mlflow"}

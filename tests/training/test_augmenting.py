"""Who augments: what is chosen, that a fold stays with it, and that training works either way."""

import logging

import pandas as pd
import pytest
import torch

from kaggle_kit import runs
from kaggle_kit.choices import AUGMENTATIONS
from kaggle_kit.config import RunConfig, derive
from kaggle_kit.errors import ConfigError
from kaggle_kit.files import read_json
from kaggle_kit.images.device_augment import DeviceTransform
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.stop import StopRequested
from kaggle_kit.training import augmenting, data, loop, train_run
from kaggle_kit.training.augmenting import LOADERS_WANTED, augmenting_place

SPEC = ImageSpec(32, 32)
GPU, CPU = torch.device("cuda"), torch.device("cpu")


def place(*overrides, device=GPU, before=None):
    return augmenting_place(derive(RunConfig(), overrides), SPEC, device, before)


@pytest.mark.parametrize(
    ("cpus", "overrides", "expected"),
    [
        (4, [], "device"),
        (64, [], "workers"),
        (LOADERS_WANTED, [], "device"),  # one CPU is for training
        (LOADERS_WANTED + 1, [], "workers"),
        (LOADERS_WANTED + 1, ["devices=2"], "device"),
        (64, ["workers=2"], "device"),  # as a launcher says that shares out the CPUs
        (4, [f"workers={LOADERS_WANTED}"], "workers"),
        (4, ["augment=none"], "workers"),
        (4, ["augment.transforms=[{name: CLAHE}]"], "workers"),
        (64, ["augment.where=device"], "device"),
        (4, ["augment.where=workers"], "workers"),
    ],
)
def test_a_gpu_with_few_loaders_augments_itself(monkeypatch, cpus, overrides, expected):
    monkeypatch.setattr(augmenting, "available_cpus", lambda: cpus)
    assert place(*overrides) == expected


def test_on_a_cpu_the_workers_augment(monkeypatch):
    monkeypatch.setattr(augmenting, "available_cpus", lambda: 1)
    assert place(device=CPU) == "workers"
    assert place("augment.where=device", device=CPU) == "device"


def test_the_choice_is_said_with_its_reason(monkeypatch, caplog):
    monkeypatch.setattr(augmenting, "available_cpus", lambda: 3)
    with caplog.at_level(logging.INFO, logger=augmenting.logger.name):
        place()
        place("augment.transforms=[{name: CLAHE}]")
    assert [record.getMessage() for record in caplog.records] == [
        "batches are augmented on the GPU: 2 loader processes for it are few (augment.where)",
        "images are augmented by 2 loader processes; that is few, but the device does the presets alone, "
        "without augment.transforms",
    ]


def test_a_fold_that_goes_on_stays_with_its_way_unless_told_otherwise(monkeypatch, caplog):
    monkeypatch.setattr(augmenting, "available_cpus", lambda: 2)
    assert place(before="workers") == "workers"
    assert place(device=CPU, before="device") == "device"
    assert not caplog.text
    assert place("augment.where=device", before="workers") == "device"
    assert "begun with images augmented by the workers, and goes on with the device" in caplog.text


def test_who_augments_makes_no_other_run():
    assert derive(RunConfig(), ["augment.where=device"]).fingerprint == RunConfig().fingerprint


def train(tiny, *overrides, run="run"):
    return train_run(tiny.workspace, tiny.whole(*overrides), tiny.competition, folds=tiny.folds, fold="0", run=run)


def record(tiny, run="run"):
    return read_json(tiny.workspace.fold_dir(run, 0) / runs.FOLD_RECORD, made_by="test")


@pytest.mark.parametrize("preset", list(AUGMENTATIONS))
def test_training_with_batches_augmented_on_the_device(tiny, preset, monkeypatch):
    applied = []
    real = DeviceTransform.apply
    monkeypatch.setattr(DeviceTransform, "apply", lambda *given: applied.append(len(given[1])) or real(*given))
    train(tiny, f"augment={preset}", "augment.where=device", "mixup=0.3", "cutmix=1.0")
    assert sum(applied) == 2 * 24  # epochs, images
    assert record(tiny)["augmented_by"] == "device"
    train(tiny, f"augment={preset}", "mixup=0.3", "cutmix=1.0", run="usual")
    assert sum(applied) == 2 * 24
    assert record(tiny, "usual")["augmented_by"] == "workers"
    # The same crops, flips and colours: much the same training.
    one, other = (pd.read_csv(tiny.workspace.fold_dir(run, 0) / runs.HISTORY)["train_loss"] for run in ("run", "usual"))
    assert one.to_list() == pytest.approx(other.to_list(), abs=0.1, nan_ok=True)


def test_a_stopped_fold_goes_on_with_the_way_it_was_begun_with(tiny, monkeypatch):
    seen = []
    real = data.training_transform
    monkeypatch.setattr(data, "training_transform", lambda *given: seen.append(given[2]) or real(*given))

    def stop(*_arguments, **_options):
        raise StopRequested("the test wants it")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", stop)
        assert train(tiny, "augment.where=device").stopped
    assert record(tiny)["state"] == "stopped"
    assert train(tiny).trained == (0,)  # auto, on a CPU
    assert seen == ["device", "device"]
    assert record(tiny)["augmented_by"] == "device"


def test_what_the_device_cannot_do_stops_before_images_are_read(tiny, monkeypatch):
    monkeypatch.setattr("kaggle_kit.training.prepare.training_pixels", lambda *_given, **_options: pytest.fail("read"))
    with pytest.raises(ConfigError, match=r"augment.where: device cannot be used.*without augment.transforms"):
        train(tiny, "augment.where=device", "augment.transforms=[{name: CLAHE}]")

"""One model trained by two CPU processes."""

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_competition import at_epochs
from torch.multiprocessing import ProcessRaisedException

from kaggle_kit import runs
from kaggle_kit.errors import ConfigError, DataError, TrainingError
from kaggle_kit.events import Relay, silent
from kaggle_kit.stop import Stop
from kaggle_kit.tables import read_predictions
from kaggle_kit.training import TrainOptions
from kaggle_kit.training.processes import run_in_processes
from kaggle_kit.training.run import train_run

# No batch norm: its statistics are those of a process's own share of the batch.
SAME = ("model=test_vit", "augment=none", "epochs=2", "hardware.accelerator=cpu")


@dataclass
class Diary:
    """Writes down what it is told, and where."""

    path: Path

    def __call__(self, fold, row):
        with open(self.path, "a") as file:
            file.write(json.dumps([os.getpid(), fold, row.epoch]) + "\n")

    def lines(self):
        return [json.loads(line) for line in self.path.read_text().splitlines()]


def train(tiny, *overrides, run, **options):
    return train_run(tiny.setup(*SAME, *overrides), TrainOptions(run, "0"), folds=tiny.folds, **options)


def test_two_processes_give_the_rows_of_one_each_once(tiny, tmp_path):
    diary = Diary(tmp_path / "diary")
    one = train(tiny, run="one")
    two = train(tiny, "devices=2", run="two", reporter=at_epochs(diary))
    lines = diary.lines()
    assert lines == [[os.getpid(), 0, epoch] for epoch in (0, 1, 2)]  # once each, and here
    oof = [read_predictions(tiny.workspace.fold_dir(run, 0) / runs.OOF) for run in ("one", "two")]
    assert oof[0].ids == oof[1].ids
    np.testing.assert_allclose(oof[0].probs, oof[1].probs, atol=2e-4)
    histories = [pd.read_csv(tiny.workspace.fold_dir(run, 0) / runs.HISTORY) for run in ("one", "two")]
    np.testing.assert_allclose(histories[0]["train_loss"], histories[1]["train_loss"], rtol=1e-3)
    assert one.results[0].device == "cpu"
    assert two.results[0].device == "2 x cpu"
    assert train(tiny, "devices=2", run="two").trained == ()  # finished before


def test_two_processes_go_through_stages_as_one_does(tiny):
    """Another part of the model is trained in each, so that each sets the processes up anew."""
    stages = "stages=[{epochs: 1, freeze: -1, lr: 1e-2}, {epochs: 1, image_size: 32, optimizer: sgd, lr: 1e-2}]"
    for run, devices in (("one", 1), ("two", 2)):
        train(tiny, stages, f"devices={devices}", run=run)
    histories = [pd.read_csv(tiny.workspace.fold_dir(run, 0) / runs.HISTORY) for run in ("one", "two")]
    assert histories[1]["stage"].tolist() == [1, 1, 2]
    np.testing.assert_allclose(histories[0]["train_loss"], histories[1]["train_loss"], rtol=1e-3)


class OneProcess:
    """Launches in this process, and reports an error as torch does for a process that it started."""

    is_global_zero = True

    def launch(self, function, *arguments):
        try:
            return function(self, *arguments)
        except BaseException as error:
            raise ProcessRaisedException(f"-- Process 0 terminated:\n{error!r}", 0, 1) from None


def fail(error, _fabric, _reporter, _stop):
    raise error


def test_errors_on_purpose_come_home_as_they_are(monkeypatch):
    # What a new process does to its logger must not happen to this one's.
    monkeypatch.setattr("kaggle_kit.training.processes._PACKAGE", "kaggle_kit.nobody")
    stop = Stop()
    relay = Relay(silent, stop)
    with pytest.raises(DataError, match="a test ends it"):
        run_in_processes(OneProcess(), partial(fail, DataError("a test ends it")), relay, stop)
    with pytest.raises(TrainingError, match=r"ended by itself \(RuntimeError\('defect'\)\)"):
        run_in_processes(OneProcess(), partial(fail, RuntimeError("defect")), relay, stop)
    assert run_in_processes(OneProcess(), lambda _fabric, _reporter, _stop: {"a": 1}, relay, stop) == {"a": 1}
    assert not stop.passes_on


def test_a_stop_reaches_the_processes(tiny, tmp_path):
    diary = Diary(tmp_path / "diary")

    def terminate():
        while not diary.path.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    summary = train(tiny, "devices=2", "epochs=200", run="long", reporter=at_epochs(diary))
    thread.join()
    assert "SIGTERM" in summary.stopped
    assert summary.trained == ()
    assert (tiny.workspace.fold_dir("long", 0) / runs.LAST).exists()


def test_what_a_reporter_raises_comes_home_when_the_processes_have_stopped(tiny):
    class Enough(Exception):
        pass

    def enough(_fold, row):
        if row.epoch == 1:
            raise Enough

    with pytest.raises(Enough):
        train(tiny, "devices=2", "epochs=200", run="enough", reporter=at_epochs(enough))
    folder = tiny.workspace.fold_dir("enough", 0)
    assert (folder / runs.LAST).exists()
    assert len(pd.read_csv(folder / runs.HISTORY)) < 100


def test_a_batch_that_cannot_be_shared_out(tiny):
    with pytest.raises(ConfigError, match=r"multiple of devices \(2\), got 5"):
        train(tiny, "devices=2", "batch_size=5", run="odd")

import io
import logging
import math
import pickle

import pytest
from rich.console import Console

from kaggle_kit.config import EarlyStoppingConfig
from kaggle_kit.events import BarReporter, LogReporter, make_reporter
from kaggle_kit.metrics import get_metric
from kaggle_kit.runs.history import EpochRow, describe, should_stop, stale_epochs


def row(epoch, score, **values):
    base = {"train_loss": 0.5, "valid_loss": 0.4, "lr": 1e-3, "seconds": 61.0, "images_per_second": 12.34}
    return EpochRow(epoch=epoch, score=score, **{**base, **values})


def drive(reporter):
    reporter.fold_start(2, "resnet: 10 images")
    reporter.batch(2, 1, 5, done=50, images=200, loss=0.25, rate=10.0)
    reporter.epoch_end(2, row(1, 0.875), "accuracy", epochs=5, best=True)
    reporter.fold_end(2, "finished: [accuracy] 0.875")


def test_log_lines_say_all_there_is_to_know(caplog):
    caplog.set_level(logging.INFO)
    drive(LogReporter(every=0))
    text = caplog.text
    parts = ["fold 2", "epoch 1/5", "50/200", "loss 0.2500", "10.0 img/s", "0:15 left"]
    parts += ["accuracy 0.8750*", "12.3 img/s", "lr 1.00e-03"]
    for part in parts:
        assert part in text


def test_log_lines_within_an_epoch_are_rare(caplog):
    caplog.set_level(logging.INFO)
    drive(LogReporter(every=1000))
    assert "50/200" not in caplog.text


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_prints_lines_and_takes_names_as_they_are(terminal):
    screen = io.StringIO()
    drive(BarReporter(Console(file=screen, force_terminal=terminal, width=100)))
    assert "accuracy 0.8750*" in screen.getvalue()
    assert "[accuracy] 0.875" in screen.getvalue()  # no markup


def test_several_folds_have_a_bar_each():
    screen = io.StringIO()
    reporter = BarReporter(Console(file=screen, force_terminal=True, width=100))
    for fold in (0, 1):
        reporter.batch(fold, 1, 5, done=50 + fold, images=200, loss=0.25, rate=10.0)
    assert len(reporter._bars.tasks) == 2
    reporter.epoch_end(0, row(1, 0.875), "accuracy", epochs=5, best=True)
    assert [task.completed for task in reporter._bars.tasks] == [51]
    reporter.fold_end(1, "failed")
    reporter.batch(0, 2, 5, done=10, images=200, loss=0.25, rate=10.0)
    reporter.fold_end(0, "finished")
    assert reporter._bars is None


def test_reporters_pass_to_other_processes():
    assert isinstance(pickle.loads(pickle.dumps(BarReporter(Console()))), type(make_reporter()))  # noqa: S301


def test_lines_of_epochs():
    assert "untrained" in describe(row(0, 0.1, train_loss=math.nan), "accuracy", epochs=10, best=False)
    assert describe(row(3, 0.5), "log_loss", epochs=10, best=False).startswith("epoch  3/10  train loss 0.5000")


def test_early_stopping_looks_at_the_metric_in_its_direction():
    accuracy, log_loss = get_metric("accuracy"), get_metric("log_loss")
    scores = [0.9, 0.5, 0.6, 0.55, 0.61]
    rows = [row(epoch, score) for epoch, score in enumerate(scores)]
    assert stale_epochs(rows, accuracy, 0.0) == 0  # the untrained epoch does not count
    assert stale_epochs(rows, accuracy, 0.05) == 2
    assert stale_epochs(rows, log_loss, 0.0) == 3
    assert should_stop(rows, log_loss, EarlyStoppingConfig(patience=3))
    assert not should_stop(rows, log_loss, EarlyStoppingConfig(patience=4))
    assert not should_stop(rows, log_loss, EarlyStoppingConfig(patience=0))
    assert stale_epochs([row(1, math.nan), row(2, math.nan)], accuracy, 0.0) == 2

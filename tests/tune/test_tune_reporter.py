"""What a search tells: a table that changes where there is a terminal, lines where there is none."""

import io
import logging
import math
import threading
import time

import pytest
from rich.console import Console

from kaggle_kit.events import EpochEnded
from kaggle_kit.show.terminal import ErrorStream
from kaggle_kit.training import EpochRow
from kaggle_kit.tune import TrialRow, TuneTable, make_tune_reporter, tune_lines
from kaggle_kit.tune.reporter import (
    SearchEnded,
    SearchStarted,
    TrialEnded,
    TrialEpoch,
    TrialStarted,
    end_text,
    one_at_a_time,
    shown,
)


def row(number, **changes):
    values = {
        "number": number,
        "state": "complete",
        "score": 0.9,
        "all_folds": math.nan,
        "scores": {"0": 0.9},
        "epochs": (4, 4),
        "seconds": 75.0,
        "changes": {"optimizer.lr": 0.012345},
        "error": None,
    }
    return TrialRow(**{**values, **changes})


EPOCH = EpochEnded(0, EpochRow(2, 0.5, 0.6, 0.8125, 0.1, 1.0, 10.0), "accuracy", 4, best=True)


def tell(reporter):
    """A search of three trials."""
    with shown(reporter):
        reporter(SearchStarted("study tune in sqlite:///study.db", "accuracy"))
        reporter(TrialStarted(0, {}))
        reporter(TrialEpoch(0, EPOCH))
        reporter(TrialEnded(row(0), row(0)))
        reporter(TrialStarted(1, {"optimizer.lr": 0.012345}))
        reporter(TrialEnded(row(1, state="pruned", score=0.2, epochs=(1, 4)), row(0)))
        reporter(TrialStarted(2, {}))
        reporter(TrialEnded(row(2, state="failed", score=math.nan, error="the loss is not finite"), row(0)))


def test_lines(caplog):
    caplog.set_level(logging.INFO, logger="kaggle_kit")
    tell(tune_lines())
    assert caplog.messages == [
        "study tune in sqlite:///study.db",
        "trial 0  the present configuration",
        "trial 0  complete: accuracy 0.9000 (4/4 epochs, 1:15); best: trial 0 with 0.9000",
        "trial 1  optimizer.lr=0.0123",
        "trial 1  pruned: accuracy 0.2000 (1/4 epochs, 1:15); best: trial 0 with 0.9000",
        "trial 2  the present configuration",
        "trial 2  failed: the loss is not finite (4/4 epochs, 1:15); best: trial 0 with 0.9000",
    ]


def test_a_trial_that_earned_all_folds():
    text = end_text(row(3, all_folds=0.85, scores={"0": 0.9, "1": 0.8}), None, "accuracy")
    assert text == "trial 3  complete: accuracy 0.9000, 0.8500 over 2 folds (4/4 epochs, 1:15)"


def test_the_table_shows_trials_as_they_go():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    reporter = TuneTable(console)
    seen = []
    reporter(SearchStarted("study tune", "accuracy"))
    reporter(TrialStarted(0, {"optimizer.lr": 0.5}))
    reporter(TrialEpoch(0, EPOCH))
    with console.capture() as capture:
        console.print(reporter._table())
    seen.append(capture.get())
    reporter(TrialEnded(row(0), row(0)))
    with console.capture() as capture:
        console.print(reporter._table())
    seen.append(capture.get())
    reporter(SearchEnded())
    assert "running" in seen[0] and "fold 0: 2/4" in seen[0] and "0.8125" in seen[0]  # noqa: PT018
    assert "complete" in seen[1] and "best: trial 0, accuracy 0.9000" in seen[1]  # noqa: PT018


def test_warnings_are_printed_above_the_table_and_training_is_quiet():
    logger = logging.getLogger("kaggle_kit")
    handler, level = logging.StreamHandler(ErrorStream()), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
        with shown(TuneTable(console)) as reporter:
            reporter(SearchStarted("study tune", "accuracy"))
            logging.getLogger("kaggle_kit.events").info("fold 0  epoch 1/4")
            logging.getLogger("kaggle_kit.training.fold").warning("the disk is slow")
        assert "the disk is slow" in console.file.getvalue()
        assert "epoch 1/4" not in console.file.getvalue()
        assert logging.getLogger("kaggle_kit.events").isEnabledFor(logging.INFO)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_terminal_decides(monkeypatch, terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert isinstance(make_tune_reporter(), TuneTable) == terminal


def test_threads_tell_one_at_a_time():
    inside, most = [], []

    def slow(event):
        inside.append(event)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()

    reporter = one_at_a_time(slow)
    threads = [threading.Thread(target=reporter, args=(SearchEnded(),)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_what_training_tells_comes_back_when_the_last_of_several_searches_has_ended():
    logger = logging.getLogger("kaggle_kit.training")
    before = logger.level
    first, second = shown(lambda _: None), shown(lambda _: None)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert logger.level == logging.WARNING
    second.__exit__(None, None, None)
    assert logger.level == before

"""What a search tells: a table that changes where there is a terminal, lines where there is none."""

import io
import logging
import math

import pytest
from rich.console import Console

from kaggle_kit.training import EpochRow
from kaggle_kit.tune import TrialRow, TuneLines, TuneTable, make_tune_reporter
from kaggle_kit.tune.reporter import end_text, shown


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


EPOCH = EpochRow(2, 0.5, 0.6, 0.8125, 0.1, 1.0, 10.0)


def tell(reporter):
    """A search of three trials."""
    with shown(reporter):
        reporter.start("study tune in sqlite:///study.db", "accuracy")
        reporter.trial_start(0, {})
        reporter.epoch(0, 0, EPOCH, 4)
        reporter.trial_end(row(0), row(0))
        reporter.trial_start(1, {"optimizer.lr": 0.012345})
        reporter.trial_end(row(1, state="pruned", score=0.2, epochs=(1, 4)), row(0))
        reporter.trial_start(2, {})
        reporter.trial_end(row(2, state="failed", score=math.nan, error="the loss is not finite"), row(0))


def test_lines(caplog):
    caplog.set_level(logging.INFO, logger="kaggle_kit")
    tell(TuneLines())
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
    reporter.start("study tune", "accuracy")
    reporter.trial_start(0, {"optimizer.lr": 0.5})
    reporter.epoch(0, 0, EPOCH, 4)
    with console.capture() as capture:
        console.print(reporter._table())
    seen.append(capture.get())
    reporter.trial_end(row(0), row(0))
    with console.capture() as capture:
        console.print(reporter._table())
    seen.append(capture.get())
    reporter.close()
    assert "running" in seen[0] and "fold 0: 2/4" in seen[0] and "0.8125" in seen[0]  # noqa: PT018
    assert "complete" in seen[1] and "best: trial 0, accuracy 0.9000" in seen[1]  # noqa: PT018


def test_warnings_are_printed_above_the_table_and_training_is_quiet():
    logger, stream = logging.getLogger("kaggle_kit"), io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
        with shown(TuneTable(console)) as reporter:
            reporter.start("study tune", "accuracy")
            logging.getLogger("kaggle_kit.events").info("fold 0  epoch 1/4")
            logging.getLogger("kaggle_kit.training.fold").warning("the disk is slow")
        assert "the disk is slow" in console.file.getvalue()
        assert "epoch 1/4" not in console.file.getvalue()
        assert stream.getvalue() == ""
        logging.getLogger("kaggle_kit.events").info("fold 1")
        assert stream.getvalue() == "fold 1\n"
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@pytest.mark.parametrize(("terminal", "kind"), [(True, TuneTable), (False, TuneLines)])
def test_the_terminal_decides(monkeypatch, terminal, kind):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert isinstance(make_tune_reporter(), kind)

"""Trials side by side: no more than were asked for, and what ends one search ends all its trials."""

import contextlib
import threading
import time

import pytest
from tiny_search import Silent

from kaggle_kit.errors import ConfigError, DataError, TrainingError
from kaggle_kit.tune import TuneOptions

pytestmark = pytest.mark.usefixtures("pages")


@pytest.fixture
def three(monkeypatch):
    """Three trials at a time, in this process."""

    @contextlib.contextmanager
    def trainers(*_args):
        yield [None, None, None]

    monkeypatch.setattr("kaggle_kit.tune.search.trainers", trainers)


def test_trials_overlap_and_their_number_is_kept(search, training, three):
    together = threading.Barrier(3)

    def meet(run, fold, epoch):
        if run in ("trial-0000", "trial-0001", "trial-0002") and epoch == 1:
            together.wait(timeout=60)  # raises where they are not all there

    training.before_epoch = meet
    reporter = Silent()
    result = search.tune(reporter, trials=8)
    assert [row.state for row in result.rows] == ["complete"] * 8
    assert sorted(training.names()) == [f"trial-{number:04}" for number in range(8)]
    assert sorted(row.number for row in reporter.ended) == list(range(8))
    assert search.tune(trials=8).rows == result.rows


def test_an_error_that_every_trial_would_meet_stops_them_all(search, training, three):
    failed = threading.Event()

    def fail(run, fold, epoch):
        if run == "trial-0001":
            failed.set()
            raise DataError("the data is gone")
        failed.wait(timeout=60)

    training.before_epoch = fail
    with pytest.raises(DataError, match="the data is gone"):
        search.tune(trials=100)
    assert len(training.calls) < 50


def test_a_search_whose_trials_are_all_done_was_not_stopped_early(search, training):
    search.tune(trials=2)
    assert search.tune(trials=2, time_limit=1e-6).stopped is None


def test_failures_in_a_row_end_the_search(search, training, three):
    def fail(run, fold, epoch):
        time.sleep(0.01)
        raise TrainingError("diverged")

    training.before_epoch = fail
    with pytest.raises(TrainingError, match=r"the last 5 trials of study 'tune' failed; the last one: diverged"):
        search.tune(trials=100)
    assert 5 <= len(training.calls) < 50


def test_a_stop_of_one_trial_ends_the_search_and_it_goes_on(search, training, three):
    training.stop_at = ("trial-0001", 3)
    result = search.tune(trials=6)
    assert result.stopped == "the time limit is reached"
    assert result.count("interrupted") == 1
    training.stop_at = None
    result = search.tune(trials=6)
    assert result.count("complete") == 6
    assert [restart for run, _, restart, _ in training.calls if run == "trial-0001"] == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"launcher": "local"}, r"with launcher ray, not 'local'"),
        ({"devices": 2}, r"devices and address are for `--launcher ray`"),
        ({"launcher": "ray", "devices": 0}, r"devices must be >= 1, got 0"),
    ],
)
def test_a_launcher_that_trials_do_not_have(options, message):
    with pytest.raises(ConfigError, match=message):
        TuneOptions(trials=1, **options)

import json
import logging
import math

import pytest

from kaggle_kit.errors import MissingFileError
from kaggle_kit.launch.events import EventReporter, Mailbox, WarningSender, replay
from kaggle_kit.training import EpochRow

ROW = EpochRow(epoch=0, train_loss=math.nan, valid_loss=0.5, score=0.9, lr=1e-3, seconds=1.0, images_per_second=2.0)


class Recorder:
    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *arguments, **options: self.told.append((name, arguments, options))


def drive(reporter):
    reporter.fold_start(fold=1, text="begins")
    reporter.batch(fold=1, epoch=1, epochs=2, done=3, images=4, loss=0.5, rate=6.0)
    reporter.epoch_end(fold=1, row=ROW, metric="accuracy", epochs=2, best=True)
    reporter.fold_end(fold=1, text="ends")


def test_what_is_sent_is_what_was_told():
    expected, found, events = Recorder(), Recorder(), []
    drive(expected)
    drive(EventReporter(events.append, every=0))
    for event in events:
        replay(json.loads(json.dumps(event)), found)
    assert repr(found.told) == repr(expected.told)  # NaN is not equal to itself


def test_batches_are_sent_now_and_then():
    events = []
    reporter = EventReporter(events.append, every=100)
    for done in range(5):
        reporter.batch(0, 1, 1, done=done, images=5, loss=0.0, rate=1.0)
    assert len(events) == 1


def test_warnings_arrive(caplog):
    events = []
    logger = logging.getLogger("a worker")
    logger.addHandler(WarningSender(events.append, fold=3))
    logger.warning("an %s", "oddity")
    logger.info("nothing")
    replay(events[0], Recorder())
    assert len(events) == 1
    assert "fold 3: an oddity" in caplog.text


def test_unknown_events_are_passed_over():
    recorder = Recorder()
    replay({"event": "of a newer version"}, recorder)
    assert recorder.told == []


def test_a_mailbox_gives_each_event_once_and_waits_for_whole_lines(tmp_path):
    box = Mailbox(tmp_path / "box")
    box.open()
    other = Mailbox(tmp_path / "box")
    other.send("a", {"n": 1})
    other.send("b", {"n": 2})
    assert box.receive() == [{"n": 1}, {"n": 2}]
    with open(tmp_path / "box" / "a.jsonl", "a") as file:
        file.write('{"n": ')
        file.flush()
        assert box.receive() == []
        file.write("3}\n")
    assert box.receive() == [{"n": 3}]


def test_a_mailbox_asks_to_stop_also_when_it_is_gone(tmp_path):
    box = Mailbox(tmp_path / "box")
    box.open()
    assert box.asked() is None
    box.ask_to_stop("enough")
    assert box.asked() == "enough"
    gone = Mailbox(tmp_path / "gone")
    assert gone.asked() == "the launcher has ended"
    with pytest.raises(MissingFileError, match="has ended"):
        gone.send("a", {})

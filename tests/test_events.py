import io
import json
import logging
import math
import threading

import pytest
from tiny_competition import at_epochs

from kaggle_kit.config import EarlyStoppingConfig
from kaggle_kit.events import (
    Clock,
    EpochEnded,
    FoldEnded,
    FoldStarted,
    Phase,
    Progress,
    Relay,
    RunStarted,
    Warned,
    from_json,
    json_lines,
    log_lines,
    seldom,
    tee,
    to_json,
    written_to,
)
from kaggle_kit.metrics import get_metric
from kaggle_kit.runs.history import EpochRow, describe, should_stop, stale_epochs
from kaggle_kit.stop import Stop


def row(epoch, score, **values):
    base = {"train_loss": 0.5, "valid_loss": 0.4, "lr": 1e-3, "seconds": 61.0, "images_per_second": 12.34}
    return EpochRow(epoch=epoch, score=score, **{**base, **values})


def progress(fold=2, epoch=1, epochs=5, *, done=50):
    return Progress(fold, epoch, epochs, done=done, images=200, loss=0.25, rate=10.0)


EVENTS = (
    RunStarted("run", (2, 4), 5),
    FoldStarted(2, "resnet: 10 images"),
    Phase(2, "compiling the model"),
    Phase(2, "validating", 3, 7),
    progress(),
    EpochEnded(2, row(1, 0.875), "accuracy", 5, best=True),
    Warned(2, "an ümlaut\nand a line"),
    FoldEnded(2, "finished", "[accuracy] 0.875"),
)


def drive(reporter):
    for event in EVENTS:
        reporter(event)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_json_lines_are_what_was_told(event):
    line = to_json(event)
    assert "\n" not in line
    assert from_json(line) == event
    assert from_json(line.encode()) == event


def test_json_has_no_numbers_that_other_programs_cannot_read():
    line = to_json(EpochEnded(0, row(0, math.inf, train_loss=math.nan), "accuracy", 5, best=False))
    assert json.loads(line, parse_constant=pytest.fail)["row"]["train_loss"] is None
    assert math.isnan(from_json(line).row.train_loss)


@pytest.mark.parametrize(
    "line", ["", "no JSON", "[]", "3", '{"event": "of a newer version"}', '{"event": "progress", "fold": 1']
)
def test_lines_that_are_no_events_are_passed_over(line):
    assert from_json(line) is None


def test_a_stream_gets_each_line_when_it_happens():
    stream = io.StringIO()
    drive(json_lines(stream.write))
    assert [from_json(line) for line in stream.getvalue().splitlines()] == list(EVENTS)


def test_a_signal_handler_may_report_while_a_line_is_written():
    lines = []

    def write(line):
        lines.append(line)
        if len(lines) == 1:
            report(Warned(0, "SIGTERM"))  # as a handler does that interrupts this very thread

    report = json_lines(write)
    thread = threading.Thread(target=report, args=(EVENTS[0],), daemon=True)
    thread.start()
    thread.join(30)
    assert [from_json(line) for line in lines] == [EVENTS[0], Warned(0, "SIGTERM")]


def test_progress_is_sent_now_and_then():
    events = []
    report = seldom(events.append, every=1000)
    for done in range(5):
        report(progress(done=done))
    for done in range(1, 5):
        report(Phase(2, "validating", done, 4))
    report(progress(done=9, fold=1))
    assert [getattr(event, "done", None) for event in events] == [0, 1, 4, 9]


def test_a_tee_tells_all_of_them_in_order():
    told = []
    tee(lambda event: told.append((1, event)), lambda event: told.append((2, event)))(EVENTS[0])
    assert told == [(1, EVENTS[0]), (2, EVENTS[0])]


def test_what_a_reporter_raises_for_other_processes_is_kept_and_stops_them():
    stop, seen = Stop(), []

    def fail(fold, row):
        seen.append(row.epoch)
        raise ValueError

    relay = Relay(at_epochs(fail), stop)
    for epoch in (1, 2):
        relay(EpochEnded(0, row(epoch, 0.5), "accuracy", 5, best=True))
    assert seen == [1]
    assert isinstance(relay.raised, ValueError)
    assert "ValueError" in stop.reason


def test_log_lines_say_all_there_is_to_know(caplog):
    caplog.set_level(logging.INFO)
    drive(log_lines(every=0))
    text = caplog.text
    parts = [
        "fold 2 (1 of 2)",
        "epoch 1/5",
        "50/200",
        "loss 0.2500",
        "10.0 img/s",
        "2 %",
        "compiling the model",
        "validating  3/7",
    ]
    parts += ["validating  3/7", "accuracy 0.8750*", "12.3 img/s", "lr 1.00e-03", "finished: [accuracy] 0.875"]
    for part in parts:
        assert part in text
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "fold 2: an ümlaut\nand a line"
    ]


def test_log_lines_within_an_epoch_are_rare_but_compiling_is_announced(caplog):
    caplog.set_level(logging.INFO)
    drive(log_lines(every=1000))
    assert "50/200" not in caplog.text
    assert "validating" not in caplog.text
    assert "compiling the model" in caplog.text


class Time:
    now = 0.0

    def __call__(self):
        return self.now


def clock_of(folds, epochs):
    time = Time()
    clock = Clock(time)
    clock(RunStarted("run", folds, epochs))
    return clock, time


def test_the_end_of_a_run_is_foretold_from_all_of_its_folds():
    clock, time = clock_of((0, 1), 4)
    assert (clock.share, clock.seconds_left) == (0.0, None)
    clock(FoldStarted(0, "begins"))
    clock(progress(0, 1, 4, done=0))
    time.now = 60.0
    clock(progress(0, 1, 4, done=100))
    assert clock.share == 0.5 / 8
    assert clock.seconds_left == pytest.approx(7.5 * 120)
    time.now = 240.0  # validation took as long as training
    clock(EpochEnded(0, row(1, 0.5), "accuracy", 4, best=True))
    assert clock.seconds_left == pytest.approx(7 * 240)
    clock(FoldEnded(0, "finished", "early"))  # what was spared is not left, and took no time
    assert clock.share == 0.5
    assert clock.seconds_left == pytest.approx(4 * 240)


def test_epochs_of_earlier_calls_count_as_done_but_not_as_fast():
    clock, time = clock_of((0, 1), 10)
    clock(FoldEnded(0, "finished before", ""))
    clock(FoldStarted(1, "goes on", 8))
    assert clock.share == 0.9
    clock(progress(1, 9, 10, done=0))
    time.now = 10.0
    clock(progress(1, 9, 10, done=200))
    assert clock.seconds_left == pytest.approx(10.0)


def test_folds_side_by_side_share_the_time():
    clock, time = clock_of((0, 1), 10)
    for fold in (0, 1):
        clock(progress(fold, 1, 10, done=0))
    time.now = 10.0
    for fold in (0, 1):
        clock(EpochEnded(fold, row(1, 0.5), "accuracy", 10, best=True))
    assert clock.seconds_left == pytest.approx(90.0)


def test_a_log_file_gets_events_and_what_modules_log_once(tmp_path):
    path, log = tmp_path / "run" / "train.log", logging.getLogger("kaggle_kit.a_module")
    logging.getLogger("kaggle_kit").setLevel(logging.INFO)
    for number in range(2):
        with written_to(path) as report:
            log.info("call %d", number)
            drive(tee(report, log_lines()))
    log.info("afterwards")
    text = path.read_text()
    assert text.count("call 0") == text.count("call 1") == 1
    assert text.count("accuracy 0.8750*") == 2
    assert "afterwards" not in text


def test_lines_of_epochs():
    assert "before training" in describe(row(0, 0.1, train_loss=math.nan), "accuracy", epochs=10, best=False)
    assert describe(row(3, 0.5), "log_loss", epochs=10, best=False).startswith("epoch  3/10  train loss 0.5000")
    several = describe(
        row(1, 0.5, train_loss=math.nan), "log_loss", epochs=1, best=False
    )  # models, of which none speaks for all
    assert several.startswith("epoch 1/1  valid loss")


def test_early_stopping_looks_at_the_metric_in_its_direction():
    accuracy, log_loss = get_metric("accuracy"), get_metric("log_loss")
    scores = [0.9, 0.5, 0.6, 0.55, 0.61]
    rows = [row(epoch, score) for epoch, score in enumerate(scores)]
    always = EarlyStoppingConfig()
    assert stale_epochs(rows, accuracy, always) == 0  # the untrained epoch does not count
    assert stale_epochs(rows, accuracy, EarlyStoppingConfig(min_delta=0.05)) == 2
    assert stale_epochs(rows, log_loss, always) == 3
    assert should_stop(rows, log_loss, EarlyStoppingConfig(patience=3))
    assert not should_stop(rows, log_loss, EarlyStoppingConfig(patience=4))
    assert not should_stop(rows, log_loss, EarlyStoppingConfig(patience=0))
    assert stale_epochs([row(1, math.nan), row(2, math.nan)], accuracy, always) == 2


def test_early_stopping_may_look_at_the_validation_loss():
    rows = [row(epoch, 0.5 + epoch / 100, valid_loss=loss) for epoch, loss in enumerate([0.1, 0.9, 0.5, 0.6, 0.7])]
    by_loss = EarlyStoppingConfig(patience=2, monitor="valid_loss")
    assert stale_epochs(rows, get_metric("accuracy"), by_loss) == 2  # although the accuracy grows
    assert should_stop(rows, get_metric("accuracy"), by_loss)
    assert not should_stop(rows[:-1], get_metric("accuracy"), by_loss)

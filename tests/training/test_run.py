import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_competition import at_epochs, make_tiny

from kaggle_kit import runs
from kaggle_kit.choices import STRATEGIES
from kaggle_kit.errors import ConfigError, DataError, FoldError, ImageError, LockedError, StorageError, TrainingError
from kaggle_kit.events import EpochEnded, FoldEnded, FoldStarted, Phase, Progress, RunStarted, log_lines, silent
from kaggle_kit.files import read_json
from kaggle_kit.folds import parse_folds
from kaggle_kit.inference import sources as readable
from kaggle_kit.runs.comparison import runs_table
from kaggle_kit.runs.provenance import seen_by
from kaggle_kit.tables import Classes
from kaggle_kit.training import checkpoint
from kaggle_kit.training import probe as probe_module
from kaggle_kit.training.locking import LOCK, OWNER, run_lock
from kaggle_kit.training.prepare import default_run_name
from kaggle_kit.training.run import TrainOptions, train_run


def train(tiny, *overrides, run="run", fold="all", restart=False, time_limit=None, **options):
    wanted = TrainOptions(run, fold, restart, time_limit)
    return train_run(tiny.setup("epochs=1", *overrides), wanted, folds=tiny.folds, **options)


def test_all_folds_give_every_row_once_and_a_summary(tiny, caplog):
    caplog.set_level(logging.INFO)
    summary = train(tiny)
    run = runs.read_run(tiny.workspace, "run")
    oof = runs.read_oof(run)
    assert sorted(oof.ids) == sorted(tiny.folds.ids)
    assert all(fold.finished for fold in run.folds)
    assert summary.mean == pytest.approx(np.mean(summary.scores))
    assert summary.spread == pytest.approx(np.std(summary.scores, ddof=1))
    assert summary.oof_score == pytest.approx(summary.mean)  # folds of the same size
    assert list(summary.table()["fold"]) == [0, 1, 2]
    assert "36 out-of-fold rows" in summary.describe()
    assert run.record.config_fingerprint == tiny.config("epochs=1").fingerprint
    assert "pretrained weights: none" in caplog.text
    assert "epoch 1/1" in caplog.text


def test_a_run_that_was_told_no_image_size_shows_the_one_of_its_model(tiny):
    setup = tiny.setup("epochs=1", "data.image_size=null", "model.name=test_vit")
    train_run(setup, TrainOptions("run", "0"), folds=tiny.folds)
    run = runs.read_run(tiny.workspace, "run")
    assert run.record.config.data.image_size is None
    assert runs_table(tiny.workspace)["image_size"].tolist() == ["160"]
    path = run.path / "fold0" / runs.FOLD_RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_size": None}))  # as records of 0.1.0 are
    assert runs_table(tiny.workspace)["image_size"].tolist() == ["160"]


def test_folds_do_not_depend_on_the_folds_before(tiny):
    train(tiny, fold="all")
    alone = train(tiny, run="alone", fold="2")
    first, second = (pd.read_csv(tiny.workspace.fold_dir(run, 2) / runs.HISTORY) for run in ("run", "alone"))
    assert list(first["train_loss"][1:]) == list(second["train_loss"][1:])
    assert alone.trained == (2,)


def test_finished_folds_are_skipped_and_others_added(tiny, monkeypatch):
    assert train(tiny, fold="1").trained == (1,)
    again = train(tiny, fold="0-1")
    assert (again.trained, [result.fold for result in again.results]) == ((0,), [0, 1])
    (tiny.workspace.fold_dir("run", 0) / runs.OOF).unlink()
    assert train(tiny, fold=[0, 1]).trained == (0,)


def test_a_fold_of_other_inputs_is_trained_anew(tiny, caplog):
    train(tiny, fold="0")
    path = tiny.workspace.fold_dir("run", 0) / runs.FOLD_RECORD
    record = read_json(path, made_by="test")
    path.write_text(json.dumps({**record, "inputs_fingerprint": "other"}))
    (path.parent / runs.TEST).touch()
    assert train(tiny, fold="0").trained == (0,)
    assert "trained anew" in caplog.text
    assert not (path.parent / runs.TEST).exists()


def test_another_configuration_is_refused_by_key(tiny):
    train(tiny, fold="0")
    with pytest.raises(ConfigError, match=r"optimizer\.lr: 0\.003 -> 0\.01.*--run NAME.*--restart"):
        train(tiny, "lr=0.01", fold="0")
    assert train(tiny, "hardware.engine=torch", "data.eval_batch_size=7", fold="0").trained == ()
    assert train(tiny, "lr=0.01", fold="0", restart=True).trained == (0,)
    folds = replace(tiny.folds, assignments=tiny.folds.assignments[:, ::-1].copy())
    with pytest.raises(ConfigError, match="another folds_fingerprint"):
        train(replace(tiny, folds=folds), "lr=0.01", fold="0")


def test_other_classes_are_refused(tiny):
    other = replace(tiny.competition, classes=Classes(("blue", "green", "red")))
    with pytest.raises(ValueError, match="another order"):
        train(replace(tiny, competition=other))


@pytest.mark.parametrize(
    ("text", "expected"), [("all", [0, 1, 2, 3]), ("0", [0]), ("0,2", [0, 2]), ("1-3", [1, 2, 3]), ("3, 0-1,1", [0, 1, 3])]
)
def test_parse_folds(text, expected):
    assert parse_folds(text, 4) == expected


@pytest.mark.parametrize(("text", "message"), [("4", "0..3, got 4"), ("x", "all, 0, 0,2"), ("2-1", "ascend"), ("", "all, 0")])
def test_folds_that_cannot_be(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_folds(text, 4)


def test_default_names_tell_configurations_apart(tiny):
    names = {default_run_name(tiny.config(*overrides)) for overrides in ((), ("lr=1",), ("devices=2",))}
    assert len(names) == 2
    assert all(name.startswith("test_resnet-") for name in names)


def test_strategies_are_looked_up(tiny, monkeypatch):
    with pytest.raises(ConfigError, match="unknown strategy 'probing'"):
        train(tiny, "strategy=probing")
    seen = []

    def probe(job, **options):
        seen.append((job.fold, sorted(options)))
        return STRATEGIES["finetune"](job, **options)

    monkeypatch.setattr(probe_module, "train_probe", probe)
    train(tiny, "strategy=probe", fold="0", restart=True)
    assert seen == [(0, ["fabric", "reporter", "stop"])]


def test_a_failing_fold_leaves_the_others(tiny):
    def fail(fold, row):
        if fold == 0 and row.epoch == 1:
            raise TrainingError("a test ends it")

    with pytest.raises(TrainingError, match=r"1 of 2 folds of run 'run' failed:\n  fold 0: a test ends it"):
        train(tiny, fold="0-1", reporter=at_epochs(fail))
    states = [fold.record.state for fold in runs.read_run(tiny.workspace, "run").folds]
    assert states == ["failed", "finished", "empty"]
    assert train(tiny, fold="0-1").trained == (0,)


def test_a_time_limit_ends_cleanly_and_the_next_call_goes_on(tiny):
    summary = train(tiny, "epochs=300", time_limit=2.0)
    assert summary.stopped == "the time limit is reached"
    assert summary.results == ()
    assert "no fold is finished" in summary.describe()
    folder = tiny.workspace.fold_dir("run", 0)
    assert read_json(folder / runs.FOLD_RECORD, made_by="test")["state"] == "stopped"
    before = len(pd.read_csv(folder / runs.HISTORY))
    assert train(tiny, "epochs=300", time_limit=2.0).stopped
    assert len(pd.read_csv(folder / runs.HISTORY)) > before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_cleanly(tiny, number):
    def send(fold, row):
        if row.epoch == 1:
            os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    if number == signal.SIGINT:
        with pytest.raises(KeyboardInterrupt):
            train(tiny, "epochs=3", reporter=at_epochs(send))
    else:
        summary = train(tiny, "epochs=3", reporter=at_epochs(send))
        assert "SIGTERM" in summary.stopped
    assert (tiny.workspace.fold_dir("run", 0) / runs.LAST).exists()
    seen = []
    train(tiny, "epochs=3", fold="0", reporter=at_epochs(lambda _, row: seen.append(row.epoch)))
    assert seen == [2, 3]
    assert signal.getsignal(signal.SIGTERM) == before


def test_unreadable_images_stop_or_are_left_out(tiny, caplog):
    _, valid = tiny.folds.split(0)
    bad = [tiny.folds.ids[valid[0]], tiny.folds.ids[tiny.folds.split(0)[0][0]]]
    for name in bad:
        (tiny.workspace.root / "data" / name).write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(ImageError, match=rf"2 of 36 training images.*bad_images=skip(.|\n)*{sorted(bad)[0]}"):
        train(tiny, fold="0")
    summary = train(tiny, "data.bad_images=skip", run="skip", fold="0")
    record = summary.results[0]
    assert sorted(record.left_out) == sorted(bad)
    assert (record.n_train, record.n_valid) == (23, 11)
    assert bad[0] not in runs.read_oof(runs.read_run(tiny.workspace, "skip")).ids
    assert "are left out" in caplog.text


def test_images_are_checked_once_unless_they_change(tiny, monkeypatch):
    seen, check = [], readable.check_images
    monkeypatch.setattr(readable, "check_images", lambda rows, **options: seen.append(len(rows)) or check(rows, **options))
    train(tiny, fold="0")
    train(tiny, fold="1")
    os.utime(tiny.workspace.root / "data" / "003.png", (0, 0))
    train(tiny, fold="1")
    assert seen == [36, 0, 1]


def test_a_second_process_is_refused_by_name(tiny):
    folder = tiny.workspace.run_dir("run")
    with run_lock(folder), pytest.raises(LockedError, match=rf"process {os.getpid()} of .* on .*--run NAME"):
        train(tiny)
    train(tiny, fold="0")  # the lock is free again
    assert not (folder / OWNER).exists()


def test_a_dead_process_holds_no_lock(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from kaggle_kit.training.locking import run_lock\n"
        "with run_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=f"process {process.pid}"), run_lock(tmp_path):
        pass
    process.kill()
    process.wait()
    begun = time.monotonic()
    with run_lock(tmp_path):
        assert read_json(tmp_path / OWNER, made_by="test")["pid"] == os.getpid()
    assert time.monotonic() - begun < 5
    assert (tmp_path / LOCK).exists()


def test_a_lock_that_a_dead_process_left_to_its_children_is_waited_for(tmp_path):
    """Loader processes inherit the lock and live on for seconds."""
    with run_lock(tmp_path):
        (tmp_path / OWNER).write_text(json.dumps({"pid": 2**22 + 1, "host": os.uname().nodename, "started": 0}))
        with pytest.raises(LockedError), run_lock(tmp_path, patience=0.5):
            pass


def test_a_full_disk_is_reported_with_path_and_bytes(tiny, monkeypatch):
    real, count = checkpoint.save_file, [0]

    def full(*arguments):
        count[0] += 1
        if count[0] == 4:
            raise OSError(28, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StorageError, match=r"last\.ckpt.*bytes wanted.*[Dd]isk is full|last\.ckpt.*bytes wanted.*No space"):
        train(tiny, "epochs=3", fold="0")
    monkeypatch.undo()
    seen = []
    train(tiny, "epochs=3", fold="0", reporter=at_epochs(lambda _, row: seen.append(row.epoch)))
    assert seen == [2, 3]


def test_training_needs_no_more_than_its_own_threads(tiny):
    before = torch.get_num_threads()
    train(tiny, fold="0")
    assert torch.get_num_threads() == before


def test_reporters_are_told_everything_in_order(tmp_path):
    told = []
    tiny = make_tiny(tmp_path)
    train(tiny, "epochs=2", fold="0", reporter=told.append)
    epoch = [Progress] * 4 + [Phase, EpochEnded]
    expected = [RunStarted, FoldStarted, Phase, EpochEnded, *epoch * 2, Phase, FoldEnded]
    assert [type(event) for event in told] == expected
    last = [event for event in told if isinstance(event, Progress)][-1]
    assert last.done == last.images == 24
    assert last.rate > 0
    phases = [(event.name, event.done, event.total) for event in told if isinstance(event, Phase)]
    assert phases == [("validating", 12, 12)] * 3 + [("predicting out of fold", 12, 12)]
    assert (told[-1].state, told[0]) == ("finished", RunStarted("run", (0,), 2))


def test_every_call_is_written_to_the_runs_log(tmp_path):
    tiny = make_tiny(tmp_path)
    train(tiny, "epochs=1", fold="0", reporter=silent)
    train(tiny, "epochs=1", fold="0-1", reporter=log_lines())
    lines = (tiny.workspace.run_dir("run") / runs.TRAIN_LOG).read_text().splitlines()
    texts = [line.split("  ", 1)[1] for line in lines]
    assert sum(text.startswith("fold 0  epoch 1/1") for text in texts) == 1  # the screen's line is not written again
    assert sum(text.startswith("fold 1  epoch 1/1") for text in texts) == 1
    assert any(text.startswith("fold 0  finished before") for text in texts)
    assert len(logging.getLogger("kaggle_kit").handlers) == 0


def test_a_run_is_not_continued_on_other_images_and_they_are_named(tiny):
    """Names, sizes and labels all stay as they were; only the pixels of two images are exchanged."""
    train(tiny, fold="0")
    one, other = (tiny.workspace.root / "data" / name for name in ("004.png", "007.png"))
    pixels = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(pixels)
    before = (tiny.workspace.fold_dir("run", 0) / runs.MODEL).read_bytes()
    for fold in ("0", "1"):
        with pytest.raises(DataError, match=r"contents of 2 of 36 .* have changed: 004.png, 007.png\. .*--restart"):
            train(tiny, fold=fold)
    assert (tiny.workspace.fold_dir("run", 0) / runs.MODEL).read_bytes() == before
    assert train(tiny, fold="0", restart=True).trained == (0,)


def test_a_run_of_a_version_that_recorded_no_contents_goes_on(tiny):
    train(tiny, fold="0")
    path = tiny.workspace.fold_dir("run", 0) / runs.FOLD_RECORD
    record = read_json(path, made_by="kk train")
    assert record.pop("contents")
    path.write_text(json.dumps(record))
    assert train(tiny, fold="0").trained == ()


def test_a_truncated_model_is_trained_again(tiny, caplog):
    train(tiny, fold="0")
    path = tiny.workspace.fold_dir("run", 0) / runs.MODEL
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert train(tiny, fold="0").trained == (0,)
    assert "bytes instead of" in caplog.text
    assert path.read_bytes() == whole
    assert train(tiny, fold="0").trained == ()


def test_weights_that_have_seen_the_validation_rows_are_refused(tiny):
    train(tiny, run="first", fold="0")
    tiny.folds.write(tiny.workspace.folds_path("folds"))
    path = tiny.workspace.fold_dir("first", 0) / runs.MODEL
    with pytest.raises(FoldError, match=r"fold 0 of run 'first' was trained on 12 images that fold 1 is validated on"):
        train(tiny, f"pretrained={path}", run="second", fold="1")
    assert not (tiny.workspace.run_dir("second") / runs.RUN_RECORD).exists()
    train(tiny, f"pretrained={path}", run="second", fold="0")
    # What began from it has seen all that it has seen, under whatever name it is copied.
    copy = tiny.workspace.root / "copy.safetensors"
    copy.write_bytes((tiny.workspace.fold_dir("second", 0) / runs.MODEL).read_bytes())
    assert [one.run for one in seen_by(copy)] == ["second", "first"]
    with pytest.raises(FoldError, match="fold 0 of run 'second'"):
        train(tiny, f"pretrained={copy}", run="third", fold="2")
    other = replace(tiny.folds, assignments=np.roll(tiny.folds.assignments, 1, axis=1))
    with pytest.raises(FoldError, match=r"fold 0 of run 'second' was trained on \d+ images that fold 0 is validated on"):
        train_run(tiny.setup(f"pretrained={copy}"), TrainOptions("fourth", "0"), folds=other)
    tiny.workspace.folds_path("folds").unlink()
    with pytest.raises(FoldError, match="nobody can tell"):
        train_run(tiny.setup(f"pretrained={copy}"), TrainOptions("fourth", "0"), folds=other)
    elsewhere = replace(tiny.competition, name="elsewhere")
    setup = replace(tiny.setup(f"pretrained={copy}", "epochs=1"), competition=elsewhere)
    train_run(setup, TrainOptions("fifth", "0"), folds=other)


def test_a_failed_start_leaves_no_run(tiny):
    for override in ("augment=heavyy", "loss=bcee", "optimizer=adamm", "schedule=cosin", "strategy=prob", "model=resnet_18"):
        with pytest.raises(ConfigError):
            train(tiny, override, run="wrong", fold="0")
        assert runs.list_runs(tiny.workspace) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.freeze=99", "stages, got 99"),
        ("loss.class_weights={pink: 2}", "classes that do not exist"),
        ("schedule.options={cycels: 2}", "schedule.options"),
        ("schedule.warmup_epochs=9", "warmup_epochs must be below"),
        ("augment.transforms=[{name: CLAHE, q: 1}]", "no argument 'q'"),
        ("hardware.accelerator=cdua", "Did you mean 'cuda'"),
    ],
)
def test_options_that_cannot_be_used_are_refused_before_a_record_is_written(tiny, override, message):
    with pytest.raises(ConfigError, match=message):
        train(tiny, override, run="wrong", fold="0")
    assert runs.list_runs(tiny.workspace) == []


def test_a_run_that_goes_on_from_trained_weights_never_ends_below_its_start(tiny):
    """A learning rate that ruins the model: what it began with is kept, as epoch 0; a random classifier never is."""
    first = train(tiny, "epochs=4", fold="0").mean
    start = tiny.workspace.fold_dir("run", 0) / runs.MODEL
    ruined = train(tiny, f"pretrained={start}", "lr=5", "nan=skip", run="more", fold="0").mean
    train(tiny, "lr=5", "nan=skip", run="fresh", fold="0")
    paths = [tiny.workspace.fold_dir(run, 0) / runs.FOLD_RECORD for run in ("more", "fresh")]
    kept = [read_json(path, made_by="kk train")["epoch"] for path in paths]
    assert first > 0.5
    assert ruined == pytest.approx(first)
    assert kept == [0, 1]

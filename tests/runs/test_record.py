"""Records of runs and folds: they come back as they were written, older ones are read, and damaged ones give one error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kaggle_kit.config import RunConfig, derive
from kaggle_kit.errors import DataError, MissingFileError, TrainingError
from kaggle_kit.runs.history import EpochRow
from kaggle_kit.runs.record import (
    FOLD_RECORD,
    RUN_RECORD,
    VERSION,
    FoldRecord,
    FoldRecorder,
    RunRecord,
    fold_record_from,
    read_fold_record,
    read_run_record,
    write_fold_record,
    write_run_record,
)
from kaggle_kit.stop import StopRequested

RUN = RunRecord(
    task="multiclass",
    metric="accuracy",
    classes=("ant", "0001"),
    folds_fingerprint="f",
    n_splits=2,
    config=derive(RunConfig(), ["image_size=[64, 48]", "lr=0.5", "model.options={aa_layer: blurpool}"]),
    name="run",
)
FOLD = FoldRecord(1, "finished", score=0.5, image_size=(64, 48), left_out=("a.png",), strengths_tried=[{"strength": math.nan}])


def test_a_run_comes_back(tmp_path: Path) -> None:
    write_run_record(tmp_path, RUN)
    assert read_run_record(tmp_path) == replace(RUN, version=VERSION)


def test_a_fold_comes_back(tmp_path: Path) -> None:
    for score in (0.5, math.nan):
        write_fold_record(tmp_path, replace(FOLD, score=score))
        text = (tmp_path / FOLD_RECORD).read_text()
        assert "NaN" not in text
        read = read_fold_record(tmp_path, 1)
        assert (read.state, read.image_size, read.left_out) == ("finished", (64, 48), ("a.png",))
        assert read.score == score or (math.isnan(read.score) and math.isnan(score))
        assert fold_record_from(read.to_dict()).to_dict() == read.to_dict()
        assert read.updated is not None


def test_records_of_the_first_version(tmp_path: Path) -> None:
    old = {**RUN.to_dict(), "somebody_elses": 1}
    del old["name"], old["version"]
    old["config"]["augment"]["where"] = "auto"
    (tmp_path / RUN_RECORD).write_text(json.dumps(old))
    assert read_run_record(tmp_path) == replace(RUN, name=tmp_path.name)
    (tmp_path / FOLD_RECORD).write_text(
        '{"fold": 0, "state": "finished", "score": null, "strengths_tried": [{"strength": NaN}]}'
    )
    assert math.isnan(read_fold_record(tmp_path, 0).score)


def test_nothing_there(tmp_path: Path) -> None:
    assert read_fold_record(tmp_path, 3) == FoldRecord(3)
    with pytest.raises(MissingFileError, match="kk train"):
        read_run_record(tmp_path)


def attempt(read: Callable[[], Any]) -> tuple[str, Any]:
    """Return the message of a DataError, or nothing and what was read; any other error is a defect."""
    try:
        return "", read()
    except DataError as error:
        return str(error), None


DEEP = "[" * 100_000
DAMAGED = {
    "empty": b"",
    "a list": b"[]",
    "deep": f'{{"config": {DEEP}'.encode(),
    "deep and closed": ('{"config": ' + DEEP + "]" * 100_000 + "}").encode(),
    "not text": b"\xff\xfe{}",
    "a long number": b'{"n_splits": ' + b"9" * 5000 + b"}",
    "a surrogate": b'{"task": "\\ud800"}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("name", [RUN_RECORD, FOLD_RECORD])
def test_a_damaged_file_is_one_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*(Train the run again|run `kk train` again)"):
        read_run_record(tmp_path) if name == RUN_RECORD else read_fold_record(tmp_path, 0)


@pytest.mark.parametrize("wrong", [None, 7, "text", [], [None], {}, {"a": []}, True, -1, 1e400])
@pytest.mark.parametrize("key", sorted({**RUN.to_dict(), "config": 0}))
def test_a_wrong_type_in_a_run_never_escapes(tmp_path: Path, key: str, wrong: object) -> None:
    (tmp_path / RUN_RECORD).write_text(json.dumps({**RUN.to_dict(), key: wrong}))
    refused, record = attempt(lambda: read_run_record(tmp_path))
    assert key in refused or (isinstance(record.config, RunConfig) and record.n_splits >= 1)


@pytest.mark.parametrize("wrong", [7.5, "text", [], [None], {"a": []}])
@pytest.mark.parametrize("key", ["state", "fold", "seconds", "score", "left_out", "image_size", "strengths_tried", "versions"])
def test_a_wrong_type_in_a_fold_never_escapes(tmp_path: Path, key: str, wrong: object) -> None:
    (tmp_path / FOLD_RECORD).write_text(json.dumps({**FOLD.to_dict(), key: wrong}))
    refused, record = attempt(lambda: read_fold_record(tmp_path, 1))
    assert key in refused or record.to_dict()[key] == wrong


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / FOLD_RECORD).write_text(json.dumps({"fold": 0, "version": VERSION + 1}))
    with pytest.raises(DataError, match="Install a newer one"):
        read_fold_record(tmp_path, 0)


@pytest.mark.parametrize(("error", "state"), [(StopRequested("time"), "stopped"), (TrainingError("nan"), "failed")])
def test_how_a_fold_ended_is_noted(tmp_path: Path, error: Exception, state: str) -> None:
    recorder = FoldRecorder(tmp_path, 0, "inputs")

    def train() -> None:
        with recorder.follow():
            assert read_fold_record(tmp_path, 0).state == "running"
            recorder.take(EpochRow(3, 0.1, 0.2, 0.9, 1e-3, 1.0, 10.0))
            raise error

    with pytest.raises(type(error)):
        train()
    read = read_fold_record(tmp_path, 0)
    assert (read.state, read.reason, read.epoch, read.score) == (state, str(error), 3, 0.9)


def test_time_of_an_attempt_that_goes_on_is_counted_on(tmp_path: Path) -> None:
    write_fold_record(tmp_path, FoldRecord(0, "stopped", "inputs", seconds=100.0))
    for inputs, least in (("inputs", 100.0), ("others", 0.0)):
        recorder = FoldRecorder(tmp_path, 0, inputs, writes=False)
        recorder.update()
        assert least <= recorder.record.seconds < least + 50

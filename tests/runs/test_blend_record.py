"""The record of a submission: what is written is read again, old ones and half-known ones too, and damage has one error."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from kaggle_kit import files
from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.runs import (
    BlendedRun,
    BlendRecord,
    BlendScores,
    ControlFile,
    blend_record_path,
    blend_records,
    read_blend_record,
    write_blend_record,
)
from kaggle_kit.workspace import Workspace

OLD = Path(__file__).parents[1] / "workspace_0_1_0" / "here" / "submissions" / "blend.csv"
RECORD = BlendRecord(
    name="mine",
    competition="cats",
    competition_fingerprint="c",
    test_fingerprint="t",
    task="multilabel",
    form={"form": "labels", "threshold": 0.5},
    folds="folds",
    folds_fingerprint="f",
    runs=(
        BlendedRun("a", 0.25, 0.9, (0, 2), 3, "hflip", "none", "f", "g", {0: "m", 2: None}),
        BlendedRun("b", None, math.nan, (0,), 3, "none", "none", "f", None, {0: "n"}),
    ),
    method="weights",
    blend={"method": "weights", "n_runs": 2, "parameters": {"weights": [1.0, 3.0]}},
    thresholds=(0.25, 0.5),
    scores=BlendScores("roc_auc", 0.9, math.nan, 20),
    views="mixed",
    seed=3,
    notes=("a note",),
    classes=("cat", "dog"),
    classes_fingerprint="k",
    n_test=7,
    sha256="s",
    control=ControlFile(5, "x"),
    tables={".probs.parquet": "p"},
    kaggle={"ref": 7, "public_score": 0.91, "date": "2026-01-02"},
    kaggle_earlier=({"ref": 6},),
    build="b1",
    versions={"python": "3.12"},
    created="2026-01-01T00:00:00+00:00",
    others={"of a newer version": [1]},
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    unset = [entry.name for entry in fields(BlendRecord) if getattr(RECORD, entry.name) == entry.default]
    assert unset == ["version"]  # every other entry is looked at here
    path = tmp_path / "mine.csv"
    write_blend_record(path, RECORD)
    assert "NaN" not in blend_record_path(path).read_text()
    read = read_blend_record(path)
    assert read.version == 2
    assert repr(read) == repr(BlendRecord(**{**vars(RECORD), "version": 2}))  # NaN is not equal to itself
    write_blend_record(tmp_path / "again.csv", read)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "mine.json").read_bytes()


def test_a_record_of_version_0_1_0_is_read_and_kept_whole(tmp_path: Path) -> None:
    for suffix in (".csv", ".json"):
        shutil.copy(OLD.with_suffix(suffix), tmp_path)
    record, stated = read_blend_record(tmp_path / "blend.csv"), json.loads(OLD.with_suffix(".json").read_text())
    assert record.version == 1
    assert (record.method, record.sha256) == (stated["method"], files.file_fingerprint(OLD))
    assert [run.name for run in record.runs] == [entry["name"] for entry in stated["runs"]]
    assert record.runs[0].models == {int(fold): model for fold, model in stated["runs"][0]["models"].items()}
    assert record.test_fingerprint is None
    write_blend_record(tmp_path / "blend.csv", record)
    written = json.loads((tmp_path / "blend.json").read_text())
    assert {key: written.get(key) or None for key in stated if key != "runs"} == {
        key: stated[key] or None for key in stated if key != "runs"
    }


def test_a_file_made_elsewhere_may_have_a_record_of_what_kaggle_said_alone(tmp_path: Path) -> None:
    write_blend_record(tmp_path / "theirs.csv", BlendRecord(kaggle={"ref": 1}))
    record = read_blend_record(tmp_path / "theirs.csv")
    assert (record.runs, record.method, record.sent) == ((), None, "date unknown, no score yet")
    assert RECORD.sent == "2026-01-02, public score 0.91"
    assert BlendRecord().sent == ""
    assert record.of_run("a") == BlendedRun("a")
    assert RECORD.of_run("a").weight == 0.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": 3}, "runs: "),
        ({"runs": [{"weight": 1.0}]}, r"runs\.0\.name"),
        ({"runs": [{"name": "a", "models": {"x": "m"}}]}, r"runs\.0\.models"),
        ({"thresholds": ["high"]}, r"thresholds\.0"),
        ({"kaggle": "sent"}, "kaggle: "),
        ({"tables": {".probs.parquet": 3}}, "tables"),
        ({"scores": {"metric": "accuracy", "n": "many"}}, r"scores\.n"),
        ({"version": 99}, "version 99.*newer"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    files.write_json(tmp_path / "x.json", {**RECORD.to_dict(), **change})
    with pytest.raises(DataError, match=rf"x\.json.*{message}"):
        read_blend_record(tmp_path / "x.csv")


def test_none_and_no_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="kk blend"):
        read_blend_record(tmp_path / "x.csv")
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"x\.json"):
        read_blend_record(tmp_path / "x.csv")


def test_all_sound_records_of_a_folder(tmp_path: Path) -> None:
    folder = Workspace(tmp_path).submissions_dir
    write_blend_record(folder / "a.csv", RECORD)
    files.write_json(folder / "a.check.json", {"verdict": "PASSED"})
    files.write_json(folder / "b.json", {"runs": 3})
    files.write_json(folder / ".0123456789ab.tmp.json", RECORD.to_dict())  # of a killed writer
    assert [(path.name, record.name) for path, record in blend_records(folder)] == [("a.csv", "mine")]
    assert list(blend_records(tmp_path / "none")) == []

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import yaml
from blended_case import Blended, with_meta, with_probs

from kaggle_kit import files, runs
from kaggle_kit.competition import load_competition
from kaggle_kit.config import load_config
from kaggle_kit.errors import DataError
from kaggle_kit.runs.model_header import read_model_record
from kaggle_kit.tables import Classes, Predictions, read_folds


def failed(case: Blended, name: str) -> str:
    line = case.line(f"contract: {name}")
    assert line.status == "failed", line
    return line.evidence


def edit_yaml(case: Blended, **changes: object) -> None:
    path = case.workspace.config_path
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        content["competition"][key] = {**content["competition"][key], **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    case.config = load_config(path)
    case.competition = load_competition(case.workspace, case.config.competition)


def test_a_whole_chain_passes(blended: Callable[..., Blended]) -> None:
    lines = [check for check in blended(views="hflip").check().checks if check.name.startswith("contract")]
    assert [line.status for line in lines] == ["passed"] * 5


def test_classes_reordered_in_kk_yaml_are_named(blended: Callable[..., Blended]) -> None:
    case = blended()
    edit_yaml(case, classes=["class 1", "class 0", "class 2"])
    assert "blend.json hold the same classes in another order; column 0: 'class 1' / 'class 0'" in failed(case, "record")
    assert "the fold table" in failed(case, "fold table")
    assert "runs/run0/run.json" in failed(case, "runs")


def test_an_edited_submission_is_not_the_recorded_one(blended: Callable[..., Blended]) -> None:
    case = blended()
    case.path.write_bytes(case.path.read_bytes().replace(b"class 1", b"class 2", 1))
    assert "is not the file that blend.json describes" in failed(case, "record")


def test_data_that_changed_are_another_competition(blended: Callable[..., Blended]) -> None:
    case = blended()
    path = case.workspace.root / "data" / "train.csv"
    path.write_text(path.read_text().replace("class 1", "class 2", 1))
    case.competition = load_competition(case.workspace, case.config.competition)
    assert "another state of the competition" in failed(case, "record")
    assert "1 rows have another label than in the data" in failed(case, "fold table")


@pytest.mark.parametrize("entry", ["model_fingerprint", "state"])
def test_a_run_that_went_on_after_the_blend(blended: Callable[..., Blended], entry: str) -> None:
    case = blended()
    record = case.fold_file(runs.FOLD_RECORD)
    files.write_json(record, {**json.loads(record.read_text()), entry: "stopped"})
    assert {"model_fingerprint": "trained again after", "state": "was blended with folds 0, 1, 2 and now has 1, 2"}[
        entry
    ] in failed(case, "record")


def test_a_fold_table_made_again(blended: Callable[..., Blended]) -> None:
    case = blended()
    table = read_folds(case.workspace.folds_path("folds"))
    changed = np.roll(table.assignments, 1, axis=1)
    type(table)(table.ids, table.labels, table.groups, changed, table.n_folds, table.classes, False, table.meta).write(
        case.workspace.folds_path("folds")
    )
    assert "run0, run1 trained on another version" in failed(case, "fold table")


def test_a_checkpoint_of_another_class_list(blended: Callable[..., Blended]) -> None:
    case = blended()
    path = case.fold_file(runs.MODEL, fold=1)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = (
        data[8 : 8 + length].replace(b"class 0", b"class X").replace(b"class 1", b"class 0").replace(b"class X", b"class 1")
    )
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    assert "runs/run0/fold1/model.safetensors hold the same classes in another order" in failed(case, "runs")


def test_a_checkpoint_of_another_fold(blended: Callable[..., Blended]) -> None:
    case = blended()
    shutil.copy(case.fold_file(runs.MODEL, fold=1), case.fold_file(runs.MODEL, fold=0))
    assert "runs/run0/fold0/model.safetensors says fold '1', expected '0'" in failed(case, "runs")


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"\x04\0\0\0\0\0\0\0{}  "])
def test_a_damaged_checkpoint_is_named(blended: Callable[..., Blended], data: bytes) -> None:
    path = blended().fold_file(runs.MODEL)
    path.write_bytes(data)
    with pytest.raises(DataError, match="no model file of kaggle_kit"):
        read_model_record(path)


def test_predictions_of_an_earlier_model(blended: Callable[..., Blended]) -> None:
    case = blended()
    case.edit(case.fold_file(runs.TEST), lambda table: with_meta(table, {"model_fingerprint": "f" * 64}))
    assert "says model fingerprint 'ffffffffffffffff'" in failed(case, "predictions")


def test_predictions_with_other_views_in_one_fold(blended: Callable[..., Blended]) -> None:
    case = blended()
    case.edit(case.fold_file(runs.TEST), lambda table: with_meta(table, {"views": "d4"}))
    assert "folds were predicted with different views: d4 mean, none mean" in failed(case, "predictions")


def test_rows_lost_from_a_prediction_file(blended: Callable[..., Blended]) -> None:
    case = blended()
    case.edit(case.fold_file(runs.OOF), lambda table: table.take(table.ids[:-1]))
    assert "49 rows, expected 50: missing train_" in failed(case, "predictions")


def test_images_that_training_left_out_are_not_missing(blended: Callable[..., Blended]) -> None:
    case = blended()
    lost: list[str] = []

    def drop(table: Predictions) -> Predictions:
        lost.append(table.ids[-1])
        return table.take(table.ids[:-1])

    case.edit(case.fold_file(runs.OOF), drop)
    record = case.fold_file(runs.FOLD_RECORD)
    files.write_json(record, {**json.loads(record.read_text()), "left_out": lost})
    assert case.line("contract: predictions").status == "passed"


def test_rows_exchanged_after_the_pass(blended: Callable[..., Blended]) -> None:
    """Nothing but the fingerprint that the control file carries can tell: all folds agree with each other."""
    case = blended()
    for run in ("run0", "run1"):
        for fold in range(3):
            path = case.fold_file(runs.TEST, run=run, fold=fold)
            case.edit(path, lambda table: Predictions(table.ids, np.roll(table.probs, 1, axis=0), table.classes, table.meta))
    case.reblend()
    assert [check.name for check in case.check().failed] == ["contract: predictions"]
    assert "rows or columns were exchanged" in failed(case, "predictions")


def test_columns_of_a_parquet_renamed_by_hand(blended: Callable[..., Blended]) -> None:
    case = blended()
    case.edit(
        case.fold_file(runs.TEST),
        lambda table: Predictions(table.ids, table.probs, Classes(table.classes.names[::-1]), table.meta),
    )
    assert "runs/run0/fold0/test.parquet hold the same classes in another order" in failed(case, "predictions")


def test_integers_of_numeric_classes_must_be_the_classes(blended: Callable[..., Blended]) -> None:
    case = blended(form="index", class_names=("1", "2", "10"))
    assert "would be written as others: '1' -> 0" in failed(case, "kk.yaml")
    edit_yaml(case, submission={"indices": {"1": 1, "2": 2, "10": 10}})
    assert case.line("contract: kk.yaml").status == "passed"


def test_crossed_columns_in_kk_yaml(blended: Callable[..., Blended]) -> None:
    case = blended(form="probability")
    columns = {**case.config.competition.submission.columns, "class 0": "class 1", "class 1": "class 0"}
    edit_yaml(case, submission={"columns": columns})
    assert "kk.yaml crosses names: column 'class 0' is mapped to class 'class 1'" in case.line("form: columns").evidence


def test_runs_that_are_not_here_are_no_verdict(blended: Callable[..., Blended]) -> None:
    case = blended()
    shutil.rmtree(case.workspace.runs_dir)
    report = case.check()
    assert report.verdict == "NOT PROVEN"
    assert "the runs run0, run1 are not in" in case.line("contract: runs").evidence
    assert case.line("cells: file").status == "passed"


def test_out_of_fold_rows_changed_after_the_blend_are_not_believed(blended: Callable[..., Blended]) -> None:
    case = blended()
    case.edit(case.path.with_suffix(".oof.parquet"), lambda table: with_probs(table, table.probs[::-1]))
    line = case.line("contract: record")
    assert line.status == "failed"
    assert "blend.oof.parquet is not the file that blend.json describes" in line.evidence


def test_correcting_how_the_submission_is_written_asks_for_a_blend_and_no_training(blended: Callable[..., Blended]) -> None:
    case = blended(form="index", n_train=300, n_test=60)
    edit_yaml(case, submission={"indices": {name: number + 7 for number, name in enumerate(case.competition.classes)}})
    lines = {check.name: check for check in case.check().failed}
    assert {"contract: runs", "contract: predictions", "contract: fold table"}.isdisjoint(lines)
    assert "submission.indices was changed" in lines["contract: record"].evidence
    case.reblend()
    assert not case.check().failed


def test_a_run_of_version_0_1_0_is_taken_for_what_it_is(blended: Callable[..., Blended]) -> None:
    """Its fingerprint covered the form of the submission and the test ids as well."""
    case = blended()
    earlier = case.competition._fingerprint_of_0_1_0
    path = case.workspace.run_dir("run0") / runs.RUN_RECORD
    files.write_json(path, {**json.loads(path.read_text()), "competition_fingerprint": earlier})
    assert case.line("contract: runs").status == "passed"
    assert not case.competition.is_state("0" * 64)

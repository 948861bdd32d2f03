from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from blended_case import Blended

from kaggle_kit import files
from kaggle_kit.check import CHECKS, CheckReport, check_submission, record_path, require_passed
from kaggle_kit.check.report import (
    FAILED,
    INCONCLUSIVE,
    PASSED,
    WARNING,
    copy_verdict,
    digest,
    require_copied_verdict,
)
from kaggle_kit.errors import MissingFileError, SubmissionError


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_yields_lines_with_evidence(blended: Callable[..., Blended], name: str, tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    case = blended()
    answers.write_text("id,label\n" + "".join(f"{row_id},{labels[0]}\n" for row_id, labels in case.answers.items()))
    lines = [check for check in case.check(answers=answers).checks if check.name.partition(":")[0] == name]
    assert lines
    assert all(line.status in (PASSED, FAILED, WARNING, INCONCLUSIVE) and line.evidence for line in lines)


def hand_made(case: Blended) -> CheckReport:
    path = case.workspace.root / "mine.csv"
    path.write_bytes(case.path.read_bytes())
    return check_submission(path, workspace=case.workspace, config=case.config, competition=case.competition)


def test_a_hand_made_file_is_compared_with_what_the_workspace_knows(blended: Callable[..., Blended]) -> None:
    report = hand_made(blended(n_test=120))
    status = {check.name: check.status for check in report.checks}
    assert report.passed
    assert {name: value for name, value in status.items() if name.startswith("form")} == dict.fromkeys(
        [name for name in status if name.startswith("form")], PASSED
    )
    assert status["foreign"] == PASSED
    assert {status[name] for name in status if name.startswith(("permutation", "control", "cells"))} == {INCONCLUSIVE}
    assert any("no record mine.json" in check.evidence for check in report.checks)


def test_a_hand_made_file_that_nothing_can_be_compared_with_is_not_proven(blended: Callable[..., Blended]) -> None:
    case = blended(n_test=120)
    case.workspace.runs_dir.rename(case.workspace.root / "elsewhere")
    case.path.with_suffix(".probs.parquet").unlink()
    report = hand_made(case)
    assert (report.verdict, report.exit_code) == ("NOT PROVEN", 3)
    assert report.headline.startswith("NOT PROVEN: nothing independent shows which class each column or value stands for, nor")
    record = json.loads(record_path(report.path).read_text())
    assert (record["verdict"], record["passed"]) == ("NOT PROVEN", False)
    with pytest.raises(SubmissionError, match=r"not proven: nothing independent shows which class .*--force"):
        require_passed(report.path, root=case.workspace.root)
    require_passed(report.path, root=case.workspace.root, force=True)


def test_a_verdict_counts_what_is_open(blended: Callable[..., Blended]) -> None:
    report = blended(n_test=120).check()
    assert (report.verdict, report.exit_code) == ("PASSED", 0)
    count = len(report.having(INCONCLUSIVE))  # e.g. one fold's rows are too few
    assert report.headline == (f"PASSED ({count} of {len(report.checks)} checks are inconclusive)" if count else "PASSED")
    case = blended()
    case.write(case.frame().iloc[1:])
    assert case.check().exit_code == 1
    case = blended(control=0)
    assert case.line("pixels").shows == ("rows",)
    for run, fold in product(("run0", "run1"), range(3)):
        case.edit(case.fold_file("test.parquet", run=run, fold=fold), lambda table: replace(table, pixels=None))
    assert case.check().headline.startswith("NOT PROVEN: nothing independent shows which image each row belongs to; ")
    assert "checks are inconclusive" in case.check().headline


def test_a_record_of_version_0_1_0_opens_the_gate_as_it_did(blended: Callable[..., Blended]) -> None:
    case = blended()
    case.check()
    path = record_path(case.path)
    record = json.loads(path.read_text())
    old = {key: value for key, value in record.items() if key not in ("verdict", "unproven")}
    old["checks"] = [{key: value for key, value in line.items() if key != "shows"} for line in old["checks"]]
    files.write_json(path, old)
    require_passed(case.path)
    files.write_json(path, {**old, "passed": False, "checks": [{**old["checks"][0], "status": FAILED}]})
    with pytest.raises(SubmissionError, match="did not pass"):
        require_passed(case.path)


def test_the_competition_is_loaded_when_it_is_not_given(blended: Callable[..., Blended]) -> None:
    case = blended()
    given = case.check()
    loaded = check_submission(case.path, workspace=case.workspace, config=case.config)
    assert loaded.checks == given.checks


def test_without_the_data_the_rest_is_still_checked(blended: Callable[..., Blended]) -> None:
    case = blended()
    (case.workspace.root / "data").rename(case.workspace.root / "elsewhere")
    report = check_submission(case.path, workspace=case.workspace, config=case.config)
    status = {check.name: check.status for check in report.checks}
    assert report.passed
    assert status["contract: kk.yaml"] == INCONCLUSIVE
    assert status["permutation: blend"] == status["cells: file"] == status["contract: record"] == PASSED


def test_a_missing_submission_is_an_error(blended: Callable[..., Blended]) -> None:
    case = blended()
    case.path.unlink()
    with pytest.raises(MissingFileError, match="kk blend"):
        case.check()


def test_a_damaged_file_fails_its_checks_and_stops_no_other(blended: Callable[..., Blended]) -> None:
    case = blended()
    case.path.with_suffix(".oof.parquet").write_bytes(b"no parquet")
    report = case.check()
    assert not report.passed
    assert any("damaged" in check.evidence for check in report.failed)
    assert case.line("cells: file").status == PASSED


def test_the_record_says_what_was_found_and_read(blended: Callable[..., Blended]) -> None:
    case = blended()
    report = case.check()
    record = json.loads(record_path(case.path).read_text())
    assert record["passed"] is True
    assert record["sha256"] == report.sha256
    assert [check["name"] for check in record["checks"]] == [check.name for check in report.checks]
    assert {"kk.yaml", "folds/folds.csv", "submissions/blend.json", "runs/run0/fold0/test.parquet"} <= set(record["files"])


def test_a_passed_and_current_record_opens_the_gate(blended: Callable[..., Blended]) -> None:
    case = blended()
    case.check()
    require_passed(case.path)


def change_submission(case: Blended) -> None:
    case.path.write_bytes(case.path.read_bytes() + b"\n")


def change_fold_table(case: Blended) -> None:
    path = case.workspace.folds_path("folds")
    path.write_bytes(path.read_bytes() + b"\n")


def fail_it(case: Blended) -> None:
    case.write(case.frame().iloc[1:])
    case.check()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda case: record_path(case.path).unlink(), "was never checked"),
        (lambda case: record_path(case.path).write_text("{"), "not valid JSON"),
        (lambda case: record_path(case.path).write_text("{}"), "lacks sha256"),
        (change_submission, "was changed after it was checked"),
        (change_fold_table, "has changed since: folds/folds.csv"),
        (fail_it, "did not pass its check \\(form: ids"),
    ],
)
def test_the_gate_stays_shut_unless_forced(blended: Callable[..., Blended], spoil: Callable, message: str) -> None:
    case = blended()
    case.check()
    spoil(case)
    with pytest.raises(SubmissionError, match=message):
        require_passed(case.path)
    require_passed(case.path, force=True)


def test_runs_that_were_cleared_away_make_no_record_stale(blended: Callable[..., Blended]) -> None:
    case = blended()
    case.check()
    case.fold_file("test.parquet").unlink()
    require_passed(case.path)


def test_a_workspace_may_be_moved_with_its_data(blended: Callable[..., Blended], tmp_path: Path) -> None:
    """Data beside the workspace, as `kk init ../data` has it; the record names neither by an absolute path."""
    case = blended()
    sample = tmp_path / "data" / "sample_submission.csv"
    sample.parent.mkdir()
    sample.write_text("id\n")
    found = digest([case.workspace.config_path, sample], case.workspace.root)
    assert "kk.yaml" in found
    (beside,) = set(found) - {"kk.yaml"}
    assert not Path(beside).is_absolute()
    assert (case.workspace.root / beside).samefile(sample)


def test_force_does_not_conjure_up_a_file(blended: Callable[..., Blended]) -> None:
    with pytest.raises(MissingFileError):
        require_passed(blended().path.with_name("nowhere.csv"), force=True)


def test_checking_imports_neither_models_nor_the_writer() -> None:
    code = "import sys, kaggle_kit.check; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    forbidden = {"torch", "timm", "albumentations", "cv2", "sklearn", "kaggle_kit.submission", "kaggle_kit.blending"}
    assert not forbidden & set(modules)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "NOT PROVEN", "passed": False, "unproven": ["rows"]}, "which image each row"),
        ({"verdict": "FAILED"}, "pass"),
    ],
)
def test_what_is_made_of_a_submission_keeps_its_verdict(
    blended: Callable[..., Blended], tmp_path: Path, changes: dict, message: str
) -> None:
    case, copy = blended(), tmp_path / "verdict.json"
    case.check()
    copy_verdict(case.path, copy)
    require_copied_verdict(copy, force=False)
    path = record_path(case.path)
    files.write_json(path, {**json.loads(path.read_text()), **changes})
    copy_verdict(case.path, copy)
    with pytest.raises(SubmissionError, match=message):
        require_copied_verdict(copy, force=False)
    require_copied_verdict(copy, force=True)
    require_copied_verdict(tmp_path / "none.json", force=False)


def test_the_verdict_is_a_text_of_each_run_in_tensorboard(blended: Callable[..., Blended]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    case = blended()
    for frame, verdict in ((case.frame().iloc[1:], "FAILED"), (case.frame(), "PASSED")):
        case.write(frame)
        report = case.check()
        for run in ("run0", "run1"):
            log = EventAccumulator(str(case.workspace.run_dir(run)))
            log.Reload()
            (event,) = log.Tensors(f"verdict/{case.path.stem}")
            text = event.tensor_proto.string_val[0].decode()
            assert text.startswith(f"**{case.path.name}: {verdict}")
            assert text.count("\n| ") == len(report.checks) + 2

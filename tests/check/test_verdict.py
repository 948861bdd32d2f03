from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from blended_case import Blended

from kaggle_kit.check import CHECKS, check_submission, record_path, require_passed
from kaggle_kit.check.report import FAILED, INCONCLUSIVE, PASSED, WARNING, digest
from kaggle_kit.errors import MissingFileError, SubmissionError


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_yields_lines_with_evidence(blended: Callable[..., Blended], name: str, tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    case = blended()
    answers.write_text("id,label\n" + "".join(f"{row_id},{labels[0]}\n" for row_id, labels in case.answers.items()))
    lines = [check for check in case.check(answers=answers).checks if check.name.partition(":")[0] == name]
    assert lines
    assert all(line.status in (PASSED, FAILED, WARNING, INCONCLUSIVE) and line.evidence for line in lines)


def test_a_hand_made_file_gets_its_form_checked_and_no_more(blended: Callable[..., Blended]) -> None:
    case = blended()
    path = case.workspace.root / "mine.csv"
    path.write_bytes(case.path.read_bytes())
    report = check_submission(path, workspace=case.workspace, config=case.config, competition=case.competition)
    status = {check.name: check.status for check in report.checks}
    assert report.passed
    assert {name: value for name, value in status.items() if name.startswith("form")} == dict.fromkeys(
        [name for name in status if name.startswith("form")], PASSED
    )
    assert {status[name] for name in status if name.startswith(("permutation", "control", "cells"))} == {INCONCLUSIVE}
    assert any("no record mine.json" in check.evidence for check in report.checks)


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

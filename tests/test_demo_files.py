"""The demo's fold table and submission at the top of the repository are what the package makes and accepts today."""

import json
import re
from pathlib import Path

import pytest

from kaggle_kit import files
from kaggle_kit.check import check_submission
from kaggle_kit.competition import init_workspace, load_competition
from kaggle_kit.config import load_config
from kaggle_kit.demo import write_competition
from kaggle_kit.folds import create_folds
from kaggle_kit.images.duplicates import find_competition_duplicates
from kaggle_kit.tables import read_folds
from kaggle_kit.workspace import Workspace

ROOT = Path(__file__).parents[1]
FOLDS, SUBMISSION = ROOT / "folds" / "folds.csv", ROOT / "submissions" / "blend.csv"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's workspace after ``kk init``, its configuration and its data; the answers lie beside it."""
    folder = tmp_path_factory.mktemp("demo")
    write_competition(folder / "data", folder / "answers.csv")
    workspace = Workspace(folder / "work")
    workspace.root.mkdir()
    init_workspace(folder / "data", workspace.root, name="digits")
    config = load_config(workspace.config_path)
    return workspace, config, load_competition(workspace, config.competition)


def record(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_kk_folds_makes_the_committed_table_byte_for_byte(demo):
    workspace, config, competition = demo
    create_folds(
        workspace, competition, config.folds, duplicates=find_competition_duplicates(competition, config.folds, workers=1)
    )
    made = workspace.folds_path("folds")
    assert made.read_bytes() == FOLDS.read_bytes()
    here, there = (record(path.with_suffix(".json")) for path in (made, FOLDS))
    assert {**here, "versions": None} == {**there, "versions": None}


def test_the_committed_submission_is_accepted_and_scores_what_its_readme_says(demo):
    workspace, config, competition = demo
    path = workspace.submission_path("blend")
    path.parent.mkdir()
    path.write_bytes(SUBMISSION.read_bytes())
    answers = workspace.root.parent / "answers.csv"
    report = check_submission(
        path, workspace=workspace, config=config, competition=competition, answers=answers, only=("form", "grader")
    )
    assert {check.status for check in report.checks} == {"passed"}
    assert report.score == record(SUBMISSION.with_suffix(".check.json"))["score"]
    assert f"**{report.score:.4f} on the 360 private answers**" in (SUBMISSION.parent / "README.md").read_text(encoding="utf-8")


def test_the_records_belong_to_the_committed_files():
    made, checked = record(SUBMISSION.with_suffix(".json")), record(SUBMISSION.with_suffix(".check.json"))
    assert made["sha256"] == checked["sha256"] == files.file_fingerprint(SUBMISSION)
    assert checked["passed"]
    assert checked["files"]["submissions/blend.json"] == files.file_fingerprint(SUBMISSION.with_suffix(".json"))
    assert checked["files"]["folds/folds.csv"] == files.file_fingerprint(FOLDS)
    assert made["folds_fingerprint"] == read_folds(FOLDS).fingerprint


@pytest.mark.parametrize("path", sorted([*FOLDS.parent.iterdir(), *SUBMISSION.parent.iterdir()]), ids=lambda path: path.name)
def test_no_path_of_a_machine_is_named(path):
    assert not re.search(r"(?<![\w.])/\w+/\w+|[A-Z]:\\", path.read_text(encoding="utf-8"))

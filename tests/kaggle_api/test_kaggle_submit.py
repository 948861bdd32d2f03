"""Submitting: once, whatever happens to the connection; the score comes back into the record."""

from __future__ import annotations

import json
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from fake_kaggle import FakeKaggle, Fault, Timed

from kaggle_kit import files
from kaggle_kit.check import record_path, require_passed
from kaggle_kit.errors import ConfigError, KaggleKitError, MissingFileError, RemoteError, StorageError, SubmissionError
from kaggle_kit.kaggle_api import SubmissionStatus, rank_correlation, submissions_table, submit
from kaggle_kit.workspace import Workspace


def make_submission(
    root: Path, name: str = "blend", *, passed: bool = True, rows: str = "1,cat\n2,dog\n", **record: object
) -> Path:
    path = root / "submissions" / f"{name}.csv"
    files.write_text(path, f"id,label\n{rows}")
    files.write_json(path.with_suffix(".json"), {"method": "mean", "created": "2025-01-01", **record})
    rests_on = {f"submissions/{name}.json": files.file_fingerprint(path.with_suffix(".json"))}
    verdict = {"sha256": files.file_fingerprint(path), "passed": passed, "files": rests_on}
    files.write_json(
        record_path(path), {**verdict, "checks": [{"name": "form: ids", "status": "passed" if passed else "failed"}]}
    )
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


@pytest.fixture
def path(workspace: Workspace) -> Path:
    return make_submission(workspace.root)


def entry_of(path: Path) -> dict[str, object]:
    return json.loads(path.with_suffix(".json").read_text())["kaggle"]


def test_submits_and_waits_for_the_score(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    kaggle.pending_polls = 4
    seen: list[SubmissionStatus] = []
    status = submit(workspace, "digits", path, message="two models", on_status=seen.append, patience=timed.patience)
    assert (status.status, status.public_score, status.private_score, status.uploaded) == ("complete", 0.9125, None, True)
    assert seen[0].status == "pending"
    assert seen[-1] == status
    assert bytes(kaggle.blobs["token0"]) == path.read_bytes()
    assert kaggle.submissions[0]["description"].startswith("two models [kk ")
    expected = {"ref": 40_000_000, "status": "complete", "public_score": 0.9125, "private_score": None}
    assert expected.items() <= entry_of(path).items()
    assert entry_of(path)["date"] == "2025-01-02T03:04:05"
    assert entry_of(path)["message"] == "two models"
    assert json.loads(path.with_suffix(".json").read_text())["method"] == "mean"  # the rest of the record stays
    require_passed(path)  # and the check stays current


def test_the_same_bytes_are_refused(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    submit(workspace, "digits", path, message="one", patience=timed.patience)
    with pytest.raises(SubmissionError, match=r"handed in to digits already: submission 40000000.*0\.9125.*--force"):
        submit(workspace, "digits", path, message="again", patience=timed.patience)
    copy = make_submission(workspace.root, "copy")  # another name, no record of Kaggle
    with pytest.raises(SubmissionError, match="handed in"):
        submit(workspace, "digits", copy, message="again", patience=timed.patience)
    assert len(kaggle.submissions) == 1
    assert entry_of(copy)["public_score"] == 0.9125  # what Kaggle knows is noted all the same
    forced = submit(workspace, "digits", path, message="again", force=True, patience=timed.patience)
    assert forced.ref == 40_000_001
    assert len(kaggle.submissions) == 2


def test_other_bytes_and_other_competitions_are_not_the_same(
    kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path
) -> None:
    submit(workspace, "digits", path, message="", patience=timed.patience)
    other = make_submission(workspace.root, rows="1,dog\n2,cat\n")
    submit(workspace, "digits", other, message="", patience=timed.patience)
    assert len(kaggle.submissions) == 2


def test_goes_on_waiting_after_a_time_out(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    kaggle.pending_polls = 1000
    first = submit(workspace, "digits", path, message="", patience=replace(timed.patience, score=60))
    assert first.status == "pending"
    assert 60 <= timed.time.now < 61
    kaggle.pending_polls = 0
    second = submit(workspace, "digits", path, message="", patience=timed.patience)
    assert (second.status, second.ref, second.uploaded) == ("complete", first.ref, False)
    assert kaggle.count("CreateSubmission") == kaggle.count("PUT") == 1


def test_without_waiting(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    assert submit(workspace, "digits", path, message="", patience=replace(timed.patience, score=0)).status == "pending"
    assert entry_of(path)["status"] == "pending"


def test_error_at_kaggle_is_kept(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    kaggle.outcome = {"status": "ERROR", "errorDescription": "Evaluation Exception: unknown id"}
    status = submit(workspace, "digits", path, message="", patience=timed.patience)
    assert (status.status, status.error) == ("error", "Evaluation Exception: unknown id")
    assert entry_of(path)["error"] == "Evaluation Exception: unknown id"


@pytest.mark.parametrize("fault", [Fault("drop"), Fault("status", 503), Fault("status", 502), Fault("hang", seconds=0.6)])
@pytest.mark.parametrize("call", ["ListSubmissions", "StartSubmissionUpload"])
def test_harmless_calls_are_repeated(
    kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path, call: str, fault: Fault
) -> None:
    kaggle.faults[call] = [fault, fault]
    assert submit(workspace, "digits", path, message="", patience=timed.patience).status == "complete"
    assert timed.time.slept[0] == 1.0  # urllib3 tries again at once, then after 1, 2, 4 ... seconds
    assert len(kaggle.submissions) == 1


@pytest.mark.parametrize("fault", [Fault("drop"), Fault("lose"), Fault("status", 500), Fault("hang", seconds=0.6)])
def test_a_lost_answer_does_not_submit_twice(
    kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path, fault: Fault
) -> None:
    kaggle.faults["CreateSubmission"] = [fault]
    status = submit(workspace, "digits", path, message="m", patience=timed.patience)
    assert status.status == "complete"
    assert len(kaggle.submissions) == 1
    assert kaggle.count("PUT") == 1
    assert kaggle.count("CreateSubmission") == (1 if fault.kind == "lose" else 2)


def test_when_the_list_is_gone_too_the_next_call_finds_it(
    kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path
) -> None:
    kaggle.faults["CreateSubmission"] = [Fault("lose")]
    kaggle.faults["GetSubmissionLimits"] = [Fault("status", 404)]
    real = kaggle.ListSubmissions
    kaggle.ListSubmissions = lambda body: real(body) if not kaggle.submissions else (_ for _ in ()).throw(OSError)
    with pytest.raises(RemoteError, match=r"may have reached Kaggle.*uploads nothing twice"):
        submit(workspace, "digits", path, message="m", patience=timed.patience)
    kaggle.ListSubmissions = real
    status = submit(workspace, "digits", path, message="m", patience=timed.patience)
    assert (status.status, status.uploaded) == ("complete", False)
    assert len(kaggle.submissions) == kaggle.count("CreateSubmission") == 1


def test_the_list_lags_behind(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    real, looks = kaggle.ListSubmissions, []

    def lagging(body: dict[str, object]) -> dict[str, object]:
        looks.append(len(kaggle.submissions))
        return real(body) if sum(looks) > 2 else {"submissions": []}

    kaggle.ListSubmissions = lagging
    kaggle.faults["CreateSubmission"] = [Fault("lose")]
    assert submit(workspace, "digits", path, message="m", patience=timed.patience).status == "complete"
    assert kaggle.count("CreateSubmission") == 1


def test_retry_after_is_obeyed(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    limited = Fault("status", 429, "Too Many Requests", {"Retry-After": "17"})
    kaggle.faults["CreateSubmission"] = [limited]  # refused, so that sending again is safe
    kaggle.faults["ListSubmissions"] = [limited]
    submit(workspace, "digits", path, message="", patience=timed.patience)
    assert timed.time.slept[:2] == [17.0, 17.0]
    assert len(kaggle.submissions) == kaggle.count("PUT") == 1


def test_too_long_a_pause_ends_the_command(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    kaggle.faults["ListSubmissions"] = [Fault("status", 429, "slow down", {"Retry-After": "86400"})]
    with pytest.raises(RemoteError, match=r"how often one may ask. It asks to wait 86400 s.*HTTP 429: slow down"):
        submit(workspace, "digits", path, message="", patience=timed.patience)
    assert timed.time.slept == []


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("status", 503, "Service Unavailable"), r"trouble; run the command again later.*HTTP 503: Service Unavailable"),
        (Fault("drop"), "the connection broke, also when tried again"),
        (Fault("status", 429, "x"), "how often one may ask. Wait some minutes"),
    ],
)
def test_retries_are_bounded(
    kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path, fault: Fault, text: str
) -> None:
    kaggle.faults["ListSubmissions"] = [fault] * 99
    with pytest.raises(RemoteError, match=text):
        submit(workspace, "digits", path, message="", patience=timed.patience)
    assert kaggle.count("ListSubmissions") == 4
    assert timed.time.slept == [1.0, 2.0]


def test_no_answer_at_all(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    kaggle.close()
    with pytest.raises(RemoteError, match="no connection could be made"):
        submit(workspace, "digits", path, message="", patience=timed.patience)


@pytest.mark.parametrize("call", ["ListSubmissions", "StartSubmissionUpload", "CreateSubmission"])
def test_rules_not_accepted_in_plain_words(
    kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path, call: str
) -> None:
    kaggle.faults[call] = [Fault("status", 403, "Permission 'competitions.submit' was denied")]
    with pytest.raises(RemoteError, match=r"not joined.*https://www\.kaggle\.com/competitions/digits/rules"):
        submit(workspace, "digits", path, message="", patience=timed.patience)
    assert kaggle.submissions == []


@pytest.mark.parametrize(
    ("status", "text"), [(401, "does not accept the credentials"), (404, "check the name"), (400, "closed")]
)
def test_other_refusals(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path, status: int, text: str) -> None:
    kaggle.faults["CreateSubmission"] = [Fault("status", status, "The competition is closed")]
    with pytest.raises(RemoteError, match=text):
        submit(workspace, "digits", path, message="", patience=timed.patience)
    assert kaggle.count("CreateSubmission") == 1


def test_nothing_left_today(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    kaggle.limits = {"numToday": 5, "numTotal": 9, "numAllowedNow": 0}
    with pytest.raises(SubmissionError, match="left for today"):
        submit(workspace, "digits", path, message="", patience=timed.patience)
    assert kaggle.count("PUT") == 0


@pytest.mark.parametrize("fault", [Fault("half"), Fault("lose"), Fault("status", 503), Fault("drop")])
def test_upload_goes_on_where_it_stopped(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, fault: Fault) -> None:
    """An answer is lost, or the connection breaks halfway."""
    path = make_submission(workspace.root, rows="".join(f"{row},cat\n" for row in range(9000)))
    kaggle.faults["PUT"] = [fault]
    submit(workspace, "digits", path, message="", patience=timed.patience)
    assert bytes(kaggle.blobs["token0"]) == path.read_bytes()
    assert len(kaggle.submissions) == 1


def test_upload_gives_up_and_leaves_no_submission(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    kaggle.faults["PUT"] = [Fault("drop")] * 99
    with pytest.raises(RemoteError, match="Nothing was handed in"):
        submit(workspace, "digits", path, message="", patience=timed.patience)
    assert kaggle.submissions == []
    kaggle.faults["PUT"] = []
    assert submit(workspace, "digits", path, message="", patience=timed.patience).uploaded


def test_score_unreadable_says_that_it_is_submitted(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    kaggle.pending_polls = 99
    seen: list[SubmissionStatus] = []

    def unplug(status: SubmissionStatus) -> None:
        seen.append(status)
        kaggle.faults["ListSubmissions"] = [Fault("status", 500)] * 99

    with pytest.raises(RemoteError, match=r"is submitted \(number 40000000\).*nothing is uploaded again"):
        submit(workspace, "digits", path, message="", on_status=unplug, patience=timed.patience)
    assert entry_of(path)["ref"] == 40_000_000


def test_before_anything_is_sent(home: Path, workspace: Workspace, path: Path) -> None:
    failed = make_submission(workspace.root, "failed", passed=False)
    empty = make_submission(workspace.root, "empty")
    empty.write_bytes(b"")
    unchecked = make_submission(workspace.root, "unchecked")
    record_path(unchecked).unlink()
    cases: list[tuple[Path, str, type[KaggleKitError], str]] = [
        (path, "digits", ConfigError, "no Kaggle credentials"),
        (path, "c/digits", SubmissionError, "as in its address"),
        (failed, "digits", SubmissionError, "did not pass its check"),
        (empty, "digits", SubmissionError, "has 0 bytes"),
        (unchecked, "digits", SubmissionError, "never checked"),
        (path.with_name("none.csv"), "digits", MissingFileError, "does not exist"),
    ]
    for file, slug, kind, text in cases:
        with pytest.raises(kind, match=text):
            submit(workspace, slug, file, message="")


def test_too_large(kaggle: FakeKaggle, workspace: Workspace, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaggle_kit.kaggle_api.submitting.LARGEST", 4)
    with pytest.raises(SubmissionError, match="expected 1 to 4"):
        submit(workspace, "digits", path, message="")
    assert kaggle.calls == []


def test_force_goes_past_a_failed_check(kaggle: FakeKaggle, timed: Timed, workspace: Workspace) -> None:
    failed = make_submission(workspace.root, "failed", passed=False)
    assert submit(workspace, "digits", failed, message="", force=True, patience=timed.patience).status == "complete"


def test_an_attempt_that_failed_under_force_does_not_excuse_the_check(
    kaggle: FakeKaggle, timed: Timed, workspace: Workspace
) -> None:
    failed = make_submission(workspace.root, "failed", passed=False)
    kaggle.faults["StartSubmissionUpload"] = [Fault("status", 400)]
    with pytest.raises(RemoteError):
        submit(workspace, "digits", failed, message="", force=True, patience=timed.patience)
    with pytest.raises(SubmissionError, match="did not pass"):
        submit(workspace, "digits", failed, message="", patience=timed.patience)


def scores(metric: str = "accuracy", **values: float) -> dict[str, object]:
    return {"metric": metric, **values}


def test_table_sets_scores_side_by_side(workspace: Workspace) -> None:
    for at, (honest, public) in enumerate([(0.90, 0.88), (0.92, 0.91), (0.91, 0.93), (0.95, None)]):
        make_submission(
            workspace.root,
            f"blend{3 - at}",
            created=f"2025-01-0{at + 1}",
            scores=scores(cross_fitted=honest, in_sample=honest + 0.01),
            kaggle={"status": "complete", "public_score": public, "date": "d", "message": "m"},
        )
    make_submission(workspace.root, "unsent", created="2025-02-01", scores=scores(cross_fitted=0.5))
    files.write_text(workspace.root / "submissions" / "blend3.control.csv", "id,label\n")
    table = submissions_table(workspace)
    assert table["submission"].tolist() == ["blend3", "blend2", "blend1", "blend0", "unsent"]
    assert table["status"].tolist()[-1] == "not submitted"
    assert table["public_score"].isna().tolist() == [False, False, False, True, True]
    assert table.attrs["n"] == 3
    assert table.attrs["rank_correlation"] == pytest.approx(0.5)  # ranks 1 2 3 against 1 3 2
    assert "0.50 over 3" in table.attrs["note"]


def test_of_equal_scores_no_correlation_is_told(workspace: Workspace) -> None:
    for at, public in enumerate([0.88, 0.91, 0.93]):
        kaggle = {"status": "complete", "public_score": public, "date": "d", "message": "m"}
        make_submission(
            workspace.root, f"blend{at}", created=f"2025-01-0{at + 1}", scores=scores(cross_fitted=0.9), kaggle=kaggle
        )
    table = submissions_table(workspace)
    assert len(table) == 3
    assert "note" not in table.attrs


def test_table_of_an_empty_workspace(workspace: Workspace) -> None:
    table = submissions_table(workspace)
    assert table.empty
    assert "public_score" in table.columns
    assert math.isnan(table.attrs["rank_correlation"])


@pytest.mark.parametrize(
    ("honest", "public", "metrics", "expected", "n"),
    [
        ([1.0, 2.0], [1.0, 2.0], ["a", "a"], math.nan, 2),
        ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], ["a"] * 3, math.nan, 3),
        ([1.0, 2.0, 3.0, 4.0], [9.0, 4.0, 3.0, 1.0], ["b", "a", "a", "a"], -1.0, 3),
        ([1.0, 2.0, 3.0], [1.0, 4.0, 9.0], ["a"] * 3, 1.0, 3),
    ],
)
def test_rank_correlation(honest: list[float], public: list[float], metrics: list[str], expected: float, n: int) -> None:
    found, count = rank_correlation(pd.DataFrame({"cross_fitted": honest, "public_score": public, "metric": metrics}))
    assert count == n
    assert found == pytest.approx(expected, nan_ok=True)


def test_nothing_is_sent_when_its_record_cannot_be_written(
    kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = path.with_suffix(".json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="the disk is full"):
            submit(workspace, "digits", path, message="", patience=timed.patience)
    assert kaggle.count("StartSubmissionUpload") == 0
    assert path.with_suffix(".json").read_bytes() == before
    assert submit(workspace, "digits", path, message="", patience=timed.patience).status == "complete"


def test_bytes_that_were_written_over_meanwhile_are_not_sent(
    kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kaggle_kit.kaggle_api.client import Kaggle

    monkeypatch.setattr(Kaggle, "submissions_left", lambda *_: path.write_text("id,label\n1,dog\n2,cat\n"))
    with pytest.raises(SubmissionError, match="was written over while it was being sent"):
        submit(workspace, "digits", path, message="", patience=timed.patience)
    assert kaggle.count("StartSubmissionUpload") == 0


def test_two_that_hand_in_one_file_hand_it_in_once(kaggle: FakeKaggle, timed: Timed, workspace: Workspace, path: Path) -> None:
    barrier = threading.Barrier(2)

    def hand_in() -> object:
        barrier.wait(30)
        try:
            return submit(workspace, "digits", path, message="", patience=timed.patience)
        except SubmissionError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        results = [future.result() for future in [pool.submit(hand_in) for _ in range(2)]]
    assert len(kaggle.submissions) == 1
    assert sum(isinstance(result, SubmissionStatus) and result.uploaded for result in results) == 1

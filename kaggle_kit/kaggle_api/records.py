"""What Kaggle said of a submission, kept in its own record under the key "kaggle"; and the table of all submissions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from kaggle_kit import files
from kaggle_kit.check.report import record_path as check_record_path
from kaggle_kit.errors import SubmissionError
from kaggle_kit.runs import BlendRecord, blend_record_path, read_blend_record, write_blend_record
from kaggle_kit.workspace import Workspace

COLUMNS = (
    "submission",
    "method",
    "metric",
    "in_sample",
    "cross_fitted",
    "public_score",
    "private_score",
    "status",
    "date",
    "message",
)
_OPTIONAL = ("message", "private_score", "in_sample", "metric", "date")


def read_entry(submission: Path) -> dict[str, Any]:
    """What the record of ``submission`` holds of Kaggle; empty when it was never submitted or has no record."""
    return _record(submission).kaggle


def _record(submission: Path) -> BlendRecord:
    """The record of a submission; one that says nothing where it has none."""
    return read_blend_record(submission) if blend_record_path(submission).exists() else BlendRecord()


def write_entry(submission: Path, entry: dict[str, Any]) -> None:
    """Put ``entry`` into the record in place of an earlier one; whatever else the record holds stays.

    A check rests on this record among other files. What Kaggle said does not touch the verdict, so the check's fingerprint of
    the record moves along, provided that it was current.
    """
    with files.folder_lock(submission.parent):
        _put(submission, entry)


def begin_entry(submission: Path, entry: dict[str, Any]) -> None:
    """Put ``entry`` into the record before the submission is sent; from then on no blend writes over it.

    Raises:
        SubmissionError: the file does not hold the bytes any more that are to be sent.
    """
    with files.folder_lock(submission.parent):
        if files.file_fingerprint(submission) != entry["sha256"]:
            raise SubmissionError(f"{submission} was written over while it was being sent. Run `kk submit` again.")
        _put(submission, entry)


def _put(submission: Path, entry: dict[str, Any]) -> None:
    path, record = blend_record_path(submission), _record(submission)
    before = files.file_fingerprint(path) if path.exists() else ""
    if record.kaggle.get("ref") and record.kaggle.get("sha256") != entry.get("sha256"):
        # Other bytes under this name; their score stays.
        record = replace(record, kaggle_earlier=(*record.kaggle_earlier, record.kaggle))
    write_blend_record(submission, replace(record, kaggle=entry))
    verdict_path = check_record_path(submission)
    if not before or not verdict_path.exists():
        return
    verdict = files.read_json(verdict_path, made_by=f"kk check {submission}")
    rests_on = verdict.get("files", {})
    names = [name for name, sha256 in rests_on.items() if Path(name).name == path.name and sha256 == before]
    if names:
        moved = dict.fromkeys(names, files.file_fingerprint(path))
        files.write_json(verdict_path, {**verdict, "files": {**rests_on, **moved}})


def submissions_table(workspace: Workspace) -> pd.DataFrame:
    """One row a submission, oldest first: the out-of-fold score beside what Kaggle gave.

    ``cross_fitted`` is the score on rows that the blend's weights were not fitted on; scores that are not there are NaN.
    ``frame.attrs["rank_correlation"]`` is that of ``cross_fitted`` and ``public_score``, and ``frame.attrs["n"]`` their number.

    Raises:
        DataError: a record is damaged.
    """
    rows = []
    for path in sorted(workspace.submissions_dir.glob("[!.]*.csv")):
        if blend_record_path(path).is_file():
            record = read_blend_record(path)
            rows.append((record.created or "", _row(path.stem, record)))
    frame = pd.DataFrame([row for _, row in sorted(rows, key=lambda item: item[0])], columns=list(COLUMNS))
    correlation, n = rank_correlation(frame)
    frame.attrs |= {"rank_correlation": correlation, "n": n, "optional": _OPTIONAL}
    if n > 2:
        frame.attrs["note"] = f"rank correlation of the two scores: {correlation:.2f} over {n} submissions"
    return frame


def _row(name: str, record: BlendRecord) -> dict[str, Any]:
    scores, entry = record.scores, record.kaggle
    return {
        "submission": name,
        "method": record.method or "",
        "metric": scores.metric if scores else "",
        "in_sample": scores.in_sample if scores else math.nan,
        "cross_fitted": scores.cross_fitted if scores else math.nan,
        "public_score": _number(entry.get("public_score")),
        "private_score": _number(entry.get("private_score")),
        "status": entry.get("status", "not submitted"),
        "date": entry.get("date", ""),
        "message": entry.get("message", ""),
    }


def rank_correlation(frame: pd.DataFrame) -> tuple[float, int]:
    """Spearman's rank correlation of ``cross_fitted`` and ``public_score``, and of how many submissions.

    NaN for fewer than three submissions with both scores, or when one of the two never varies. Scores of different metrics
    cannot be compared: submissions that were judged by another metric than the newest are left out.
    """
    both = frame.dropna(subset=["cross_fitted", "public_score"])
    if len(both):
        both = both[both["metric"] == both["metric"].iloc[-1]]
    if len(both) < 3 or both["cross_fitted"].nunique() < 2 or both["public_score"].nunique() < 2:
        return math.nan, len(both)
    from scipy.stats import spearmanr

    return float(spearmanr(both["cross_fitted"], both["public_score"]).statistic), len(both)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan

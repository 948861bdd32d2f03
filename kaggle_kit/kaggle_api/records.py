"""What Kaggle said of a submission, kept in its own record under the key "kaggle"."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from kaggle_kit import files
from kaggle_kit.check.report import record_path as check_record_path
from kaggle_kit.errors import SubmissionError
from kaggle_kit.runs import BlendRecord, blend_record_path, read_blend_record, write_blend_record


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

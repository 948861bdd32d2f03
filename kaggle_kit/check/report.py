"""What a check found, as a value, as a JSON record beside the submission, and as a gate for what comes after."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from kaggle_kit import files
from kaggle_kit.errors import DataError, MissingFileError, SubmissionError
from kaggle_kit.results import Result
from kaggle_kit.tables import shown

Status = Literal["passed", "failed", "warning", "inconclusive"]
PASSED: Status = "passed"
FAILED: Status = "failed"
WARNING: Status = "warning"
INCONCLUSIVE: Status = "inconclusive"


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: what was looked at, e.g. ``form: ids``.
        status: ``inconclusive`` means that the evidence needed is not there or too thin; it is never a pass.
        evidence: the numbers and names that the status rests on.
        remedy: what to do about it; empty when there is nothing to do.
    """

    name: str
    status: Status
    evidence: str
    remedy: str = ""


@dataclass(frozen=True, repr=False)
class CheckReport(Result):
    """All checks of one submission.

    Attributes:
        path: the submission.
        checks: in the order in which they were made.
        sha256: fingerprint of the submission's bytes; empty when there is no such file.
        files: other files that the verdict rests on -> sha256, keyed by path relative to the workspace.
        score: the metric on the answers, when answers were given.
    """

    path: Path
    checks: tuple[Check, ...]
    sha256: str = ""
    files: dict[str, str] | None = None
    score: float | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing failed. Warnings and inconclusive checks do not stop a submission."""
        return not self.failed

    @property
    def exit_code(self) -> int:
        """What ``kk check`` ends with."""
        return 0 if self.passed else 1

    def table(self) -> pd.DataFrame:
        """Return a row a check: check, verdict, evidence with what to do."""
        rows = [(one.name, one.status, f"{one.evidence} → {one.remedy}" if one.remedy else one.evidence) for one in self.checks]
        return pd.DataFrame(rows, columns=["check", "verdict", "evidence"])

    def describe(self) -> str:
        """Return the verdict."""
        return f"{self.path}: {'PASSED' if self.passed else 'FAILED'}"

    @property
    def failed(self) -> tuple[Check, ...]:
        return self.having(FAILED)

    def having(self, status: Status) -> tuple[Check, ...]:
        """The checks with this status."""
        return tuple(check for check in self.checks if check.status == status)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to the record."""
        return {
            "submission": self.path.name,
            "sha256": self.sha256,
            "passed": self.passed,
            "score": self.score,
            "checks": [asdict(check) for check in self.checks],
            "files": self.files or {},
            "versions": files.versions(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def write(self) -> Path:
        """Write the record beside the submission and return its path."""
        path = record_path(self.path)
        files.write_json(path, self.to_dict())
        return path


def record_path(submission: Path) -> Path:
    """``blend.csv`` -> ``blend.check.json``."""
    return submission.with_name(f"{submission.stem}.check.json")


def digest(paths: Iterable[Path], root: Path) -> dict[str, str]:
    """sha256 of each file that exists, keyed by its path relative to ``root``."""
    return {_key(path, root): files.file_fingerprint(path) for path in sorted(set(paths)) if path.is_file()}


def require_passed(path: Path, *, force: bool = False, root: Path | None = None) -> None:
    """Refuse a submission without a passed and current check record. For ``kk submit`` and ``kk kernel``.

    A record is stale when the submission, or a file that the verdict rests on, has changed since. A file that is gone does not
    make it stale: run folders are large and often cleared.

    Args:
        force: go on whatever the record says.
        root: the workspace; by default the folder above the submission's.

    Raises:
        MissingFileError: there is no submission.
        SubmissionError: the record is missing, damaged, stale or failed; says which and what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist. Run `kk blend` first.")
    if force:
        return
    record = _read_record(path)
    if record["sha256"] != files.file_fingerprint(path):
        raise SubmissionError(f"{path} was changed after it was checked. Run `kk check {path}` again.")
    root = root or path.resolve().parent.parent
    found = {name: root / name for name in record["files"] if (root / name).is_file()}
    stale = [name for name, file in found.items() if files.file_fingerprint(file) != record["files"][name]]
    if stale:
        raise SubmissionError(
            f"what {path} was checked against has changed since: {shown(stale)}. Run `kk check {path}` again."
        )
    if not record["passed"]:
        names = [check["name"] for check in record["checks"] if check["status"] == FAILED]
        raise SubmissionError(
            f"{path} did not pass its check ({shown(names)}). Run `kk check {path}` to see why, or give --force."
        )


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = files.read_json(record_path(path), made_by=f"kk check {path}")
    except MissingFileError:
        raise SubmissionError(f"{path} was never checked. Run `kk check {path}` first, or give --force.") from None
    except DataError as error:
        raise SubmissionError(str(error)) from error
    missing = [key for key in ("sha256", "passed", "checks", "files") if key not in record]
    if missing:
        raise SubmissionError(f"{record_path(path)} lacks {shown(missing)}. Run `kk check {path}` again.")
    return record


def _key(path: Path, root: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), root.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        return str(path.resolve())

"""What a check found, as a value, as a JSON record beside the submission, and as a gate for what comes after."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
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

Verdict = Literal["PASSED", "FAILED", "NOT PROVEN"]
EXIT_CODES: dict[Verdict, int] = {"PASSED": 0, "FAILED": 1, "NOT PROVEN": 3}
"""What `kk check` and `kk blend` exit with."""

VERDICT = "verdict.json"
"""In the folder of a kernel: what the check said of the blend that it repeats."""

Claim = Literal["classes", "rows", "file", "scores"]
CLAIMS: dict[Claim, str] = {
    "classes": "which class each column or value stands for",
    "rows": "which image each row belongs to",
    "file": "that the file says what the models predicted",
    "scores": "that no model was scored on images that it was trained on",
}
"""What a submission must have been compared with something independent about, before its verdict is PASSED. Other checks that
are inconclusive leave the verdict as it is."""


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: what was looked at, e.g. ``form: ids``.
        status: ``inconclusive`` means that the evidence needed is not there or too thin; it is never a pass.
        evidence: the numbers and names that the status rests on.
        remedy: what to do about it; empty when there is nothing to do.
        shows: the claims that held when this check compared them with something independent.
    """

    name: str
    status: Status
    evidence: str
    remedy: str = ""
    shows: tuple[Claim, ...] = ()


@dataclass(frozen=True, repr=False)
class CheckReport(Result):
    """All checks of one submission.

    Attributes:
        path: the submission.
        checks: in the order in which they were made.
        sha256: fingerprint of the submission's bytes; empty when there is no such file.
        files: other files that the verdict rests on -> sha256, keyed by path relative to the workspace.
        score: the metric on the answers, when answers were given.
        needs: the claims that some check must show, or else the verdict is NOT PROVEN.
    """

    path: Path
    checks: tuple[Check, ...]
    sha256: str = ""
    files: dict[str, str] | None = None
    score: float | None = None
    needs: tuple[Claim, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """FAILED when a check failed, NOT PROVEN when a claim was compared with nothing, else PASSED."""
        return "FAILED" if self.failed else "NOT PROVEN" if self.unproven else "PASSED"

    @property
    def passed(self) -> bool:
        """Whether the verdict is PASSED. Warnings and other inconclusive checks do not stop a submission."""
        return self.verdict == "PASSED"

    @property
    def exit_code(self) -> int:
        """0 for PASSED, 1 for FAILED, 3 for NOT PROVEN."""
        return EXIT_CODES[self.verdict]

    @property
    def unproven(self) -> tuple[Claim, ...]:
        """The claims that no check could compare with anything independent."""
        shown_by_some = {claim for check in self.checks for claim in check.shows}
        return tuple(claim for claim in self.needs if claim not in shown_by_some)

    @property
    def headline(self) -> str:
        """The verdict in one line, with the number of open questions and what is unproven."""
        if self.failed:
            return f"FAILED: {shown(check.name for check in self.failed)}"
        open_questions = len(self.having(INCONCLUSIVE))
        count = f"{open_questions} of {len(self.checks)} checks are inconclusive" if open_questions else ""
        if self.unproven:
            return f"NOT PROVEN: {unproven_sentence(self.unproven)}; {count or 'no check could tell'}"
        return f"PASSED ({count})" if count else "PASSED"

    def table(self) -> pd.DataFrame:
        """Return a row a check: check, verdict, evidence with what to do."""
        rows = [(one.name, one.status, f"{one.evidence} → {one.remedy}" if one.remedy else one.evidence) for one in self.checks]
        return pd.DataFrame(rows, columns=["check", "verdict", "evidence"])

    def describe(self) -> str:
        """Return the verdict."""
        return f"{self.path}: {self.headline}"

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
            "verdict": self.verdict,
            "passed": self.passed,
            "unproven": list(self.unproven),
            "score": self.score,
            "checks": [asdict(check) for check in self.checks],
            "files": self.files or {},
            "versions": files.versions(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def markdown(self) -> str:
        """Return the verdict and a line a check, as TensorBoard shows them."""
        rows = [("check", "verdict", "evidence"), ("---",) * 3, *((one.name, one.status, one.evidence) for one in self.checks)]
        lines = [f"| {' | '.join(' '.join(cell.split()).replace('|', '&#124;') for cell in row)} |" for row in rows]
        return "\n".join([f"**{self.path.name}: {self.headline}**", "", *lines])

    def write(self) -> Path:
        """Write the record beside the submission and return its path."""
        path = record_path(self.path)
        files.write_json(path, self.to_dict())
        return path


def unproven_sentence(claims: Sequence[str]) -> str:
    """Say in one sentence what could be compared with nothing; a claim of a later version is named as it stands."""
    return "nothing independent shows " + ", nor ".join(CLAIMS.get(claim, claim) for claim in claims)  # type: ignore[call-overload]


def record_path(submission: Path) -> Path:
    """``blend.csv`` -> ``blend.check.json``."""
    return submission.with_name(f"{submission.stem}.check.json")


def digest(paths: Iterable[Path], root: Path) -> dict[str, str]:
    """sha256 of each file that exists, keyed by its path relative to ``root``."""
    return {_key(path, root): files.file_fingerprint(path) for path in sorted(set(paths)) if path.is_file()}


def require_passed(path: Path, *, force: bool = False, root: Path | None = None) -> None:
    """Refuse a submission whose check record is not current, or whose verdict is not PASSED, for ``kk submit`` and others.

    A record is stale when the submission, or a file that the verdict rests on, has changed since. A file that is gone does not
    make it stale: run folders are large and often cleared.

    Args:
        force: go on whatever the record says.
        root: the workspace; by default the folder above the submission's.

    Raises:
        MissingFileError: there is no submission.
        SubmissionError: the record is missing, damaged, stale, failed or not proven; says which and what to do.
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
    if record.get("verdict") == "NOT PROVEN":  # a record of version 0.1.0 states no verdict
        raise SubmissionError(
            f"{path} is not proven: {unproven_sentence(record.get('unproven') or [])}. Run `kk check {path}` to see why, "
            "or give --force to go on all the same."
        )
    if not record["passed"]:
        names = [check["name"] for check in record["checks"] if check["status"] == FAILED]
        raise SubmissionError(
            f"{path} did not pass its check ({shown(names)}). Run `kk check {path}` to see why, or give --force."
        )


def copy_verdict(submission: Path, target: Path) -> None:
    """Write to ``target`` what the check said of ``submission``, for what is made of it and sent later by itself."""
    path = record_path(submission)
    record = _read_record(submission) if path.is_file() else {"passed": False}
    verdict = record.get("verdict", "PASSED" if record["passed"] else "FAILED")
    files.write_json(target, {"submission": submission.name, "verdict": verdict, "unproven": record.get("unproven", [])})


def require_copied_verdict(path: Path, *, force: bool) -> None:
    """Refuse what was made of a submission whose copied verdict is not PASSED. Without a copy, nothing is known.

    Raises:
        SubmissionError: says what is unproven or that it failed.
    """
    if force or not path.is_file():
        return
    record = files.read_json(path, made_by="kk kernel build")
    name, verdict = record.get("submission"), record.get("verdict")
    if verdict == "NOT PROVEN":
        raise SubmissionError(f"{name} is not proven: {unproven_sentence(record.get('unproven') or [])}. --force goes on.")
    if verdict != "PASSED":
        raise SubmissionError(f"{name} did not pass its check. Run `kk check` to see why, or give --force.")


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

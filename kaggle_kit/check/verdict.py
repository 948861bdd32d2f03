"""All checks in order, and the report that comes out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from kaggle_kit import files
from kaggle_kit.check.case import Case, Unavailable
from kaggle_kit.check.cells import check_cells
from kaggle_kit.check.contents import check_contents
from kaggle_kit.check.contract import check_contract
from kaggle_kit.check.control import check_control
from kaggle_kit.check.distribution import check_distribution
from kaggle_kit.check.foreign import check_foreign
from kaggle_kit.check.form import check_form
from kaggle_kit.check.grader import check_grader, score_of
from kaggle_kit.check.permutation import check_permutation
from kaggle_kit.check.pixels import check_pixels
from kaggle_kit.check.report import CLAIMS, FAILED, INCONCLUSIVE, Check, CheckReport, digest
from kaggle_kit.competition import Competition
from kaggle_kit.config import Config
from kaggle_kit.errors import KaggleKitError, MissingFileError, StorageError
from kaggle_kit.registry import Entry, Registry
from kaggle_kit.runs.tensorboard import write_text
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

CHECKS: Registry[Callable[[Case], Iterable[Check]]] = Registry(
    "check",
    [
        Entry("form", "the file has the rows, columns and kinds of cells that the sample has", check_form),
        Entry("contract", "classes, fingerprints and records agree along the whole chain", check_contract),
        Entry("contents", "the images hold what they held when runs and predictions were made", check_contents),
        Entry("pixels", "each row was predicted from the image that its id names", check_pixels),
        Entry("permutation", "each class scores best in its own column, out of fold and in the blend", check_permutation),
        Entry("control", "training images hidden among the test images are recognised", check_control),
        Entry("cells", "each cell is what the runs' predictions give", check_cells),
        Entry("foreign", "a file made elsewhere says what the runs say of the same rows and classes", check_foreign),
        Entry("distribution", "the classes are about as frequent as in training", check_distribution),
        Entry("grader", "a grader that reads the file as Kaggle does accepts and scores it", check_grader),
    ],
)
"""What is checked, in order: functions of a case that yield one or more lines of the table."""


def check_submission(
    path: Path,
    *,
    workspace: Workspace,
    config: Config,
    competition: Competition | None = None,
    answers: Path | None = None,
    only: Collection[str] = tuple(CHECKS),
    keep: bool = True,
) -> CheckReport:
    """Judge a submission by the files in the workspace, and write the verdict beside it as ``<name>.check.json``.

    No model is run. Evidence that is not there (no record, no runs) makes checks inconclusive; evidence that is there and
    wrong makes them fail, whatever is wrong with it.

    Args:
        competition: as loaded by the caller; by default it is loaded from the data where they are at hand.
        answers: a CSV with the true labels, to score the submission as Kaggle would.
        only: entries of CHECKS to make, where there is evidence for no others.
        keep: write the verdict; without it nothing will be submitted.

    Raises:
        MissingFileError: there is no such submission, or no such answer file.
    """
    path = Path(path)
    for file in (path, answers):
        if file is not None and not file.is_file():
            raise MissingFileError(f"{file} does not exist." + (" Run `kk blend` first." if file == path else ""))
    case = Case(path, workspace, config, competition, answers)
    checks = [check for name, function in CHECKS.items() if name in only for check in _run(name, function, case)]
    others = case.read - {path} - ({answers} if answers else set())
    report = CheckReport(
        path,
        tuple(checks),
        files.file_fingerprint(path),
        digest([workspace.config_path, *others], workspace.root),
        _score(case),
        # Where some checks are left out, as in a kernel, nobody expects them to show anything.
        needs=tuple(CLAIMS) if set(only) >= set(CHECKS) else (),
    )
    if not keep:
        return report
    try:
        report.write()
    except StorageError as error:
        # The verdict stands whether or not it could be kept; without a record nothing will be submitted.
        logger.warning("the verdict was not recorded: %s", error)
    _tell_tensorboard(case, report)
    return report


def _tell_tensorboard(case: Case, report: CheckReport) -> None:
    """Write the verdict as a text of the runs that the submission is made of, where they are known and here."""
    with contextlib.suppress(KaggleKitError, Unavailable, *files.DAMAGE):
        for run in case.runs:
            write_text(run.path, f"verdict/{case.path.stem}", report.markdown())


def _run(name: str, function: Callable[[Case], Iterable[Check]], case: Case) -> list[Check]:
    """The lines of one check; what it stumbles over becomes a line, too."""
    lines: list[Check] = []
    try:
        lines.extend(function(case))
    except Unavailable as error:
        lines.append(Check(name, INCONCLUSIVE, str(error)))
    except KaggleKitError as error:
        lines.append(Check(name, FAILED, str(error), "Mend what is named, then check again."))
    except files.DAMAGE as error:  # a record with values of other types than its writer writes
        text = f"a record that this rests on is damaged ({type(error).__name__}: {str(error)[:200]})"
        lines.append(Check(name, FAILED, text, "Run `kk blend` again, then check again."))
    return lines


def _score(case: Case) -> float | None:
    try:
        return score_of(case)
    except KaggleKitError:
        return None  # the grader's line says why

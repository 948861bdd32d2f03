"""What a built notebook that searches does at Kaggle: ``kk auto`` within a session, and on from the output of the last one."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from kaggle_kit import files
from kaggle_kit.auto.desk import FOLDER, NAME, AutoOptions
from kaggle_kit.auto.result import AutoResult
from kaggle_kit.auto.search import run_auto
from kaggle_kit.auto.steps import Commands
from kaggle_kit.errors import MissingFileError
from kaggle_kit.kernel.bundle import find_bundle, search
from kaggle_kit.kernel.runtime import BUDGET, SUBMISSION, Say, timed
from kaggle_kit.kernel.training import WORKSPACE, carry, drop_images, set_up
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

JOURNAL = f"{FOLDER}/{NAME}.jsonl"


def run_auto_kernel(
    project_at: Callable[[Path], Commands],
    input_root: Path,
    working: Path,
    *,
    build: str = "",
    budget_seconds: float = BUDGET,
    started: float | None = None,
    say: Say = logger.info,
) -> AutoResult:
    """Search in ``working/kk`` for as long as the session lasts; the best submission becomes ``working/submission.csv``.

    An earlier session's output below ``input_root`` is taken over, and the search goes on from its journal.

    Args:
        project_at: opens the project in a folder: ``Project.open``.
        budget_seconds: from ``started`` on; the search ends before.
        started: ``time.monotonic()`` when the session began; by default now.

    Raises:
        MissingFileError: dataset or competition are not attached.
        DataError, FoldError: the dataset is damaged, or the data is not that which the folds were made for.
        KaggleKitError: no first submission could be made.
    """
    begin = time.monotonic() if started is None else started
    tell = timed(say, begin)
    bundle = find_bundle(Path(input_root), "auto", build, say=tell)
    workspace = Workspace(Path(working).absolute() / WORKSPACE)
    _take_over(workspace, Path(input_root), tell)
    set_up(bundle, workspace, Path(input_root), tell)
    plan = bundle.plan()["auto"]
    left = max(budget_seconds - (time.monotonic() - begin), 0.0)
    options = AutoOptions(plan["limit"], plan["goal"], tuple(plan["only"]), internet=False, session=left)
    try:
        return run_auto(project_at(workspace.root), options, say=tell)
    finally:  # whatever ended it, what was found before counts
        drop_images(workspace)
        with contextlib.suppress(MissingFileError):
            files.write_bytes(Path(working) / SUBMISSION, files.read_bytes(workspace.latest_submission()))


def _take_over(workspace: Workspace, input_root: Path, say: Say) -> None:
    """Copy the workspace of the earlier session that has come furthest, unless this one has begun already."""
    if (workspace.root / JOURNAL).is_file():
        say("going on with what this session has found already")
        return
    found = search(input_root, f"{WORKSPACE}/{JOURNAL}")
    if not found:
        say("no output of an earlier session is attached: the search begins")
        return
    best = max(found, key=lambda path: path.stat().st_size).parents[1]
    carry(best, workspace.root)
    say(f"going on from {best}")

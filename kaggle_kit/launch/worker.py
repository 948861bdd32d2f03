"""What a worker does: ``kk train --fold K --events json --launched FILE``, started by a launcher for each fold.

The file holds what the launcher has found out, for all of its workers. Events leave as JSON lines on the standard output;
whatever else is printed or logged goes to the standard error, which is the fold's log. The standard input stays open as long as
the launcher lives.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kaggle_kit import files
from kaggle_kit.competition import Setup, load_competition
from kaggle_kit.competition.contents import training_contents
from kaggle_kit.config import Config, build_config
from kaggle_kit.errors import DataError, KaggleKitError
from kaggle_kit.events import FoldEnded, Reporter, Warned
from kaggle_kit.fold_names import fold_folder
from kaggle_kit.folds import folds_for
from kaggle_kit.images.loaders import default_workers
from kaggle_kit.images.store import ImageStore
from kaggle_kit.reviews import review_for
from kaggle_kit.training import FoldJob, Stop, train_jobs
from kaggle_kit.training.job import Found, make_jobs
from kaggle_kit.training.start import starting_weights
from kaggle_kit.workspace import Workspace

LOGS = "logs"
GRACE = 60.0
"""Seconds from the launcher's death in which a worker writes its checkpoint."""
EXIT_CODES = {"finished": 0, "failed": 1, "stopped": 143}
"""How a fold ended -> exit code of its worker."""


@dataclass(frozen=True)
class LaunchRecord:
    """What a launcher knows of the run that its workers train: paths and plain values, kept in ``runs/<run>/logs/launch.json``.

    Attributes:
        root, other_runs: of the workspace, absolute.
        folder: where workers start, for relative paths and own metrics.
        config: plain values of the whole configuration.
        inputs: fold -> fingerprint of all that it depends on, to be found by its worker again.
        left_out: ids of images that cannot be read.
        store: the image store to read from, absolute; None: the files.
        loaders: loader processes of a worker, when the configuration leaves it open.
    """

    root: str
    other_runs: str | None
    folder: str
    config: dict[str, Any]
    run: str
    inputs: dict[str, str]
    left_out: tuple[str, ...]
    store: str | None
    loaders: int

    @property
    def workspace(self) -> Workspace:
        """The workspace as the launcher sees it."""
        return Workspace(Path(self.root), None if self.other_runs is None else Path(self.other_runs))

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self.workspace.run_dir(self.run) / LOGS / "launch.json"

    def log(self, fold: int) -> Path:
        """Where all goes that the worker of ``fold`` prints."""
        return self.path.with_name(f"{fold_folder(fold)}.log")


def record_launch(jobs: Sequence[FoldJob], workspace: Workspace, config: Config, *, loaders: int) -> LaunchRecord:
    """Write what the workers of ``jobs``, which were made from ``config``, need to know."""
    first = jobs[0]
    other = workspace.other_runs
    record = LaunchRecord(
        root=str(workspace.root.absolute()),
        other_runs=None if other is None else str(other.absolute()),
        folder=os.getcwd(),  # noqa: PTH109
        config=config.model_dump(mode="json"),
        run=first.folder.parent.name,
        inputs={str(job.fold): job.inputs for job in jobs},
        left_out=first.left_out,
        store=str(first.source.directory.absolute()) if isinstance(first.source, ImageStore) else None,
        loaders=loaders,
    )
    record.path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(record.path, asdict(record))
    return record


def read_launch(path: Path) -> LaunchRecord:
    """Read what :func:`record_launch` wrote; raises MissingFileError or DataError that names the file."""
    values = files.read_json(path, made_by="kk train --launcher")
    try:
        return LaunchRecord(**{**values, "left_out": tuple(values["left_out"])})
    except (TypeError, KeyError) as error:
        raise DataError(f"{path} is not what `kk train --launcher` writes: {error}.") from error


def train_launched(path: Path, fold: int, report: Reporter) -> int:
    """Train one fold for the launcher that wrote ``path``; the last event says how it ended. Returns the exit code."""
    _log_to(report, fold)
    ends: list[FoldEnded] = []

    def note(event: Any) -> None:
        ends.extend([event] if isinstance(event, FoldEnded) else [])
        report(event)

    stop = Stop()
    with stop.on_signals():
        threading.Thread(target=_end_with_launcher, daemon=True).start()
        try:
            train_jobs([job_of(read_launch(path), fold)], reporter=note, stop=stop)
        except KaggleKitError as error:
            note(FoldEnded(fold, "failed", str(error)))
        except Exception as error:
            traceback.print_exc()
            text = f"unexpected {type(error).__name__}: {error}. This is a defect of kaggle_kit; please report it"
            note(FoldEnded(fold, "failed", text))
    return EXIT_CODES.get(ends[-1].state, 0) if ends else EXIT_CODES["failed"]


def job_of(record: LaunchRecord, fold: int) -> FoldJob:
    """The job of a fold, put together from what lies on this machine.

    What the launcher has found out about the images holds: to decode all of them again would take long.

    Raises:
        DataError: that is not what the launcher has.
    """
    workspace, config = record.workspace, build_config(record.config, source="the launcher")
    competition = load_competition(workspace, config.competition)
    folds = folds_for(workspace, competition, config.run.folds)
    setup = Setup(workspace, config, competition)
    found = Found(
        weights=starting_weights(setup, folds, [fold]),
        left_out=tuple(record.left_out),
        source=None if record.store is None else ImageStore(Path(record.store)),
        contents=training_contents(competition, folds, workspace.cache_dir),
        review=review_for(workspace, config.run.data.labels, folds),
    )
    (job,) = make_jobs(setup, folds, run=record.run, fold_list=[fold], found=found)
    if job.inputs != record.inputs.get(str(fold)):
        raise DataError(
            f"fold {fold} would not be trained from what the launcher has: pretrained weights or fold table on this "
            "machine are other ones. All machines must see the same workspace, and the same weights under the same path."
        )
    if config.run.data.workers is None:
        loaders = min(record.loaders, default_workers(len(job.train)))
        data = config.run.data.model_copy(update={"workers": loaders})
        job = replace(job, config=config.run.model_copy(update={"data": data}))
    return job


class WarningSender(logging.Handler):
    """Reports a worker's warnings, so that they are seen where the launcher runs and not in the log alone."""

    def __init__(self, report: Reporter, fold: int) -> None:
        super().__init__(logging.WARNING)
        self._report = report
        self._fold = fold

    def emit(self, record: logging.LogRecord) -> None:
        """Report a warning."""
        self._report(Warned(self._fold, record.getMessage()))


def _log_to(report: Reporter, fold: int) -> None:
    """The package's log lines go to the standard error, its warnings to the launcher as well."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("kaggle_kit")
    logger.handlers[:] = [handler, WarningSender(report, fold)]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _end_with_launcher() -> None:
    """Wait until the standard input closes, which the system sees to when the launcher dies; then stop cleanly, and soon."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)

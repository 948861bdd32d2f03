"""The process that trains one fold for a launcher: ``python -m kaggle_kit.launch.worker``.

The task comes as one line of JSON on the standard input, which stays open as long as the launcher lives. Events leave as JSON
lines on the standard output; what anything else prints goes to the standard error, which is the fold's log.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path

from kaggle_kit.competition import load_competition
from kaggle_kit.competition.contents import training_contents
from kaggle_kit.config import build_config
from kaggle_kit.errors import DataError, KaggleKitError
from kaggle_kit.events import FoldEnded, Reporter, json_lines
from kaggle_kit.folds import folds_for
from kaggle_kit.images.loaders import default_workers
from kaggle_kit.images.store import ImageStore
from kaggle_kit.launch.events import WarningSender
from kaggle_kit.launch.task import FoldTask
from kaggle_kit.models import find_weights
from kaggle_kit.training import FoldJob, Stop, train_jobs

GRACE = 60.0
"""Seconds from the launcher's death in which a worker writes its checkpoint."""


def main() -> None:
    """Do the task that stands on the standard input."""
    # Unbuffered: a buffered stream must not be held by a thread when the interpreter ends.
    with os.fdopen(os.dup(0), "rb", buffering=0) as stream:
        line = stream.readline()
    task = FoldTask.from_dict(json.loads(line))
    report = claim_output()
    _log_to(report, task.fold)
    stop = Stop()
    with stop.on_signals():
        threading.Thread(target=_end_with_launcher, daemon=True).start()
        do(task, report, stop)


def do(task: FoldTask, report: Reporter, stop: Stop) -> None:
    """Train the fold; the last event says how it ended."""
    try:
        train_jobs([job_of(task)], reporter=report, stop=stop)
    except KaggleKitError as error:
        report(FoldEnded(task.fold, "failed", str(error)))
    except Exception as error:
        traceback.print_exc()
        text = f"unexpected {type(error).__name__}: {error}. This is a defect of kaggle_kit; please report it"
        report(FoldEnded(task.fold, "failed", text))


def job_of(task: FoldTask) -> FoldJob:
    """The job of the task, put together from what lies on this machine.

    Raises:
        DataError: that is not what the launcher has.
    """
    workspace, config = task.workspace, build_config(task.config, source="the launcher")
    competition = load_competition(workspace, config.competition)
    folds = folds_for(workspace, competition, config.run.folds)
    weights = find_weights(config.run.model.name, config.run.model.pretrained)
    contents = training_contents(competition, folds, workspace.cache_dir)
    source = None if task.store is None else ImageStore(Path(task.store))
    # What the launcher has found out about the images holds: to decode all of them again would take long.
    job = FoldJob(
        workspace, config.run, competition, folds, task.run, task.fold, weights, tuple(task.left_out), source, contents
    )
    if job.inputs != task.inputs:
        raise DataError(
            f"fold {task.fold} would not be trained from what the launcher has: pretrained weights or fold table on this "
            "machine are other ones. All machines must see the same workspace, and the same weights under the same path."
        )
    if config.run.data.workers is None and task.loaders is not None:
        loaders = min(task.loaders, default_workers(len(job.train_rows)))
        data = config.run.data.model_copy(update={"workers": loaders})
        job = replace(job, config=config.run.model_copy(update={"data": data}))
    return job


def claim_output() -> Reporter:
    """A reporter that writes JSON lines to the standard output, which from now on is closed to everything else."""
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return json_lines(stream)


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


if __name__ == "__main__":
    main()

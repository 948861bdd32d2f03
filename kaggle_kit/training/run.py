"""Training a run: the chosen folds one after the other, finished ones skipped, unfinished ones continued."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from lightning_fabric import Fabric

from kaggle_kit import files, runs
from kaggle_kit.choices import STRATEGIES
from kaggle_kit.competition import Setup
from kaggle_kit.config import RunConfig
from kaggle_kit.errors import DataError, DeviceMemoryError, TrainingError
from kaggle_kit.events import FoldEnded, Relay, Reporter, RunStarted, log_lines, tee, written_to
from kaggle_kit.fold_names import FULL, fold_text
from kaggle_kit.folds import chosen_folds, folds_for
from kaggle_kit.machine.device import make_fabric
from kaggle_kit.runs.model_header import read_safetensors_header
from kaggle_kit.runs.record import FoldRecord, fold_record_from
from kaggle_kit.runs.summary import RunSummary, summarize
from kaggle_kit.stop import Stop, StopRequested
from kaggle_kit.tables import FoldTable
from kaggle_kit.training.job import FoldJob
from kaggle_kit.training.locking import fold_lock, run_lock
from kaggle_kit.training.prepare import default_run_name, prepare_run
from kaggle_kit.training.processes import run_in_processes, stop_if_asked

logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What became of some folds: see :class:`RunSummary`."""

    results: list[FoldRecord] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    stopped: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they pass between processes."""
        return {**vars(self), "results": [result.to_dict() for result in self.results]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Outcome:
        """The opposite of :meth:`to_dict`."""
        return cls(**{**values, "results": [fold_record_from(record) for record in values["results"]]})


@dataclass(frozen=True)
class TrainOptions:
    """Which folds of which run to train.

    Attributes:
        run: its name; None: :func:`default_run_name`.
        fold: "all", "0", "0,2" or "0-3", or numbers; "full": one more model, on all data.
        restart: throw away all that the run has trained so far.
        time_limit: seconds of this call.
    """

    run: str | None = None
    fold: str | Sequence[int] = "all"
    restart: bool = False
    time_limit: float | None = None


class Trainer(Protocol):
    """What trains the jobs of a run: :func:`train_jobs`, or something that hands them to other processes."""

    def __call__(self, jobs: Sequence[FoldJob], *, reporter: Reporter, stop: Stop) -> Outcome:
        """Train all of ``jobs``, of which some may be finished; the caller holds the run's lock."""


def train_run(
    setup: Setup,
    options: TrainOptions | None = None,
    *,
    folds: FoldTable | None = None,
    stop: Stop | None = None,
    reporter: Reporter | None = None,
    trainer: Trainer | None = None,
) -> RunSummary:
    """Train the chosen folds of a run, into ``runs/<run>/fold<k>/``.

    Folds that are finished and current are skipped, unfinished ones go on from their checkpoint. SIGTERM and the time limit
    end the call cleanly: the summary says so, and the same call goes on. A fold whose training fails does not keep the others
    from being trained.

    Args:
        folds: by default the table that the configuration names.
        stop: of something larger that this call is a part of.
        reporter: a function of each event, by default log lines; what it raises ends the call, and the checkpoint is kept.
            ``runs/<run>/train.log`` is told the same.
        trainer: trains the jobs, by default :func:`train_jobs`; see :mod:`kaggle_kit.launch`.

    Raises:
        LockedError: another live process trains this run.
        ConfigError: the run was begun with another configuration; names the entries.
        TrainingError: folds have failed; says which and why, after the others were trained.
        KeyboardInterrupt: Ctrl-C, after a clean stop.
    """
    options = options or TrainOptions()
    workspace, config = setup.workspace, setup.config.run
    stop = Stop(options.time_limit, within=stop)
    folds = folds or folds_for(workspace, setup.competition, config.folds)
    name = options.run or default_run_name(config)
    numbers = chosen_folds(options.fold, folds.n_splits)
    folder = workspace.run_dir(name)
    with run_lock(folder), stop.on_signals(), written_to(folder / runs.TRAIN_LOG) as log:
        report = tee(log, reporter or log_lines())
        jobs = prepare_run(setup, folds, run=name, fold_list=numbers, restart=options.restart)
        report(RunStarted(name, tuple(numbers), min(epochs_of(config), jobs[0].epochs)))
        outcome = (trainer or train_jobs)(jobs, reporter=report, stop=stop)
    if stop.interrupted:
        raise KeyboardInterrupt
    if outcome.failed:
        listed = "\n  ".join(f"{fold_text(number)}: {reason}" for number, reason in outcome.failed.items())
        raise TrainingError(f"{len(outcome.failed)} of {len(numbers)} folds of run {name!r} failed:\n  {listed}")
    return summarize(
        workspace,
        folds,
        name,
        outcome.results,
        trained=outcome.trained,
        failed=outcome.failed,
        stopped=outcome.stopped,
    )


def train_jobs(
    jobs: Sequence[FoldJob],
    *,
    fabric: Fabric | None = None,
    reporter: Reporter | None = None,
    stop: Stop | None = None,
) -> Outcome:
    """Train jobs that :func:`prepare_run` made, one after the other; a stop ends all of them. The caller holds the lock.

    With several devices, each gets a process; what they report is passed on to ``reporter`` here.

    Raises:
        DeviceMemoryError: the accelerator's memory is too small, as it would be for the next fold.
    """
    reporter, stop = reporter or log_lines(), stop or Stop()
    done, waiting = part_finished(jobs, reporter)
    outcome = Outcome(done)
    if not waiting:
        return outcome
    if fabric is None and waiting[0].config.hardware.devices > 1:
        return _on_devices(waiting, outcome, reporter, stop)
    fabric = fabric or make_fabric(waiting[0].config.hardware)
    train = STRATEGIES.lookup(waiting[0].config.strategy)
    for job in waiting:
        try:
            stop_if_asked(fabric, stop)
            with claimed(job, fabric):
                outcome.results.append(train(job, fabric=fabric, reporter=reporter, stop=stop))
            outcome.trained.append(job.fold)
        except StopRequested as reason:
            outcome.stopped = str(reason)
            if fabric.is_global_zero:
                reporter(FoldEnded(job.fold, "stopped", str(reason)))
            break
        except TrainingError as error:
            # With several processes, the others wait for this one in the middle of the fold: all must end.
            if isinstance(error, DeviceMemoryError) or fabric.world_size > 1:
                raise
            outcome.failed[job.fold] = str(error)
            reporter(FoldEnded(job.fold, "failed", str(error)))
    outcome.results.sort(key=lambda result: result.fold)
    return outcome


def _on_devices(jobs: Sequence[FoldJob], outcome: Outcome, reporter: Reporter, stop: Stop) -> Outcome:
    """Train ``jobs`` by a process for each device; return ``outcome`` with what became of them."""
    relay = Relay(reporter, stop)
    values = run_in_processes(make_fabric(jobs[0].config.hardware), partial(_in_process, jobs), relay, stop)
    if relay.raised is not None:
        raise relay.raised
    found = Outcome.from_dict(values)
    found.results = sorted([*outcome.results, *found.results], key=lambda result: result.fold)
    return found


def _in_process(jobs: Sequence[FoldJob], fabric: Fabric, reporter: Reporter, stop: Stop) -> dict[str, Any]:
    return train_jobs(jobs, fabric=fabric, reporter=reporter, stop=stop).to_dict()


@contextlib.contextmanager
def claimed(job: FoldJob, fabric: Fabric) -> Iterator[None]:
    """Hold the lock of the job's fold while inside, in the first process, and clear away what killed processes left."""
    if not fabric.is_global_zero:
        yield
        return
    with fold_lock(job.folder.parent, job.fold):
        files.remove_leftovers(job.folder)
        yield


def epochs_of(config: RunConfig) -> int:
    """Return the epochs that a fold reports; a probe reports one."""
    return 1 if config.strategy == "probe" else config.total_epochs


def part_finished(jobs: Sequence[FoldJob], reporter: Reporter) -> tuple[list[FoldRecord], list[FoldJob]]:
    """Results of the jobs that are finished already, which ``reporter`` is told, and the jobs that are not."""
    done, waiting = [], []
    for job in jobs:
        before = finished(job)
        if before is None:
            waiting.append(job)
        else:
            score = "without a score of its own" if job.fold == FULL else f"{job.metric} {before.score:.4f}"
            reporter(FoldEnded(job.fold, "finished before", score))
            done.append(before)
    return done, waiting


def finished(job: FoldJob) -> FoldRecord | None:
    """What an earlier call made of this job, if that is complete and current. What is of other inputs is removed."""
    before = runs.read_fold(job.folder, job.fold)
    if before.record.inputs_fingerprint not in (None, job.inputs):
        logger.warning("%s was trained from other images, weights or code; it is trained anew.", fold_text(job.fold))
        shutil.rmtree(job.folder)
        return None
    return before.record if before.finished and _whole(job) else None


def _whole(job: FoldJob) -> bool:
    """Return whether a fold's model and out-of-fold rows lie there in full; the model's header says how long it should be."""
    try:
        read_safetensors_header(job.folder / runs.MODEL)
    except DataError as error:
        logger.warning("%s is trained anew: %s", fold_text(job.fold), error)
        return False
    return job.fold == FULL or (job.folder / runs.OOF).is_file()

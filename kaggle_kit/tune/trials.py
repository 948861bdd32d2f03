"""Running the trials of a study until their number is reached: one after the other here, or several at a time on a Ray cluster.

The search itself stays in one process, with its sampler and its storage; what goes to the cluster is the training of each fold.
So nothing is lost with a node: Ray starts the fold again on another one, and it goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import optuna
from filelock import FileLock

from kaggle_kit.competition import Setup
from kaggle_kit.config import RunConfig
from kaggle_kit.errors import ConfigError, TrainingError
from kaggle_kit.events import Reporter
from kaggle_kit.launch import LaunchOptions, launch_run
from kaggle_kit.launch.ray import connected, slots
from kaggle_kit.tables import FoldTable
from kaggle_kit.training import RunSummary, Stop, TrainOptions
from kaggle_kit.tune.objective import Objective, TrialFailed, TrialStopped
from kaggle_kit.tune.reporter import TrialEnded
from kaggle_kit.tune.result import TrialRow, best_row, study_rows, trial_row
from kaggle_kit.tune.study import RUN, ended, retry, revive_orphans

logger = logging.getLogger(__name__)

MOST_FAILURES = 5
"""Failures in a row that end a search: then it is not the settings that fail."""


MakeSampler = Callable[[optuna.Study], optuna.samplers.BaseSampler]
Train = Callable[..., RunSummary]
"""Takes the arguments of ``train_run`` that an objective gives."""


def run_trials(
    study: optuna.Study, objectives: Sequence[Objective], budget: int | None, stop: Stop, sampler: MakeSampler
) -> str | None:
    """Run trials until ``budget`` of them have ended; returns why it ended before, or None.

    Args:
        objectives: each trains a trial at a time, several of them in threads. An error of one stops the others.
        budget: trials of the study, those of earlier calls included; None: until ``stop``.
        sampler: makes what draws the next trial, where one is trained at a time; several share the study's own.

    Raises:
        TrainingError: ``MOST_FAILURES`` trials in a row have failed.
    """
    # Of several trials at a time one must not take away the sampler that another draws with.
    count = TrialCount(study, budget, stop, sampler if len(objectives) == 1 else None)
    if len(objectives) == 1:  # in this thread, where signals come
        _work(count, objectives[0])
        return count.stopped
    with ThreadPoolExecutor(len(objectives), thread_name_prefix="trial") as pool:
        running = [pool.submit(_work, count, objective) for objective in objectives]
    for future in running:
        future.result()
    return count.stopped


class TrialCount:
    """What the threads of a search share: how many trials are still to be begun, and why there are to be no more.

    Attributes:
        stopped: why the search ended before its budget, or None.
    """

    def __init__(self, study: optuna.Study, budget: int | None, stop: Stop, sampler: MakeSampler | None) -> None:
        self.study, self.sampler = study, sampler
        self.stopped: str | None = None
        self._budget, self._stop = budget, stop
        self._running = self._failures = 0
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether to begin another trial."""
        with self._lock:
            taken = ended(self.study.get_trials(deepcopy=False)) + self._running
            if self._budget is not None and taken >= self._budget:
                return False
            self.stopped = self.stopped or self._stop.reason
            if self.stopped is not None:
                return False
            self._running += 1
            return True

    def give_back(self) -> None:
        """A trial is over, however it ended."""
        with self._lock:
            self._running -= 1

    def end(self, reason: str) -> None:
        """Begin no more trials."""
        with self._lock:
            self.stopped = self.stopped or reason

    def abort(self) -> None:
        """Stop the trials that others are at, too."""
        self._stop.request("another trial met an error that ends the search")

    def note(self, row: TrialRow) -> None:
        """Raise TrainingError when the last trials have all failed."""
        with self._lock:
            self._failures = self._failures + 1 if row.state == "failed" else 0
            if self._failures == MOST_FAILURES:
                raise TrainingError(
                    f"the last {MOST_FAILURES} trials of study {self.study.study_name!r} failed; the last one: {row.error}"
                )


def _work(count: TrialCount, objective: Objective) -> None:
    """Run trials as long as there are any to be run."""
    try:
        while count.take():
            try:
                revive_orphans(count.study)
                ours = _run_one(count, objective)
            finally:
                count.give_back()
            if ours:
                _tell(count, objective)
    except BaseException:
        count.abort()
        raise


def _tell(count: TrialCount, objective: Objective) -> None:
    """Report how the last trial ended, and count it."""
    rows = study_rows(count.study)
    row = rows[objective.number if objective.number is not None else -1]
    objective.reporter(TrialEnded(row, best_row(rows, objective.setup.metric)))
    count.note(row)


def _run_one(count: TrialCount, objective: Objective) -> bool:
    """Run a trial, and queue it again unless it came to an end; returns False when there was none, or none of ours any more."""
    study = count.study
    # SQLite does not keep two from taking the same queued trial, be they threads or processes. And what is queued again must
    # not be taken by one who has not heard yet that the search is to end.
    asking = FileLock(str(objective.setup.workspace.runs_dir / ".asking.lock"))

    def drawn(trial: optuna.Trial) -> float:
        asking.release()
        return objective(trial)

    with asking:
        if count.stopped is not None:
            return False
        if count.sampler is not None:
            study.sampler = count.sampler(study)
        try:
            study.optimize(drawn, n_trials=1, catch=(TrialFailed, TrialStopped))
        except (ValueError, RuntimeError):  # what Optuna raises for a trial that was ended elsewhere depends on its version
            if not _taken_over(study, objective):
                raise
            logger.warning("trial %s was silent for too long; another machine goes on with it.", objective.number)
            return False
        finally:
            if objective.stopped is not None:
                count.end(objective.stopped)
            with asking:
                _requeue(study, objective)
    return True


def _requeue(study: optuna.Study, objective: Objective) -> None:
    """Queue the last trial again, unless it came to an end or another one goes on with it."""
    if objective.number is None or _taken_over(study, objective):
        return
    trial = study.get_trials(deepcopy=False)[objective.number]
    if trial_row(trial).state == "interrupted":
        retry(study, trial.number)


def _taken_over(study: optuna.Study, objective: Objective) -> bool:
    """Whether a later trial goes on with the run of the last one."""
    trials = study.get_trials(deepcopy=False)
    run = None if objective.number is None else trials[objective.number].user_attrs.get(RUN)
    return run is not None and any(trial.user_attrs.get(RUN) == run for trial in trials[(objective.number or 0) + 1 :])


def require_launcher(launcher: str | None, devices: int | None, address: str | None) -> None:
    """Raise ConfigError when there is no such launcher of trials, or an option without one."""
    if launcher is None and (devices is not None or address is not None):
        raise ConfigError("devices and address are for `--launcher ray`.")
    if launcher not in (None, "ray"):
        raise ConfigError(
            f"trials are trained in this process or with launcher ray, not {launcher!r}. On one machine, too, Ray gives each "
            "trial a GPU of its own."
        )
    if devices is not None and devices < 1:
        raise ConfigError(f"devices must be >= 1, got {devices}.")


@contextlib.contextmanager
def trainers(
    run: RunConfig, launcher: str | None, devices: int | None, address: str | None, stop: Stop
) -> Iterator[list[Train | None]]:
    """A trainer for each trial that is trained at a time, None for this process itself; valid while inside.

    Raises:
        DependencyError, RemoteError: Ray is not installed, or the cluster cannot be reached.
    """
    if launcher is None:
        yield [None]
        return
    with connected(address):
        count = devices or slots(run.hardware.accelerator)
        yield [_by_ray(count, address, stop)] * count


def _by_ray(devices: int, address: str | None, stop: Stop) -> Train:
    where = LaunchOptions("ray", devices, address)

    def train(setup: Setup, options: TrainOptions, *, folds: FoldTable, reporter: Reporter) -> RunSummary:  # noqa: ARG001
        # The nodes read the fold table from the workspace, and ``stop`` knows the time limit.
        return launch_run(setup, where, replace(options, time_limit=None), stop=stop, reporter=reporter)

    return train

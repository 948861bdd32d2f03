"""What a trial does: draw a configuration, train its folds, report each epoch, and say how it ended."""

from __future__ import annotations

import gc
import logging
import math
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import TrialState

from kaggle_kit.competition import Setup
from kaggle_kit.errors import DataError, DependencyError, KaggleKitError, RemoteError, StorageError, TrainingError
from kaggle_kit.events import EpochEnded, Event
from kaggle_kit.stop import TIME_LIMIT
from kaggle_kit.tables import FoldTable
from kaggle_kit.training import RunSummary, TrainOptions, train_run
from kaggle_kit.training.run import epochs_of
from kaggle_kit.tune.reporter import TrialEpoch, TrialStarted, TuneReporter
from kaggle_kit.tune.result import ALL_FOLDS, CHANGES, EPOCHS, SCORES, SECONDS
from kaggle_kit.tune.space import Space, Values, apply_values
from kaggle_kit.tune.study import ERROR, OWNER, PRESENT, RUN, STOPPED, TrialFolds, owner

logger = logging.getLogger(__name__)

FATAL = (DataError, DependencyError, RemoteError, StorageError, optuna.exceptions.OptunaError)
"""Errors that every trial would meet: missing data, a full disk, a study that cannot be reached. They end the search."""
_WEIGHTS = ("*.safetensors", "*.ckpt")
_MOST_TEXT = 400


class TrialFailed(Exception):
    """A trial could not be trained; its record says why, and the search goes on."""


class TrialStopped(Exception):
    """A trial was stopped in the middle; it is queued again and goes on from its checkpoint."""


@dataclass
class Epochs:
    """Reports the epochs of a trial's first folds, and prunes it.

    A step is a share of the fold's schedule, not an epoch: halfway through, a schedule of 20 epochs has the learning rate of
    one of 10 halfway through, and their scores compare. What is reported is the mean over the folds so far.
    """

    trial: optuna.Trial
    trial_folds: TrialFolds
    epochs: int
    reporter: TuneReporter
    prunes: bool
    reported: int
    scores: dict[int, float] = field(default_factory=dict)
    done: int = 0

    @property
    def planned(self) -> int:
        """Epochs of all first folds."""
        return self.epochs * len(self.trial_folds.first)

    def __call__(self, event: Event) -> None:
        if not isinstance(event, EpochEnded):
            return
        fold, row = event.fold, event.row
        self.reporter(TrialEpoch(self.trial.number, event))
        if row.epoch == 0 or fold not in self.trial_folds.first:
            return
        before = len(self.scores)
        self.done = before * self.epochs + row.epoch
        if math.isnan(row.score):
            return
        value = fmean([*self.scores.values(), row.score])
        step = before * self.trial_folds.steps + min(
            self.trial_folds.steps, math.ceil(row.epoch * self.trial_folds.steps / self.epochs)
        )
        for number in range(self.reported + 1, step + 1):  # a short schedule takes several steps an epoch
            self.trial.report(value, number)
        self.reported = max(self.reported, step)
        if self.prunes and self.done < self.planned and self.trial.should_prune():
            raise optuna.TrialPruned

    def finished(self, fold: int, score: float) -> None:
        """A fold is done, early or not."""
        self.scores[fold] = score
        if fold in self.trial_folds.first:
            self.done = len(self.scores) * self.epochs
        self.trial.set_user_attr(SCORES, {str(number): value for number, value in self.scores.items()})


@dataclass
class Objective:
    """Called by Optuna with a trial; returns its mean score over the folds that every trial trains.

    Attributes:
        setup: with a workspace whose runs are the trials of the study.
        deadline: ``time.monotonic()`` of the end, or None.
        train: does the work of ``train_run`` elsewhere; None: it is done here.
        stopped: why the search is to end, when a trial was stopped; ``interrupted`` when that was Ctrl-C.
        number: of the trial that was called last.
    """

    setup: Setup
    folds: FoldTable
    space: Space
    trial_folds: TrialFolds
    reporter: TuneReporter
    deadline: float | None = None
    train: Callable[..., RunSummary] | None = None
    stopped: str | None = None
    interrupted: bool = False
    number: int | None = None

    def __call__(self, trial: optuna.Trial) -> float:
        """Train a trial.

        Raises:
            optuna.TrialPruned: its scores promise nothing.
            TrialFailed, TrialStopped: see there.
            DataError, DependencyError, StorageError: see ``FATAL``.
        """
        started, reason, self.number = time.monotonic(), "", trial.number
        try:
            score = self._score(trial)
            self._clear(trial)
            return score
        except optuna.TrialPruned:
            self._clear(trial)
            raise
        except TrialStopped as stop:
            trial.set_user_attr(STOPPED, str(stop))
            raise
        except FATAL:
            raise
        except Exception as error:  # whatever a library raises on odd settings; the record keeps it
            logger.debug("trial %d", trial.number, exc_info=True)
            reason = _reason(error)
        finally:
            trial.set_user_attr(SECONDS, trial.user_attrs.get(SECONDS, 0.0) + time.monotonic() - started)
        # Out here the error and its frames are gone, which would hold the tensors that did not fit into memory.
        trial.set_user_attr(ERROR, reason)
        self._clear(trial)
        raise TrialFailed(reason)

    def _score(self, trial: optuna.Trial) -> float:
        going_on = RUN in trial.user_attrs
        trial.set_user_attr(OWNER, owner())
        trial.set_user_attr(RUN, trial.user_attrs.get(RUN, f"trial-{trial.number:04}"))
        present = bool(trial.user_attrs.get(PRESENT))
        only = self.space.locate(self.setup.config.run) if present else None
        values = self.space.draw(trial, only)
        changes: Values = {} if present else values
        trial.set_user_attr(CHANGES, changes)
        self.reporter(TrialStarted(trial.number, changes))
        run = apply_values(self.setup.config.run, changes, source=f"trial {trial.number}")
        setup = self.setup.with_run(run)
        reported = trial.study.get_trials(deepcopy=False)[trial.number].last_step or 0
        epochs = Epochs(trial, self.trial_folds, epochs_of(run), self.reporter, prunes=not present, reported=reported)
        try:
            for fold in self.trial_folds.first:
                self._train(trial, setup, fold, epochs, restart=not going_on and fold == self.trial_folds.first[0])
            score = fmean(epochs.scores.values())
            if self.trial_folds.rest and self._earns(trial.study, score):
                for fold in self.trial_folds.rest:
                    self._train(trial, setup, fold, epochs, restart=False)
                trial.set_user_attr(ALL_FOLDS, fmean(epochs.scores.values()))
        finally:
            trial.set_user_attr(EPOCHS, [epochs.done, epochs.planned])
        return score

    def _train(self, trial: optuna.Trial, setup: Setup, fold: int, epochs: Epochs, *, restart: bool) -> None:
        left = None if self.deadline is None else self.deadline - time.monotonic()
        if left is not None and left <= 0:
            raise self._stop(TIME_LIMIT)
        try:
            options = TrainOptions(trial.user_attrs[RUN], [fold], restart, left)
            summary = (self.train or train_run)(setup, options, folds=self.folds, reporter=epochs)
        except KeyboardInterrupt:
            self.interrupted = True
            raise self._stop("Ctrl-C") from None
        if summary.stopped:
            raise self._stop(summary.stopped)
        score = summary.results[0].score
        if math.isnan(score):
            raise TrainingError(f"{summary.metric} is not defined on fold {fold}, or its probabilities are not finite.")
        epochs.finished(fold, score)

    def _stop(self, reason: str) -> TrialStopped:
        self.stopped = reason
        return TrialStopped(reason)

    def _earns(self, study: optuna.Study, score: float) -> bool:
        """Whether a score on the first folds is among the best ``promote`` of all so far, this one included.

        Of equal scores the earlier ones are: where every trial scores alike, not every trial earns all folds.
        """
        metric = self.setup.metric
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        others = [trial.value for trial in complete if trial.value is not None]
        ahead = sum(not metric.better(score, other) for other in others)
        return ahead < math.ceil((self.trial_folds.promote or 0.0) * (len(others) + 1))

    def _clear(self, trial: optuna.Trial) -> None:
        """Remove the weights of a trial that is over: a hundred of them fill a disk. Scores and out-of-fold rows stay."""
        folder = self.setup.workspace.run_dir(trial.user_attrs[RUN])
        for pattern in _WEIGHTS:
            for path in folder.glob(f"fold*/{pattern}"):
                path.unlink(missing_ok=True)
        torch: Any = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            gc.collect()  # a second on a large heap, so not where it frees nothing that the next trial needs
            torch.cuda.empty_cache()


def _reason(error: Exception) -> str:
    """An error on one line; its kind as well where it is not this package's own."""
    text = " ".join(str(error).split())
    kind = "" if isinstance(error, KaggleKitError) else f"{type(error).__name__}: "
    return kind + textwrap.shorten(text, _MOST_TEXT, placeholder=" …")

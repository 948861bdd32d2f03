"""A study: made or found again by name, compared with what it was begun for, and freed of trials whose process is dead."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import psutil
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.trial import FrozenTrial, TrialState

from kaggle_kit.choices import PRUNERS
from kaggle_kit.competition import Competition
from kaggle_kit.config import RunConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.runs.comparison import flat
from kaggle_kit.tables import FoldTable
from kaggle_kit.tune.space import Space
from kaggle_kit.tune.storage import open_storage, quietly, retry_callback

logger = logging.getLogger(__name__)

ABOUT = "kaggle_kit"
"""Attribute of a study: what it was begun for."""
PRESENT, OWNER, RUN, ERROR, STOPPED = "present", "owner", "run", "error", "stopped"
"""Attributes of a trial: whether it is the present configuration, whose process it is, its folder, and how it ended."""


@dataclass(frozen=True)
class TrialFolds:
    """Which folds a trial trains, and how many steps it reports for each.

    Attributes:
        first: the folds that every trial trains.
        rest: the folds that a trial may earn.
        promote: the share of trials that earn them; None: nobody does.
        steps: of one fold.
    """

    first: tuple[int, ...]
    rest: tuple[int, ...]
    promote: float | None
    steps: int


def open_study(
    name: str,
    storage: str,
    *,
    about: Mapping[str, Any],
    greater_is_better: bool,
    pruner: BasePruner,
    sampler: Callable[[optuna.Study], optuna.samplers.BaseSampler],
) -> optuna.Study:
    """The study called ``name``, new or as it was left.

    Args:
        about: what :func:`describe` says of the study as it is now.
        greater_is_better: of its metric.
        sampler: makes what draws the next trial of a study.

    Raises:
        ConfigError: it was begun with another space, configuration, metric or folds; says what differs.
    """
    backend = open_storage(storage)
    study = optuna.create_study(
        storage=backend,
        study_name=name,
        direction="maximize" if greater_is_better else "minimize",
        sampler=optuna.samplers.RandomSampler(),
        pruner=pruner,
        load_if_exists=True,
    )
    before = study.user_attrs.get(ABOUT)
    if before is None:
        study.set_user_attr(ABOUT, dict(about))
    else:
        _require_same(before, about, name)
    study.sampler = sampler(study)
    return study


def describe(
    competition: Competition, folds: FoldTable, run: RunConfig, space: Space, trial_folds: TrialFolds
) -> dict[str, Any]:
    """All that trials of one study must share, as plain values."""
    return {
        "competition": competition.name,
        "competition_fingerprint": competition.fingerprint,
        "metric": competition.metric,
        "folds": run.folds,
        "folds_fingerprint": folds.fingerprint,
        "first_folds": list(trial_folds.first),
        "promote": trial_folds.promote,
        "space": space.to_dict(),
        "run": run.model_dump(mode="json", exclude={"hardware": True, "checkpoint_minutes": True, "data": {"workers"}}),
    }


def make_sampler(seed: int, study: optuna.Study, *, alone: bool) -> optuna.samplers.BaseSampler:
    """Tree-structured Parzen estimator (Bergstra et al. 2011), multivariate, in groups of entries that occur together.

    Made anew for each trial, from the number of those that were drawn before: a study that was killed and goes on draws what
    it would have drawn, and neither it nor a second machine draws the first trials again.

    Args:
        alone: nobody else works on the study, so that ``seed`` and the trials that exist decide what is drawn.
    """
    entropy = [seed, drawn(study.get_trials(deepcopy=False))]
    if not alone:
        entropy += [os.getpid(), *socket.gethostname().encode()]
    own = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    return quietly(lambda: optuna.samplers.TPESampler(seed=own, multivariate=True, group=True, constant_liar=True))


def hyperband(steps: int) -> BasePruner:
    """Return Hyperband (Li et al. 2018) for trials that report up to ``steps`` times."""
    return HyperbandPruner(min_resource=1, max_resource=steps, reduction_factor=3)


def median(_steps: int) -> BasePruner:
    """Return a pruner of trials that are worse than the median of earlier ones."""
    return MedianPruner(n_startup_trials=5, n_warmup_steps=1)


def no_pruning(_steps: int) -> BasePruner:
    """Return a pruner that stops no trial."""
    return NopPruner()


def make_pruner(name: str, trial_folds: TrialFolds) -> BasePruner:
    """The pruner called ``name``; raises ConfigError that lists them."""
    pruner: BasePruner = PRUNERS.lookup(name)(trial_folds.steps * len(trial_folds.first))
    return pruner


def enqueue_present(study: optuna.Study, values: Mapping[str, Any]) -> None:
    """Make the present configuration the first trial of a study that has none yet."""
    if not study.get_trials(deepcopy=False):
        quietly(lambda: study.enqueue_trial(dict(values), user_attrs={PRESENT: True}, skip_if_exists=True))


def retry(study: optuna.Study, number: int) -> None:
    """Queue an interrupted trial again, however often it was interrupted before."""
    retry_callback(None)(study, study.get_trials(deepcopy=False)[number])


def owner() -> dict[str, Any]:
    """This process, as trials remember theirs."""
    me = psutil.Process()
    return {"pid": me.pid, "host": socket.gethostname(), "started": me.create_time()}


def revive_orphans(study: optuna.Study) -> list[int]:
    """Queue those running trials again whose process was on this machine and is dead; returns their numbers.

    It finds at once what a heartbeat finds after minutes, and also works with a journal, which has no heartbeat.
    """
    orphans = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _is_dead(trial.user_attrs.get(OWNER) or {}):
            continue
        with contextlib.suppress(ValueError, RuntimeError):  # another process was faster
            study.tell(trial.number, state=TrialState.FAIL)
            retry_callback()(study, study.get_trials(deepcopy=False)[trial.number])
            orphans.append(trial.number)
    if orphans:
        logger.info("trials of dead processes are trained on: %s", ", ".join(map(str, orphans)))
    return orphans


def ended(trials: Sequence[FrozenTrial]) -> int:
    """Trials that came to an end by themselves: complete, pruned, or failed with a reason that would come again."""
    return sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or ERROR in trial.user_attrs for trial in trials)


def drawn(trials: Sequence[FrozenTrial]) -> int:
    """Trials whose entries were drawn, each once: not those that wait, nor those that were interrupted and queued again."""
    interrupted = [trial.state == TrialState.FAIL and ERROR not in trial.user_attrs for trial in trials]
    return sum(trial.state != TrialState.WAITING for trial in trials) - sum(interrupted)


def _is_dead(process: Mapping[str, Any]) -> bool:
    if process.get("host") != socket.gethostname():
        return False
    try:
        found = psutil.Process(int(process["pid"]))
        return bool(found.status() == psutil.STATUS_ZOMBIE or abs(found.create_time() - float(process["started"])) > 2)
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, KeyError, ValueError):
        return False


def _require_same(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> None:
    old, new = flat(before), flat(now)
    changed = [f"{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in {**old, **new} if old.get(key) != new.get(key)]
    if changed:
        more = f"; and {len(changed) - 8} more" if len(changed) > 8 else ""
        raise ConfigError(
            f"study {name!r} was begun with other settings, and its trials would not compare. {'; '.join(changed[:8])}{more}. "
            "Set them back, or start another study with --study NAME."
        )

"""``kk tune``: trials until a budget is used up, then the best configuration and a page of plots."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import optuna

from kaggle_kit import files
from kaggle_kit.competition import Setup
from kaggle_kit.config import RunConfig
from kaggle_kit.errors import ConfigError, RemoteError, TrainingError
from kaggle_kit.folds import folds_for, parse_folds
from kaggle_kit.metrics import get_metric
from kaggle_kit.tables import FoldTable
from kaggle_kit.training import Stop
from kaggle_kit.training.run import epochs_of
from kaggle_kit.tune.defaults import default_space
from kaggle_kit.tune.objective import Objective
from kaggle_kit.tune.page import Words, copied, write_study_page
from kaggle_kit.tune.reporter import SearchStarted, TuneReporter, make_tune_reporter, one_at_a_time, shown
from kaggle_kit.tune.result import TuneResult, best_row, seconds_saved, study_rows, write_best
from kaggle_kit.tune.space import Space, read_space
from kaggle_kit.tune.storage import default_storage, hushed, shown_url
from kaggle_kit.tune.study import TrialFolds, describe, ended, enqueue_present, make_pruner, make_sampler, open_study
from kaggle_kit.tune.trials import require_launcher, run_trials, trainers
from kaggle_kit.workspace import Workspace

DEFAULT_TRIALS = 30
BEST, PAGE = "best.yaml", "report.html"


@dataclass(frozen=True)
class TuneOptions:
    """How to search.

    Attributes:
        study: its name; an existing one goes on.
        space: a YAML file; none: the default space of ``run.strategy``.
        models: for the default space: models to choose from.
        trials: of the study, those of earlier calls and of other machines included; none: 30, or no end given a time limit.
        time_limit: seconds of this call.
        folds: those that every trial trains, as ``kk train`` takes them.
        promote: share of trials that earn all other folds as well, by their score on the first; none: no trial does.
        pruner: hyperband, median or none.
        storage: database URL, or path of a journal file; none: SQLite in the workspace.
        launcher: none: trials are trained in this process, one after the other; "ray": each fold of a trial is a task of a
            cluster, several trials at a time.
        devices: with a launcher: trials at a time; none: a GPU each, or a node where there are none.
        address: of the Ray cluster, as for ``launch_run``.
    """

    study: str = "tune"
    space: Path | None = None
    models: Sequence[str] = ()
    trials: int | None = None
    time_limit: float | None = None
    folds: str = "0"
    promote: float | None = None
    pruner: str = "hyperband"
    storage: str | None = None
    seed: int = 0
    launcher: str | None = None
    devices: int | None = None
    address: str | None = None

    def sampler(self, study: optuna.Study) -> optuna.samplers.BaseSampler:
        """Return what draws the next trial of a study; without ``storage`` nobody else works on it."""
        return make_sampler(self.seed, study, alone=self.storage is None)

    def __post_init__(self) -> None:
        if self.space is not None and self.models:
            raise ConfigError("models are for the default space; in a space file write model.name: {categorical: [...]}.")
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"trials must be >= 1, got {self.trials}.")
        require_launcher(self.launcher, self.devices, self.address)
        if self.promote is not None and not 0 < self.promote <= 1:
            raise ConfigError(f"promote must lie above 0 and at most at 1, got {self.promote}.")


def tune(
    setup: Setup,
    options: TuneOptions | None = None,
    *,
    folds: FoldTable | None = None,
    reporter: TuneReporter | None = None,
) -> TuneResult:
    """Search the settings of the run by Optuna, into ``tune/<study>/``.

    The present configuration is the first trial. Each trial is a run of its own in ``tune/<study>/trial-<number>/``; its
    weights are not kept. Trials that fail are recorded, those that were killed or stopped go on from their checkpoint. The
    folder gets ``best.yaml``, a run configuration, and ``report.html``.

    Args:
        folds: by default the table that the configuration names.

    Raises:
        ConfigError: a wrong option or space, or a study that was begun with other settings.
        DependencyError, RemoteError: the storage cannot be used.
        TrainingError: the last trials all failed; says why.
        DataError, StorageError: what every trial would meet.
        KeyboardInterrupt: Ctrl-C, after the results were written.
    """
    options = options or TuneOptions()
    workspace, competition, run = setup.workspace, setup.competition, setup.config.run
    _require_one_device(run)
    folds = folds or folds_for(workspace, competition, run.folds)
    space = make_space(run, options)
    trial_folds = choose_trial_folds(folds, run, space, options)
    reporter = reporter or make_tune_reporter()
    deadline = None if options.time_limit is None else time.monotonic() + options.time_limit
    of_trials = replace(setup, workspace=Workspace(workspace.root, workspace.tune_dir(options.study)))
    with hushed(), shown(reporter), Stop(options.time_limit).on_signals() as stop:
        storage = options.storage or default_storage(workspace, options.study)
        with files.folder_lock(of_trials.workspace.runs_dir):  # two that begin a study at once make one
            study = open_study(
                options.study,
                storage,
                about=describe(competition, folds, run, space, trial_folds),
                greater_is_better=get_metric(competition.metric, workspace.root).greater_is_better,
                pruner=make_pruner(options.pruner, trial_folds),
                sampler=options.sampler,
            )
            enqueue_present(study, space.locate(run))
        with trainers(run, options.launcher, options.devices, options.address, stop) as found:
            told = one_at_a_time(reporter) if len(found) > 1 else reporter
            objectives = [Objective(of_trials, folds, space, trial_folds, told, deadline, train) for train in found]
            told(SearchStarted(_start_text(study, storage, space, trial_folds), competition.metric))
            stopped = _guarded(study, objectives, options, stop, storage)
        result = conclude(study, workspace, run, stopped)
    if stop.interrupted or any(objective.interrupted for objective in objectives):
        raise KeyboardInterrupt
    return result


def make_space(run: RunConfig, options: TuneOptions) -> Space:
    """The space of a file, or the default one; raises ConfigError that names the key."""
    return default_space(run, options.models) if options.space is None else read_space(options.space, run)


def choose_trial_folds(folds: FoldTable, run: RunConfig, space: Space, options: TuneOptions) -> TrialFolds:
    """Which folds to train, and how many steps a fold has."""
    first = tuple(parse_folds(options.folds, folds.n_splits))
    rest = () if options.promote is None else tuple(fold for fold in range(folds.n_splits) if fold not in first)
    searched = {its.key for its in space.dimensions}
    most = space.largest("schedule.epochs", run.total_epochs)
    steps = epochs_of(run) if not searched & {"schedule.epochs", "strategy"} else int(most)
    return TrialFolds(first, rest, options.promote, steps)


def conclude(study: optuna.Study, workspace: Workspace, run: RunConfig, stopped: str | None = None) -> TuneResult:
    """Write ``best.yaml`` and ``report.html`` from what the study holds."""
    folder, rows = workspace.tune_dir(study.study_name), study_rows(study)
    metric = get_metric(study.user_attrs["kaggle_kit"]["metric"], workspace.root)
    best, best_path = best_row(rows, metric), folder / BEST
    if best is not None:
        write_best(best_path, run, best, study=study.study_name, metric=metric.name)
    result = TuneResult(
        study=study.study_name,
        path=folder,
        metric=metric.name,
        rows=rows,
        best=best,
        best_path=best_path if best is not None else None,
        page=folder / PAGE,
        seconds_saved=seconds_saved(rows),
        stopped=stopped,
    )
    lines = result.describe().split("\n")
    to_copy = "" if best is None else copied(best.changes, best_path)
    words = Words(f"study {study.study_name}", lines, metric.name, to_copy)
    write_study_page(result.page, study, words, table=result.table())
    return result


def _guarded(
    study: optuna.Study, objectives: Sequence[Objective], options: TuneOptions, stop: Stop, storage: str
) -> str | None:
    """Run the trials, and write what there is even when they cannot go on."""
    budget = options.trials or (None if options.time_limit else DEFAULT_TRIALS)
    try:
        return run_trials(study, objectives, budget, stop, options.sampler)
    except optuna.exceptions.StorageInternalError as error:
        raise RemoteError(f"the storage {shown_url(storage)} does not answer any more: {error.__cause__ or error}") from error
    except TrainingError:
        setup = objectives[0].setup
        conclude(study, Workspace(setup.workspace.root), setup.config.run)
        raise


def _require_one_device(run: RunConfig) -> None:
    if run.snapshots:
        raise ConfigError("kk tune keeps no models of its trials, so that there can be no snapshots: add snapshots=0.")
    if run.hardware.devices != 1:
        raise ConfigError(
            f"kk tune trains a trial on one device, but hardware.devices is {run.hardware.devices}. Add devices=1, and start "
            "one kk tune for each device, all with the same --study and --storage."
        )


def _start_text(study: optuna.Study, storage: str, space: Space, trial_folds: TrialFolds) -> str:
    before = ended(study.get_trials(deepcopy=False))
    earned = f", the best {trial_folds.promote:.0%} all others, too" if trial_folds.rest and trial_folds.promote else ""
    going = f"{before} trials before; " if before else ""
    folds = f"fold {', '.join(map(str, trial_folds.first))}{earned}"
    return f"study {study.study_name} in {shown_url(storage)}: {going}{len(space.dimensions)} entries searched, {folds}"

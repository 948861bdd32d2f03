"""``kk tune --blend``: weights of runs, or weights and exponent of a power mean, searched by the competition's metric.

The search is the ``learn`` step of a blender. So cross-fitting judges it as it judges every blender: for each fold there is a
search of its own on the rows of the other folds, and its blend is scored on rows that it has not seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState

from kaggle_kit.blending import Blender, cross_fit, get_blender
from kaggle_kit.blending.base import Parameters, Problem, as_probabilities
from kaggle_kit.blending.blend import BlendResult, blend
from kaggle_kit.blending.sources import Evidence, align_test, common_folds, gather, usable_runs
from kaggle_kit.competition import Competition
from kaggle_kit.config import Config
from kaggle_kit.errors import ConfigError
from kaggle_kit.metrics import get_metric
from kaggle_kit.registry import lookup
from kaggle_kit.runs import TEST
from kaggle_kit.tune.page import write_page
from kaggle_kit.tune.storage import hushed, quietly
from kaggle_kit.workspace import Workspace

DEFAULT_TRIALS = 100
EXPONENTS = (-4.0, 8.0)

Draw = Callable[[optuna.Trial, int], Parameters]
"""``draw(trial, n_runs)`` -> parameters of the blender."""


def _draw_weights(trial: optuna.Trial, n_runs: int) -> Parameters:
    shares = [trial.suggest_float(f"weight {run}", 0.0, 1.0) for run in range(n_runs)]
    total = sum(shares)
    return {"weights": [share / total if total else 1.0 / n_runs for share in shares]}


def _draw_power(trial: optuna.Trial, n_runs: int) -> Parameters:
    exponent = trial.suggest_float("exponent", *EXPONENTS)
    # Near 0 its reciprocal overflows, and the mean is as good as geometric.
    return {"exponent": exponent if abs(exponent) > 0.01 else 0.0, **_draw_weights(trial, n_runs)}


TUNABLE: dict[str, Draw] = {"weights": _draw_weights, "power": _draw_power}
"""Blending methods with something to search, by their names in BLENDERS."""


@dataclass
class Search:
    """The ``learn`` step of a tuned blender.

    Attributes:
        base: the blender of the same name that learns otherwise; what it finds is among the first trials, so that a search
            is never worse than it on the rows that it sees.
        trials: of each search.
        seconds: that each search may take, or None.
        studies: one a search: the first on all rows, the others for cross-fitting.
    """

    base: Blender
    draw: Draw
    trials: int
    seed: int
    seconds: float | None = None
    studies: list[optuna.Study] = field(default_factory=list)

    def __call__(self, problem: Problem) -> Parameters:
        """Search on the rows of ``problem``; returns the best parameters found."""
        n_runs = len(problem.stack)
        # Each search draws alike: which rows are left out is to be the only difference.
        sampler = quietly(lambda: optuna.samplers.TPESampler(seed=self.seed, multivariate=True))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        self.studies.append(study)
        for start in self._starts(problem, n_runs):
            study.enqueue_trial(start)
        found: list[tuple[tuple[float, float], Parameters]] = []

        def score(trial: optuna.Trial) -> float:
            parameters = self.draw(trial, n_runs)
            blended = self.base.combine(problem.stack, parameters, problem.multilabel)
            key = problem.key(as_probabilities(blended, multilabel=problem.multilabel))
            found.append((key, parameters))
            return key[0]

        started = time.monotonic()

        def stop_in_time(study: optuna.Study, _trial: optuna.trial.FrozenTrial) -> None:
            if self.seconds is not None and time.monotonic() - started >= self.seconds:
                study.stop()

        study.optimize(score, n_trials=self.trials, callbacks=[stop_in_time])
        best = max(key for key, _ in found)
        return next(parameters for key, parameters in found if key == best)

    def _starts(self, problem: Problem, n_runs: int) -> list[dict[str, Any]]:
        """Equal weights, and what the plain blender of this name learns."""
        learnt = self.base.learn(problem)
        equal = {f"weight {run}": 1.0 for run in range(n_runs)}
        weights = learnt.get("weights")
        peak = max(weights) if weights else 1.0
        own = equal if weights is None else {f"weight {run}": weight / peak for run, weight in enumerate(weights)}
        exponents = (1.0, float(np.clip(learnt["exponent"], *EXPONENTS))) if "exponent" in learnt else None
        if exponents is None:
            return [equal, own]
        return [{**equal, "exponent": exponents[0]}, {**own, "exponent": exponents[1]}]


@dataclass(frozen=True)
class TuneBlendResult:
    """What :func:`tune_blend` made.

    Attributes:
        blend: the submission and its checks, as of ``kk blend``.
        table: method and cross-fitted score, of this search and of the plain blenders on the same rows.
        page: plots of the search on all rows.
        trials: that this search had.
    """

    blend: BlendResult
    table: pd.DataFrame
    page: Path
    trials: int

    def describe(self) -> str:
        """How the tuned blend does on rows that its search has not seen, and whether a plain one does as well."""
        scores = self.blend.scores
        plain, score = self._best_plain()
        better = get_metric(scores.metric).better(scores.cross_fitted, score)
        advice = "" if better else f". Method {plain} does as well or better ({score:.5f}): kk blend --method {plain}"
        return (
            f"tuned {self.blend.description}: {scores.metric} {scores.cross_fitted:.5f} cross-fitted "
            f"({scores.in_sample:.5f} on the {scores.n:,} rows it was tuned on), {self.trials} trials a search{advice}"
        )

    def _best_plain(self) -> tuple[str, float]:
        """The better of the plain blenders by cross-fitted score."""
        rows: list[tuple[str, float]] = list(self.table.iloc[:-1].itertuples(index=False, name=None))
        sign = 1.0 if get_metric(self.blend.scores.metric).greater_is_better else -1.0
        return max(rows, key=lambda row: sign * row[1])


def tune_blend(
    workspace: Workspace,
    config: Config,
    competition: Competition,
    *,
    runs: Sequence[str] = (),
    method: str = "weights",
    name: str = "tuned",
    trials: int = DEFAULT_TRIALS,
    time_limit: float | None = None,
    seed: int = 0,
) -> TuneBlendResult:
    """Blend runs with tuned weights to ``submissions/<name>.csv``, with plots in ``tune/<name>/report.html``.

    Args:
        runs: names; all runs with a finished fold when none are given.
        method: an entry of ``TUNABLE``: weights, or power (weights and an exponent).
        trials: of each search; there is one search for all rows and one a fold.
        time_limit: seconds, shared out among the searches; each has one trial at least.

    Raises:
        ConfigError: an unknown method, or no trials.
        MissingFileError, FoldError, ClassMappingError, DataError, SubmissionError: see :func:`kaggle_kit.blending.blend.blend`.
    """
    if trials < 1:
        raise ConfigError(f"trials must be >= 1, got {trials}.")
    search = Search(get_blender(method), lookup(TUNABLE, method, "method to tune"), trials, seed)
    folder = workspace.tune_dir(name)
    evidence = _evidence(workspace, competition, runs, seed)
    search.seconds = None if time_limit is None else time_limit / (len(np.unique(evidence.parts)) + 1)
    with hushed():
        tuned = blend(
            workspace,
            config,
            competition,
            runs=runs,
            method=replace(search.base, learn=search),
            name=name,
            seed=seed,
            force=True,
        )
        study, metric = search.studies[0], tuned.scores.metric
        rows = [*_plain_scores(evidence, competition, method, seed), (f"{method}, tuned", tuned.scores.cross_fitted)]
        table = pd.DataFrame(rows, columns=["method", f"cross-fitted {metric}"])
        result = TuneBlendResult(tuned, table, folder / "report.html", len(study.get_trials(states=(TrialState.COMPLETE,))))
        trials_table = study.trials_dataframe(attrs=("number", "value", "params")).rename(columns={"value": metric})
        write_page(result.page, study, title=f"blend {name}", lines=[result.describe()], table=trials_table)
    return result


def _evidence(workspace: Workspace, competition: Competition, runs: Sequence[str], seed: int) -> Evidence:
    """The rows that the blend will be judged by."""
    chosen, notes = usable_runs(workspace, runs)
    folds = common_folds(workspace, chosen)
    _, views = align_test(workspace, competition, chosen, TEST)
    return gather(workspace, competition, chosen, folds, views, seed, notes)


def _plain_scores(evidence: Evidence, competition: Competition, method: str, seed: int) -> list[tuple[str, float]]:
    """Cross-fitted scores of the mean and of the plain blender, to compare with."""
    metric, form = get_metric(competition.metric), competition.submission
    threshold = form.threshold if form.form == "labels" else 0.5
    return [
        (
            name,
            cross_fit(
                *(get_blender(name), evidence.aligned.stack, evidence.truth, evidence.parts, metric),
                seed=seed,
                threshold=threshold,
            ).score,
        )
        for name in ("mean", method)
    ]

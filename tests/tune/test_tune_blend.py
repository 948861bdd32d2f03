"""Tuned blends: never worse on the rows that they see, judged on rows that they do not, stored like any other blend."""

import numpy as np
import optuna
import pytest
from factories import make_workspace

from kaggle_kit.blending import fitted_from_dict, get_blender
from kaggle_kit.blending.base import Problem
from kaggle_kit.errors import ConfigError
from kaggle_kit.metrics import get_metric
from kaggle_kit.tune import tune_blend
from kaggle_kit.tune.blending import TUNABLE, Search


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("blend"), n_runs=3)


def problem(metric="accuracy", n_runs=3, good=0):
    """Runs of which one is much better than the others."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200)
    stack = [rng.dirichlet(np.ones(3), 200) + (run == good) * np.eye(3)[truth] * 0.6 for run in range(n_runs)]
    stack = [(probs / probs.sum(axis=1, keepdims=True)).astype(np.float32) for probs in stack]
    return Problem(stack, truth, get_metric(metric))


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("method", TUNABLE)
@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_a_search_is_never_worse_than_the_plain_blender_on_its_rows(method, metric):
    rows, base = problem(metric), get_blender(method)
    found = Search(base, TUNABLE[method], trials=12, seed=0)(rows)
    plain = base.learn(rows)
    for other in (plain, {"exponent": 1.0}):
        assert rows.key(base.combine(rows.stack, found, False)) >= rows.key(
            base.combine(rows.stack, other, False)
        ) or np.isclose(
            rows.key(base.combine(rows.stack, found, False))[0], rows.key(base.combine(rows.stack, other, False))[0], atol=1e-6
        )
    assert sum(found["weights"]) == pytest.approx(1.0)


def test_a_search_finds_the_good_run_and_is_repeatable():
    search = Search(get_blender("weights"), TUNABLE["weights"], trials=20, seed=0)
    for good in range(3):
        found = search(problem(good=good))["weights"]
        assert found.index(max(found)) == good
    assert search(problem()) == Search(get_blender("weights"), TUNABLE["weights"], trials=20, seed=0)(problem())


@pytest.mark.parametrize("method", TUNABLE)
def test_the_submission_is_checked_and_its_blend_can_be_applied_again(made, method):
    result = tune_blend(
        made.workspace, made.config, made.competition, runs=made.spec.run_names, method=method, trials=8, name=method
    )
    assert result.blend.passed
    assert result.blend.path == made.workspace.submission_path(method)
    record = result.blend.record
    assert record["method"] == method
    again = fitted_from_dict(record["blend"])
    assert again.parameters == record["blend"]["parameters"]
    assert "weights" in again.parameters
    assert list(result.table["method"]) == ["mean", method, f"{method}, tuned"]
    assert result.table.iloc[-1, 1] == result.blend.scores.cross_fitted
    assert "Plotly.newPlot(" in result.page.read_text()
    assert result.trials == 8


def test_the_honest_score_comes_from_searches_that_have_not_seen_the_rows(made, monkeypatch):
    searches = []
    call = Search.__call__

    def spy(self, rows):
        searches.append(len(rows.truth))
        return call(self, rows)

    monkeypatch.setattr(Search, "__call__", spy)
    result = tune_blend(made.workspace, made.config, made.competition, trials=3)
    n = result.blend.scores.n
    assert searches[0] == n
    assert len(searches) == 1 + made.spec.n_folds
    assert sum(n - seen for seen in searches[1:]) == n


def test_says_when_a_plain_blender_does_as_well(made):
    result = tune_blend(made.workspace, made.config, made.competition, trials=1)  # equal weights: the mean itself
    assert result.blend.scores.cross_fitted == result.table.iloc[0, 1]
    assert "does as well or better" in result.describe()
    assert "kk blend --method" in result.describe()


def test_the_time_limit_leaves_one_trial_a_search(made):
    assert tune_blend(made.workspace, made.config, made.competition, trials=500, time_limit=1e-6).trials == 1


def test_what_cannot_be_tuned(made):
    with pytest.raises(ConfigError, match=r"unknown method to tune 'stack'.*weights, power"):
        tune_blend(made.workspace, made.config, made.competition, method="stack")
    with pytest.raises(ConfigError, match="trials must be >= 1"):
        tune_blend(made.workspace, made.config, made.competition, trials=0)

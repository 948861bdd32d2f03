"""Weighted means whose weights are found on out-of-fold rows; weights are at least 0 and sum to 1."""

from __future__ import annotations

import numpy as np

from kaggle_kit.blending.base import Array, Parameters, Problem, likelihood

HILL_STEPS = 40
HILL_PATIENCE = 5
HILL_BAGS = 8
STEPS = (0.5, -0.5, 0.2, -0.2, 0.1, -0.1, 0.05, -0.05, 0.02, -0.02)
SWEEPS = 5
_ENOUGH = 1e-9  # a gain in likelihood below this is rounding


def learn_weights(problem: Problem) -> Parameters:
    """The weights of least log loss, whatever the metric.

    The log loss of a mean is convex in its weights, so there is one optimum; it needs only the probability that each run gave
    to the truth. SLSQP (Kraft 1988) on the simplex, from equal weights.
    """
    from scipy.optimize import minimize

    n_runs = len(problem.stack)
    given = np.stack([likelihood(probs, problem.truth).ravel() for probs in problem.stack])  # (M, N) or (M, N * C)

    def loss(weights: Array) -> tuple[float, Array]:
        mixture = np.maximum(weights @ given, 1e-12)
        return -float(np.mean(np.log(mixture))), -(given @ (1.0 / mixture)) / given.shape[1]

    start = np.full(n_runs, 1.0 / n_runs)
    total = {"type": "eq", "fun": lambda weights: weights.sum() - 1.0, "jac": np.ones_like}
    options = {"maxiter": 200, "ftol": 1e-10}
    found = minimize(loss, start, jac=True, method="SLSQP", bounds=[(0.0, 1.0)] * n_runs, constraints=[total], options=options)
    weights = np.clip(found.x, 0.0, 1.0)
    if not np.isfinite(weights).all() or weights.sum() <= 0 or loss(weights / weights.sum())[0] > loss(start)[0]:
        weights = start
    return {"weights": _plain(weights)}


def learn_coordinates(problem: Problem) -> Parameters:
    """Weights that do best by the metric itself: one run's share at a time is raised or lowered while that helps."""
    n_runs = len(problem.stack)
    weights = np.full(n_runs, 1.0 / n_runs)
    blend = sum(weight * probs for weight, probs in zip(weights, problem.stack, strict=True))
    best = problem.key(blend)
    for _ in range(SWEEPS if n_runs > 1 else 0):
        before = best
        for run, probs in enumerate(problem.stack):
            for step in STEPS:
                trial = (1.0 - step) * weights + step * (np.arange(n_runs) == run)
                if trial.min() < 0.0:
                    continue
                candidate = (1.0 - step) * blend + step * probs
                key = problem.key(np.clip(candidate, 0.0, 1.0))
                if _better(key, best):
                    best, weights, blend = key, trial, candidate
        if best == before:
            break
    return {"weights": _plain(weights)}


def learn_hill_climb(problem: Problem) -> Parameters:
    """Greedy ensemble selection with replacement by the metric (Caruana et al. 2004).

    With more than three runs it is bagged: each of several climbs sees a random part of the runs, and the counts are added,
    which keeps one lucky run from taking all.
    """
    n_runs = len(problem.stack)
    if n_runs <= 3:
        return {"weights": _plain(_climb(problem, np.arange(n_runs)))}
    rng = np.random.default_rng(problem.seed)
    size = max(3, round(0.6 * n_runs))
    bags = [rng.choice(n_runs, size=size, replace=False) for _ in range(HILL_BAGS)]
    return {"weights": _plain(np.sum([_climb(problem, np.sort(bag)) for bag in bags], axis=0))}


def _climb(problem: Problem, bag: Array) -> Array:
    """Shares (M,) of the best blend on the way up from the best run of ``bag``."""
    counts, total = np.zeros(len(problem.stack)), np.float64(0.0) * problem.stack[0]
    best, best_counts, waited = (-np.inf, -np.inf), counts, 0
    for step in range(1, HILL_STEPS + 1):
        keys = [problem.key((total + problem.stack[run]) / step) for run in bag]
        run = bag[max(range(len(bag)), key=keys.__getitem__)]
        counts = counts + (np.arange(len(counts)) == run)
        total = total + problem.stack[run]
        if _better(max(keys), best):
            best, best_counts, waited = max(keys), counts, 0
        else:
            waited += 1
        if waited == HILL_PATIENCE:
            break
    return np.asarray(best_counts / best_counts.sum())


def _better(key: tuple[float, float], than: tuple[float, float]) -> bool:
    return key[0] > than[0] or (key[0] == than[0] and key[1] > than[1] + _ENOUGH)


def _plain(weights: Array) -> list[float]:
    return [float(weight) for weight in weights / weights.sum()]

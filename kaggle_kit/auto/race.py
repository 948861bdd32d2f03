"""A race on fold 0 of runs that do not all fit into the time: successive halving in one round."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kaggle_kit.auto.ideas import Candidate

_LEAST_FOLDS = 3  # of fewer, one fold costs too large a share of all


def race(runs: Sequence[Candidate], raced: Mapping[str, float], *, folds: int, seconds: float) -> Sequence[Candidate]:
    """Return what may be trained next of some runs, each of which fits into the time.

    Where all fit, that is all of them. Else those that race: fold 0 alone of who has not yet, and once all have, the better
    half. As many race as leave time for all folds of half of them; where those are fewer than two, there is no race.

    Args:
        raced: run -> share of the error that it removed on fold 0; such a run takes the seconds of its other folds.
        folds: of a run.
        seconds: that are left.
    """
    if folds < _LEAST_FOLDS or sum(one.seconds for one in runs) <= seconds:
        return runs
    racing = _racing(sorted(runs, key=lambda one: -one.rate), raced, folds, seconds)
    if not racing:
        return runs
    waiting = [one.on_one_fold(folds) for one in racing if one.run not in raced]
    return waiting or sorted(racing, key=lambda one: -raced[one.run])[: _half(racing)]


def _racing(runs: Sequence[Candidate], raced: Mapping[str, float], folds: int, seconds: float) -> Sequence[Candidate]:
    """Return as many of the first runs as leave time for half of them; none where those are fewer than two."""
    for count in range(len(runs), 1, -1):
        racing = runs[:count]
        first = [0.0 if one.run in raced else one.seconds / folds for one in racing]
        rest = sorted((one.seconds - done for one, done in zip(racing, first, strict=True)), reverse=True)
        if sum(first) + sum(rest[: _half(racing)]) <= seconds:
            return racing
    return ()


def _half(runs: Sequence[Candidate]) -> int:
    return math.ceil(len(runs) / 2)

"""How much chance explains, when a share is known from a few rows only.

All tests of the check share one false-alarm rate: a sound workspace, of any size, fails at most once in 1,000 times.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
FALSE_ALARMS = 0.001
"""Chance that any of the checks below fails although everything is in its place."""
LINES = 8
"""Lines of the table that rest on chance: four of permutation, views, two tests of the control submission, the blend."""
LEVEL = FALSE_ALARMS / LINES
"""For one line, whatever the others find (Bonferroni); a line of several tables shares it out among them."""


def least_share(right: float, rows: int, level: float) -> float:
    """Return the smallest true share that still explains ``right`` of ``rows`` rows (Clopper & Pearson 1934, one-sided).

    0.74 for 10 of 10 rows at a level of 0.05; a share seen on few rows is never taken for the truth.
    """
    from scipy.stats import beta

    return float(beta.ppf(level, right, rows - right + 1)) if rows and right > 0 else 0.0


def fewer_than_explained(hits: int, rows: int, share: float, level: float) -> bool:
    """Return whether a true share of ``share`` or more gives so few ``hits`` of ``rows`` with a chance of at most ``level``."""
    from scipy.stats import binom

    return bool(binom.cdf(hits, rows, share) <= level)


def more_lost_than_won(before: Array, after: Array, level: float) -> bool:
    """Return whether the same rows, (N,) each, got worse more often than better, beyond chance (McNemar 1947, exact)."""
    from scipy.stats import binom

    lost, won = int((after < before).sum()), int((after > before).sum())
    return bool(lost and binom.sf(lost - 1, lost + won, 0.5) <= level)

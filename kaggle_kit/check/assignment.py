"""Does each column hold the class that it is named after? A test that knows only labels and probabilities.

*Why the named column must win.* For probabilities of the form ``p_j ∝ w_j f_j(x)`` (any model that ranks by likelihood, under
any class weights, sampling or prior ``w``), the contrast ``log p_b - log p_a`` rises with the likelihood ratio ``f_b / f_a``.
Its ROC curve between rows labelled b and rows labelled a never falls below the diagonal, so its AUC is at least 1/2 for every
pair of classes, however unequal and however confusable; two classes that nothing tells apart have exactly 1/2. Swapped columns
mirror the AUC around 1/2. This is what makes the test safe for confusable and rare classes, which a count of hits is not.

*What chance is.* For a pair: the exact permutation distribution of the Mann-Whitney statistic under exchanged labels (Mann &
Whitney 1947), corrected for the number of pairs that the probabilities do not set clearly apart, since the pair was sought out
among them; a pair that is set apart cannot raise a false alarm. For whole orders, where each class may have too
few rows to judge it alone: the best assignment (Hungarian method, Kuhn 1955) is sought on one half of the rows and tested on
the other half, cycle by cycle, against labels permuted within the cycle; no correction for the search is needed then.

*What is proved.* A class is proved when the same pair test, at the same level, shows that its own column beats that of its
nearest rival: had the two been swapped, the test would have failed. What is not proved is reported as such.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.tables import Classes

Array = npt.NDArray[Any]
MOST_CLASSES = 800
"""Of more classes those with most rows are compared with each other, and the others count as not proved: orders of columns cost
the cube of their number, and classes with a row or two prove nothing."""
ROWS_PER_CLASS = 200
"""More rows of one class add time, not certainty."""
EXACT_UP_TO = 40
MARGIN = 0.05
"""A pair counts as swapped only below an AUC of 1/2 - MARGIN: out-of-fold rows of indistinguishable classes lean slightly below
1/2, since a fold that holds more of a class was trained on less of it."""
CLEARLY_APART = 0.8
PERMUTATIONS = 200
MANY_ROWS = 1000
"""A sum over so many rows in random order is as good as normal; for fewer, orders are drawn as well."""


@dataclass(frozen=True)
class Labelled:
    """The labels of rows as the positions of the ones: few of the cells of a 0/1 matrix are 1, and these are read all the time.

    Attributes:
        shape: (N, C) of the matrix.
        rows, labels: (L,) where the ones stand, label by label, rows ascending.
    """

    shape: tuple[int, int]
    rows: Array
    labels: Array

    @classmethod
    def of(cls, hot: Array) -> Labelled:
        """Return the ones of ``hot``, (N, C) 0/1."""
        cells = np.flatnonzero(np.ascontiguousarray(hot, dtype=bool))  # of one dimension: ten times as quick as of two
        rows, labels = np.divmod(cells, max(hot.shape[1], 1))
        order = np.argsort(labels, kind="stable")
        return cls((hot.shape[0], hot.shape[1]), rows[order], labels[order])

    def __len__(self) -> int:
        return self.shape[0]

    @cached_property
    def counts(self) -> Array:
        """(C,) how many rows each label has."""
        return np.bincount(self.labels, minlength=self.shape[1])

    @cached_property
    def starts(self) -> Array:
        """(C + 1,) where each label begins in ``rows``."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def rows_of(self, label: int) -> Array:
        """The rows of a label, ascending."""
        return self.rows[self.starts[label] : self.starts[label + 1]]

    def where(self, chosen: Array) -> Labelled:
        """The labels of the rows that ``chosen``, (N,) bool, names; the other rows have none."""
        keep = chosen[self.rows]
        return Labelled(self.shape, self.rows[keep], self.labels[keep])

    def first(self) -> Array:
        """(N,) the first label of each row; 0 where there is none."""
        found = np.zeros(len(self), dtype=np.int64)
        found[self.rows[::-1]] = self.labels[::-1]
        return found

    def mean_of(self, values: Array) -> Array:
        """(C, K): the mean of each label's rows of ``values``, (N, K); zero for labels without rows."""
        from scipy.sparse import csr_array

        own = csr_array((np.ones(len(self.rows)), self.rows, self.starts), shape=self.shape[::-1])
        return np.asarray((own @ values) / np.maximum(self.counts, 1)[:, None])


@dataclass(frozen=True)
class Mapping:
    """The verdict on one table of probabilities.

    Attributes:
        rows: rows that were looked at.
        hits: share of rows whose most probable column is (one of) its labels; ``best_hits`` with the best assignment instead.
        above_chance: whether the probabilities follow the labels at all.
        moved: (column, label) pairs: the column holds what is labelled so. Empty unless the identity is refuted.
        p_value: of the strongest evidence against the identity, corrected for what was searched.
        unproved: classes for which a swap with their nearest rival would not have been noticed.
        level: the false-alarm rate that this test was made at.
        classes: how many there are.
    """

    rows: int
    hits: float
    best_hits: float
    above_chance: bool
    moved: tuple[tuple[str, str], ...]
    p_value: float
    unproved: tuple[str, ...]
    level: float
    classes: int

    @property
    def refuted(self) -> bool:
        return bool(self.moved)

    @property
    def mostly_proved(self) -> bool:
        """Whether the order is confirmed, for at least half of the classes one by one."""
        return self.above_chance and not self.moved and 2 * len(self.unproved) <= self.classes


def judge_mapping(hot: Array, probs: Array, classes: Classes, *, level: float, rng: np.random.Generator) -> Mapping:
    """Test whether column j of ``probs`` holds class j.

    Args:
        hot: (N, C) 0/1, the labels.
        probs: (N, C) probabilities.
        level: chance of an alarm when every column is right.
        rng: draws the rows of large classes, the halves and the permutations.
    """
    if len(classes) > MOST_CLASSES:
        return _judge_frequent(hot, probs, classes, level=level, rng=rng)
    rows = _sample(np.asarray(hot), rng)
    labelled, probs = Labelled.of(np.asarray(hot)[rows]), np.asarray(probs[rows])
    scores, top = standardised(probs), probs.argmax(axis=1)
    proposals = _proposals(labelled, scores, top)
    pairs = {(int(min(i, j)), int(max(i, j))) for order in proposals for i, j in enumerate(order) if i != j}
    evidence = _evidence(probs)
    level_pair = level / 2 / (1 + _close_pairs(labelled, evidence))
    tails = {pair: swap_tails(labelled, evidence, *pair) for pair in pairs}
    refuting = {pair for pair, tail in tails.items() if tail.refutes(level_pair)}
    cycle_p, cycle_classes = _test_cycles(labelled, scores, top, rng)
    suspects = {name for pair in refuting for name in pair} | (cycle_classes if cycle_p <= level / 2 else set())
    moved = _moved(proposals, suspects, classes)
    pair_p = min((tail.below for tail in tails.values()), default=1.0) * level / 2 / level_pair
    return Mapping(
        rows=len(rows),
        hits=_hits(labelled, top, np.arange(len(classes))),
        best_hits=max(_hits(labelled, top, order) for order in proposals),
        above_chance=_above_chance(labelled, scores, level, rng),
        moved=moved,
        p_value=float(min(1.0, 2 * min(pair_p, cycle_p))),
        unproved=_unproved(labelled, scores, evidence, classes, level_pair),
        level=level,
        classes=len(classes),
    )


def _judge_frequent(hot: Array, probs: Array, classes: Classes, *, level: float, rng: np.random.Generator) -> Mapping:
    """Test the columns of the most frequent classes on their rows; of the others nothing is proved."""
    counts = np.asarray(hot.sum(axis=0), dtype=np.float64)
    kept = np.sort(np.argsort(-counts, kind="stable")[:MOST_CLASSES])
    rows = np.flatnonzero(hot[:, kept].any(axis=1))
    some = Classes(tuple(classes.names[column] for column in kept))
    among = probs[rows][:, kept]
    if np.allclose(probs[rows].sum(axis=1), 1, atol=1e-2):  # one label a row; ratios of columns stay what they are
        among = among / np.maximum(among.sum(axis=1, keepdims=True), 1e-30)
    found = judge_mapping(hot[rows][:, kept], among, some, level=level, rng=rng)
    others = tuple(name for name in classes if name not in some)
    right = float(hot[rows, probs[rows].argmax(axis=1)].mean()) if len(rows) else 0.0
    best = max(right, found.best_hits) if found.moved else right
    return replace(found, hits=right, best_hits=best, unproved=(*found.unproved, *others), classes=len(classes))


@dataclass(frozen=True)
class Tails:
    """The pair test: AUC of the named columns, and its permutation probabilities of as little and as much."""

    auc: float
    below: float
    above: float

    def refutes(self, level: float) -> bool:
        return self.auc <= 0.5 - MARGIN and self.below <= level


def swap_tails(labelled: Labelled, evidence: Array, first: int, second: int) -> Tails:
    """Compare columns ``first`` and ``second`` on the rows that have exactly one of the two labels.

    ``evidence`` is (N, C), log probabilities or logits. Without a row of each label nothing can be said: AUC 1/2.
    """
    both = labelled.rows_of(first), labelled.rows_of(second)
    exactly_one = (own[~np.isin(own, other, assume_unique=True)] for own, other in (both, both[::-1]))
    low, high = (evidence[rows, second] - evidence[rows, first] for rows in exactly_one)
    if not len(low) or not len(high):
        return Tails(0.5, 1.0, 1.0)
    # u counts the pairs of rows that stand in the order in which the columns' names put them; ties count half.
    low = np.sort(low)
    u = 0.5 * sum(int(np.searchsorted(low, high, side).sum()) for side in ("left", "right"))
    pairs = len(low) * len(high)
    return Tails(
        float(u / pairs), _mann_whitney_tail(u, len(low), len(high)), _mann_whitney_tail(pairs - u, len(low), len(high))
    )


def _mann_whitney_tail(u: float, n_first: int, n_second: int) -> float:
    """P(U <= u) when labels are exchangeable; half counts (ties) are rounded towards the middle."""
    if max(n_first, n_second) <= EXACT_UP_TO:
        cumulative = _exact_cumulative(min(n_first, n_second), max(n_first, n_second))
        return float(cumulative[min(int(np.ceil(u)), len(cumulative) - 1)])
    from scipy.special import ndtr

    spread = np.sqrt(n_first * n_second * (n_first + n_second + 1) / 12)
    return float(ndtr((u + 0.5 - n_first * n_second / 2) / spread))


@lru_cache(maxsize=4096)
def _exact_cumulative(n_first: int, n_second: int) -> Array:
    """Cumulative distribution of U, (n_first * n_second + 1,), from its generating function, the Gaussian binomial."""
    size = n_first * n_second + 1
    counts = np.zeros(size)
    counts[0] = 1.0
    for step in range(1, n_first + 1):
        up = n_second + step
        counts[up:] = counts[up:] - counts[:-up] if up < size else counts[up:]
        for start in range(step):  # division by (1 - q^step)
            counts[start::step] = np.cumsum(counts[start::step])
    return np.asarray(np.minimum(np.cumsum(counts) / counts.sum(), 1.0))


def best_assignment(matrix: Array) -> Array:
    """Column for each label, (C,), that maximises the sum; the identity wins ties."""
    from scipy.optimize import linear_sum_assignment

    tilted = matrix + np.eye(len(matrix)) * 1e-9 * max(1.0, float(np.abs(matrix).max()))
    return np.asarray(linear_sum_assignment(tilted, maximize=True)[1])


def standardised(probs: Array) -> Array:
    """Columns with mean 0 and spread 1, clipped at 3, so that neither a frequent class nor one certain row decides."""
    scores = probs - probs.mean(axis=0, dtype=np.float64)
    spread = np.sqrt(np.einsum("ij,ij->j", scores, scores) / max(len(scores), 1))
    scores /= np.where(spread > 0, spread, 1.0)  # in place: tables are large, and new memory is not free
    return np.asarray(np.clip(scores, -3, 3, out=scores))


def cycles(order: Array) -> list[list[int]]:
    """The cycles of a permutation that move something."""
    seen: set[int] = set()
    found = []
    for start in range(len(order)):
        cycle = []
        while start not in seen:
            seen.add(start)
            cycle.append(start)
            start = int(order[start])
        if len(cycle) > 1:
            found.append(cycle)
    return found


def _proposals(labelled: Labelled, scores: Array, top: Array) -> list[Array]:
    """The orders of columns that fit best: by the scores of each label's rows, and by their most probable columns."""
    return [best_assignment(labelled.mean_of(scores)), best_assignment(_hit_rates(labelled, top))]


def _sample(hot: Array, rng: np.random.Generator) -> Array:
    """Positions of at most ROWS_PER_CLASS rows of each class, sorted."""
    if len(hot) <= ROWS_PER_CLASS * hot.shape[1] and hot.sum(axis=0).max(initial=0) <= 2 * ROWS_PER_CLASS:
        return np.arange(len(hot))
    labelled = Labelled.of(hot)
    chosen = [rng.permutation(labelled.rows_of(label))[:ROWS_PER_CLASS] for label in range(hot.shape[1])]
    return np.unique(np.concatenate(chosen))


def _evidence(probs: Array) -> Array:
    """Logits of multi-label columns order rows as probabilities do; for one label a row, log ratios are what is compared."""
    clipped = np.clip(probs, 1e-7, 1 - 1e-7)
    single = np.allclose(probs.sum(axis=1), 1, atol=1e-2)
    return np.asarray(np.log(clipped) if single else np.log(clipped / (1 - clipped)))


def _close_pairs(labelled: Labelled, evidence: Array) -> int:
    """How many pairs of classes have an AUC below CLEARLY_APART, in the normal approximation from means and variances."""
    from scipy.special import ndtr

    there = labelled.counts > 0
    mean, square = np.zeros((2, len(there), len(there)))
    for label in np.flatnonzero(there):
        rows = evidence[labelled.rows_of(int(label))]
        contrast = rows - rows[:, [label]]  # of each column over the label's own
        mean[label], square[label] = contrast.mean(axis=0), contrast.var(axis=0)
    spread = np.sqrt(np.maximum(square + square.T, 1e-12))
    auc = ndtr(-(mean + mean.T) / spread)
    return int(np.triu((auc < CLEARLY_APART) & there[:, None] & there[None, :], k=1).sum())


def _hit_rates(labelled: Labelled, top: Array) -> Array:
    """The confusion matrix, (C, C): the share of rows labelled i whose most probable column, ``top`` (N,), is j."""
    n_classes = labelled.shape[1]
    cells = labelled.labels * n_classes + top[labelled.rows]
    named = np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)
    return np.asarray(named / np.maximum(labelled.counts, 1)[:, None])


def _hits(labelled: Labelled, top: Array, order: Array) -> float:
    """Share of rows whose most probable column, ``top`` (N,), read by ``order``, is one of its labels."""
    right = order[labelled.labels] == top[labelled.rows]
    return float(right.sum() / len(labelled)) if len(labelled) else 0.0


def _above_chance(labelled: Labelled, scores: Array, level: float, rng: np.random.Generator) -> bool:
    """Whether own columns score more than they do when labels are dealt out anew among the rows."""
    from scipy.special import ndtri

    n_rows, n_classes = labelled.shape
    if n_rows < 2:
        return False
    weights, cells = 1 / labelled.counts[labelled.labels], np.ascontiguousarray(scores).ravel()

    def score(places: Array) -> float:
        """Of own columns when the labels of row i stand at row ``places[i]``."""
        return float(weights @ cells[places[labelled.rows] * n_classes + labelled.labels])

    own, (mean, spread) = score(np.arange(n_rows)), dealt_anew(labelled, scores)
    if own <= mean - ndtri(level) * spread:
        return False
    return n_rows >= MANY_ROWS or own > max(score(rng.permutation(n_rows)) for _ in range(PERMUTATIONS))


def dealt_anew(labelled: Labelled, scores: Array) -> tuple[float, float]:
    """Mean and spread, over all ways of dealing the labels out among the rows, of the sum of labels' mean own scores.

    With ``d[i, j]`` what row j adds under the labels of row i, less the means of row and column, the variance is the sum of
    all ``d ** 2`` over N - 1 (Hoeffding 1951). That sum over pairs of rows is one over pairs of classes: the products of two
    columns of labels, each over its number of rows, times those of two columns of scores, all less their means.
    """
    from scipy.sparse import csr_array

    n_rows, n_classes = labelled.shape
    there, means = (labelled.counts > 0).astype(np.float64), scores.mean(axis=0)
    weights = 1 / labelled.counts[labelled.labels]
    own = csr_array((weights, labelled.rows, labelled.starts), shape=(n_classes, n_rows))
    of_labels = (own @ own.T).toarray() - np.outer(there, there) / n_rows
    of_scores = scores.T @ scores - n_rows * np.outer(means, means)
    variance = float((of_labels * of_scores).sum()) / (n_rows - 1)
    return float(means @ there), float(np.sqrt(max(variance, 0.0)))


def _test_cycles(labelled: Labelled, scores: Array, top: Array, rng: np.random.Generator) -> tuple[float, set[int]]:
    """Propose orders on one half of the rows and test their cycles on the other, both ways.

    Returns the smallest p-value, corrected for the number of cycles and the two ways, and the classes of the cycles below 0.05.
    """
    first = _half(labelled, rng)
    results: list[tuple[float, list[int]]] = []
    for half in (first, ~first):
        proposals = _proposals(labelled.where(half), scores, top)
        found = {tuple(cycle): order for order in proposals for cycle in cycles(order)}
        others = labelled.where(~half)
        for cycle, order in found.items():
            p_value = _cycle_p_value(others, scores, list(cycle), order, rng)
            results.append((min(1.0, 2 * len(found) * p_value), list(cycle)))
    smallest = min((p_value for p_value, _ in results), default=1.0)
    # The classes that moved: those of all cycles that are as clear as a single test would ask for.
    return smallest, {member for p_value, cycle in results if p_value <= 0.05 for member in cycle}


def _half(labelled: Labelled, rng: np.random.Generator) -> Array:
    """(N,) bool: half of the rows, and half of each label's as far as rows have one."""
    order = rng.permutation(len(labelled))
    order = order[np.argsort(labelled.first()[order], kind="stable")]
    half = np.zeros(len(labelled), dtype=bool)
    half[order[::2]] = True
    return half


def _cycle_p_value(labelled: Labelled, scores: Array, cycle: list[int], order: Array, rng: np.random.Generator) -> float:
    """A bound on how often labels permuted within the cycle gain as much by its order as the true ones do.

    Bernstein's inequality, which holds for sums over a random permutation up to constants (Chatterjee 2007), with the mean and
    variance of drawn permutations. A normal tail would promise too much where classes have one or two rows.
    """
    place = np.full(len(order), -1)
    place[cycle] = np.arange(len(cycle))
    inside = labelled.rows[place[labelled.labels] >= 0]
    rows, at, times = np.unique(inside, return_index=True, return_counts=True)
    rows, at = rows[times == 1], at[times == 1]  # with exactly one label of the cycle
    if len(rows) < 2:
        return 1.0
    labels = place[labelled.labels[place[labelled.labels] >= 0][at]]
    weight = 1 / np.maximum(np.bincount(labels, minlength=len(cycle)), 1)
    gain = (scores[rows][:, order[cycle]] - scores[rows][:, cycle]) * weight  # (rows, classes of the cycle)
    at = np.arange(len(labels))
    own = float(gain[at, labels].sum())
    drawn = np.array([gain[at, rng.permutation(labels)].sum() for _ in range(PERMUTATIONS)])
    excess = own - float(drawn.mean())
    if own <= 0 or own <= drawn.max():
        return 1.0
    largest = float(np.abs(gain - gain.mean(axis=0)).max())
    return float(np.exp(-(excess**2) / (2 * (float(drawn.var()) + largest * excess / 3))))


def _moved(proposals: Iterable[Array], suspects: set[int], classes: Classes) -> tuple[tuple[str, str], ...]:
    """(column, label) of every cycle that holds a suspect, by the first proposal that moves any of them."""
    if not suspects:
        return ()
    for order in proposals:
        pairs = [(int(order[i]), i) for cycle in cycles(order) if suspects & set(cycle) for i in cycle]
        if pairs:
            return tuple((classes.names[column], classes.names[label]) for column, label in sorted(pairs))
    names = [classes.names[position] for position in sorted(suspects)]
    return tuple(zip(names, names[1:] + names[:1], strict=True))


def _unproved(labelled: Labelled, scores: Array, evidence: Array, classes: Classes, level: float) -> tuple[str, ...]:
    """Classes whose own column does not beat that of the nearest rival at ``level``."""
    if len(classes) == 1:
        return ()
    means = labelled.mean_of(scores)
    own = np.diag(means)
    gain = means + means.T - own[:, None] - own[None, :]  # of swapping i and j
    np.fill_diagonal(gain, -np.inf)
    gain[:, labelled.counts == 0] = -np.inf  # a class without rows is no rival that could be compared with
    rivals = gain.argmax(axis=1)
    return tuple(
        name
        for position, name in enumerate(classes.names)
        if swap_tails(labelled, evidence, position, int(rivals[position])).above > level
    )

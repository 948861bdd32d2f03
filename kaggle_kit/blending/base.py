"""What every blender is: a function that finds parameters on out-of-fold rows, and one that applies them to any rows.

A stack is a sequence of M arrays (N, C), one a run, in one class order. An (M, N, C) array is one, and so is a list of memory
maps: blenders go through it run by run, so that they need room for a few (N, C) arrays, however many runs there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.metrics import Metric
from kaggle_kit.sparse import DENSE_CLASSES, KEPT, SparseRows, narrowed

Array = npt.NDArray[Any]
Stack = Sequence[Array]
Parameters = dict[str, Any]
"""What a blender has learnt: JSON values only."""

FLOOR = 1e-7  # probabilities are kept this far from 0 and 1 before a logarithm


class RowsOf(Sequence[Array]):
    """Some rows of a stack, copied run by run as they are asked for."""

    def __init__(self, stack: Stack, rows: npt.NDArray[np.int64]) -> None:
        self._stack, self._rows = stack, rows

    def __len__(self) -> int:
        return len(self._stack)

    @overload
    def __getitem__(self, at: int) -> Array: ...
    @overload
    def __getitem__(self, at: slice) -> RowsOf: ...
    def __getitem__(self, at: int | slice) -> Array | RowsOf:
        if isinstance(at, slice):
            return RowsOf(self._stack[at], self._rows)
        rows = self._stack[at][self._rows]
        return np.asarray(rows) if isinstance(rows, np.memmap) else rows

    def __iter__(self) -> Iterator[Array]:
        return (self[at] for at in range(len(self)))


@dataclass(frozen=True)
class Problem:
    """What a blender is fitted on.

    Attributes:
        stack: M runs of (N, C) out-of-fold probabilities.
        truth: (N,) class positions, or (N, C) 0/1 for multi-label.
        metric: what the blend is to be good at.
        threshold: for label metrics on multi-label rows, a number or (C,).
    """

    stack: Stack
    truth: Array
    metric: Metric
    seed: int = 0
    threshold: npt.ArrayLike = 0.5

    @property
    def multilabel(self) -> bool:
        return self.truth.ndim == 2

    @property
    def n_classes(self) -> int:
        return int(self.stack[0].shape[1])

    def key(self, probs: Array) -> tuple[float, float]:
        """How good ``probs`` are, greater is better: the metric, and for equal metrics the likelihood.

        Label metrics are flat almost everywhere; without the likelihood a search stands still on a plateau.
        """
        score = self.metric(self.truth, probs, threshold=self.threshold)
        score = -np.inf if np.isnan(score) else score if self.metric.greater_is_better else -score
        return float(score), float(np.mean(np.log(likelihood(probs, self.truth))))

    def split(self, parts: int) -> Iterator[tuple[Problem, Problem]]:
        """``parts`` random (fit, validate) halves of the problem, for choices inside a fit."""
        parts = min(parts, len(self.truth))
        owner = np.random.default_rng(self.seed).permutation(len(self.truth)) % parts
        for part in range(parts):
            yield self._rows(np.flatnonzero(owner != part)), self._rows(np.flatnonzero(owner == part))

    def thinned(self, cells: int) -> Problem:
        """This problem, or a random part of its rows when runs x rows x numbers of a row exceed ``cells``; held in memory."""
        rows = max(1, cells * len(self.truth) // max(1, sum(probs.size for probs in self.stack)))
        if rows >= len(self.truth):
            return self
        chosen = np.sort(np.random.default_rng(self.seed).choice(len(self.truth), size=rows, replace=False))
        return self._rows(chosen)

    def _rows(self, rows: npt.NDArray[np.int64]) -> Problem:
        return Problem(list(RowsOf(self.stack, rows)), self.truth[rows], self.metric, self.seed, self.threshold)


def _nothing(problem: Problem) -> Parameters:  # noqa: ARG001
    """The parameters of a blender that has none."""
    return {}


@dataclass(frozen=True)
class Blender:
    """One way of blending.

    Attributes:
        name: its key in BLENDERS.
        combine: ``(stack, parameters, multilabel) -> (N, C)``; rows need not sum to 1 yet.
        learn: ``problem -> parameters``; by default there is nothing to learn.
        max_cells: a fit uses at most so many probabilities; of a larger problem a random part of the rows.
        learns_scale: whether it may change the probabilities of a single run (a stacker does, an average does not).
        by_class: whether it learns or ranks class by class, for which it needs all probabilities of each.
        needs: the package that it cannot do without, and the extra that installs it.
    """

    name: str
    combine: Callable[[Stack, Parameters, bool], Array]
    learn: Callable[[Problem], Parameters] = _nothing
    max_cells: int = 20_000_000
    learns_scale: bool = False
    by_class: bool = False
    needs: tuple[str, str] | None = None

    def fit(self, oof: Stack, truth: Array, metric: Metric, *, seed: int = 0, threshold: npt.ArrayLike = 0.5) -> Fitted:
        """Find parameters on out-of-fold rows.

        Args:
            oof: M arrays (N, C) float32, all in the order of one class list; or one array (M, N, C).
            truth: (N,) class positions, or (N, C) 0/1 for multi-label.

        Raises:
            DataError: no runs, no rows, or shapes that differ.
            ConfigError: it goes by class, of which there are too many.
        """
        truth = np.asarray(truth)
        if self.by_class and any(isinstance(probs, SparseRows) for probs in oof):
            raise ConfigError(
                f"method {self.name} goes class by class, and of more than {DENSE_CLASSES:,} classes only the {KEPT} most "
                "probable of a row are kept; take mean, gmean, power, temperature, weights, coordinate, hill-climb or auto."
            )
        shapes = {probs.shape for probs in oof}
        if len(shapes) != 1 or next(iter(shapes))[0] != len(truth) or len(truth) == 0:
            raise DataError(f"a blend needs runs of one shape (N, C) with N truths, got {sorted(shapes)} and {truth.shape}.")
        problem = Problem(oof, truth, metric, seed, threshold)
        parameters = {} if self.learn is _nothing else self.learn(problem.thinned(self.max_cells))
        return Fitted(self, len(oof), problem.n_classes, problem.multilabel, parameters)


@dataclass(frozen=True)
class Fitted:
    """A blender with its parameters; plain numbers that can be stored as JSON and applied elsewhere."""

    blender: Blender
    n_runs: int
    n_classes: int
    multilabel: bool
    parameters: Parameters

    @property
    def weights(self) -> list[float] | None:
        """Share of each run, summing to 1; None for a blender that has no such thing."""
        if "weights" in self.parameters:
            total = sum(self.parameters["weights"])
            return [weight / total if total else 1 / self.n_runs for weight in self.parameters["weights"]]
        return None if self.parameters.keys() & {"coefficients", "trees", "scales"} else [1 / self.n_runs] * self.n_runs

    def apply(self, probs: Stack) -> npt.NDArray[np.float32]:
        """Blend M arrays (N, C), in the order of runs that the blender was fitted with, to one: (N, C) float32 in 0..1.

        Raises:
            DataError: another number of runs or classes.
        """
        shapes = {run.shape for run in probs}
        if len(probs) != self.n_runs or len(shapes) != 1 or next(iter(shapes))[1:] != (self.n_classes,):
            raise DataError(
                f"this blend is of {self.n_runs} runs of shape (N, {self.n_classes}), got {len(probs)} of {sorted(shapes)}."
            )
        blended = self.blender.combine(probs, self.parameters, self.multilabel)
        return narrowed(as_probabilities(blended, multilabel=self.multilabel))

    def describe(self) -> str:
        """The method and what it has learnt, on one line."""
        learnt = {key: value for key, value in self.parameters.items() if isinstance(value, str | int | float)}
        text = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in learnt.items())
        return f"{self.blender.name} of {self.n_runs} run{'s' * (self.n_runs != 1)}" + (f" ({text})" if text else "")

    def to_dict(self) -> dict[str, Any]:
        """JSON values from which ``fitted_from_dict`` makes the same blend again."""
        return {
            "method": self.blender.name,
            "n_runs": self.n_runs,
            "n_classes": self.n_classes,
            "multilabel": self.multilabel,
            "parameters": self.parameters,
        }


def fitted_from(content: Mapping[str, Any], blender: Blender) -> Fitted:
    """Undo :meth:`Fitted.to_dict`.

    Raises:
        ConfigError: entries are missing.
    """
    try:
        return Fitted(
            blender,
            int(content["n_runs"]),
            int(content["n_classes"]),
            bool(content["multilabel"]),
            dict(content["parameters"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"not a stored blend: {error!r}. Run `kk blend` again.") from error


def as_probabilities(values: Array, *, multilabel: bool) -> npt.NDArray[np.float32]:
    """Into 0..1, and for single-label rows to a sum of 1; a row of zeros becomes uniform."""
    probs = np.clip(values, 0.0, 1.0)
    if not multilabel:
        total = probs.sum(axis=1, keepdims=True, dtype=np.float64)
        probs = probs / np.where(total > 0, total, 1.0) + np.where(total > 0, 0.0, 1.0 / probs.shape[1])
    return probs.astype(np.float32)


def likelihood(probs: Array, truth: Array) -> Array:
    """Probability given to what is true, floored: (N,), or (N, C) for multi-label where each cell is an outcome."""
    if truth.ndim == 2:
        return np.maximum(np.where(truth == 1, probs, 1.0 - probs), FLOOR)
    return np.maximum(probs[np.arange(len(truth)), truth].astype(np.float64), FLOOR)


def evidence(probs: Array, *, multilabel: bool) -> Array:
    """Log probabilities, or for multi-label logits: the scale on which independent evidence adds up. (N, C) float64."""
    clipped = np.clip(probs.astype(np.float64), FLOOR, 1.0 - FLOOR)
    return np.log(clipped) - np.log1p(-clipped) if multilabel else np.log(clipped)


def from_evidence(values: Array, *, multilabel: bool) -> Array:
    """Undo :func:`evidence`: softmax of rows, or for multi-label the logistic function."""
    if multilabel:
        from scipy.special import expit

        return np.asarray(expit(values))
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    shares: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares

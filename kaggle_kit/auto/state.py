"""What is known so far, made of the journal's entries: the same whether the search goes on or begins again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from kaggle_kit.launch.plan import Rates, Work

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """How fast a model trains and predicts here at one image size, and how much there is to do."""

    rates: Rates
    side: float
    work: Work

    def seconds(self, *, side: float, epochs: int) -> float:
        """Return what training all folds, and predicting, takes at another size: time goes with the pixels."""
        scale = (self.side / side) ** 2
        work = Work(self.work.folds, epochs, self.work.n_train, self.work.n_valid, self.work.n_test, self.work.views)
        return sum(Rates(self.rates.train * scale, self.rates.predict * scale).seconds(work))


@dataclass(frozen=True)
class Tried:
    """A run that is finished.

    Attributes:
        idea, model: what it is.
        seconds: training and prediction.
        score: of its own out-of-fold rows.
        kept: whether it is in the blend.
    """

    run: str
    idea: str
    model: str
    seconds: float
    score: float
    kept: bool = False


@dataclass
class State:
    """Where a search stands.

    Attributes:
        used: seconds, over all its sessions.
        kept: the runs of the best blend; ``method``, ``score``, ``blend`` and ``verdict`` are that blend's.
        mirrors: whether mirrored images mean the same here; None before it was looked at.
        tried: run -> how it came out.
        failed: run -> why it could not be used.
        raced: run -> share of the error that it removed on fold 0.
        realised: idea -> shares of the error that its runs removed.
        pace: strategy -> seconds that its runs took, as multiples of what was expected.
        measured: model -> its speed.
    """

    used: float = 0.0
    kept: tuple[str, ...] = ()
    method: str = "mean"
    score: float = math.nan
    blend: str = ""
    verdict: str = ""
    mirrors: bool | None = None
    tried: dict[str, Tried] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    raced: dict[str, float] = field(default_factory=dict)
    realised: dict[str, list[float]] = field(default_factory=dict)
    pace: dict[str, list[float]] = field(default_factory=dict)
    measured: dict[str, Measured] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> State:
        """Return the state that a journal leads to."""
        state = cls()
        for entry in entries:
            state.take(entry)
        return state

    def take(self, entry: Entry) -> None:
        """Take in one entry; kinds that decide nothing are passed over."""
        self.used = float(entry.get("used", self.used))
        taker = _TAKERS.get(str(entry["kind"]))
        if taker is not None:
            taker(self, entry)

    def slowness(self, strategy: str) -> float:
        """Return how much longer runs take than expected; 1.15 as long as nothing is known."""
        return median(self.pace.get(strategy) or [1.15])

    def expected_gain(self, idea: str, prior: float) -> float:
        """Return the share of the error that a run is expected to remove: ``prior``, corrected by what the idea gave here."""
        return (prior + sum(max(0.0, gain) for gain in self.realised.get(idea, ()))) / (1 + len(self.realised.get(idea, ())))


def _trained(state: State, entry: Entry) -> None:
    run, estimate = str(entry["run"]), float(entry["estimate"] or 0)
    state.tried[run] = Tried(run, entry["idea"], entry["model"], entry["seconds"], _number(entry["score"]))
    if estimate > 0:
        state.pace.setdefault(entry["strategy"], []).append(entry["seconds"] / estimate)


def _judged(state: State, entry: Entry) -> None:
    tried = state.tried[entry["run"]]
    state.tried[tried.run] = Tried(tried.run, tried.idea, tried.model, tried.seconds, tried.score, bool(entry["better"]))
    state.realised.setdefault(tried.idea, []).append(_number(entry["gain"]))


def _blended(state: State, entry: Entry) -> None:
    state.kept, state.method = tuple(entry["runs"]), entry["method"]
    state.score, state.blend, state.verdict = _number(entry["score"]), entry["blend"], entry["verdict"]


def _measured(state: State, entry: Entry) -> None:
    state.measured[entry["model"]] = Measured(Rates(**entry["rates"]), entry["side"], Work(**entry["work"]))


def _mirrors(state: State, entry: Entry) -> None:
    state.mirrors = bool(entry["mirrors"])


def _failed(state: State, entry: Entry) -> None:
    state.failed[entry["run"]] = entry["why"]


def _raced(state: State, entry: Entry) -> None:
    state.raced[entry["run"]] = _number(entry["gain"])


_TAKERS: Mapping[str, Callable[[State, Entry], None]] = {
    "trained": _trained,
    "judged": _judged,
    "blended": _blended,
    "measured": _measured,
    "mirrors": _mirrors,
    "failed": _failed,
    "raced": _raced,
}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)

"""What is known so far, made of the journal's entries: the same whether the search goes on or begins again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from kaggle_kit.launch.plan import Rates, Work
from kaggle_kit.runs.record import number_or_nan

Entry = Mapping[str, Any]
TAIL = "tail"
"""The idea of training later stages alone."""


@dataclass(frozen=True)
class Measured:
    """How fast a model trains and predicts here at one image size, and how much there is to do."""

    rates: Rates
    side: float
    work: Work

    def seconds(self, *, side: float, epochs: int, share: float = 1.0) -> float:
        """Return what training all folds, and predicting, takes at another size: time goes with the pixels.

        Args:
            share: of the time of an epoch that one takes.
        """
        rates = self.rates.times((self.side / side) ** 2)
        train, valid, predict = rates.seconds(replace(self.work, epochs=epochs, share=share, validate_every=0))
        return train + valid + predict

    def prediction(self, side: float) -> float:
        """Return what predicting alone takes at another size."""
        return self.rates.times((self.side / side) ** 2).seconds(self.work)[2]


@dataclass(frozen=True)
class Tried:
    """A run that is finished.

    Attributes:
        idea, model: what it is.
        seconds: training, of all sessions, and prediction.
        score: of its own out-of-fold rows.
        strategy, entries: it was trained with; empty in journals that do not tell.
    """

    run: str
    idea: str
    model: str
    seconds: float
    score: float
    strategy: str = ""
    entries: tuple[str, ...] = ()


@dataclass
class State:
    """Where a search stands.

    Attributes:
        used: seconds, over all its sessions.
        kept: the runs of the best blend; ``method``, ``score``, ``blend`` and ``verdict`` are that blend's. Without test images
            it has no name.
        mirrors: whether mirrored images mean the same here; None before it was looked at.
        plain: the run by which that was found out, where the blend is no better with its mirrored images; else empty.
        tried: run -> how it came out.
        failed: run -> why it could not be used.
        settled: runs of which it was decided whether they join the blend.
        unmeasured: models whose speed cannot be measured.
        prepared: commands that made what runs learn from.
        started: run -> the entries that its training was begun with, and goes on with.
        spent: run -> seconds of training before the session, or the round, that finished it.
        changing: the run of the blend whose predictions are being changed; empty: none.
        unblended: whether something was decided that no blend has shown yet.
        viewed: choices of views that were made -> whether they were taken.
        completed: models of all data that were added.
        asked_hub: whether weights of further backbones were asked for.
        raced: run -> share of the error that it removed on fold 0.
        realised: idea -> shares of the error that its runs removed.
        pace: what :func:`pace_of` names, or "views" -> seconds that its runs, or choices, took, as multiples of what was
            expected.
        measured: model -> its speed.
        outdated: models whose speed an earlier session measured: this one may be on another machine, or a busier one.
    """

    used: float = 0.0
    kept: tuple[str, ...] = ()
    method: str = "mean"
    score: float = math.nan
    blend: str = ""
    verdict: str = ""
    mirrors: bool | None = None
    plain: str = ""
    tried: dict[str, Tried] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    unmeasured: set[str] = field(default_factory=set)
    prepared: set[str] = field(default_factory=set)
    started: dict[str, tuple[str, ...]] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    changing: str = ""
    unblended: bool = False
    viewed: dict[str, bool] = field(default_factory=dict)
    completed: set[str] = field(default_factory=set)
    asked_hub: bool = False
    raced: dict[str, float] = field(default_factory=dict)
    realised: dict[str, list[float]] = field(default_factory=dict)
    pace: dict[str, list[float]] = field(default_factory=dict)
    measured: dict[str, Measured] = field(default_factory=dict)
    outdated: set[str] = field(default_factory=set)

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

    @property
    def pending(self) -> list[str]:
        """Runs that were trained and predicted, but not judged: a kill came between."""
        return [run for run in self.tried if run not in self.settled]

    def slowness(self, kind: str) -> float:
        """Return how much longer runs, or choices of views, take than expected; 1.15 as long as nothing is known."""
        return median(self.pace.get(kind) or [1.15])

    def keep_pace(self, kind: str, entry: Entry) -> None:
        """Note how long something took beside what would have been expected without what is known, where an entry tells."""
        estimate = float(entry.get("estimate") or 0)
        if estimate > 0:
            self.pace.setdefault(kind, []).append(self.slowness(kind) * entry["seconds"] / estimate)

    def expected_gain(self, idea: str, prior: float) -> float:
        """Return the share of the error that a run is expected to remove: ``prior``, corrected by what the idea gave here."""
        return (prior + sum(max(0.0, gain) for gain in self.realised.get(idea, ()))) / (1 + len(self.realised.get(idea, ())))


def pace_of(idea: str, strategy: str) -> str:
    """Return what the seconds of a run are compared by: its strategy, but trainings of the later stages for themselves."""
    return idea if idea == TAIL else strategy


def _trained(state: State, entry: Entry) -> None:
    run = str(entry["run"])
    how = entry["strategy"], tuple(entry.get("entries", ()))
    seconds = entry["seconds"] + entry.get("before", 0.0)
    state.tried[run] = Tried(run, entry["idea"], entry["model"], seconds, number_or_nan(entry["score"]), *how)
    state.keep_pace(pace_of(entry["idea"], entry["strategy"]), entry)


def _judged(state: State, entry: Entry) -> None:
    tried = state.tried[entry["run"]]
    if entry["better"]:
        state.unblended = True
    else:
        state.settled.add(tried.run)
    state.realised.setdefault(tried.idea, []).append(number_or_nan(entry["gain"]))


def _dropped(state: State, entry: Entry) -> None:  # noqa: ARG001
    state.unblended = True


def _blended(state: State, entry: Entry) -> None:
    state.unblended = False
    state.kept, state.method = tuple(entry["runs"]), entry["method"]
    state.settled.update(state.kept)
    state.score, state.blend, state.verdict = number_or_nan(entry["score"]), entry["blend"], entry["verdict"]


def _begun(state: State, entry: Entry) -> None:  # noqa: ARG001
    state.outdated = set(state.measured)


def _measured(state: State, entry: Entry) -> None:
    state.outdated.discard(entry["model"])
    state.measured[entry["model"]] = Measured(Rates(**entry["rates"]), entry["side"], Work(**entry["work"]))


def _not_measured(state: State, entry: Entry) -> None:
    state.unmeasured.add(entry["model"])


def _starts(state: State, entry: Entry) -> None:
    state.started[entry["run"]] = tuple(entry["entries"])


def _stopped(state: State, entry: Entry) -> None:
    state.spent[entry["run"]] = state.spent.get(entry["run"], 0.0) + entry["seconds"]


def _changes(state: State, entry: Entry) -> None:
    state.changing = str(entry["run"])


def _restored(state: State, entry: Entry) -> None:  # noqa: ARG001
    state.changing = ""


def _gone(state: State, entry: Entry) -> None:
    """What was in the blend may be trained again; what was not is not worth it."""
    run = str(entry["run"])
    state.tried.pop(run, None)
    state.settled.discard(run)
    if run in state.kept:
        state.kept = tuple(one for one in state.kept if one != run)
    else:
        state.failed[run] = "its folder is gone"


def _prepared(state: State, entry: Entry) -> None:
    state.prepared.add(entry["command"])


def _viewed(state: State, entry: Entry) -> None:
    state.viewed[entry["run"]] = bool(entry["better"])
    state.changing, state.unblended = "", state.unblended or bool(entry["better"])
    state.realised.setdefault("views", []).append(number_or_nan(entry["gain"]))
    state.keep_pace("views", entry)


def _completed(state: State, entry: Entry) -> None:
    state.completed.add(entry["run"])
    state.changing = ""


def _fetched(state: State, entry: Entry) -> None:  # noqa: ARG001
    state.asked_hub = True


def _mirrors(state: State, entry: Entry) -> None:
    state.mirrors = bool(entry["mirrors"])
    better = bool(entry.get("better", state.mirrors))
    state.plain = "" if better else str(entry["run"])
    state.changing, state.unblended = "", state.unblended or better


def _failed(state: State, entry: Entry) -> None:
    state.failed[entry["run"]] = entry["why"]


def _raced(state: State, entry: Entry) -> None:
    state.raced[entry["run"]] = number_or_nan(entry["gain"])
    state.spent[entry["run"]] = state.spent.get(entry["run"], 0.0) + float(entry.get("seconds") or 0)
    # A race leaves out the prediction that the estimate has in it: it can tell of being slower, not of being quicker.
    if float(entry.get("seconds") or 0) > float(entry.get("estimate") or math.inf):
        state.keep_pace(pace_of(entry["idea"], entry["strategy"]), entry)


_TAKERS: Mapping[str, Callable[[State, Entry], None]] = {
    "begun": _begun,
    "trained": _trained,
    "judged": _judged,
    "dropped": _dropped,
    "blended": _blended,
    "starts": _starts,
    "stopped": _stopped,
    "changes": _changes,
    "restored": _restored,
    "gone": _gone,
    "measured": _measured,
    "not measured": _not_measured,
    "prepared": _prepared,
    "viewed": _viewed,
    "completed": _completed,
    "fetched": _fetched,
    "mirrors": _mirrors,
    "failed": _failed,
    "raced": _raced,
}

"""Predicting within a time limit: what is left out when there is no time for all.

The rule: after the first images it is known what one pass of one image costs. While what is left does not fit into the time,
the next of these is left out, for all images alike:

1. a run that has no weight in the blend,
2. the views of the run that takes most passes, unless starting it over without them would take longer than going on,
3. the last fold of the run that has most folds,
4. the run of least weight.

One fold of one run is always predicted, as far as the time reaches. Nothing begins that would not end in time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from kaggle_kit.errors import ConfigError
from kaggle_kit.fold_names import fold_text
from kaggle_kit.units import format_duration
from kaggle_kit.views import NO_VIEWS, as_seen

_FIRST = 32
"""Images of the first part that a device predicts: it warms up, and says roughly how long an image takes."""
_LARGEST, _SMALLEST = 2048, 16
_PART = 0.05
"""Share of the time that one part may take, so that a decision is never far off."""
_RESERVE, _LONGEST_RESERVE = 0.05, 300.0
"""Share of the time, and seconds at most, that are kept for writing, blending and checking."""


@dataclass(frozen=True)
class RunShare:
    """What is computed of one run.

    Attributes:
        folds: whose models are used.
        tta, merge: what each model sees of an image, ``count`` passes, and how they become one.
        weight: the run's share of the blend.
        oof_rows: training images that are predicted once more when there are views, or in 8-bit integers.
        mixes: fold -> its views, where folds differ in them; ``tta`` is a name for all.
        engine: what computes it.
    """

    name: str
    folds: tuple[int, ...]
    tta: str = NO_VIEWS
    merge: str = "mean"
    count: int = 1
    weight: float = 1.0
    oof_rows: int = 0
    mixes: Mapping[int, str] = field(default_factory=dict)
    engine: str = "auto"

    def views_of(self, fold: int) -> str:
        """Return what the model of ``fold`` sees of an image."""
        return self.mixes.get(fold, self.tta)

    @property
    def passes(self) -> int:
        """Forward passes of one image."""
        return len(self.folds) * self.count

    @property
    def oof_passes(self) -> int:
        """Forward passes of all training images."""
        return self.oof_rows * self.count if as_seen(self.tta, self.engine) != NO_VIEWS else 0


Share = tuple[RunShare, ...]


@dataclass(frozen=True)
class Part:
    """Rows to predict, and the runs to predict them with."""

    rows: range
    share: Share


def passes(share: Share) -> int:
    """Return the forward passes of one image."""
    return sum(run.passes for run in share)


def shrink(share: Share, worth: Callable[[RunShare], bool] = lambda _run: True) -> tuple[Share, str] | None:
    """Return the next smaller share and what was left out, by the rule above; None when one fold of one run is left.

    Args:
        worth: whether a run's views may be left out.
    """
    least = min(share, key=lambda run: run.weight)
    if least.weight == 0 and len(share) > 1:
        return _without(share, least), f"run {least.name}, which has no weight in the blend"
    with_views = [run for run in share if run.tta != NO_VIEWS and worth(run)]
    if with_views:
        dearest = max(with_views, key=lambda run: run.passes)
        return _with(share, without_views(dearest)), f"the {dearest.tta} views of run {dearest.name}"
    most = max(share, key=lambda run: len(run.folds))
    if len(most.folds) > 1:
        return _with(share, replace(most, folds=most.folds[:-1])), f"{fold_text(most.folds[-1])} of run {most.name}"
    return (_without(share, least), f"run {least.name}") if len(share) > 1 else None


def without_views(run: RunShare) -> RunShare:
    """Return ``run`` with the plain image only."""
    return replace(run, tta=NO_VIEWS, count=1, mixes={})


def _without(share: Share, left_out: RunShare) -> Share:
    return tuple(run for run in share if run.name != left_out.name)


def _with(share: Share, changed: RunShare) -> Share:
    return tuple(changed if run.name == changed.name else run for run in share)


class TimeLimit:
    """The time that there is for a prediction, less a reserve for writing, blending and checking.

    Args:
        seconds: from ``started`` on; None: as long as it takes.
        started: as ``clock`` tells; None: now.
    """

    def __init__(
        self, seconds: float | None = None, *, started: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds, self._clock = seconds, clock
        begin = clock() if started is None else started
        reserve = 0.0 if seconds is None else min(_RESERVE * seconds, _LONGEST_RESERVE)
        self._end = float("inf") if seconds is None else begin + seconds - reserve

    @property
    def left(self) -> float:
        """Seconds that are left; negative when the time is up."""
        return self._end - self._clock()


class Worklist:
    """Hands out parts of the rows, and leaves out what there is no time for; used from several threads.

    Every run goes through all rows from the first on. One whose views are left out starts over without them, so that all its
    rows were made alike in the end.

    Args:
        rows: how many there are.
        share: what to compute of each.
        limit: the time that there is.
        devices: how many work at the same time.
        strict: stop at once when not even one fold of one run fits, instead of predicting some of the rows.

    Attributes:
        share: what is still to be computed of each row.
        left_out: what is not, in words.
    """

    def __init__(
        self,
        rows: int,
        share: Share,
        limit: TimeLimit,
        *,
        devices: int = 1,
        say: Callable[[str], None],
        strict: bool = False,
    ) -> None:
        self.share, self.left_out = share, list[str]()
        self._rows, self._devices, self._strict = rows, max(devices, 1), strict
        self._next = {run.name: 0 for run in share}
        self._returned: list[Part] = []
        self._limit, self._say = limit, say
        self._cost: float | None = None  # seconds of one device for one pass of one image
        self._measured = False  # by more than a warm-up
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """Rows that some run has not been given, or that were given back."""
        return self._rows - min(self._next.values(), default=self._rows) + sum(len(part.rows) for part in self._returned)

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self._limit.left <= 0

    def take(self) -> Part | None:
        """Return the next rows and what to compute of them; None when there are none, or no time is left.

        Raises:
            ConfigError: ``strict``, and the time does not suffice.
        """
        with self._lock:
            if self.left == 0:
                return None
            self._fit()
            while self._returned:
                part = self._returned.pop()
                share = self._wanted(part)
                if share and not self.is_over:
                    return Part(part.rows, share)
            start = min(self._next.values())
            size = self._size(self._rows - start)
            if start == self._rows or self.is_over or size == 0:
                return None
            behind = tuple(run for run in self.share if self._next[run.name] == start)
            ahead = [place for place in self._next.values() if place > start]
            part = Part(range(start, min(start + size, self._rows, *ahead)), behind)
            self._next |= {run.name: part.rows.stop for run in behind}
            return part

    def give_back(self, part: Part) -> None:
        """Take back rows that could not be done by the one who took them, for another one."""
        with self._lock:
            self._returned.append(part)

    def done(self, part: Part, seconds: float) -> Share:
        """Return the runs whose results of ``part`` count: those that are not left out, or started over, meanwhile."""
        with self._lock:
            cost = seconds / max(len(part.rows) * passes(part.share), 1)
            warm = len(part.rows) > _FIRST or self._cost is not None
            # The first part of all holds the start of devices and processes; anything later is nearer to the truth.
            self._cost = cost if not self._measured else 0.5 * (self._cost or cost) + 0.5 * cost
            self._measured = self._measured or warm
            return self._wanted(part)

    def affords(self, n_passes: int) -> bool:
        """Return whether so many more passes of an image on one device would end in time."""
        return self._cost is None or self._cost * n_passes <= self._limit.left

    def _wanted(self, part: Part) -> Share:
        now = {run.name: run for run in self.share}
        return tuple(now[run.name] for run in part.share if run.name in now and now[run.name].tta == run.tta)

    def _needed(self, share: Share, places: dict[str, int]) -> float:
        """Return the seconds that the rest takes with ``share``, the runs being at ``places``."""
        rest = sum((self._rows - places[run.name]) * run.passes for run in share)
        rest += sum(len(part.rows) * passes(self._wanted(part)) for part in self._returned)
        return (self._cost or 0.0) * (rest / self._devices + sum(run.oof_passes for run in share))

    def _starts_over_sooner(self, run: RunShare) -> bool:
        """Return whether a run ends sooner when it starts over without its views than when it goes on with them."""
        without = self._needed((without_views(run),), {run.name: 0})
        return without < self._needed((run,), self._next)

    def _fit(self) -> None:
        """Leave out views and folds until what is left fits, once there is a measurement to go by."""
        while self._measured and self._needed(self.share, self._next) > self._limit.left:
            time_left = max(self._limit.left, 0.0)
            needed = self._needed(self.share, self._next)
            smaller = shrink(self.share, self._starts_over_sooner)
            if smaller is None:
                self._give_up(needed, time_left)
                return
            before = {run.name: run.tta for run in self.share}
            self.share, what = smaller
            at = {run.name: self._next[run.name] if run.tta == before[run.name] else 0 for run in self.share}
            self._next = at
            self.left_out.append(what)
            # A change of share changes the cost of a pass, too; it is measured anew, from this guess on.
            self._say(
                f"short of time: {self.left:,} images would take {format_duration(needed)} and {format_duration(time_left)} "
                f"are left; going on without {what}"
            )

    def _give_up(self, needed: float, time_left: float) -> None:
        if self._strict:
            raise ConfigError(
                f"the time limit is too short: one fold of one run, without views, takes about {format_duration(needed)} more, "
                f"and {format_duration(time_left)} are left. Nothing was written; give more time."
            )

    def _size(self, left: int) -> int:
        """Return the rows of the next part; 0 when not even a few would be ready in time."""
        # Several devices get ever smaller parts, so that they end at about the same time.
        fair = left if self._devices == 1 else -(-left // (2 * self._devices))
        if self._limit.seconds is None:
            return max(_SMALLEST, fair)
        if self._cost is None:
            return _FIRST
        each = self._cost * passes(self.share)
        affordable = min(_PART * self._limit.seconds, self._limit.left) / each if each > 0 else _LARGEST
        if affordable < 1 and self._measured:
            return 0
        return int(max(_SMALLEST, min(affordable, fair, _LARGEST)))

"""Time budgets: what is left out when the test set is larger than the time allows, views first, then folds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

NO_VIEWS = "none"
_FIRST = 32
"""Images of the first part that a device predicts: it warms up, and says roughly how long an image takes."""
_LARGEST, _SMALLEST = 2048, 16
_PART = 0.05
"""Share of the budget that one part may take, so that a decision is never far off."""
_RESERVE, _LONGEST_RESERVE = 0.05, 300.0
"""Share of the budget, and seconds at most, that are kept for blending, writing and checking."""


@dataclass(frozen=True)
class RunShare:
    """What is computed of one run: its folds, with these views. ``count`` views are that many passes of each image.

    ``weight`` is its share of the blend.
    """

    name: str
    folds: tuple[int, ...]
    views: str = NO_VIEWS
    merge: str = "mean"
    count: int = 1
    weight: float = 1.0

    @property
    def passes(self) -> int:
        return len(self.folds) * self.count


Share = tuple[RunShare, ...]


def passes(share: Share) -> int:
    """Forward passes of one image."""
    return sum(run.passes for run in share)


def shrink(share: Share) -> tuple[Share, str] | None:
    """The next smaller share, and what was left out. None when one fold of one run is left.

    A run without any weight goes first, since it changes nothing; then views of the dearest run, then a fold of the run with
    most, then the run of least weight.
    """
    least = min(share, key=lambda run: run.weight)
    if least.weight == 0 and len(share) > 1:
        return _without(share, least), f"run {least.name}, which has no weight in the blend"
    with_views = [run for run in share if run.count > 1]
    if with_views:
        dearest = max(with_views, key=lambda run: run.passes)
        return _with(share, replace(dearest, views=NO_VIEWS, count=1)), f"the {dearest.views} views of run {dearest.name}"
    most = max(share, key=lambda run: len(run.folds))
    if len(most.folds) > 1:
        return _with(share, replace(most, folds=most.folds[:-1])), f"fold {most.folds[-1]} of run {most.name}"
    return (_without(share, least), f"run {least.name}") if len(share) > 1 else None


def _without(share: Share, left_out: RunShare) -> Share:
    return tuple(run for run in share if run.name != left_out.name)


def _with(share: Share, changed: RunShare) -> Share:
    return tuple(changed if run.name == changed.name else run for run in share)


class Governor:
    """Hands out parts of the rows, and leaves out what there is no time for (``left_out``); used from several threads.

    Args:
        rows: how many there are.
        share: what to compute of each.
        seconds: budget from ``started`` on.
        devices: how many work at the same time.
        started: as ``clock`` tells; by default now.
    """

    def __init__(
        self,
        rows: int,
        share: Share,
        seconds: float,
        *,
        devices: int = 1,
        say: Callable[[str], None],
        started: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.share = share
        self._rows, self._next, self._devices = rows, 0, max(devices, 1)
        self._returned: list[range] = []
        self.left_out: list[str] = []
        self._clock, self._say = clock, say
        begin = clock() if started is None else started
        self._budget = seconds
        self._deadline = begin + seconds - min(_RESERVE * seconds, _LONGEST_RESERVE)
        self._cost: float | None = None  # seconds of one device for one pass of one image
        self._measured = False  # by more than a warm-up
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """Rows that are not in work and not done."""
        return self._rows - self._next + sum(map(len, self._returned))

    def take(self) -> tuple[range, Share] | None:
        """The next rows and what to compute of them; None when there are none, or no time is left."""
        with self._lock:
            if self.left == 0:
                return None
            self._fit()
            size = self._size()
            if self._clock() >= self._deadline or size == 0:
                return None
            if self._returned:
                return self._returned.pop(), self.share
            part = range(self._next, min(self._next + size, self._rows))
            self._next = part.stop
            return part, self.share

    def give_back(self, part: range) -> None:
        """Rows that could not be done by the one who took them, for another one."""
        with self._lock:
            self._returned.append(part)

    def measured(self, rows: int, share: Share, seconds: float) -> None:
        """Tell how long a part took."""
        with self._lock:
            cost = seconds / max(rows * passes(share), 1)
            warm = rows > _FIRST or self._cost is not None
            # The first part of all holds the start of devices and processes; anything later is nearer to the truth.
            self._cost = cost if not self._measured else 0.5 * (self._cost or cost) + 0.5 * cost
            self._measured = self._measured or warm

    def _fit(self) -> None:
        """Leave out views and folds until what is left fits, once there is a measurement to go by."""
        while self._measured and self._cost is not None:
            needed = self._cost * self.left * passes(self.share) / self._devices
            if self._clock() + needed <= self._deadline:
                return
            smaller = shrink(self.share)
            if smaller is None:
                return
            self.share, what = smaller
            self.left_out.append(f"{what} from image {self._next + 1:,} on")
            # A change of share changes the cost of a pass, too; it is measured anew, from this guess on.
            minutes = max(self._deadline - self._clock(), 0.0) / 60
            self._say(
                f"short of time: {self.left:,} images would take {needed / 60:.1f} min and {minutes:.1f} min are left; "
                f"from image {self._next + 1:,} on without {what}"
            )

    def _size(self) -> int:
        """Rows of the next part; 0 when not even a few would be ready in time."""
        if self._cost is None:
            return _FIRST
        time_left = self._deadline - self._clock()
        each = self._cost * passes(self.share)
        affordable = min(_PART * self._budget, time_left) / each if each > 0 else _LARGEST
        if affordable < 1 and self._measured:
            return 0
        # Several devices get ever smaller parts, so that they end at about the same time.
        fair = self.left if self._devices == 1 else -(-self.left // (2 * self._devices))
        return int(max(_SMALLEST, min(affordable, fair, _LARGEST)))

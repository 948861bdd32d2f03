"""Ending a run cleanly: SIGTERM, Ctrl-C and time limits become a request that the loop honours after its next update."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

logger = logging.getLogger(__name__)

MARGIN = 0.02
"""Share of a time limit that is kept for writing the checkpoint …"""
MOST_MARGIN = 60.0
"""… but no more than these seconds."""
TIME_LIMIT = "the time limit is reached"
"""The reason for a stop that was planned."""


class StopRequested(Exception):
    """Training ended before it was done, because somebody asked; it goes on from the checkpoint another time."""


class Stop:
    """Whether to stop, and why.

    Args:
        time_limit: seconds from now, or None. Training stops a little before, so that the checkpoint is written in time.
        within: a stop of something larger, which ends this as well.

    Attributes:
        interrupted: whether Ctrl-C was the reason.
        passes_on: whether processes that this one started are to be told as well.
    """

    def __init__(self, time_limit: float | None = None, *, within: Stop | None = None) -> None:
        margin = 0.0 if time_limit is None else min(MARGIN * time_limit, MOST_MARGIN)
        self._deadline = None if time_limit is None else time.monotonic() + time_limit - margin
        self._within = within
        self._reason: str | None = None
        self.interrupted = False
        self.passes_on = False

    @property
    def reason(self) -> str | None:
        """Why to stop, or None to go on."""
        if self._reason is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self._reason = TIME_LIMIT
        if self._reason is None and self._within is not None:
            self._reason = self._within.reason
        return self._reason

    def request(self, reason: str) -> None:
        """Ask for a stop; the first reason stays."""
        self._reason = self._reason or reason

    def check(self) -> None:
        """Raise StopRequested when there is a reason to."""
        if self.reason is not None:
            raise StopRequested(self.reason)

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[Stop]:
        """Turn SIGTERM and the first Ctrl-C into a request while inside; a second Ctrl-C interrupts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield self  # only the main thread may set handlers
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def handle(number: int, _: FrameType | None) -> None:
            if number == signal.SIGINT:
                if self.interrupted:
                    raise KeyboardInterrupt
                self.interrupted = True
            name = signal.Signals(number).name
            logger.warning("%s: stopping after this step; the checkpoint will be kept.", name)
            self.request(f"{name} was received")
            for child in multiprocessing.active_children() if self.passes_on else ():
                child.terminate()  # SIGTERM, which they take as a request, too

        try:
            for number in before:
                signal.signal(number, handle)
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

"""How long to wait for Kaggle and how often to try again. Time is passed in, so that tests need none."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from kaggle_kit.errors import RemoteError

log = logging.getLogger(__name__)

LOOKS = 4
T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """Limits of one command's dealings with Kaggle.

    Attributes:
        attempts: how often a request is sent before giving up.
        first, factor, longest: seconds before the second attempt, growth, and upper end of a pause.
        longest_retry_after: seconds; when Kaggle asks for a longer pause, the command ends and says so.
        score: seconds to wait for a submission's score; 0: it is not waited for.
        connect, read: seconds to wait for a connection, and for the next bytes on it.
        sleep, clock: stand-ins for tests.
    """

    attempts: int = 6
    first: float = 1.0
    factor: float = 2.0
    longest: float = 60.0
    longest_retry_after: float = 600.0
    score: float = 1800.0
    connect: float = 15.0
    read: float = 120.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def pause(self, failures: int) -> float:
        """Return the seconds to wait after the given number of failures (1 or more)."""
        return min(self.first * self.factor ** (failures - 1), self.longest)

    def rounds(self, limit: float, *, first: float = 2.0, longest: float = 30.0) -> Iterator[float]:
        """Yield the seconds gone by, pausing ever longer in between, until ``limit`` seconds are over.

        The first value comes at once, so that the body runs at least once whatever the limit.
        """
        start, pause = self.clock(), first
        while True:
            gone = self.clock() - start
            yield gone
            if gone >= limit:
                return
            self.sleep(min(pause, max(limit - gone, 0.0)))
            pause = min(pause * 1.5, longest)

    def look(self, find: Callable[[], T | None]) -> T | None:
        """Look a few times, since Kaggle's lists lag behind; None when it stays absent."""
        for failures in range(1, LOOKS + 1):
            if (found := find()) is not None:
                return found
            if failures < LOOKS:
                self.sleep(self.pause(failures))
        return None

    def once(self, create: Callable[[], T], find: Callable[[], T | None], *, what: str) -> T:
        """Create something exactly once: after a lost answer it is looked for, and made again only if it stays absent.

        Raises:
            RemoteError: refused, or the answer got lost each time.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return create()
            except RemoteError as error:
                if not error.maybe_done:
                    raise
                log.info("the answer about %s got lost (%s); looking whether it arrived", what, error)
                if (found := self.look(find)) is not None:
                    return found
                if attempt == self.attempts:
                    raise
        raise AssertionError("attempts is at least 1")

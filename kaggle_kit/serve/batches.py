"""Requests that come one by one, computed together: whatever waits when a batch is done becomes the next batch.

Nobody waits for others to come: a request that finds the models idle is computed at once, alone.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from kaggle_kit.errors import KaggleKitError

T = TypeVar("T")
R = TypeVar("R")


class BusyError(KaggleKitError):
    """More waits already than is allowed to wait."""


class Batches(Generic[T, R]):
    """Computes items in batches, in a thread of its own.

    Args:
        compute: items to as many results; called from the one thread only.
        largest: items of a batch.
        waiting: items that may wait for their turn.
        told: is given the length of each batch.

    Attributes:
        working: whether a batch is computed now.
    """

    def __init__(
        self, compute: Callable[[Sequence[T]], Iterable[R]], *, largest: int, waiting: int, told: Callable[[int], None]
    ) -> None:
        self._compute, self._largest, self._told = compute, largest, told
        self._queue: queue.Queue[tuple[T, Future[R]] | None] = queue.Queue(waiting)
        self._closed = threading.Event()
        self.working = False
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that wait now."""
        return self._queue.qsize()

    def submit(self, item: T) -> Future[R]:
        """Return what will be the item's result; one that is cancelled while it waits is not computed.

        Raises:
            BusyError: too many wait, or no more are taken.
        """
        future: Future[R] = Future()
        try:
            if self._closed.is_set():
                raise queue.Full
            self._queue.put_nowait((item, future))
        except queue.Full:
            raise BusyError("too many images wait already; try again in a second.") from None
        return future

    def close(self) -> None:
        """Compute what waits, and end."""
        self._closed.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            some, self.working = [first], True
            while len(some) < self._largest:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._queue.put(None)  # for the outer loop; nothing comes after it
                    break
                some.append(following)
            self._answer([(item, future) for item, future in some if future.set_running_or_notify_cancel()])
            self.working = False

    def _answer(self, some: Sequence[tuple[T, Future[R]]]) -> None:
        if not some:
            return
        try:
            results = list(self._compute([item for item, _ in some]))
        except Exception as error:  # each request hears of it, and the thread goes on
            for _, future in some:
                future.set_exception(error)
            return
        self._told(len(some))
        for (_, future), result in zip(some, results, strict=True):
            future.set_result(result)

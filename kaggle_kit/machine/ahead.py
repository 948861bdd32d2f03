"""Results in order, computed by threads while the caller uses those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from kaggle_kit.machine.host import available_cpus

MOST_THREADS = 4
"""Each may hold some hundred MB."""
T = TypeVar("T")
R = TypeVar("R")


def ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield ``function`` of each of ``items``, in order, with one more begun for each CPU, at most MOST_THREADS.

    For work that spends its time in libraries which release the interpreter lock, and whose results are large: no more than
    those are in memory beside the one that the caller holds. Items are taken one by one, in the caller's thread, so that they
    may be large and made on the way. What a call raises is raised in its turn; a caller who stops early waits for the calls
    that run, and the others are not begun.
    """
    threads = min(MOST_THREADS, available_cpus())
    begun: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

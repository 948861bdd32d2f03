"""Results in order, computed by threads while the caller uses those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from kaggle_kit.machine.host import available_cpus

MOST_THREADS = 4
"""Each may hold some hundred MB."""
T = TypeVar("T")
R = TypeVar("R")


def ahead(
    function: Callable[[T], R], items: Iterable[T], *, threads: int | None = None, depth: int | None = None
) -> Generator[R, None, None]:
    """Yield ``function`` of each of ``items``, in order, while threads work on the next.

    For work that spends its time in libraries which release the interpreter lock, and whose results may be large. Items are
    taken one by one, in the caller's thread, so that they may be large and made on the way. What a call raises is raised in its
    turn; a caller who stops early waits for the calls that run, and the others are not begun.

    Args:
        threads: one for each CPU, at most MOST_THREADS, when none are given.
        depth: how many are begun, and so may be in memory, beside the one that the caller holds; as many as threads by default.
    """
    threads = threads or min(MOST_THREADS, available_cpus())
    depth = depth or threads
    begun: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > depth:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

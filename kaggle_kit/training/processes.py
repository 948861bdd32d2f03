"""Several processes that train one model: starting them, stopping them together, and bringing errors home."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from lightning_fabric import Fabric
from torch.multiprocessing.spawn import ProcessException

from kaggle_kit.errors import KaggleKitError, TrainingError
from kaggle_kit.events import Relay, Reporter, seldom
from kaggle_kit.machine.device import agreed
from kaggle_kit.stop import Stop, StopRequested

T = TypeVar("T")
_PACKAGE = "kaggle_kit"
_MOST = 10_000


class _Queue(Protocol):
    def put(self, item: Any) -> None: ...
    def get(self) -> Any: ...
    def empty(self) -> bool: ...


def run_in_processes(fabric: Fabric, work: Callable[[Fabric, Reporter, Stop], T], relay: Relay, stop: Stop) -> T:
    """Call ``work`` in each process of ``fabric`` and return what it gives in the first.

    Args:
        work: picklable; returns dicts, lists and scalars. The stop that it gets follows the caller's: signals are passed on.
        relay: gets here what ``work`` reports there; when it raises, the processes are asked to stop.

    Raises:
        KaggleKitError: what ``work`` raised in one of the processes; the others are ended then.
        TrainingError: a process ended by itself.
    """
    errors, events = (multiprocessing.get_context("spawn").SimpleQueue() for _ in range(2))
    level = logging.getLogger(_PACKAGE).getEffectiveLevel()
    stop.passes_on = True
    try:
        with _passed_on(events, relay):
            result: T = fabric.launch(_in_process, work, stop, errors, events, level)
    except ProcessException as error:
        if not errors.empty():
            raise errors.get() from None
        first = str(error).strip().splitlines()[-1]
        raise TrainingError(
            f"a process of the run ended by itself ({first}). Start again; the last checkpoint is kept."
        ) from error
    finally:
        stop.passes_on = False
    return result


@contextlib.contextmanager
def _passed_on(events: _Queue, relay: Relay) -> Iterator[None]:
    """Give ``relay`` what the processes report, while inside."""

    def listen() -> None:
        while (event := events.get()) is not None:
            before = relay.raised
            relay(event)
            if relay.raised is not before:
                for child in multiprocessing.active_children():
                    child.terminate()  # SIGTERM, which they take as a request to stop

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        events.put(None)
        listener.join()


def _in_process(
    fabric: Fabric,
    work: Callable[[Fabric, Reporter, Stop], T],
    stop: Stop,
    errors: _Queue,
    events: _Queue,
    level: int,
) -> T:
    logger = logging.getLogger(_PACKAGE)
    logger.setLevel(level if fabric.is_global_zero else logging.ERROR)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    stop.passes_on = False
    with stop.on_signals():
        try:
            return work(fabric, seldom(events.put), stop)
        except KaggleKitError as error:
            # Shortened: the pipe is read when all have ended, and until then holds 64 KiB.
            errors.put(type(error)(str(error)[:_MOST]))
            raise


def stop_if_asked(fabric: Fabric, stop: Stop) -> None:
    """Raise StopRequested in all processes when the first one was asked to stop."""
    reason = agreed(fabric, stop.reason)
    if reason is not None:
        raise StopRequested(reason)

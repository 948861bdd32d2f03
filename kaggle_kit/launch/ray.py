"""Folds, and other work, as tasks of a Ray cluster. The only importer of ray.

All machines see the workspace under the same path, in shared storage. A task supervises a worker of
:mod:`kaggle_kit.launch.worker`, so that a fold is trained just as on one machine. When a node is lost, Ray starts the task
again on another one, and training goes on from the checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_kit.config import Config
from kaggle_kit.errors import DependencyError, RemoteError
from kaggle_kit.events import FoldEnded, Reporter
from kaggle_kit.launch.mailbox import Mailbox
from kaggle_kit.launch.process import Ending, run_worker
from kaggle_kit.launch.worker import read_launch, record_launch
from kaggle_kit.training import FoldJob, Stop
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

RETRIES = 10
"""Times that a task is started again after its node or its process was lost."""
POLL = 0.5
_STOP_POLL = 1.0


@dataclass(frozen=True)
class Needs:
    """What one task asks of a node."""

    cpus: int = 1
    gpus: int = 0


def launch_ray(
    jobs: Sequence[FoldJob],
    *,
    workspace: Workspace,
    config: Config,
    devices: int | None,
    address: str | None,
    reporter: Reporter,
    stop: Stop,
) -> dict[int, Ending]:
    """Train ``jobs`` on a Ray cluster, a GPU to each where it has GPUs; ``devices`` limits how many run at a time.

    Returns:
        Fold -> how its worker ended.

    Raises:
        DependencyError: Ray is not installed.
        RemoteError: the cluster cannot be reached.
    """
    mailbox = Mailbox(jobs[0].folder.parent.absolute() / f".launch-{uuid.uuid4().hex[:8]}")
    mailbox.open()
    asked = False

    def poll() -> None:
        nonlocal asked
        for event in mailbox.receive():
            reporter(event)
        if stop.reason is not None and not asked:
            mailbox.ask_to_stop(stop.reason)
            asked = True

    endings: dict[int, Ending] = {}
    try:
        with connected(address):
            needs = needs_of_a_fold(config.run.hardware.accelerator, devices)
            record = record_launch(jobs, workspace, config, loaders=max(1, needs.cpus - 1))
            arguments = [(str(record.path), job.fold, str(mailbox.folder)) for job in jobs]
            for place, result in run_tasks(supervise, arguments, needs=needs, at_once=devices, poll=poll):
                fold = jobs[place].fold
                endings[fold] = Ending(failed=str(result)) if isinstance(result, Exception) else Ending(**result)
                poll()
                if isinstance(result, Exception):  # no worker could say it
                    reporter(FoldEnded(fold, "failed", str(result)))
    finally:
        # A task that outlives this call finds its mailbox gone, and stops.
        shutil.rmtree(mailbox.folder, ignore_errors=True)
    return endings


def supervise(launched: str, fold: int, mailbox_folder: str) -> dict[str, Any]:
    """Runs on a node: train one fold in a worker; events and the wish to stop go through the mailbox."""
    mailbox = Mailbox(Path(mailbox_folder))
    here = f"fold {fold} on {socket.gethostname()}"
    if not mailbox.folder.is_dir():
        return {"failed": f"{mailbox.folder} does not exist on {here}: the workspace must lie in storage that all nodes share."}
    sender = f"fold{fold}-{uuid.uuid4().hex[:8]}"  # one that was started again must not go on in a half-written line
    reason, looked = mailbox.asked(), time.monotonic()

    def asked() -> str | None:
        nonlocal reason, looked
        if reason is None and time.monotonic() - looked > _STOP_POLL:
            reason, looked = mailbox.asked(), time.monotonic()
        return reason

    if reason is not None:
        return {"stopped": reason}
    record = read_launch(Path(launched))
    ending = run_worker(record, fold, env={}, report=lambda event: mailbox.send(sender, event), asked=asked)
    return {"stopped": ending.stopped, "failed": ending.failed}


def run_tasks(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    *,
    needs: Needs | None = None,
    at_once: int | None = None,
    retries: int = RETRIES,
    poll: Callable[[], None] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Call ``function`` with each of ``arguments`` on the cluster; only while :func:`connected`.

    Args:
        function: of a module that all nodes can import, with plain values as arguments and result. A node that is lost makes
            it start again, so that it must go on from what it left in shared storage, or do no harm when it is done twice.
        needs: of each call.
        at_once: calls that may run at a time; none: as many as the cluster takes.
        poll: called about twice a second, and before the first call; what it raises ends all.

    Yields:
        Position among ``arguments`` and the result, as they come; an exception in place of the result when the call raised it,
        or a RemoteError when its node was lost more than ``retries`` times.
    """
    import ray

    needs, poll = needs or Needs(), poll or (lambda: None)
    remote = ray.remote(function).options(num_cpus=needs.cpus, num_gpus=needs.gpus, max_retries=retries)
    waiting = list(enumerate(arguments))
    running: dict[Any, int] = {}
    try:
        while waiting or running:
            while waiting and (at_once is None or len(running) < at_once):
                place, values = waiting.pop(0)
                running[remote.remote(*values)] = place
            poll()
            over, _ = ray.wait(list(running), timeout=POLL)
            for reference in over:
                yield running.pop(reference), _result(reference)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _result(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else RemoteError(str(error))
    except ray.exceptions.RayError as error:
        return RemoteError(f"lost on the cluster for good: {error}")


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Connect to a Ray cluster while inside; a connection that is there already is used, and kept.

    Args:
        address: none: ``RAY_ADDRESS``, or else Ray is started on this machine.

    Raises:
        DependencyError: Ray is not installed.
        RemoteError: the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent home unasked
    try:
        import ray
    except ImportError as error:
        raise DependencyError("launcher ray needs Ray: pip install 'kaggle-kit[ray]', on all machines.") from error
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    own: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
    handlers = _handlers()
    try:
        ray.init(**own, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise RemoteError(f"cannot connect to a Ray cluster at {address or 'this machine'}: {error}") from error
    for number, handler in handlers.items():
        signal.signal(number, handler)  # Ray takes SIGTERM for itself, but we must end cleanly
    try:
        yield
    finally:
        ray.shutdown()


def _handlers() -> dict[int, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    return {number: handler for number, handler in found.items() if handler is not None}


def slots(accelerator: str) -> int:
    """Folds that the cluster can train at a time: one a GPU, or one a node where there are none."""
    nodes = _nodes()
    gpus = 0 if accelerator == "cpu" else sum(int(node.get("GPU", 0)) for node in nodes)
    return gpus or max(1, sum(node.get("CPU", 0) >= 1 for node in nodes))


def needs_of_a_fold(accelerator: str, devices: int | None) -> Needs:
    """What a fold asks for, so that the nodes' CPUs are shared out among the folds that run at a time.

    A GPU, and its node's CPUs per GPU; or, in a cluster without GPUs, a whole node, or less when more than one of ``devices``
    folds must share it.
    """
    nodes = _nodes()
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    if with_gpu and accelerator != "cpu":
        return Needs(cpus=max(1, min(int(node.get("CPU", 1) // node["GPU"]) for node in with_gpu)), gpus=1)
    cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if not cpus:
        return Needs()
    folds_a_node = 1 if devices is None else -(-devices // len(cpus))
    return Needs(cpus=max(1, min(cpus) // folds_a_node))


def _nodes() -> list[dict[str, float]]:
    """What each node that is alive has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]

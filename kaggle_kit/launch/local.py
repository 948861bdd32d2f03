"""Folds spread over the devices of one machine: a process a device, each training one fold at a time."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import torch

from kaggle_kit.config import Config, HardwareConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.events import Event, Reporter
from kaggle_kit.launch.process import POLL, Ending, run_worker
from kaggle_kit.launch.worker import LaunchRecord, record_launch
from kaggle_kit.machine.device import choose_device
from kaggle_kit.machine.host import available_cpus
from kaggle_kit.training import FoldJob, Stop
from kaggle_kit.workspace import Workspace

Slot = dict[str, str]
"""The environment of a worker that has one device to itself."""


def launch_local(
    jobs: Sequence[FoldJob],
    *,
    workspace: Workspace,
    config: Config,
    devices: int | None,
    address: str | None,
    reporter: Reporter,
    stop: Stop,
) -> dict[int, Ending]:
    """Train ``jobs`` on ``devices`` GPUs, or in as many processes on the CPU. One that fails leaves the others running.

    Returns:
        Fold -> how its worker ended.

    Raises:
        ConfigError: there are not as many devices, or an option of another launcher was given.
    """
    if address is not None:
        raise ConfigError(f"an address ({address}) is for launcher ray; launcher local stays on this machine.")
    slots = device_slots(config.run.hardware, devices)
    # Of the CPUs one is left for training, as without a launcher; the rest is shared out.
    loaders = -(-max(available_cpus() - 1, 1) // len(slots))
    record = record_launch(jobs, workspace, config, loaders=loaders)
    return _train(record, [job.fold for job in jobs], slots, reporter, stop)


def device_slots(hardware: HardwareConfig, devices: int | None) -> list[Slot]:
    """What each of ``devices`` workers needs in its environment to have a device of its own; none: all GPUs, or one CPU worker.

    Raises:
        ConfigError: there are not as many.
    """
    kind = choose_device(hardware.accelerator).type
    gpus = _visible_gpus() if kind == "cuda" else []
    most = {"cuda": len(gpus), "mps": 1}.get(kind)
    if devices is not None and not 1 <= devices <= (most or devices):
        raise ConfigError(f"devices must lie in 1..{most or available_cpus()}, got {devices}: this machine has no more {kind}.")
    if kind == "cuda":
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:devices]]
    # As many threads as CPUs in each of several processes would get in each other's way.
    share = max(1, available_cpus() // (devices or 1))
    return [{"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(share))} for _ in range(devices or 1)]


def _visible_gpus() -> list[str]:
    """Names that ``CUDA_VISIBLE_DEVICES`` takes for the GPUs that this process may use."""
    count = torch.cuda.device_count()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return allowed.split(",")[:count] if allowed else [str(number) for number in range(count)]


def _train(
    record: LaunchRecord, folds: Sequence[int], slots: Sequence[Slot], reporter: Reporter, stop: Stop
) -> dict[int, Ending]:
    """Fold -> how its worker ended."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
    for slot in slots:
        free.put(slot)
    killed = threading.Event()

    def work(fold: int) -> Ending:
        if stop.reason is not None:
            return Ending(stopped=stop.reason)
        slot = free.get()  # there is one for each thread
        try:
            return run_worker(record, fold, env=slot, report=events.put, asked=lambda: stop.reason, killed=killed)
        finally:
            free.put(slot)

    with ThreadPoolExecutor(len(slots), thread_name_prefix="fold") as pool:
        running: dict[Future[Ending], int] = {pool.submit(work, fold): fold for fold in folds}
        endings: dict[int, Ending] = {}
        try:
            while len(endings) < len(folds):
                over, _ = wait(running, timeout=POLL, return_when=FIRST_COMPLETED)
                for future in over:
                    fold = running.pop(future)
                    endings[fold] = future.result()
                _tell(events, reporter)
        except BaseException:
            killed.set()
            stop.request("the launcher has ended")  # for folds that are not begun
            raise
    return endings


def _tell(events: queue.SimpleQueue[Event], reporter: Reporter) -> None:
    while not events.empty():
        reporter(events.get())

"""One process per run, and one per fold: locks that the operating system frees when their holder dies."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from kaggle_kit import files
from kaggle_kit.errors import LockedError
from kaggle_kit.runs.comparison import LOCK

logger = logging.getLogger(__name__)

OWNER = ".lock.json"
PATIENCE = 30.0
"""Seconds that the loader processes of a killed run are given to notice and to let go of the lock they inherited."""

FOLD_PATIENCE = 120.0
"""Seconds that a process whose launcher was killed is given to end its step and to write its checkpoint."""


@contextlib.contextmanager
def run_lock(folder: Path, *, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a run's folder while inside.

    Raises:
        LockedError: a live process holds it; names its id, host and start.
        StorageError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    deadline = time.monotonic() + patience
    while True:
        try:
            lock.acquire(timeout=0.2)
            break
        except Timeout:
            owner = _read_owner(folder)
            if _may_live(owner) or time.monotonic() > deadline:
                raise LockedError(
                    f"run {folder.name!r} is in use by {_describe(owner)}. Wait for it, stop it, or train under another "
                    "name with --run NAME."
                ) from None
    try:
        me = psutil.Process()
        files.write_json(
            folder / OWNER, {"pid": me.pid, "host": socket.gethostname(), "started": me.create_time(), "user": _user()}
        )
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / OWNER).unlink()
        lock.release()


@contextlib.contextmanager
def fold_lock(folder: Path, fold: int, *, patience: float = FOLD_PATIENCE) -> Iterator[None]:
    """Hold the lock of one fold of the run in ``folder`` while inside; other folds may be trained by other processes.

    Whoever holds the run's lock decides who trains which fold, so that only a process that has lost its launcher can be in the
    way; it is writing its checkpoint, and waited for.

    Raises:
        LockedError: it does not end within ``patience`` seconds.
        StorageError: the folder cannot be written.
    """
    lock = FileLock(folder / f".fold{fold}.lock")
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise LockedError(
            f"fold {fold} of run {folder.name!r} is still being trained by a process of an earlier call. Stop that process, or "
            "train under another name with --run NAME."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _read_owner(folder: Path) -> dict[str, Any]:
    try:
        owner = json.loads(files.read_bytes(folder / OWNER, most=files.LARGEST_RECORD))
    except (OSError, ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _may_live(owner: dict[str, Any]) -> bool:
    """Whether the holder is alive; a holder that is unknown, or on another host, is taken to be."""
    if not owner or owner.get("host") != socket.gethostname():
        return True
    try:
        process = psutil.Process(int(owner["pid"]))
        # A zombie is dead, and process ids are used again.
        return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - float(owner["started"])) < 2)
    except (psutil.Error, KeyError, ValueError):
        return False


def _describe(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(owner.get("started", 0))))
    return f"process {owner.get('pid')} of {owner.get('user')} on {owner.get('host')}, started {started}"


def _user() -> str:
    # A container may run under an id that has no name.
    try:
        return str(psutil.Process().username())
    except (psutil.Error, KeyError):
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"

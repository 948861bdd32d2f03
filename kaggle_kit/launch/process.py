"""Starting a worker, listening to it, stopping it, and saying how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import kaggle_kit
from kaggle_kit.events import Event, FoldEnded, Reporter, from_json
from kaggle_kit.fold_names import fold_name
from kaggle_kit.launch.worker import LaunchRecord
from kaggle_kit.training import FoldJob, FoldRecord, Outcome
from kaggle_kit.training.run import finished

POLL = 0.1
"""Seconds between two looks at whether a worker is to stop."""


@dataclass(frozen=True)
class Ending:
    """How a worker ended: why it was stopped, or has failed; both None when its fold is finished."""

    stopped: str | None = None
    failed: str | None = None


def run_worker(
    record: LaunchRecord,
    fold: int,
    *,
    env: Mapping[str, str],
    report: Reporter,
    asked: Callable[[], str | None],
    killed: threading.Event | None = None,
) -> Ending:
    """Train one fold in a process of its own, and wait for it. ``report`` is told of its events, from a thread.

    Args:
        env: entries of the environment beyond this process's, such as ``CUDA_VISIBLE_DEVICES``.
        asked: why the worker is to stop cleanly, or None.
        killed: set when there is no time for that.
    """
    log_path = record.log(fold)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    ends: list[FoldEnded] = []

    def take(event: Event) -> None:
        ends.extend([event] if isinstance(event, FoldEnded) else [])
        report(event)

    with open(log_path, "wb") as log, _started(record, fold, env, log) as process:
        listener = threading.Thread(target=_listen, args=(process, take), daemon=True)
        listener.start()
        told = False
        while process.poll() is None:
            if killed is not None and killed.is_set():
                process.kill()
            elif not told and asked() is not None:
                process.terminate()
                told = True
            time.sleep(POLL)
        listener.join()
    last = ends[-1] if ends else None
    ending = how_it_ended(process.returncode, last, asked(), log_path)
    if last is None and ending.failed is not None:  # the worker could not say it
        report(FoldEnded(fold, "failed", ending.failed))
    return ending


def command_of(record: LaunchRecord, fold: int) -> list[str]:
    """Return the command that trains a fold of the run; -P keeps modules of the current folder from being taken for others."""
    command = [sys.executable, "-P", "-m", "kaggle_kit", "train"]
    return [*command, "--fold", fold_name(fold), "--events", "json", "--launched", str(record.path)]


@contextlib.contextmanager
def _started(record: LaunchRecord, fold: int, env: Mapping[str, str], log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    package = str(Path(kaggle_kit.__file__).parents[1])  # which is not installed where it was only unpacked
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        command_of(record, fold),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=record.folder if Path(record.folder).is_dir() else record.root,
        env={**os.environ, "PYTHONPATH": path, **env},
        start_new_session=True,  # Ctrl-C in the terminal reaches the launcher alone, which passes it on once
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                _pipe(pipe).close()


def _listen(process: subprocess.Popen[bytes], take: Reporter) -> None:
    for line in _pipe(process.stdout):
        event = from_json(line)
        if event is not None:  # a line cut short by a kill
            take(event)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the worker was started without pipes")
    return stream


def how_it_ended(code: int, last: FoldEnded | None, asked: str | None, log: Path) -> Ending:
    """Return what the worker said last, or what can be concluded from its exit code when it said nothing."""
    if last is not None and last.state == "failed":
        return Ending(failed=f"{last.text} Log: {log}")
    if last is not None and last.state == "stopped":
        return Ending(stopped=last.text) if asked else Ending(failed=f"{last.text}, not by this call. Log: {log}")
    if last is not None:
        return Ending()
    if asked is not None:  # it came before the worker could listen
        return Ending(stopped=asked)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return Ending(failed=f"its process {how} and said nothing; the last checkpoint is kept. Log: {log}")


def gather(done: Sequence[FoldRecord], jobs: Sequence[FoldJob], endings: Mapping[int, Ending]) -> Outcome:
    """Return what became of a run.

    Args:
        done: folds that were finished before.
        jobs: the others.
        endings: fold -> how its worker ended; a fold that is missing was never begun.
    """
    outcome = Outcome(list(done))
    for job in jobs:
        ending = endings.get(job.fold, Ending(stopped="it was not begun"))
        result = None if ending.failed or ending.stopped else finished(job)
        if result is not None:
            outcome.results.append(result)
            outcome.trained.append(job.fold)
        elif ending.stopped is not None:
            outcome.stopped = ending.stopped
        else:
            outcome.failed[job.fold] = ending.failed or f"its worker ended well, but {job.folder} is not complete."
    outcome.results.sort(key=lambda result: result.fold)
    return outcome

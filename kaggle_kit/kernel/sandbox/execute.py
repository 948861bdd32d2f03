"""Run one notebook by another Python, and say how long it took and how much memory: ``python -m … REQUEST.json``.

A program of its own, so that it can be started inside a network namespace. Kernel and client talk through sockets in a folder
(``ipc``), which need no network at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

_INTERVAL = 0.1


def main(request_path: Path) -> None:
    """Carry out the request in the file and write its answer beside it."""
    request = json.loads(request_path.read_text(encoding="utf-8"))
    mounted = request["may_mount"] and all(_mount_read_only(Path(folder)) for folder in request["read_only"])
    answer: dict[str, Any] = {"read_only_mount": mounted}
    begin = time.monotonic()
    with _peak_memory() as peak:
        error, notebook = _run(request)
    answer |= {"error": error, "seconds": time.monotonic() - begin, "peak_bytes": peak[0]}
    Path(request["executed"]).write_text(json.dumps(notebook), encoding="utf-8")
    Path(request["answer"]).write_text(json.dumps(answer), encoding="utf-8")


def _run(request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Execute the notebook; the error that ended it, or "", and the notebook as far as it came."""
    import nbformat
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(request["notebook"], as_version=4)
    nbformat.validate(notebook)
    with tempfile.TemporaryDirectory(prefix="kk-") as sockets:  # a short path: a socket's may have 107 characters
        spec = Path(sockets) / "kernels" / "python3"
        spec.mkdir(parents=True)
        argv = [request["python"], "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
        os.environ["JUPYTER_PATH"] = sockets
        os.environ["JUPYTER_RUNTIME_DIR"] = sockets

        class Manager(AsyncKernelManager):
            """Talks through files."""

            def __init__(self, **options: Any) -> None:
                super().__init__(**{**options, "transport": "ipc", "ip": str(Path(sockets) / "s")})

        client = NotebookClient(
            notebook,
            kernel_name="python3",
            kernel_manager_class=Manager,
            timeout=request["timeout"],
            resources={"metadata": {"path": request["cwd"]}},
        )
        try:
            client.execute(env=request["env"])
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            return str(error).strip() or type(error).__name__, notebook
    return "", notebook


@contextlib.contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """Watch the memory of all child processes together; the list holds the greatest sum seen, in bytes."""
    peak, over = [0], threading.Event()

    def watch() -> None:
        own = psutil.Process()
        while not over.wait(_INTERVAL):
            total = 0
            for process in own.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _mount_read_only(folder: Path) -> bool:
    """Make a folder read-only for this mount namespace, also for root, whom permissions do not stop."""
    steps = (["mount", "--bind", str(folder), str(folder)], ["mount", "-o", "remount,bind,ro", str(folder)])
    return all(subprocess.run(step, capture_output=True, check=False).returncode == 0 for step in steps)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

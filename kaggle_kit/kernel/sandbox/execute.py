"""Run one notebook by another Python, and say how long it took and how much memory: ``python -m … REQUEST.json``.

A program of its own, so that it can be started inside a network namespace. Kernel and client talk through sockets in a folder
(``ipc``), which need no network at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from kaggle_kit.kernel.sandbox.confine import Folders, confine

_INTERVAL = 0.1


def main(request_path: Path, *missing: str, confined: bool = False) -> None:
    """Carry out the request in the file and write its answer where it says, first taking this process' own rights away."""
    request = json.loads(request_path.read_text(encoding="utf-8"))
    if not confined:
        folders = Folders(
            root=Path(request["root"]),
            writable=tuple(map(Path, request["writable"])),
            read_only=tuple(map(Path, request["read_only"])),
            environment=Path(request["python"]).parent.parent,
        )
        prefix, lacking = confine(folders, may_mount=request["may_mount"])
        command = [*prefix, sys.executable, "-P", "-m", __spec__.name, "--confined", str(request_path), *lacking]
        os.execvpe(command[0], command, {**os.environ, **request["environ"]})
    begin = time.monotonic()
    with _peak_memory() as peak:
        error, notebook = _run(request)
    answer = {"error": error, "seconds": time.monotonic() - begin, "peak_bytes": peak[0], "missing": missing}
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


if __name__ == "__main__":
    if sys.argv[1] == "--confined":
        main(Path(sys.argv[2]), *sys.argv[3:], confined=True)
    else:
        main(Path(sys.argv[1]))

"""`kk serve` under load, beside `kk predict --images` on the same images.

    python benchmarks/serve.py WORKSPACE FOLDER [--images 512] [--seconds 10] [--clients 1,4,16,64] [--engine torch]

The server is a process of its own; clients are threads of this one, each with one connection that it keeps, and send one
photograph a request, the next one as soon as the answer is there. Shown are images a second, percentiles of the time from the
first byte sent to the last byte read, and requests without an answer of 200. Bad files are sent as well: each must be answered
with 4xx. `kk predict` is timed in this process before and after: its second pass, when models are loaded and exported.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import RESULTS, describe, hardware, median, photographs, print_table, say, write_results

BOUNDARY = "kaggle-kit-benchmark"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def form(name: str, data: bytes) -> bytes:
    """One file as the body of a request."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextlib.contextmanager
def server(workspace: Path, engine: str) -> Iterator[int]:
    """A server in a process of its own; yields its port."""
    command = [sys.executable, "-m", "kaggle_kit", "serve", "--port", "0", "--engine", engine]
    process = subprocess.Popen(command, cwd=workspace, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        line = process.stdout.readline()
        say(line.strip())
        yield int(re.findall(r":(\d+)/", line)[0])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def load(port: int, bodies: Sequence[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Send for ``seconds`` with so many clients; every request that was begun is waited for."""
    taken: list[float] = []
    lost = 0
    lock, end = threading.Lock(), time.perf_counter() + seconds

    def client(first: int) -> None:
        nonlocal lost
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        number = first
        while time.perf_counter() < end:
            start = time.perf_counter()
            try:
                connection.request("POST", "/predict", bodies[number % len(bodies)], HEADERS)
                answer = connection.getresponse()
                good = answer.status == 200 and len(json.loads(answer.read())["predictions"]) == 1
            except (OSError, http.client.HTTPException, ValueError):
                good = False
                connection.close()
            with lock:
                if good:
                    taken.append(time.perf_counter() - start)
                else:
                    lost += 1
            number += clients
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - start
    ordered = sorted(taken)
    at = {share: 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95, 0.99)}
    rates = {"images": len(ordered), "img/s": len(ordered) / wall}
    return {"clients": clients, **rates, "p50 ms": at[0.5], "p95 ms": at[0.95], "p99 ms": at[0.99], "lost": lost}


def bad_files(port: int, good: bytes) -> dict[str, int]:
    """What bad requests are answered: a status each."""
    kinds = {
        "empty": form("a.jpg", b""),
        "text": form("a.jpg", b"this is no image"),
        "cut off": form("a.jpg", good[: len(good) // 2]),
        "random bytes": form("a.jpg", os.urandom(50_000)),
        "a script called .jpg": form("a.jpg", b"<?php system($_GET['c']); ?>"),
        "21 MB": form("a.jpg", bytes(21_000_000)),
        "no file": f"--{BOUNDARY}--\r\n".encode(),
        "no form": b"{}",
    }
    found = {}
    for kind, body in kinds.items():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/predict", body, {} if kind == "no form" else HEADERS)
        found[kind] = connection.getresponse().status
        connection.close()
    return found


def predict_rate(workspace: Path, images: Sequence[Path], engine: str) -> float:
    """Images a second of `kk predict --images`: the second pass, when models are loaded and exported."""
    from kaggle_kit.competition import open_setup
    from kaggle_kit.export.members import find_members
    from kaggle_kit.inference.predict import Compute, predict_rows
    from kaggle_kit.workspace import open_workspace

    setup = open_setup(open_workspace(workspace))
    models = [model for one in find_members(setup, None).members for model in one.models]
    compute = Compute(engine=engine, cache_dir=setup.workspace.cache_dir)
    rows = [(path.name, path) for path in images]
    for _ in range(2):
        start = time.perf_counter()
        predict_rows(models, rows, compute=compute)
    return len(rows) / (time.perf_counter() - start)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", default="1,4,16,64")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--out", type=Path, default=RESULTS / "serve.json")
    given = parser.parse_args()
    images = photographs(given.folder, given.images)
    bodies = [form(path.name, path.read_bytes()) for path in images]
    before, facts = predict_rate(given.workspace, images, given.engine), hardware()
    with server(given.workspace, given.engine) as port, tempfile.TemporaryDirectory():
        load(port, bodies, 4, 2.0)  # does not count
        rows = [load(port, bodies, int(clients), given.seconds) for clients in given.clients.split(",")]
        bad = bad_files(port, images[0].read_bytes())
        after_bad = load(port, bodies, 1, 1.0)["lost"]
    rate = median([before, predict_rate(given.workspace, images, given.engine)])
    rows = [{**row, "of kk predict": row["img/s"] / rate} for row in rows]
    print_table(rows)
    print(f"\nkk predict: {rate:.1f} img/s. Lost requests: {sum(row['lost'] for row in rows) + after_bad}.")
    print("Bad requests: " + ", ".join(f"{kind} {status}" for kind, status in bad.items()) + ".")
    print(describe(facts))
    if not all(400 <= status < 500 for status in bad.values()):
        raise SystemExit("a bad request was not answered with 4xx")
    write_results(given.out, rows, facts, predict=rate, bad=bad, engine=given.engine, seconds=given.seconds)


if __name__ == "__main__":
    main()

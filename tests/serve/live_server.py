"""A server in a thread of the test, with the models of a run made by hand."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading

import numpy as np
import uvicorn
from handmade_run import CLASSES

from kaggle_kit.export.members import find_members
from kaggle_kit.inference.folder import find_models, predict_folder
from kaggle_kit.inference.predict import Compute
from kaggle_kit.serve import Limits
from kaggle_kit.serve.app import Desk, make_app
from kaggle_kit.serve.models import LiveModels
from kaggle_kit.serve.urls import Fetcher

LOCAL = frozenset({"127.0.0.1", "localhost"})
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def pause(seconds: float = 0.01) -> None:
    threading.Event().wait(seconds)


def form(*files: tuple[str, bytes]) -> bytes:
    head = 'Content-Disposition: form-data; name="files"; filename="'
    parts = [f'--x\r\n{head}{name}"\r\n\r\n'.encode() + data + b"\r\n" for name, data in files]
    return b"".join([*parts, b"--x--\r\n"])


class Client:
    """A server in a thread, and requests to it."""

    def __init__(self, desk: Desk, port: int) -> None:
        self.desk, self.port = desk, port

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def post(self, *files: tuple[str, bytes], query: str = "", **headers: str) -> tuple[int, dict]:
        status, text = self.ask("POST", f"/predict{query}", form(*files), **FORM, **headers)
        return status, json.loads(text)


@contextlib.contextmanager
def served(world, limits: Limits | None = None, hosts: frozenset[str] = LOCAL, fetcher: Fetcher | None = None):
    found, limits = find_members(world.setup, "r"), limits or Limits()
    weighted = [(model, one.weight / len(one.models)) for one in found.members for model in one.models]
    desk = Desk("r", LiveModels(weighted, engine="torch", most_pixels=limits.pixels), limits, found.thresholds, fetcher)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(desk, hosts), log_level="critical", timeout_graceful_shutdown=10))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        pause()
    try:
        yield Client(desk, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive()


def expected(world) -> dict[str, np.ndarray]:
    """File name -> probabilities by ``kk predict``."""
    images, compute = world.competition.test[0].path.parent, Compute(engine="torch", device="cpu", workers=0)
    found = predict_folder(find_models(world.workspace.run_dir("r")), images, compute=compute)
    return dict(zip(found.ids, found.probs, strict=True))


def files_of(world) -> list[tuple[str, bytes]]:
    return [(row.path.name, row.path.read_bytes()) for row in world.competition.test]


def probabilities(prediction: dict) -> np.ndarray:
    return np.array([prediction["probabilities"][name] for name in CLASSES])

"""Serving a run or a blend until Ctrl-C or SIGTERM; what was begun is answered first."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kaggle_kit.competition import Setup
from kaggle_kit.errors import ConfigError, DependencyError
from kaggle_kit.results import Result
from kaggle_kit.tables import shown

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_NEEDS = ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx")
_LAST_SECONDS = 10


@dataclass(frozen=True)
class Limits:
    """What requests may ask for.

    Attributes:
        file_bytes, request_bytes: of a file, and of a request with all its files.
        files: of a request.
        pixels: of an image, height times width.
        seconds: until an image is predicted, and between two pieces of a request.
        batch: images computed together.
        waiting: images that wait for their turn; beyond, requests are told to come again.
    """

    file_bytes: int = 20_000_000
    request_bytes: int = 100_000_000
    files: int = 64
    pixels: int = 100_000_000
    seconds: float = 30.0
    batch: int = 32
    waiting: int = 1024

    @property
    def urls(self) -> int:
        """URLs of a request: as many as the largest files of a request may be."""
        return self.request_bytes // self.file_bytes


@dataclass(frozen=True)
class ServeOptions:
    """Where and how to serve.

    Attributes:
        host: to listen at; others than this machine can reach what is no loopback address.
        port: 0: a free one.
        engine: "auto", or an entry of ``ENGINES``.
        urls: whether images may be named by URL.
    """

    host: str = LOOPBACK[0]
    port: int = 8000
    engine: str = "auto"
    urls: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, repr=False)
class ServedModels(Result):
    """How it ended: images that were predicted."""

    model: str
    images: int

    def describe(self) -> str:
        """Return how many images were predicted."""
        return f"{self.model}: predicted {self.images:,} images"


def serve(setup: Setup, name: str | None, options: ServeOptions, *, say: Callable[[str], None]) -> ServedModels:
    """Serve the run or blend called ``name``, or the newest, until Ctrl-C.

    Args:
        say: is called with the address, once it answers.

    Raises:
        DependencyError: the packages are not installed.
        ConfigError: the address cannot be listened at, or the blend is no weighted mean of runs.
        MissingFileError, DataError: there is no such run or blend, or its models cannot be used.
    """
    missing = [package for package in _NEEDS if importlib.util.find_spec(package) is None]
    if missing:
        raise DependencyError(f"kk serve needs {shown(missing)}: pip install 'kaggle-kit[serve]'.")
    with _listening(options) as listener:
        return _serve(setup, name, options, listener, say)


@contextlib.contextmanager
def _listening(options: ServeOptions) -> Iterator[socket.socket]:
    """Yield a socket that listens, so that a port that is taken is told before models are loaded."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((options.host, options.port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            where = f"{options.host}:{options.port}"
            raise ConfigError(
                f"cannot listen at {where} ({reason}); choose with --host and --port, 0 is a free one."
            ) from error
        yield listener


def _serve(
    setup: Setup, name: str | None, options: ServeOptions, listener: socket.socket, say: Callable[[str], None]
) -> ServedModels:
    import uvicorn

    from kaggle_kit.export.members import find_members
    from kaggle_kit.inference.run import calibration_of
    from kaggle_kit.serve.app import Desk, make_app
    from kaggle_kit.serve.models import LiveModels
    from kaggle_kit.serve.urls import Fetcher

    found, limits = find_members(setup, name), options.limits
    weighted = [(model, one.weight / len(one.models)) for one in found.members for model in one.models]
    calibration, cache_dir = calibration_of(options.engine, setup.competition), setup.workspace.cache_dir
    models = LiveModels(
        weighted, engine=options.engine, cache_dir=cache_dir, calibration=calibration, most_pixels=limits.pixels
    )
    fetcher = Fetcher(most_bytes=limits.file_bytes, seconds=limits.seconds) if options.urls else None
    desk = Desk(found.subject.name, models, limits, found.thresholds, fetcher)
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    class Server(uvicorn.Server):
        """Says where it is once it answers."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            listed = "".join(f"\nnote: {note}" for note in found.notes)
            reach = "this machine only" if options.host in LOOPBACK else "whoever reaches this machine: put a proxy before it"
            say(f"{desk.name} by {models.engine} at {address}/ (for {reach}; Ctrl-C ends it){listed}")

    names = frozenset({*LOOPBACK, "[::1]"}) if options.host in LOOPBACK else frozenset[str]()
    settings: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    config = uvicorn.Config(make_app(desk, names), timeout_graceful_shutdown=_LAST_SECONDS, **settings)
    with contextlib.suppress(KeyboardInterrupt):  # raised again by uvicorn once all is answered
        Server(config).run(sockets=[listener])
    return ServedModels(desk.name, desk.metrics.predicted)

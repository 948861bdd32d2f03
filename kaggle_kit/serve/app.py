"""The application: predictions of uploaded images, health, metrics, and a page to drop images on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, File, Form, HTTPException, Query, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field

from kaggle_kit import __version__
from kaggle_kit.errors import ImageError, KaggleKitError
from kaggle_kit.machine.host import available_cpus
from kaggle_kit.report.pages import island, render_page
from kaggle_kit.serve.batches import Batches, BusyError
from kaggle_kit.serve.guard import Guard
from kaggle_kit.serve.metrics import MEDIA_TYPE, Metrics
from kaggle_kit.serve.models import LiveModels, Seen
from kaggle_kit.serve.run import Limits

if TYPE_CHECKING:
    from kaggle_kit.serve.urls import Fetcher

_TOP = 5
_POLICY = {"img-src": "blob: data:", "connect-src": "'self'"}
_PATHS = frozenset({"/", "/predict", "/health", "/metrics", "/openapi.json"})


class Prediction(BaseModel):
    """What is said of one image."""

    file: str = Field(description="its name or URL, as it was sent")
    labels: list[str] = Field([], description="what it is: one class, or of several labels all that reach their thresholds")
    probabilities: dict[str, float] = Field({}, description="the likeliest classes, the likeliest first")
    error: str | None = Field(None, description="why it cannot be read; then there is nothing else")


class Answer(BaseModel):
    """What is said of all images of a request, in their order."""

    model: str
    predictions: list[Prediction]


class Health(BaseModel):
    """That the server answers, and what it serves."""

    status: str
    model: str
    engine: str
    classes: int


class Desk:
    """What turns files into predictions.

    Args:
        threshold: of several labels, from which on each is named, (C,); None: the likeliest class is.
        fetcher: reads files that are named by URL; None: such requests are refused.
    """

    def __init__(
        self,
        name: str,
        models: LiveModels,
        limits: Limits,
        threshold: npt.ArrayLike | None,
        fetcher: Fetcher | None = None,
    ) -> None:
        self.name, self.models, self.limits, self.fetcher = name, models, limits, fetcher
        self.metrics = Metrics(lambda: self._batches.waiting)
        self._threshold = threshold
        self._readers = ThreadPoolExecutor(available_cpus(), thread_name_prefix="read")
        self._batches: Batches[Seen, npt.NDArray[np.float32]] = Batches(
            models.predict, largest=limits.batch, waiting=limits.waiting, told=self.metrics.batch.observe
        )

    def close(self) -> None:
        """Compute what waits, and end."""
        self._batches.close()
        self._readers.shutdown(cancel_futures=True)

    async def predict(self, name: str, reading: Awaitable[bytes], top: int) -> Prediction:
        """Predict one file; of one that cannot be read, say why.

        Raises:
            BusyError: too many images wait.
            TimeoutError: it took too long.
        """
        try:
            data = await reading
            if len(data) > self.limits.file_bytes:
                raise ImageError(f"{name}: more than {self.limits.file_bytes:,} bytes.")
            async with asyncio.timeout(self.limits.seconds):
                loop = asyncio.get_running_loop()
                seen = await loop.run_in_executor(self._readers, self.models.read, data, name)
                probs = await asyncio.wrap_future(self._batches.submit(seen))
        except ImageError as error:
            self.metrics.image("unreadable")
            return Prediction(file=name, error=str(error))
        self.metrics.image("predicted")
        return self._said(name, probs, top)

    def _said(self, name: str, probs: npt.NDArray[np.float32], top: int) -> Prediction:
        classes, order = self.models.classes, np.argsort(-probs, kind="stable")[:top]
        if self._threshold is None:
            labels = classes.top(probs[None])
        else:
            labels = list(classes.above(probs[None], self._threshold, at_least_one=False)[0])
        likeliest = dict(zip(classes.decode(order), probs[order].tolist(), strict=True))
        return Prediction(file=name, labels=labels, probabilities=likeliest)


def make_app(desk: Desk, hosts: frozenset[str]) -> Any:
    """Return the ASGI application.

    Args:
        hosts: names that it answers to; empty: any.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(desk.close)

    # No pages of FastAPI's own: they would load scripts from elsewhere.
    app = FastAPI(title=f"kaggle_kit: {desk.name}", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    limits = desk.limits

    @app.post("/predict", responses={code: {"description": why} for code, why in _REFUSALS.items()})
    async def predict(
        files: Annotated[list[UploadFile], File(default_factory=list, description="image files")],
        urls: Annotated[list[str], Form(default_factory=list, description="URLs of image files, where `--urls` allows them")],
        top: Annotated[int, Query(ge=1, description="classes with their probability")] = _TOP,
    ) -> Answer:
        """Predict image files; one that cannot be read does not keep the others from being predicted."""
        _require_few(desk, files, urls)
        said = await _all_of(desk, files, urls, top)
        if all(one.error for one in said):
            raise HTTPException(422, [one.error for one in said])
        return Answer(model=desk.name, predictions=said)

    @app.get("/health")
    async def health() -> Health:
        """Say that the server answers."""
        return Health(status="ok", model=desk.name, engine=desk.models.engine, classes=len(desk.models.classes))

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Return counts and times for Prometheus."""
        return PlainTextResponse(desk.metrics.text(), media_type=MEDIA_TYPE)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(_page(desk))

    app.add_exception_handler(KaggleKitError, _failed)
    return Guard(app, metrics=desk.metrics, hosts=hosts, most_bytes=limits.request_bytes, seconds=limits.seconds, paths=_PATHS)


_REFUSALS = {
    403: "from another site, or URLs although they are not allowed",
    408: "the request came too slowly",
    413: "too many bytes or files",
    422: "no file is an image",
    503: "too many images wait; try again",
    504: "it took too long",
}


def _require_few(desk: Desk, files: Sequence[UploadFile], urls: Sequence[str]) -> None:
    """Raise HTTPException for a request that asks for nothing, for too much, or for what is not allowed."""
    if urls and desk.fetcher is None:
        raise HTTPException(403, "this server fetches no URLs; it would be started with --urls for that")
    for given, most, what in (files, desk.limits.files, "files"), (urls, desk.limits.urls, "URLs"):
        if len(given) > most:
            raise HTTPException(413, f"{len(given)} {what}, expected at most {most} a request")
    if not (files or urls):
        raise HTTPException(422, "expected a form with image files as files")


async def _all_of(desk: Desk, files: Sequence[UploadFile], urls: Sequence[str], top: int) -> list[Prediction]:
    """Predict files side by side; raises HTTPException where not all could have their turn."""
    tasks = [desk.predict(file.filename or "image", file.read(desk.limits.file_bytes + 1), top) for file in files]
    if desk.fetcher is not None:
        tasks += [desk.predict(url, desk.fetcher.fetch(url), top) for url in urls]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    for one in found:
        if isinstance(one, BusyError):
            raise HTTPException(503, str(one), {"Retry-After": "1"})
        if isinstance(one, TimeoutError):
            raise HTTPException(504, f"no answer within {desk.limits.seconds:g} s")
        if isinstance(one, BaseException):
            raise one
    return [one for one in found if isinstance(one, Prediction)]


async def _failed(_request: Any, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 500)


def _page(desk: Desk) -> str:
    data = {"files": desk.limits.files, "bytes": desk.limits.request_bytes}
    facts = {"title": desk.name, "classes": len(desk.models.classes), "data": island(data)}
    return render_page("serve.html", scripts=["serve.js"], allowed=_POLICY, **facts)

"""What stands before the application: who may ask, how much they may send, how long they may take, and what is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from kaggle_kit.serve.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"), (b"cache-control", b"no-store"))


class Guard:
    """An ASGI middleware.

    Args:
        hosts: names that the server answers to; empty: any. A name that was rebound to this machine is so refused, and pages
            of other sites are by their Origin.
        most_bytes: of a request.
        seconds: between two pieces of a request.
        paths: that are counted by name.
    """

    def __init__(
        self, app: Any, *, metrics: Metrics, hosts: frozenset[str], most_bytes: int, seconds: float, paths: frozenset[str]
    ) -> None:
        self._app, self._metrics, self._hosts, self._paths = app, metrics, hosts, paths
        self._most_bytes, self._seconds = most_bytes, seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, path = time.perf_counter(), scope["path"] if scope["path"] in self._paths else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.answered(path, message["status"])
                if path == "/predict":
                    self._metrics.seconds.observe(time.perf_counter() - started)
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        refused = self._refusal({name.lower(): value.decode("latin-1") for name, value in scope["headers"]})
        if refused is not None:
            await refused(scope, receive, counted)
            return
        await self._app(scope, self._bounded(receive), counted)

    def _refusal(self, headers: dict[bytes, str]) -> JSONResponse | None:
        """Return the answer to a request that goes no further."""
        host, origin, length = headers.get(b"host", ""), headers.get(b"origin"), headers.get(b"content-length", "0")
        if self._hosts and _without_port(host) not in self._hosts:
            return JSONResponse({"detail": "another host name"}, 403)
        if origin is not None and origin.partition("://")[2] != host:
            return JSONResponse({"detail": "another origin"}, 403)
        if length.isdecimal() and int(length) > self._most_bytes:
            return JSONResponse(
                {"detail": f"{length} bytes, expected at most {self._most_bytes}"}, 413, {"Connection": "close"}
            )
        return None

    def _bounded(self, receive: Receive) -> Receive:
        """Return ``receive`` with a limit on what comes, and on how long it takes to come."""
        received, complete = 0, False

        async def bounded() -> Message:
            nonlocal received, complete
            if complete:  # what follows is that the client went away
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._seconds)
            except TimeoutError:
                raise HTTPException(408, "the request came too slowly") from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self._most_bytes:
                raise HTTPException(413, f"more than {self._most_bytes} bytes")
            return message

        return bounded


def _without_port(host: str) -> str:
    """Return a Host header's name: ``[::1]:80`` is ``[::1]``."""
    name, _, port = host.rpartition(":")
    return name if name and port.isdecimal() and (":" not in name or name.endswith("]")) else host

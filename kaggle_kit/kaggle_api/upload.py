"""Sending one file to the signed link that Kaggle gives out: the resumable protocol of Google Cloud Storage.

PUT the bytes; when the connection breaks, ask with an empty PUT and ``Content-Range: bytes */SIZE`` how many arrived (308 and a
Range header, or 200 when all did), and send the rest.
https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import requests

from kaggle_kit.errors import RemoteError
from kaggle_kit.kaggle_api.patience import Patience
from kaggle_kit.kaggle_api.transport import describe_loss, plain_session

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
_BLOCK = 1 << 20
_DONE, _GOES_ON, _GONE = (200, 201), 308, (404, 410)


class UploadExpired(RemoteError):
    """The link is no longer valid; the upload must be begun anew."""


class _Interrupted(Exception):
    """The transfer stopped and may be continued."""


def upload(path: Path, url: str, *, patience: Patience, resume: bool = False, progress: Progress | None = None) -> None:
    """Send ``path`` to ``url``; bytes that arrived are not sent again.

    Args:
        resume: the link was used before, so ask first what arrived.
        progress: called with the bytes sent and the size of the file.

    Raises:
        UploadExpired: the link is not valid any more.
        RemoteError: the link refuses the file, or the transfer stopped too often without getting on.
    """
    size, failures, furthest = path.stat().st_size, 0, 0
    with plain_session(patience) as session:
        while True:
            try:
                start = _arrived(session, url, path, size) if resume else 0
                if start > furthest:
                    failures, furthest = 0, start
                if start < size or not resume:
                    _send(session, url, path, start=start, size=size, progress=progress)
                return
            except _Interrupted as interruption:
                failures, resume = failures + 1, True
                if failures >= patience.attempts:
                    message = f"uploading {path.name}: {interruption}, {failures} times in a row. Nothing was handed in."
                    raise RemoteError(f"{message} Run the same command again.") from None
                log.info("uploading %s: %s; going on in %.0f s", path.name, interruption, patience.pause(failures))
                patience.sleep(patience.pause(failures))


def _arrived(session: requests.Session, url: str, path: Path, size: int) -> int:
    """How many of the bytes the other side has."""
    response = _put(session, url, b"", {"Content-Range": f"bytes */{size}"})
    if response.status_code in _DONE:
        return size
    if response.status_code != _GOES_ON:
        raise _refusal(path, response)
    last = response.headers.get("Range", "").rpartition("-")[2]  # "bytes=0-1000"; absent when nothing arrived
    return int(last) + 1 if last.isdigit() else 0


def _send(session: requests.Session, url: str, path: Path, *, start: int, size: int, progress: Progress | None) -> None:
    """Send the bytes from ``start`` on."""
    headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
    with open(path, "rb") as handle:
        handle.seek(start)
        response = _put(session, url, _Rest(handle, start, size, progress) if size else b"", headers)
    if response.status_code not in _DONE:
        raise _refusal(path, response)


def _put(session: requests.Session, url: str, body: _Rest | bytes, headers: dict[str, str]) -> requests.Response:
    try:
        return session.put(url, data=body, headers=headers, allow_redirects=False)
    except requests.exceptions.RequestException as error:
        raise _Interrupted(describe_loss(error)) from None


def _refusal(path: Path, response: requests.Response) -> Exception:
    """What an unwelcome answer means: a pause, an expired link, or the end."""
    if response.status_code >= 500 or response.status_code in (_GOES_ON, 408, 429):
        return _Interrupted(f"HTTP {response.status_code}")
    if response.status_code in _GONE:
        return UploadExpired(f"uploading {path.name}: the upload link has expired; run the command again.")
    return RemoteError(
        f"uploading {path.name}: the storage behind Kaggle refused the file (HTTP {response.status_code}: {response.reason}).",
        status=response.status_code,
    )


class _Rest:
    """What is left of a file, as a body of known length that reports how far it was read."""

    def __init__(self, handle: IO[bytes], start: int, size: int, progress: Progress | None) -> None:
        self.handle, self.at, self.size, self.progress = handle, start, size, progress
        self._length = size - start

    def __len__(self) -> int:
        return self._length

    def read(self, count: int = -1) -> bytes:
        """The next block, of at most 1 MiB, so that progress is seen."""
        block = self.handle.read(_BLOCK if count < 0 else min(count, _BLOCK))
        self.at += len(block)
        if self.progress and block:
            self.progress(self.at, self.size)
        return block

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(_BLOCK), b"")

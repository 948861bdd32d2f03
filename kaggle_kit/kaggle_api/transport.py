"""Time limits and bounded retries for the official client, and its failures in plain words.

Imported only after the official client, whose dependencies ``requests`` and ``urllib3`` are.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError
from urllib3.util import Retry

from kaggle_kit.errors import RemoteError
from kaggle_kit.kaggle_api.account import NEW_TOKEN
from kaggle_kit.kaggle_api.patience import Patience

logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # its warnings hold signed links

CREATING = (
    "competitions.CompetitionApiService/CreateSubmission",
    "competitions.CompetitionApiService/CreateCodeSubmission",
    "datasets.DatasetApiService/CreateDataset",  # of requests' prefixes, this one covers the versions, too
    "kernels.KernelsApiService/SaveKernel",
)
"""Calls that must not be carried out twice. When the answer is lost, one has to look whether they were carried out."""

_PASSING = (408, 429, 500, 502, 503, 504)
_LOST = (requests.exceptions.ConnectionError, requests.exceptions.Timeout, requests.exceptions.ChunkedEncodingError)


class _Retries(Retry):
    """urllib3's retries, which end when the server asks for too long a pause."""

    longest = Patience.longest_retry_after

    def increment(self, method: Any = None, url: Any = None, *rest: Any, **options: Any) -> Retry:  # type: ignore[override]
        """Count a failure; where MaxRetryError comes from here, urllib3 hands out the response that asked for the pause."""
        response = options.get("response")
        if response is not None and (self.get_retry_after(response) or 0.0) > self.longest:
            raise MaxRetryError(options["_pool"], url, None)
        return super().increment(method, url, *rest, **options)


def mount(session: requests.Session, endpoint: str, patience: Patience) -> None:
    """Let ``session`` repeat what is safe to repeat: everything but the calls that create something.

    Of those a request is sent again only if it never arrived, or was refused for coming too often.
    """
    options: dict[str, Any] = {
        "total": patience.attempts - 1,
        "allowed_methods": None,
        "backoff_factor": patience.first / 2,
        "backoff_max": patience.longest,
        "raise_on_status": False,
    }
    session.mount("https://", HTTPAdapter(max_retries=_Retries(status_forcelist=_PASSING, **options)))
    session.mount("http://", HTTPAdapter(max_retries=_Retries(status_forcelist=_PASSING, **options)))
    for call in CREATING:
        once = _Retries(read=False, other=0, status_forcelist=(429,), **options)
        session.mount(f"{endpoint}/v1/{call}", HTTPAdapter(max_retries=once))


@contextlib.contextmanager
def time_limits(patience: Patience) -> Iterator[None]:
    """Give each request a time limit while the client works, which sets none for its calls and uploads."""
    original = requests.Session.send

    def send(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        options["timeout"] = options.get("timeout") or (patience.connect, patience.read)
        return original(session, request, **options)

    requests.Session.send = send  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        requests.Session.send = original  # type: ignore[method-assign]


def translate(error: requests.exceptions.RequestException, what: str, *, forbidden: str = "") -> RemoteError:
    """Return a request's failure as an error that says what was tried, what came back and what to do.

    Args:
        what: what was being done, as in "uploading blend.csv".
        forbidden: what a 403 means here.
    """
    response = error.response
    if response is None:
        maybe = isinstance(error, _LOST) and not _never_arrived(error)
        text = f"{what}: {_loss(error)}, also when tried again. Check the network and run the command again."
        return RemoteError(text, maybe_done=maybe)
    status, pause = response.status_code, response.headers.get("Retry-After", "").strip()
    meaning = {
        401: f"Kaggle does not accept the credentials. Make a new token at {NEW_TOKEN}.",
        403: forbidden or "Kaggle does not allow it for this account.",
        404: "Kaggle does not know it; check the name.",
        429: "Kaggle limits how often one may ask."
        + (f" It asks to wait {pause} s." if pause.isdecimal() else " Wait some minutes and run the command again."),
    }.get(status, "Kaggle has trouble; run the command again later." if status >= 500 else "Kaggle refused it.")
    said = _message(error, response)
    return RemoteError(f"{what}: {meaning} (HTTP {status}: {said})", status=status, maybe_done=status >= 500 or status == 408)


def _never_arrived(error: BaseException) -> bool:
    """Return whether the connection was never made, so that the server cannot have acted."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    reason = getattr(error.args[0], "reason", error.args[0]) if error.args else None
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)


_LOSSES = (
    (requests.exceptions.ConnectTimeout, "no connection within the time limit"),
    (requests.exceptions.ReadTimeout, "no answer within the time limit"),
    (requests.exceptions.ProxyError, "the proxy refused the connection"),
    (requests.exceptions.SSLError, "the secure connection could not be made (certificate)"),
)


def _loss(error: BaseException) -> str:
    """Return the reason in plain words, without the address: signed links are secrets of a kind."""
    told = next((words for kind, words in _LOSSES if isinstance(error, kind)), "")
    return told or ("no connection could be made" if _never_arrived(error) else "the connection broke")


def _message(error: requests.exceptions.RequestException, response: requests.Response) -> str:
    """Return what the server said: the JSON body's message, else the status line's reason; 300 letters at most."""
    try:
        body = response.json()
    except (ValueError, RecursionError, requests.exceptions.RequestException):
        body = None
    said = body.get("message") or body.get("error") if isinstance(body, dict) else None
    text = " ".join(str(said or response.reason or error).split())
    return text if len(text) <= 300 else f"{text[:300]}…"

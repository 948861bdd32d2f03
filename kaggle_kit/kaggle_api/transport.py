"""Every request to Kaggle passes here: time limits, bounded retries, and the line between "not done" and "perhaps done".

Imported only after the official client, whose dependency ``requests`` is.
"""

from __future__ import annotations

import email.utils
import logging
import time
from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from kaggle_kit.errors import RemoteError
from kaggle_kit.kaggle_api.patience import Patience

log = logging.getLogger(__name__)

CREATING = frozenset(
    {
        "CreateSubmission",
        "CreateCodeSubmission",
        "CreateDataset",
        "CreateDatasetVersion",
        "CreateDatasetVersionById",
        "SaveKernel",
    }
)
"""Calls that must not be carried out twice. When the answer is lost, one has to look whether they were carried out."""

_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_LOST = (requests.exceptions.ConnectionError, requests.exceptions.Timeout, requests.exceptions.ChunkedEncodingError)


class PatientAdapter(HTTPAdapter):
    """Sends with time limits, and again where that is safe.

    Uploads (PUT) are never sent again from here: their body is a stream, which only the uploader can continue.
    """

    def __init__(self, patience: Patience) -> None:
        super().__init__(max_retries=0)
        self.patience = patience

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, stream: bool = False, timeout: Any = None, **options: Any
    ) -> requests.Response:
        """Send one request; the last answer or the last exception is passed on."""
        limits = timeout or (self.patience.connect, self.patience.read)
        failures = 0
        while True:
            failures += 1
            last = failures >= self.patience.attempts
            try:
                response = super().send(request, stream=stream, timeout=limits, **options)
                if not stream:
                    _ = response.content  # read here, so that a connection that drops midway is tried again, too
            except _LOST as error:
                if last or not _repeatable(request, error=error):
                    raise
                pause, reason = self.patience.pause(failures), describe_loss(error)
            else:
                if last or response.status_code not in _PASSING or not _repeatable(request, status=response.status_code):
                    return response
                asked = retry_after(response.headers)
                if asked is not None and asked > self.patience.longest_retry_after:
                    return response
                pause, reason = asked if asked is not None else self.patience.pause(failures), f"HTTP {response.status_code}"
                response.close()
            log.info("Kaggle: %s; trying again in %.0f s (%d of %d)", reason, pause, failures + 1, self.patience.attempts)
            self.patience.sleep(pause)


def plain_session(patience: Patience) -> requests.Session:
    """A session without credentials, for signed links to other hosts."""
    return mount(requests.Session(), patience)


def mount(session: requests.Session, patience: Patience) -> requests.Session:
    """Let ``session`` send through :class:`PatientAdapter`."""
    adapter = PatientAdapter(patience)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _repeatable(request: requests.PreparedRequest, *, status: int = 0, error: Exception | None = None) -> bool:
    """Whether sending again can do no harm."""
    if request.method == "PUT":
        return False
    call = (request.url or "").split("?")[0].rsplit("/", 1)[-1]
    return call not in CREATING or status == 429 or (error is not None and never_arrived(error))


def never_arrived(error: BaseException) -> bool:
    """Whether the connection was never made, so that the server cannot have acted."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    reason = getattr(error.args[0], "reason", error.args[0]) if error.args else None
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)


def is_loss(error: BaseException) -> bool:
    """Whether the answer got lost, as against a refusal."""
    return isinstance(error, _LOST)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date (RFC 9110, 10.2.3); None without a usable one."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def describe_loss(error: BaseException) -> str:
    """The reason in plain words, without the address: signed links are secrets of a kind."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no connection within the time limit"
    if isinstance(error, requests.exceptions.ReadTimeout):
        return "no answer within the time limit"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refused the connection"
    if isinstance(error, requests.exceptions.SSLError):
        return "the secure connection could not be made (certificate)"
    if never_arrived(error):
        return "no connection could be made"
    return "the connection broke"


def translate(error: requests.exceptions.RequestException, what: str, *, attempts: int, forbidden: str = "") -> RemoteError:
    """A request's failure as an error that says what was tried, what came back and what to do.

    Args:
        what: what was being done, as in "uploading blend.csv".
        forbidden: what a 403 means here.
    """
    response = error.response
    if response is None:
        maybe = is_loss(error) and not never_arrived(error)
        text = (
            f"{what}: {describe_loss(error)}, after {attempts} attempts at most. Check the network and run the command again."
        )
        return RemoteError(text, maybe_done=maybe)
    status, said = response.status_code, _message(error, response)
    asked = retry_after(response.headers)
    meaning = {
        401: "Kaggle does not accept the credentials. Make a new token at https://www.kaggle.com/settings/api.",
        403: forbidden or "Kaggle does not allow it for this account.",
        404: "Kaggle does not know it; check the name.",
        429: "Kaggle limits how often one may ask."
        + (f" It asks to wait {asked:.0f} s." if asked is not None else " Wait some minutes and run the command again."),
    }.get(status, "Kaggle has trouble; run the command again later." if status >= 500 else "Kaggle refused it.")
    return RemoteError(f"{what}: {meaning} (HTTP {status}: {said})", status=status, maybe_done=status >= 500 or status == 408)


def _message(error: requests.exceptions.RequestException, response: requests.Response) -> str:
    """What the server said: the JSON body's message, else the status line's reason."""
    try:
        body = response.json()
    except (ValueError, requests.exceptions.RequestException):
        body = None
    said = body.get("message") or body.get("error") if isinstance(body, dict) else None
    text = " ".join(str(said or response.reason or error).split())
    return text if len(text) <= 300 else f"{text[:300]}…"

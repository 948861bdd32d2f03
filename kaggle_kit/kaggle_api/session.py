"""Opening the official client: import on first use, with its side effects held back, and sign in."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ConfigError, DependencyError, RemoteError
from kaggle_kit.kaggle_api.account import NEW_TOKEN, find_credentials
from kaggle_kit.kaggle_api.patience import Patience

if TYPE_CHECKING:
    from kaggle_kit.kaggle_api.client import Kaggle

_INSTALL = "pip install -U 'kaggle-kit[kaggle]'"


def connect(patience: Patience | None = None) -> Kaggle:
    """Return a signed-in client.

    Raises:
        ConfigError: no usable credentials.
        DependencyError: the official client is not installed or too old.
        RemoteError: Kaggle could not be reached to look up whose token it is.
    """
    source = find_credentials()
    import_client()
    from kaggle_kit.kaggle_api.client import Kaggle, PatientApi

    kaggle = Kaggle(PatientApi(patience or Patience()))
    refused = ConfigError(
        f"Kaggle does not accept the credentials in {source}: they are damaged, unknown, expired or revoked. "
        f"Make a new token at {NEW_TOKEN}."
    )
    try:
        with kaggle._doing("signing in"):
            kaggle.api.authenticate()
    except SystemExit:  # the client prints a page of help and leaves the process
        raise refused from None
    except RemoteError as error:
        raise (error if error.status or error.maybe_done else refused) from None
    if not kaggle.username:
        raise refused
    return kaggle


def import_client() -> None:
    """Import ``kaggle``. On import it signs in, which must neither reach for the network nor print nor end the process."""
    try:
        with _no_calls(), contextlib.redirect_stdout(io.StringIO()):
            from kaggle.api.kaggle_api_extended import KaggleApi
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] in ("kaggle", "kagglesdk"):
            raise DependencyError(f"Kaggle's official client is not installed, or older than 2.2. Run: {_INSTALL}") from None
        raise DependencyError(
            f"Kaggle's official client cannot be imported, for it needs {error.name!r}, which is not installed. Run: {_INSTALL}"
        ) from None
    if not hasattr(KaggleApi, "_can_resume_partial"):  # it resumes downloads without joining two versions since 2.2
        raise DependencyError(f"Kaggle's official client is older than 2.2. Run: {_INSTALL}")


@contextlib.contextmanager
def _no_calls() -> Iterator[None]:
    """Let no request leave while ``kaggle`` is imported: it has no time limit, and signing in comes later anyway."""
    from kagglesdk.kaggle_http_client import KaggleHttpClient

    def call(*_arguments: Any, **_options: Any) -> None:
        raise ConnectionError("no requests while importing")

    original = KaggleHttpClient.call
    KaggleHttpClient.call = call
    try:
        yield
    finally:
        KaggleHttpClient.call = original

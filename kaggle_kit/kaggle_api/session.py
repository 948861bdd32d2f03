"""Opening the official client: import on first use, with its side effects held back, and sign in."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ConfigError, DependencyError
from kaggle_kit.kaggle_api.account import credentials
from kaggle_kit.kaggle_api.patience import Patience

if TYPE_CHECKING:
    from kaggle_kit.kaggle_api.official import Kaggle

_INSTALL = "pip install 'kaggle-kit[kaggle]'"


def connect(patience: Patience | None = None) -> Kaggle:
    """A signed-in client.

    Raises:
        ConfigError: no usable credentials.
        DependencyError: the official client is not installed or too old.
        RemoteError: Kaggle could not be reached to look up whose token it is.
    """
    account = credentials()
    _import_client()
    from kaggle_kit.kaggle_api.official import Kaggle, PatientApi

    kaggle = Kaggle(PatientApi(patience or Patience()))
    refused = ConfigError(
        f"Kaggle does not accept the credentials in {account.source}: the {account.kind} is unknown, expired or revoked. "
        "Make a new token at https://www.kaggle.com/settings/api."
    )
    try:
        with kaggle._doing("signing in"), contextlib.redirect_stdout(io.StringIO()):
            kaggle.api.authenticate()
    except SystemExit:  # the client prints a page of help and leaves the process
        raise refused from None
    if not kaggle.username:
        raise refused
    return kaggle


def _import_client() -> None:
    """Import ``kaggle``. On import it signs in, which must neither reach for the network nor print nor end the process."""
    try:
        with _no_calls(), contextlib.redirect_stdout(io.StringIO()):
            from kaggle.api.kaggle_api_extended import KaggleApi
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] in ("kaggle", "kagglesdk"):
            raise DependencyError(f"Kaggle's official client is not installed, or older than 1.7. Run: {_INSTALL}") from None
        raise DependencyError(
            f"Kaggle's official client cannot be imported, for it needs {error.name!r}, which is not installed. Run: {_INSTALL}"
        ) from None
    except (Exception, SystemExit) as error:  # releases before 2.2 let their sign-in's failure through
        raise DependencyError(
            f"Kaggle's official client ends its own import ({type(error).__name__}); it may be too old for these credentials. "
            f"Run: pip install -U kaggle, or {_INSTALL}"
        ) from None
    if not hasattr(KaggleApi, "build_kaggle_client"):
        raise DependencyError("Kaggle's official client is older than 1.7. Run: pip install -U kaggle")


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

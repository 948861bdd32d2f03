"""Where a study lives: SQLite in the workspace, a database that several machines share, or a journal file."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from kaggle_kit.errors import ConfigError, DependencyError, MissingFileError, RemoteError
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS, GRACE_SECONDS = 30, 120
"""A trial of a database tells every 30 s that it lives; after 120 s of silence any machine takes it for killed."""
MOST_RETRIES = 3

RetryCallback: Any = getattr(
    optuna.storages, "RetryHeartbeatStaleTrialCallback", getattr(optuna.storages, "RetryFailedTrialCallback", None)
)
"""Optuna 4.9 gave it another name."""

_INSTALL = {
    "psycopg": "pip install 'psycopg[binary]'",
    "psycopg2": "pip install 'psycopg[binary]'",
    "MySQLdb": "pip install mysqlclient",
    "pymysql": "pip install pymysql",
}
T = TypeVar("T")


def default_storage(workspace: Workspace, study: str) -> str:
    """The URL of a study's own SQLite file."""
    return f"sqlite:///{(workspace.tune_dir(study) / 'study.db').resolve()}"


def open_storage(storage: str) -> BaseStorage:
    """Connect to a storage: a database URL such as ``postgresql://user@host/name``, or the path of a journal file.

    A database finds killed trials by their heartbeat. A journal has none.

    Raises:
        ConfigError: the URL is not one of a database.
        DependencyError: the database's driver is not installed.
        RemoteError: the database does not answer, or refuses.
    """
    if "://" not in storage:
        path = Path(storage)
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    url = _with_driver(storage)
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return _connect(url)


def retry_callback(most: int | None = MOST_RETRIES) -> Callable[[optuna.Study, optuna.trial.FrozenTrial], None]:
    """Queues a trial again with its parameters and with what it reported, since it goes on from its checkpoint."""
    made: Callable[[optuna.Study, optuna.trial.FrozenTrial], None] = quietly(
        lambda: RetryCallback(max_retry=most, inherit_intermediate_values=True)
    )
    return made


def quietly(make: Callable[[], T]) -> T:
    """Call ``make`` without Optuna's remarks on features that it may still change; the versions allowed for have them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return make()


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Optuna logs nothing while inside: what happens to trials is told by this package's reporters."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def shown_url(storage: str) -> str:
    """A storage without its password, for messages."""
    if "://" not in storage:
        return storage
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(storage).render_as_string(hide_password=True)
    except ArgumentError:
        return storage.partition("://")[0] + "://…"


def open_dashboard(
    workspace: Workspace, study: str = "tune", *, storage: str | None = None, host: str = "127.0.0.1", port: int = 8080
) -> None:
    """Serve optuna-dashboard until it is interrupted.

    Raises:
        DependencyError: optuna-dashboard is not installed.
        MissingFileError: the study was not begun.
        RemoteError: the storage cannot be used.
    """
    try:
        from optuna_dashboard import run_server
    except ImportError as error:
        raise DependencyError(
            "the dashboard needs the package optuna-dashboard. Run: pip install 'kaggle-kit[dashboard]'"
        ) from error
    if storage is None and not (workspace.tune_dir(study) / "study.db").exists():
        raise MissingFileError(f"no study {study!r} in {workspace.root / 'tune'}. Run `kk tune --study {study}` first.")
    url = storage or default_storage(workspace, study)
    logger.info("dashboard of %s at http://%s:%d (Ctrl-C ends it)", shown_url(url), host, port)
    with hushed():
        backend: Any = open_storage(url)
        run_server(backend, host=host, port=port)


def _connect(url: str) -> RDBStorage:
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    # SQLite: others may hold the file for a moment. Servers: a connection may have died between two epochs.
    engine: dict[str, Any] = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    names = inspect.signature(RDBStorage.__init__).parameters
    stale = next(name for name in ("heartbeat_stale_trial_callback", "failed_trial_callback") if name in names)
    options: dict[str, Any] = {stale: retry_callback(), "heartbeat_interval": HEARTBEAT_SECONDS, "grace_period": GRACE_SECONDS}
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        return quietly(lambda: RDBStorage(url, engine_kwargs=engine, **options))
    except ImportError as error:
        driver = next((name for name in _INSTALL if name in f"{error} {error.__cause__}"), "")
        raise DependencyError(
            f"the storage {shown_url(url)} needs a driver that is not installed ({error.__cause__ or error}). "
            f"Run: {_INSTALL.get(driver, 'pip install the driver of this database')}"
        ) from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            f"storage {shown_url(url)!r} is no database URL. Expected e.g. sqlite:///study.db, "
            "postgresql://user:password@host/name, or the path of a journal file."
        ) from error
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        cause = " ".join(str(getattr(error, "orig", None) or error.__cause__ or error).split())
        raise RemoteError(f"the storage {shown_url(url)} cannot be used: {cause}") from error


def _with_driver(url: str) -> str:
    """Name the PostgreSQL driver that is installed: which one SQLAlchemy takes by itself depends on its version."""
    scheme, mark, rest = url.partition("://")
    if scheme in ("postgres", "postgresql"):
        installed = [name for name in ("psycopg", "psycopg2") if importlib.util.find_spec(name)]
        scheme = f"postgresql+{installed[0] if installed else 'psycopg'}"
    return scheme + mark + rest

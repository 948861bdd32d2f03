"""optuna-dashboard on a study of this workspace."""

from __future__ import annotations

import logging
from typing import Any

from kaggle_kit.errors import DependencyError, MissingFileError
from kaggle_kit.tune.storage import default_storage, hushed, open_storage, shown_url
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)


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

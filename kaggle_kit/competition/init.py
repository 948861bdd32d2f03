"""Writing kk.yaml: the thin end of ``kk init``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from kaggle_kit import files
from kaggle_kit.competition.infer import infer_competition
from kaggle_kit.competition.questions import Inference
from kaggle_kit.config import build_config
from kaggle_kit.config.render import render
from kaggle_kit.errors import ConfigError
from kaggle_kit.workspace import Workspace


def init_workspace(
    data_dir: Path,
    workspace_root: Path,
    *,
    choices: Mapping[str, str] | None = None,
    metric: str | None = None,
    name: str | None = None,
    competition: str | None = None,
    force: bool = False,
) -> Inference:
    """Infer the competition in ``data_dir`` and write a commented kk.yaml to ``workspace_root``.

    Args:
        choices, metric, name, competition: as for :func:`infer_competition`, whose errors are raised, too.
        force: replace an existing kk.yaml.

    Raises:
        ConfigError: there is a kk.yaml already.
        StorageError: it cannot be written.
    """
    workspace = Workspace(Path(workspace_root))
    path = workspace.config_path
    _require_free(path, force=force)
    inference = infer_competition(
        Path(data_dir),
        workspace_root=Path(workspace_root),
        choices=choices,
        metric=metric,
        name=name,
        competition=competition,
    )
    text = render(inference.config, inference.folds)
    written = build_config(yaml.safe_load(text), source="the new kk.yaml")
    if written.competition != inference.config or written.folds != inference.folds:
        raise ConfigError(f"some name in {data_dir} cannot be stored in YAML; look for unusual characters and rename it.")
    with files.folder_lock(workspace.cache_dir):
        _require_free(path, force=force)  # somebody else may have written it meanwhile
        files.write_text(path, text)
    return inference


def _require_free(path: Path, *, force: bool) -> None:
    if path.exists() and not force:
        raise ConfigError(f"{path} exists and may hold your changes. Use --force to replace it, or go to another folder.")

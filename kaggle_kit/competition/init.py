"""Writing kk.yaml: the thin end of ``kk init``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, Unpack

import yaml

from kaggle_kit import files
from kaggle_kit.competition.containers import Progress
from kaggle_kit.competition.infer import infer_competition
from kaggle_kit.competition.questions import Inference
from kaggle_kit.config import build_config
from kaggle_kit.config.render import render
from kaggle_kit.errors import ConfigError
from kaggle_kit.workspace import Workspace


class Told(TypedDict, total=False):
    """What a user says of a competition; see :func:`infer_competition`."""

    choices: Mapping[str, str] | None
    metric: str | None
    name: str | None
    competition: str | None


def init_workspace(
    data_dir: Path, workspace_root: Path, *, force: bool = False, progress: Progress | None = None, **told: Unpack[Told]
) -> Inference:
    """Infer the competition in ``data_dir`` and write a commented kk.yaml to ``workspace_root``.

    Args:
        force: replace an existing kk.yaml.
        progress: told how many pictures of a container are unpacked.
        told: as for :func:`infer_competition`, whose errors are raised, too.

    Raises:
        ConfigError: there is a kk.yaml already.
        StorageError: it cannot be written.
    """
    workspace = Workspace(Path(workspace_root))
    path = workspace.config_path
    _require_free(path, force=force)
    inference = infer_competition(Path(data_dir), workspace_root=Path(workspace_root), progress=progress, **told)
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

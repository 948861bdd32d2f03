"""Own models: a function of a file in the workspace, named as ``file.py:function`` in ``model.name``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kaggle_kit import files
from kaggle_kit.errors import ConfigError, WeightsError
from kaggle_kit.own_code import is_own, load_function, require_file
from kaggle_kit.workspace import CONFIG_NAME

KIND = "model"


def create_own(name: str, n_classes: int, options: Mapping[str, Any], root: Path | None) -> nn.Module:
    """Call ``function(n_classes, **options)`` of the workspace ``root``.

    Raises:
        ConfigError: there is no such file or function, it fails, or returns something else than a model.
    """
    function = load_function(name, KIND, _known(name, root))
    try:
        model = function(n_classes, **options)
    except Exception as error:  # whatever its code raises
        raise ConfigError(
            f"model {name} cannot be made with n_classes={n_classes} and model.options={dict(options)} "
            f"({type(error).__name__}: {error})."
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model {name} should return an nn.Module, got {type(model).__name__}.")
    return model


def require_logits(model: nn.Module, name: str, n_classes: int, shape: tuple[int, int, int]) -> None:
    """Try the model with two images of ``shape`` (channels, height, width).

    Raises:
        ConfigError: it fails, or does not give a logit for each class.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(torch.zeros(2, *shape))
    except Exception as error:  # whatever its code raises
        raise ConfigError(f"model {name} fails for images of {shape}: {type(error).__name__}: {error}.") from error
    finally:
        model.train(training)
    given = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if given != (2, n_classes):
        raise ConfigError(f"model {name} should give logits of shape (images, {n_classes}), got {given} for two images.")


def code_fingerprint(name: str, root: Path | None) -> str:
    """Return the sha256 of an own model's file; "" for other models. Raises ConfigError without the file."""
    return files.file_fingerprint(require_file(name, KIND, root)) if is_own(name) and root is not None else ""


def require_same_code(name: str, code: str, root: Path | None) -> None:
    """Raise WeightsError when the file of a trained own model is no longer the one that it was trained with."""
    if code_fingerprint(name, _known(name, root)) != code:
        raise WeightsError(
            f"model {name} was trained with another version of that file. Put the old file back, or train again."
        )


def _known(name: str, root: Path | None) -> Path:
    if root is None:
        raise ConfigError(f"model {name} is made by a file of a workspace, and the model file lies in none. Put it back there.")
    return root


def workspace_of(path: Path) -> Path | None:
    """Return the workspace that the model file of a fold lies in: the next folder with kk.yaml, or that of its ``runs``."""
    folders = path.absolute().parents
    found = next((folder for folder in folders if (folder / CONFIG_NAME).is_file()), None)
    return found or next((folder.parent for folder in folders if folder.name == "runs"), None)

"""``kk config``: what the keys of kk.yaml mean."""

from __future__ import annotations

from typing import Annotated

import typer

from kaggle_kit.cli.common import app, command
from kaggle_kit.project import Project

Key = Annotated[str, typer.Argument(help="a section, a key such as run.optimizer.lr, or a short name such as lr")]


@command(app)
def config(key: Key = "") -> object:
    """Explain the keys of kk.yaml: what each means, its value here, its default and its choices."""
    return Project.here().keys(key)

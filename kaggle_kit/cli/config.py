"""``kk config`` and ``kk recipes``: what the keys of kk.yaml mean, and settings of them that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from kaggle_kit.cli.common import app, command, one_of, recipe_names
from kaggle_kit.project import Project

Key = Annotated[str, typer.Argument(help="a section, a key such as run.optimizer.lr, or a short name such as lr")]


@command(app)
def config(key: Key = "") -> object:
    """Explain the keys of kk.yaml: what each means, its value here, its default and its choices."""
    return Project.here().keys(key)


@command(app)
def recipes(
    name: Annotated[str, typer.Argument(help="the one to print", autocompletion=one_of(recipe_names))] = "",
) -> object:
    """List the recipes of five real projects, or print one; `kk train --config recipe:NAME` trains by it."""
    return Project.recipes(name)

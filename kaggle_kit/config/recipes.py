"""Recipes: run configurations that come with the package, ``kaggle_kit/recipes/*.yaml``, for `--config recipe:NAME`.

Each rebuilds a model of somebody's project, or says what we do better; its first line says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_kit.config.run import RunConfig
from kaggle_kit.config.safe_yaml import read_yaml
from kaggle_kit.registry import Entry, Registry
from kaggle_kit.results import Result

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "recipe:"
FOLDER = Path(__file__).parents[1] / "recipes"


def recipes() -> Registry[Path]:
    """Return the recipes: name -> file."""
    files = sorted(FOLDER.glob("*.yaml"))
    return Registry("recipe", [Entry(file.stem, _text(file).partition("\n")[0].removeprefix("# "), file) for file in files])


def located(given: Path) -> Path:
    """Return the file that ``--config`` names: ``recipe:NAME``, or a path.

    Raises:
        ConfigError: there is no such recipe; lists all.
    """
    name = str(given)
    return recipes().lookup(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else given


@dataclass(frozen=True, repr=False)
class Recipe(Result):
    """A recipe as it is written.

    Attributes:
        yaml: its text, comments included.
    """

    name: str
    yaml: str

    def describe(self) -> str:
        """Return the text."""
        return self.yaml.rstrip()


def read_recipe(name: str) -> Recipe:
    """Return a recipe; raises ConfigError where there is none of that name."""
    return Recipe(name, _text(recipes().lookup(name)))


def recipes_table() -> pd.DataFrame:
    """Return a row for each recipe: recipe, what it is, model, strategy."""
    import pandas as pd

    rows = []
    for name, file in (found := recipes()).items():
        config = RunConfig.model_validate(read_yaml(file))
        rows.append((name, found.helps[name], config.model.name, config.strategy))
    return pd.DataFrame(rows, columns=["recipe", "what it is", "model", "strategy"])


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")

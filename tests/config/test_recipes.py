"""Recipes: each is a run's configuration, says what it is, is found by its name, and gives way to the command line."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from kaggle_kit import Project
from kaggle_kit.config import Config, RunConfig, load_config
from kaggle_kit.config.known import require_known
from kaggle_kit.config.recipes import read_recipe, recipes, recipes_table
from kaggle_kit.errors import ConfigError

NAMES = list(recipes())
COMPETITION = {
    "name": "zoo",
    "data_dir": "data",
    "task": "multiclass",
    "classes": ["ant", "bee"],
    "train": {"layout": "folders", "dirs": ["train"]},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "kk.yaml"
    path.write_text(yaml.safe_dump({"competition": COMPETITION, "run": {"seed": 3}}))
    return path


def load(path: Path, name: str, *overrides: str) -> Config:
    return load_config(path, overrides, run_file=Path(f"recipe:{name}"))


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_configuration_with_names_that_are_known(name, path):
    run = load(path, name).run
    require_known(run, "multiclass")
    assert run.shaping() != RunConfig().shaping()
    assert run.seed == 0  # kk.yaml's run section does not count


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_read(name):
    lines = read_recipe(name).yaml.splitlines()
    first, second, third = lines[:3]
    assert first.startswith("# ")
    assert (second, third[:2]) == ("#", "# ")
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 128


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_comments_name_recipes_that_are_there(name):
    words = read_recipe(name).yaml.replace("`", " ").replace(";", " ").replace("\n# ", " ").split()
    named = [word.removeprefix("recipe:") for word in words if word.startswith("recipe:")]
    named += [after.rstrip(".,:") for word, after in pairwise(words) if word == "recipe"]
    assert not [one for one in named if one not in NAMES]


def test_the_command_line_has_the_last_word(path):
    run = load(path, "scenes", "epochs=2", "model=resnet18").run
    assert (run.schedule.epochs, run.model.name) == (2, "resnet18")
    assert (run.strategy, run.augment.preset) == ("probe-then-finetune", "light")  # the rest is the recipe's


def test_a_name_that_is_not_there_is_answered_by_those_that_are(path):
    with pytest.raises(ConfigError, match=r"unknown recipe 'scene'\. Did you mean 'scenes'") as caught:
        load(path, "scene")
    assert all(name in str(caught.value) for name in NAMES)
    with pytest.raises(ConfigError, match="unknown recipe"):
        load(path, "../secret")


def test_they_are_listed_and_shown():
    table = Project.recipes()
    assert list(table.columns) == ["recipe", "what it is", "model", "strategy"]
    assert list(table["recipe"]) == NAMES
    rows = table.set_index("recipe")
    assert rows.loc["flowers_vgg19", "model"] == "vgg19_features"
    assert rows.loc["sushi", "strategy"] == "probe"
    assert repr(Project.recipes("sushi")) == "Recipe: # Sushi or sandwich: what we do better"
    assert recipes_table().equals(table)

"""Descriptions of the keys: written once, and shown by `kk config`, kk.yaml and docs/configuration.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kaggle_kit.choices import LOSSES, SCHEME_CHOICES
from kaggle_kit.config import ALIASES, CompetitionConfig, FoldsConfig, RunConfig
from kaggle_kit.config.describe import Key, describe_config, find, keys
from kaggle_kit.config.document import document
from kaggle_kit.config.render import render
from kaggle_kit.errors import ConfigError

ALL = {key.name: key for key in keys()}
DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def small_competition(**changes: object) -> CompetitionConfig:
    content = {
        "name": "zoo",
        "data_dir": "data",
        "task": "multiclass",
        "classes": ["ant", "no"],
        "train": {"layout": "folders", "dirs": ["train"]},
        **changes,
    }
    return CompetitionConfig.model_validate(content)


@pytest.mark.parametrize("key", ALL.values(), ids=lambda key: key.name)
def test_every_key_is_described_in_a_line(key: Key) -> None:
    assert len(key.description.split()) >= 2
    assert len(key.description) <= 120
    assert key.description == " ".join(key.description.split()).rstrip(".")
    assert "typing" not in key.kind
    assert "<" not in key.kind


def test_every_short_name_is_said_with_its_key() -> None:
    assert {key.short: key.name for key in ALL.values() if key.short} == {short: f"run.{key}" for short, key in ALIASES.items()}


def test_choices_come_from_the_registries_with_their_helps() -> None:
    assert ALL["run.loss.name"].choices == LOSSES.helps
    assert ALL["folds.scheme"].choices == SCHEME_CHOICES.helps
    assert list(ALL["run.data.fit"].choices) == ["crop", "squash", "pad"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lr", ["run.optimizer.lr"]),
        ("run.optimizer.lr", ["run.optimizer.lr"]),
        ("optimizer.lr", ["run.optimizer.lr"]),
        ("optimizer", ["run.optimizer.name"]),
        ("early_stopping", [f"run.early_stopping.{key}" for key in ("monitor", "patience", "min_delta")]),
        ("cache", ["cache.enabled", "cache.budget"]),
        ("strategy", ["run.strategy"]),
    ],
)
def test_a_key_is_found_by_any_of_its_names(name: str, expected: list[str]) -> None:
    assert [key.name for key in find(name)] == expected
    assert len(find("")) == len(ALL)


def test_an_unknown_key_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'optimizer\.lrr'\. Did you mean 'optimizer.lr'"):
        find("optimizer.lrr")


def test_the_value_here_beside_the_default(tmp_path: Path) -> None:
    path = tmp_path / "kk.yaml"
    path.write_text(render(small_competition(), FoldsConfig()).replace("lr: 0.001", "lr: 0.25"))
    found = describe_config("lr", path)
    assert (found.to_dict()["run.optimizer.lr"]["here"], found.keys[0].default) == (0.25, 0.001)
    assert "here: 0.25\ndefault: 0.001" in found.describe()
    assert "kk train lr=VALUE" in found.describe()
    assert describe_config("lr", tmp_path / "none.yaml").to_dict()["run.optimizer.lr"]["here"] == 0.001


def test_a_choice_is_listed_with_its_help() -> None:
    table = describe_config("loss").table()
    assert table is not None
    assert dict(zip(table["choice"], table["what it is"], strict=True)) == LOSSES.helps


def test_kk_yaml_holds_every_key_that_counts_with_its_description() -> None:
    text = render(small_competition(), FoldsConfig())
    content = yaml.safe_load(text)
    assert content["run"] == RunConfig().model_dump(mode="json")
    for key in ALL.values():
        if key.name.startswith(("run.", "cache.")):
            assert f"{key.name.rpartition('.')[2]}:" in text
            assert f"# {key.description}" in text
    assert "class_level" in content["competition"]["train"]
    assert "image_column" not in content["competition"]["train"]
    assert "holdout" not in content["folds"]
    assert yaml.safe_load(render(small_competition(), FoldsConfig(scheme="holdout")))["folds"]["holdout"] == 0.2


def test_docs_configuration_is_what_the_descriptions_give() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "docs/configuration.md is stale: run `make docs`"

"""Choices by name."""

from __future__ import annotations

import pytest

from kaggle_kit.errors import ConfigError
from kaggle_kit.registry import lookup, suggest

TABLE = {"mean": 1, "gmean": 2, "rank": 3}


def test_found() -> None:
    assert [lookup(TABLE, name, "blender") for name in TABLE] == [1, 2, 3]


def test_near_miss_names_the_kind_the_nearest_and_all() -> None:
    with pytest.raises(
        ConfigError, match=r"^unknown blender 'maen'\. Did you mean 'mean'\? Choose one of: mean, gmean, rank\.$"
    ):
        lookup(TABLE, "maen", "blender")


def test_far_miss_suggests_nothing() -> None:
    with pytest.raises(ConfigError, match=r"^unknown blender 'xyz'\. Choose one of: mean, gmean, rank\.$"):
        lookup(TABLE, "xyz", "blender")


def test_suggest_takes_the_nearest() -> None:
    assert suggest("stratifed", ["group", "stratified-group", "stratified"]) == " Did you mean 'stratified'?"
    assert suggest("anything", []) == ""

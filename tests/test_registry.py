"""Choices by name."""

from __future__ import annotations

import pytest

from kaggle_kit.errors import ConfigError
from kaggle_kit.registry import Entry, Lazy, Registry, lookup, shortened, suggest

TABLE = {"mean": 1, "gmean": 2, "rank": 3}
REGISTRY = Registry("blender", [Entry(name, f"the {name}", value) for name, value in TABLE.items()])


def test_found() -> None:
    assert [lookup(TABLE, name, "blender") for name in TABLE] == [1, 2, 3]
    assert [REGISTRY.lookup(name) for name in REGISTRY] == [1, 2, 3]


@pytest.mark.parametrize("find", [REGISTRY.lookup, REGISTRY.require, lambda name: lookup(TABLE, name, "blender")])
class TestNotFound:
    def test_near_miss_names_the_kind_the_nearest_and_all(self, find) -> None:
        with pytest.raises(
            ConfigError, match=r"^unknown blender 'maen'\. Did you mean 'mean'\? Choose one of: mean, gmean, rank\.$"
        ):
            find("maen")

    def test_far_miss_suggests_nothing(self, find) -> None:
        with pytest.raises(ConfigError, match=r"^unknown blender 'xyz'\. Choose one of: mean, gmean, rank\.$"):
            find("xyz")

    def test_what_is_quoted_is_short(self, find) -> None:
        with pytest.raises(ConfigError) as caught:
            find("x\n" * 100_000)
        assert len(str(caught.value)) < 200
        assert "\n" not in str(caught.value)


def test_suggest_takes_the_nearest() -> None:
    assert suggest("stratifed", ["group", "stratified-group", "stratified"]) == " Did you mean 'stratified'?"
    assert suggest("anything", []) == ""


def test_a_registry_is_a_mapping_with_helps() -> None:
    assert dict(REGISTRY) == TABLE
    assert REGISTRY.helps == {"mean": "the mean", "gmean": "the gmean", "rank": "the rank"}
    assert REGISTRY.listed == "mean, gmean or rank"
    assert Registry("one", [Entry("only", "the only one", 1)]).listed == "only"


def test_a_lazy_value_is_imported_when_used_and_its_name_known_before() -> None:
    registry: Registry[object] = Registry(
        "thing", [Lazy("here", "one that is there", "math:pi"), Lazy("gone", "one that is not", "no_such_module:x")]
    )
    assert "gone" in registry
    assert list(registry) == ["here", "gone"]
    assert registry.require("gone") == "gone"
    assert registry.lookup("here") == pytest.approx(3.14159, abs=1e-5)
    with pytest.raises(ModuleNotFoundError):
        registry.lookup("gone")


def test_auto_comes_first_and_stands_for_nothing_yet() -> None:
    with_auto = REGISTRY.with_auto("the right one")
    assert list(with_auto) == ["auto", "mean", "gmean", "rank"]
    assert with_auto.helps["auto"] == "the right one"
    assert with_auto.lookup("auto") is None
    assert "auto" not in REGISTRY


@pytest.mark.parametrize("value", ["x" * 1000, ["y" * 1000], {"a": "b" * 1000}])
def test_shortened(value: object) -> None:
    assert len(shortened(value)) == 80
    assert shortened("short") == "'short'"

"""Conformance: what every entry of every registry must have."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from kaggle_kit import choices
from kaggle_kit.check import CHECKS
from kaggle_kit.metrics import METRICS
from kaggle_kit.registry import Registry

REGISTRIES = {name: value for name, value in vars(choices).items() if isinstance(value, Registry)} | {
    "METRICS": METRICS,
    "CHECKS": CHECKS,
}
ENTRIES = [(registry, name) for registry in REGISTRIES for name in REGISTRIES[registry]]


@pytest.mark.parametrize(("registry", "name"), ENTRIES)
class TestEveryEntry:
    def test_its_name_can_be_typed(self, registry: str, name: str) -> None:
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name)

    def test_its_help_is_one_plain_sentence(self, registry: str, name: str) -> None:
        help = REGISTRIES[registry].helps[name]
        assert help == " ".join(help.split())
        assert len(help.split()) >= 3
        assert len(help) <= 90
        assert not help.endswith(".")
        assert help != name

    def test_it_leads_somewhere(self, registry: str, name: str) -> None:
        value = REGISTRIES[registry][name]
        if name == "auto" and registry.endswith("_CHOICES"):
            assert value is None
        else:
            assert value is not None


def test_all_registries_are_here() -> None:
    assert len(REGISTRIES) >= 16
    assert all(len(set(registry.helps.values())) == len(registry) for registry in REGISTRIES.values())


def test_names_are_known_without_torch_numpy_or_pandas() -> None:
    code = (
        "import sys; from kaggle_kit import choices; names = [*choices.LOSSES, *choices.BLENDERS, *choices.VIEWS];"
        "print(len(names), *{'torch', 'numpy', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(choices.LOSSES) + len(choices.BLENDERS) + len(choices.VIEWS))]

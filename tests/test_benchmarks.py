"""Benchmarks are run by hand, now and then: what they import from the package must still be there."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py"))


def imported(path):
    """Yield (module, name) of each import from the package, those inside functions as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "kaggle_kit":
            yield from ((node.module, alias.name) for alias in node.names)


def is_there(module, name):
    found = importlib.import_module(module)
    is_package = hasattr(found, "__path__")
    return hasattr(found, name) or (is_package and importlib.util.find_spec(f"{module}.{name}") is not None)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path):
    assert [f"{module}.{name}" for module, name in imported(path) if not is_there(module, name)] == []


def test_what_is_not_there_is_found(tmp_path):
    path = tmp_path / "old.py"
    path.write_text("def run():\n    from kaggle_kit.units import format_duration, gone\n    from kaggle_kit import units\n")
    assert [name for module, name in imported(path) if not is_there(module, name)] == ["gone"]

"""Own functions are imported by their file, only when named, and only from the workspace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_kit.errors import ConfigError
from kaggle_kit.own_code import load_function, require_form


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / "code").mkdir(parents=True)
    (root / "yaml.py").write_text("def score(truth, probs):\n    return 1.0\n")
    (root / "code" / "inner.py").write_text("def score(truth, probs):\n    return 2.0\n")
    (tmp_path / "outside.py").write_text("raise SystemExit('it was run')")
    return root


@pytest.mark.parametrize(("name", "expected"), [("yaml.py:score", 1.0), ("yaml:score", 1.0), ("code/inner.py:score", 2.0)])
def test_loaded_by_file_and_nothing_else_changes(root: Path, name: str, expected: float) -> None:
    import yaml

    path, modules = list(sys.path), sys.modules["yaml"]
    assert load_function(name, "metric", root)(None, None) == expected
    assert sys.path == path
    assert sys.modules["yaml"] is modules is yaml


def test_a_changed_file_is_read_again(root: Path) -> None:
    assert load_function("yaml.py:score", "metric", root)(None, None) == 1.0
    (root / "yaml.py").write_text("def score(truth, probs):\n    return 30.0\n")
    assert load_function("yaml.py:score", "metric", root)(None, None) == 30.0


@pytest.mark.parametrize("name", ["../outside.py:score", "code/../../outside.py:score", "/outside.py:score"])
def test_outside_by_its_name(root: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="leads out of the workspace"):
        require_form(name, "metric")


def test_outside_by_a_link(root: Path) -> None:
    (root / "link.py").symlink_to(root.parent / "outside.py")
    with pytest.raises(ConfigError, match="lies outside the workspace"):
        load_function("link.py:score", "metric", root)


@pytest.mark.parametrize("name", ["os:system", "gone.py:score", "yaml.py:gone"])
def test_not_there(root: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"Expected file\.py:function"):
        load_function(name, "metric", root)


@pytest.mark.parametrize("name", [":score", "yaml.py:", "yaml.py", "a:b:c", "yaml.py:a b", "\0:score"])
def test_malformed(root: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"Expected file\.py:function"):
        load_function(name, "metric", root)


def test_code_that_fails_is_named(root: Path) -> None:
    (root / "broken.py").write_text("import no_such_module")
    with pytest.raises(ConfigError, match=r"broken\.py cannot be imported \(ModuleNotFoundError: .*no_such_module"):
        load_function("broken.py:score", "metric", root)
    assert not [name for name in sys.modules if name.endswith("_broken")]


@pytest.mark.parametrize("name", ["yaml", "pandas", "typer", "kaggle_kit"])
def test_a_file_beside_kk_yaml_is_not_imported_by_its_name(tmp_path: Path, name: str) -> None:
    """As an installed command, whose own folder is on the path and not the current one (``-P``)."""
    (tmp_path / f"{name}.py").write_text("open('was_run', 'w').close()")
    (tmp_path / "kk.yaml").write_text("competition: {}")
    code = "from kaggle_kit.cli import main; main(['runs'])"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "was_run").exists()

"""Where things lie, and names that must not leave their folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_kit.errors import ConfigError, MissingFileError
from kaggle_kit.workspace import Workspace, open_workspace


def test_paths() -> None:
    workspace = Workspace(Path("w"))
    assert workspace.config_path == Path("w/kk.yaml")
    assert workspace.folds_path("folds") == Path("w/folds/folds.csv")
    assert workspace.fold_dir("big", 3) == Path("w/runs/big/fold3")
    assert workspace.submission_path("blend-v1.2") == Path("w/submissions/blend-v1.2.csv")


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../a", "/abs", "a/", "a b", "a\n", "a\0", "é" * 150, "\ud800"]
)
def test_names_stay_in_their_folder(name: str) -> None:
    workspace = Workspace(Path("w"))
    for path in (workspace.folds_path, workspace.run_dir, workspace.submission_path):
        with pytest.raises(ConfigError, match="must be a plain file name"):
            path(name)


def test_open(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no kk\.yaml in .*Run `kk init DATA_DIR`"):
        open_workspace(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kk.yaml").touch()
    assert open_workspace(tmp_path).root == tmp_path

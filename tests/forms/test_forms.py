"""`kk init` on each of Kaggle's image-classification competitions, laid out as Kaggle gives it: what must be concluded."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import many_labels
import one_label
import others
import pytest
import two_classes
from form import FORMS, OTHERS, Form
from pictures import Folder

from kaggle_kit.competition import init_workspace, load_competition
from kaggle_kit.config import load_config
from kaggle_kit.errors import DataError
from kaggle_kit.workspace import Workspace

MODULES = (two_classes, one_label, many_labels, others)  # their entries are in FORMS once they are imported


def laid_out(form: Form, root: Path) -> dict[str, str]:
    """Write the competition to ``root``/<slug>; returns its answers."""
    for package in form.needs:
        pytest.importorskip(package)
    folder = Folder(root / form.slug)
    folder.root.mkdir(parents=True)
    return dict(form.write(folder))


@pytest.mark.parametrize("slug", [*FORMS, *OTHERS])
def test_init_concludes_what_the_page_says(slug: str, tmp_path: Path) -> None:
    form = (FORMS | OTHERS)[slug]
    answers = laid_out(form, tmp_path)
    workspace = Workspace(tmp_path / "work")
    workspace.root.mkdir()
    given = dict(text.split("=", 1) for text in form.typed)
    if form.refused:
        with pytest.raises(DataError, match=form.refused):
            init_workspace(tmp_path / slug, workspace.root)
        assert not workspace.config_path.exists()
        return
    init_workspace(tmp_path / slug, workspace.root, **given)
    config = load_config(workspace.config_path).competition
    found = {key: functools.reduce(lambda part, name: getattr(part, name), key.split("."), config) for key in form.concludes}
    counted = {key: len(value) if key == "classes" else value for key, value in found.items()}
    assert counted == dict(form.concludes)
    competition = load_competition(workspace, config)
    assert sorted(row.id for row in competition.test) == sorted(answers)
    assert all(row.path.is_file() for row in (*competition.train, *competition.test))


def test_there_are_32() -> None:
    assert len(FORMS) == 32


def values(form: Form, config: Any) -> dict[str, Any]:
    return {key: getattr(config, key) for key in form.concludes}

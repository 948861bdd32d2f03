import pytest
from factories import make_workspace
from fake_project import LARGE, SMALL, FakeProject

from kaggle_kit.auto import ideas, scene
from kaggle_kit.errors import WeightsError


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "local_backbones", lambda only=(), pretrained=True: [SMALL, LARGE])
    monkeypatch.setattr(scene, "find_weights", lambda name, pretrained: (_ for _ in ()).throw(WeightsError("offline")))
    monkeypatch.setattr(scene, "_usual_side", lambda competition: 224)
    return FakeProject(make_workspace(tmp_path / "work", n_train=300, n_runs=0, views="hflip", n_folds=3))


@pytest.fixture
def only_ideas(monkeypatch):
    """A function that leaves a search the ideas of these names: what a test is not about takes most of its time."""

    def leave(*names):
        monkeypatch.setattr(ideas, "IDEAS", tuple(idea for idea in ideas.IDEAS if idea.name in names))

    return leave

import pytest
from factories import make_workspace
from fake_project import LARGE, SMALL, FakeProject

from kaggle_kit.auto import scene
from kaggle_kit.errors import WeightsError


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "local_backbones", lambda only=(), pretrained=True: [SMALL, LARGE])
    monkeypatch.setattr(scene, "find_weights", lambda name, pretrained: (_ for _ in ()).throw(WeightsError("offline")))
    monkeypatch.setattr(scene, "_usual_side", lambda competition: 224)
    return FakeProject(make_workspace(tmp_path / "work", n_train=300, n_runs=0, views="hflip", n_folds=3))

"""Own models: made by a file of the workspace, kept with its fingerprint, and refused when it changes."""

import pytest
import torch

from kaggle_kit.config import DataConfig, ModelConfig
from kaggle_kit.errors import ConfigError, WeightsError
from kaggle_kit.models import build_model, find_weights, freeze, image_spec, load_model, save_model
from kaggle_kit.models.own import workspace_of
from kaggle_kit.tables import Classes

CLASSES = Classes(("a", "b", "c"))
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, n_classes, width):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(width, n_classes)

    def forward(self, images):
        return self.fc(self.body(images))

def make(n_classes, width=4):
    return Net(n_classes, width)

def known(n_classes):
    model = Net(n_classes, 4)
    model.get_classifier = lambda: model.fc
    return model

def pooled(n_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())

def text(n_classes):
    return "a model"
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "kk.yaml").write_text("")
    (tmp_path / "code").mkdir()
    (tmp_path / "code/net.py").write_text(NET)
    return tmp_path


def build(root, function="make", **changes):
    return build_model(ModelConfig(name=f"code/net.py:{function}", **changes), 3, image_size=32, root=root)


def saved(root, model):
    path = root / "runs/r/fold0/model.safetensors"
    save_model(path, model, classes=CLASSES, spec=image_spec(model, DataConfig(image_size=32)), task="multiclass", meta={})
    return path


def test_what_is_saved_comes_back_from_the_file_of_the_workspace(root):
    model = build(root, options={"width": 6}).eval()
    loaded = load_model(saved(root, model))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.model(images), model(images))
    assert (loaded.name, model.fc.in_features, loaded.spec.size) == ("code/net.py:make", 6, (32, 32))


def test_a_changed_or_missing_file_is_refused(root):
    path = saved(root, build(root))
    (root / "code/net.py").write_text(NET + "\n")
    with pytest.raises(WeightsError, match=r"trained with another version.*train again"):
        load_model(path)
    (root / "code/net.py").unlink()
    with pytest.raises(ConfigError, match=r"there is no code/net\.py in"):
        load_model(path)


def test_a_model_file_outside_of_a_workspace_runs_no_code(root, tmp_path_factory):
    path = saved(root, build(root))
    away = tmp_path_factory.mktemp("away") / "model.safetensors"
    away.write_bytes(path.read_bytes())
    (away.parent / "code").mkdir()
    (away.parent / "code/net.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ConfigError, match="lies in none"):
        load_model(away)
    (away.parent / "kk.yaml").write_text("")
    with pytest.raises(WeightsError, match="another version"):
        load_model(away)
    assert load_model(away, root=root).name == "code/net.py:make"


def test_the_workspace_of_a_model_file(root):
    assert workspace_of(root / "tune/t/trials/x/fold0/model.safetensors") == root
    (root / "kk.yaml").unlink()
    assert workspace_of(root / "runs/r/fold0/model.safetensors") == root


@pytest.mark.parametrize(
    ("function", "changes", "message"),
    [
        ("none", {}, "has no 'none'"),
        ("text", {}, "should return an nn.Module, got str"),
        ("pooled", {}, r"logits of shape \(images, 3\), got \(2, 12\)"),
        ("make", {"options": {"depth": 2}}, "unexpected keyword argument 'depth'"),
        ("make", {"head": {"pool": "gem"}}, "no single classifier"),
    ],
)
def test_what_cannot_be_made(root, function, changes, message):
    with pytest.raises(ConfigError, match=message):
        build(root, function, **changes)


def test_its_weights(root):
    found = find_weights("code/net.py:make", True)
    assert (found.kind, "none of code/net.py:make" in found.text) == ("none", True)
    source = build(root)
    path = saved(root, source)
    weights = find_weights("code/net.py:make", str(path))
    filled = build_model(ModelConfig(name="code/net.py:make"), 3, weights=weights, image_size=32, root=root)
    assert torch.equal(filled.body[0].weight, source.body[0].weight)


def test_a_classifier_that_is_known_can_be_replaced_and_left_unfrozen(root):
    changes = {"head": {"name": "mlp", "hidden": [8]}, "freeze": -1}
    model = build(root, "known", **changes)
    frozen = freeze(model, ModelConfig(name="code/net.py:known", **changes))
    assert frozen == ["body.0.weight", "body.0.bias"]
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_model(saved(root, model.eval())).model(images), model(images))

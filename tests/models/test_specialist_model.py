"""A general model and its specialists as one model: the arithmetic, and that it is saved and exported as any other."""

import numpy as np
import pytest
import torch
from torch import nn

from kaggle_kit.config import DataConfig, ModelConfig
from kaggle_kit.errors import DataError
from kaggle_kit.inference.engines import EngineOptions, make_engine
from kaggle_kit.models import build_model, combine_models, image_spec, load_model, save_model
from kaggle_kit.models.specialists import SpecialistModel
from kaggle_kit.tables import Classes

CLASSES = Classes(("a", "b", "c", "d", "e"))
GROUPS = ((0, 3), (4, 2))


class Says(nn.Module):
    """Gives the same logits whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images):
        return self.logits.expand(len(images), -1)


GENERAL = [2.0, 0.5, -1.0, 1.0, 0.0]
SPECIAL = [[1.0, 9.0, 9.0, 3.0, -9.0], [5.0, 5.0, 2.0, 5.0, -1.0]]


def whole(*, multilabel=False):
    return SpecialistModel(Says(GENERAL), [Says(one) for one in SPECIAL], GROUPS, multilabel=multilabel)


def test_the_mass_of_a_group_stays_and_is_shared_out_as_the_specialist_says():
    before = torch.tensor(GENERAL).softmax(dim=0)
    after = whole()(torch.zeros(2, 3, 8, 8)).softmax(dim=1)
    assert after.shape == (2, 5)
    torch.testing.assert_close(after.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(after[0, 1], before[1])  # in no group
    for group, special in zip(GROUPS, SPECIAL, strict=True):
        places = list(group)
        torch.testing.assert_close(after[0, places].sum(), before[places].sum())
        expected = torch.tensor(special)[places].softmax(dim=0)
        torch.testing.assert_close(after[0, places] / after[0, places].sum(), expected)


def test_of_several_labels_a_class_is_there_if_any_of_its_group_is_and_then_it():
    after = whole(multilabel=True)(torch.zeros(1, 3, 8, 8)).sigmoid()[0]
    p = torch.tensor(GENERAL).sigmoid()
    torch.testing.assert_close(after[1], p[1])
    for group, special in zip(GROUPS, SPECIAL, strict=True):
        anyone = 1 - (1 - p[group[0]]) * (1 - p[group[1]])
        for place in group:
            torch.testing.assert_close(after[place], anyone * torch.tensor(special[place]).sigmoid(), atol=1e-5, rtol=1e-4)


def test_extreme_logits_stay_finite():
    for multilabel in (False, True):
        model = SpecialistModel(Says([80.0, -80.0, 0.0]), [Says([-90.0, 90.0, 0.0])], [(0, 1)], multilabel=multilabel)
        assert torch.isfinite(model(torch.zeros(1, 3, 8, 8))).all()


def networks(config):
    torch.manual_seed(0)
    made = []
    for _ in range(3):
        model = build_model(config, 5, image_size=32)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        made.append(model.eval())
    return made


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_it_is_saved_and_read_back(tmp_path, task):
    config = ModelConfig(name="test_resnet", head={"name": "mlp", "hidden": [8]})
    general, *others = networks(config)
    model = combine_models(general, others, GROUPS, multilabel=task == "multilabel")
    spec = image_spec(general, DataConfig(image_size=32))
    save_model(tmp_path / "m.safetensors", model, classes=CLASSES, spec=spec, task=task, meta={"run": "r"})
    again = load_model(tmp_path / "m.safetensors")
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(again.model(images), model(images))
        assert not torch.allclose(again.model(images), general(images), atol=1e-3)
    assert "specialists" not in again.meta
    assert again.name.startswith("test_resnet")


def test_a_group_of_unknown_classes_is_a_damaged_file(tmp_path):
    import json

    from safetensors.torch import load_file, save_file

    from kaggle_kit.models import read_header
    from kaggle_kit.runs.model_header import KEY

    general, *others = networks(ModelConfig(name="test_resnet"))
    path = tmp_path / "m.safetensors"
    model = combine_models(general, others, GROUPS, multilabel=False)
    spec = image_spec(general, DataConfig(image_size=32))
    save_model(path, model, classes=CLASSES, spec=spec, task="multiclass", meta={})
    header = {**read_header(path), "specialists": [["a", "nobody"], ["c", "e"]]}
    save_file(load_file(path), path, {KEY: json.dumps(header)})
    with pytest.raises(DataError, match="nobody"):
        load_model(path)


def test_openvino_computes_the_same(tmp_path):
    pytest.importorskip("openvino")
    general, *others = networks(ModelConfig(name="test_resnet"))
    model = combine_models(general, others, GROUPS, multilabel=False).eval()
    spec = image_spec(general, DataConfig(image_size=32))
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    options = EngineOptions(cache_dir=tmp_path)
    found = [make_engine(name, model, spec, fingerprint="f", options=options).logits(images) for name in ("torch", "openvino")]
    np.testing.assert_allclose(found[0].numpy(), found[1].numpy(), atol=1e-3)

"""Networks of our own, which timm builds, names and freezes as its others."""

from __future__ import annotations

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from kaggle_kit.config import DataConfig, ModelConfig
from kaggle_kit.models import build_model, find_weights, freeze, image_spec, load_model, save_model, split_model
from kaggle_kit.models.nets import UNTRAINED, default_cfgs
from kaggle_kit.tables import Classes

CLASSES = Classes(("ant", "bee", "cat"))
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SMALL = (*UNTRAINED, "vgg11_features")


def built(name, **changes):
    torch.manual_seed(0)
    return build_model(ModelConfig(name=name, pretrained=False, **changes), len(CLASSES), image_size=64)


@pytest.mark.parametrize("name", SMALL)
def test_every_network_trains_freezes_and_comes_back(name, tmp_path):
    model = built(name, drop_rate=0.1).train()
    model(IMAGES).square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    model.eval()
    spec = image_spec(model, DataConfig(image_size=64))
    save_model(tmp_path / "m.safetensors", model, classes=CLASSES, spec=spec, task="multiclass", meta={})
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path / "m.safetensors").model(IMAGES), model(IMAGES))
    assert split_model(model, (64, 64)) is not None
    stages = [set(freeze(built(name), ModelConfig(freeze=count))) for count in (1, 2)]
    assert stages[0] < stages[1]
    freeze(model, ModelConfig(freeze=-1))
    assert sum(parameter.requires_grad for parameter in model.parameters()) == 2


@pytest.mark.parametrize("name", SMALL)
def test_every_network_takes_another_pooling_and_head(name):
    model = built(name, head={"name": "mlp", "hidden": [8], "pool": "grid"})
    assert model.eval()(IMAGES).shape == (2, 3)


def test_the_residual_blocks_add_their_input():
    model = built("plantnet_resnet").eval()
    block = model.body[2][1]
    torch.nn.init.zeros_(block.second[1].weight)
    maps = torch.rand(1, 64, 8, 8)
    assert torch.equal(block(maps), maps)


def test_alexnet_takes_the_weights_of_torchvision(tmp_path):
    theirs = torchvision.models.alexnet(num_classes=3).eval()
    save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    found = find_weights("alexnet", str(tmp_path / "w.safetensors"))
    model = build_model(ModelConfig(name="alexnet"), 3, weights=found, image_size=64).eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(IMAGES), theirs(IMAGES))
    assert split_model(model, (64, 64)).head.in_features == 4096
    assert len(freeze(model, ModelConfig(freeze=-1))) == 14


def test_vgg_without_its_hidden_layers_takes_its_weights(tmp_path):
    model = built("vgg11_features")
    assert sum(parameter.numel() for parameter in model.parameters()) < 10_000_000  # 128.8 million with fc6 and fc7
    tensors = {key: value + 0.5 for key, value in model.state_dict().items() if not key.startswith("head.")}
    more = {"pre_logits.fc1.weight": torch.ones(2), "head.fc.weight": torch.ones(1000, 4096), "head.fc.bias": torch.ones(1000)}
    save_file({key: value.contiguous() for key, value in (tensors | more).items()}, tmp_path / "w.safetensors")
    found = find_weights("vgg11_features", str(tmp_path / "w.safetensors"))
    filled = build_model(ModelConfig(name="vgg11_features"), 3, weights=found)
    assert torch.equal(filled.features[0].weight, model.features[0].weight + 0.5)
    assert filled.head.fc.weight.shape == (3, 512)
    assert default_cfgs["vgg19_bn_features"].default.hf_hub_id == "timm/vgg19_bn.tv_in1k"


@pytest.mark.parametrize("name", UNTRAINED)
def test_where_no_weights_exist_none_are_looked_for(name):
    found = find_weights(name, True)
    assert (found.kind, found.path) == ("none", None)
    assert name in found.text

from __future__ import annotations

import copy
import logging
import math

import pytest
import torch
from safetensors.torch import save_file
from timm.layers import BlurPool2d
from timm.models import register_model
from torch import nn

from kaggle_kit.config import DataConfig, ModelConfig
from kaggle_kit.errors import ConfigError, WeightsError
from kaggle_kit.models import (
    PACKAGES,
    build_model,
    find_weights,
    freeze,
    image_spec,
    load_pretrained,
    model_name,
    set_train_mode,
    unwrap,
)
from kaggle_kit.models.build import record_of

SMALL = ("test_resnet", "test_efficientnet", "test_vit", "test_convnext")


def config(name="test_resnet", **changes):
    return ModelConfig(name=name, **changes)


def weights_of(model, path):
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return find_weights(model_name(model), str(path))


@pytest.mark.parametrize("name", SMALL)
def test_output_and_stored_name(name):
    model = build_model(config(name), 3, image_size=32).eval()
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert model_name(model) == f"{name}.r160_in1k"


@pytest.mark.parametrize("name", SMALL)
def test_weights_are_loaded_and_the_classifier_is_new(name, tmp_path):
    source = build_model(config(name), 7, image_size=32)
    found = weights_of(source, tmp_path / "w.safetensors")
    model = build_model(config(name), 3, weights=found, image_size=32)
    expected, got = source.state_dict(), model.state_dict()
    differing = [key for key in expected if expected[key].shape != got[key].shape or not torch.equal(expected[key], got[key])]
    head = source.pretrained_cfg["classifier"]
    assert differing
    assert all(key.startswith(head) for key in differing)


def test_a_classifier_that_fits_is_kept(tmp_path):
    source = build_model(config(), 3)
    model = build_model(config(), 3, weights=weights_of(source, tmp_path / "w.safetensors"))
    assert torch.equal(source.fc.weight, model.fc.weight)


def test_position_embeddings_of_another_size_are_resized(tmp_path):
    source = build_model(config("test_vit"), 3, image_size=64)
    model = build_model(config("test_vit"), 3, weights=weights_of(source, tmp_path / "w.safetensors"), image_size=(32, 48))
    assert model(torch.zeros(1, 3, 32, 48)).shape == (1, 3)
    assert torch.equal(source.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)
    assert model.pos_embed.shape != source.pos_embed.shape


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("layer1.0.conv1.weight"), r"missing: layer1\.0\.conv1\.weight"),
        (lambda tensors: tensors.update({"extra.weight": torch.ones(2)}), r"not in the model: extra\.weight"),
        (lambda tensors: tensors.update({"bn1.weight": torch.ones(2)}), r"of another shape: bn1\.weight"),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_weights_that_do_not_fit(change, said, tmp_path):
    tensors = dict(build_model(config(channels_last=False), 3).state_dict())
    change(tensors)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=said):
        build_model(config(), 3, weights=find_weights("test_resnet", str(tmp_path / "w.safetensors")))


def test_weights_of_another_architecture(tmp_path):
    found = weights_of(build_model(config("test_efficientnet"), 3), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="does not fit test_resnet"):
        build_model(config(), 3, weights=found)


def test_the_weights_package_fills_every_layer():
    pytest.importorskip(PACKAGES["tf_efficientnet_lite0"].module)
    found = find_weights("tf_efficientnet_lite0", True)
    assert found.kind == "package"
    model = build_model(config("tf_efficientnet_lite0"), 1000, weights=found)
    # What ImageNet training leaves: no batch norm has its initial statistics, and the classifier is wider than a new one.
    assert all(module.running_mean.abs().sum() > 0 for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    assert model.classifier.weight.std() > 0.05
    for head in ({}, {"name": "ordinal"}, {"name": "regression"}, {"name": "mlp", "hidden": [8]}, {"name": "cosine"}):
        other = build_model(config("tf_efficientnet_lite0", head=head), 4, weights=found)
        assert torch.equal(model.conv_stem.weight, other.conv_stem.weight)
        assert torch.equal(model.bn2.running_var, other.bn2.running_var)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"options": {"no_such": 1}}, "does not take 'no_such'"),
        ({"name": "dla46_c", "grad_checkpointing": True}, "does not support it"),
        ({"name": "no_model_at_all"}, "no model 'no_model_at_all'"),
    ],
)
def test_what_an_architecture_cannot_do(changes, said):
    with pytest.raises(ConfigError, match=said):
        build_model(config(**changes), 3)


def test_drop_path_is_ignored_with_a_warning_where_there_is_none(caplog):
    with caplog.at_level(logging.WARNING):
        build_model(config("test_byobnet", drop_path_rate=0.1), 3)
        build_model(config("ghostnet_050", drop_path_rate=0.1, drop_rate=0.1), 2)
        build_model(config("hrnet_w18_small", drop_path_rate=0.1), 2)
    assert "ghostnet_050.untrained has no drop_path_rate" in caplog.text
    assert "hrnet_w18_small.gluon_in1k has no drop_path_rate" in caplog.text
    assert "test_byobnet" not in caplog.text


def test_options_reach_timm():
    assert "GELU" in repr(build_model(config(options={"act_layer": "gelu"}), 3).act1)


@pytest.mark.parametrize("name", SMALL)
def test_freezing_all_leaves_the_classifier(name):
    settings = config(name, freeze=-1)
    model = build_model(settings, 3)
    freeze(model, settings)
    trained = [key for key, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2
    assert all(key.startswith(model.pretrained_cfg["classifier"]) for key in trained)


@pytest.mark.parametrize("name", SMALL)
def test_freezing_more_stages_freezes_more_from_the_front(name):
    frozen = [set(freeze(build_model(config(name), 3), config(name, freeze=count))) for count in (0, 1, 2)]
    assert not frozen[0]
    assert frozen[1]
    assert frozen[1] < frozen[2]
    first = next(key for key, _ in build_model(config(name), 3).named_parameters() if key not in ("cls_token", "pos_embed"))
    assert first in frozen[1]


def test_freezing_more_stages_than_there_are():
    with pytest.raises(ConfigError, match=r"has \d+ stages, got 40"):
        freeze(build_model(config(), 3), config(freeze=40))


@pytest.mark.parametrize(("settings", "moves"), [(config(), True), (config(freeze_bn=True), False), (config(freeze=1), False)])
def test_frozen_batch_norm_keeps_its_statistics(settings, moves):
    model = build_model(settings, 3)
    freeze(model, settings)
    set_train_mode(model, settings)
    before = model.bn1.running_mean.clone()
    model(torch.rand(4, 3, 32, 32))
    assert torch.equal(before, model.bn1.running_mean) != moves
    assert model.training


@pytest.mark.parametrize("name", SMALL)
def test_gradient_checkpointing_gives_the_same_gradients(name):
    plain = build_model(config(name), 3, image_size=32)
    saving = build_model(config(name, grad_checkpointing=True), 3, image_size=32)
    saving.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 32, 32)
    for model in (plain, saving):
        model.eval()
        model(images).square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_image_spec_is_the_models_own():
    lite = image_spec(build_model(config("tf_efficientnet_lite0"), 3), DataConfig())
    assert (lite.height, lite.width, lite.mean, lite.crop_pct) == (224, 224, (0.5, 0.5, 0.5), 0.875)
    small = build_model(config("resnet10t"), 3)  # trained at 176 px, tested at 224 px with a wider crop
    assert image_spec(small, DataConfig()).size == (176, 176)
    at_test_size = image_spec(small, DataConfig(image_size=224))
    assert at_test_size.crop_pct == small.pretrained_cfg["test_crop_pct"]
    chosen = image_spec(small, DataConfig(image_size=(64, 96), crop_pct=0.9, fit="pad"))
    assert (chosen.height, chosen.width, chosen.crop_pct, chosen.fit) == (64, 96, 0.9, "pad")


def test_image_spec_of_a_model_built_for_one_size():
    model = build_model(config("test_vit"), 3, image_size=(32, 64))
    assert image_spec(model, DataConfig(image_size=(32, 64))).size == (32, 64)
    with pytest.raises(ConfigError, match=r"was built for \(32, 64\)"):
        image_spec(model, DataConfig(image_size=48))


def test_names_survive_wrapping_and_copying():
    model = build_model(config(), 3)
    wrapped = nn.DataParallel(model)
    assert unwrap(wrapped) is model
    assert model_name(copy.deepcopy(wrapped)) == "test_resnet.r160_in1k"
    with pytest.raises(ConfigError, match="build_model"):
        model_name(nn.Linear(1, 1))


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet10t"])
def test_a_new_head_on_pretrained_features_starts_undecided(name, tmp_path):
    """The first loss is close to ln C, so that the first updates do not go into undoing a wild guess."""
    torch.manual_seed(0)
    weights = weights_of(build_model(config(name), 7), tmp_path / "weights.safetensors")
    model = build_model(config(name), 13, weights=weights).eval()
    probs = model(torch.randn(8, 3, 64, 64)).softmax(1)  # (8, 13)
    entropy = -(probs * probs.log()).sum(dim=1).mean()
    assert entropy > 0.75 * math.log(13)


@pytest.mark.parametrize("name", ["test_resnet", "seresnet18", "densenet121", "test_efficientnet"])
def test_anti_aliasing_by_name(name):
    model = build_model(config(name, options={"aa_layer": "blurpool"}), 3, image_size=32).eval()
    assert any(isinstance(module, BlurPool2d) for module in model.modules())
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    assert record_of(model).options == {"aa_layer": "blurpool"}  # as it can be written down


class Own(nn.Module):
    """A model that timm knows nothing of but its name."""

    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(3, num_classes)

    def forward(self, images):
        return self.fc(images.mean((2, 3)))


def own_net(num_classes=1000, **_):
    return Own(num_classes)


def test_an_own_model_without_a_description_gets_the_usual_one():
    register_model(own_net)
    model = build_model(config("own_net", pretrained=False), 3)
    assert image_spec(model, DataConfig()).size == (224, 224)
    assert image_spec(model, DataConfig(image_size=32)).size == (32, 32)
    assert load_pretrained(model, find_weights("own_net", False)) is None

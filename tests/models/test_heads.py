"""Heads and poolings: every entry on every kind of small model, and what freezing, files and engines make of them."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kaggle_kit.choices import HEADS, POOLS
from kaggle_kit.config import DataConfig, ModelConfig, derive
from kaggle_kit.config.run import RunConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.inference.engines import make_engine
from kaggle_kit.models import (
    backbone_fingerprint,
    build_model,
    find_weights,
    freeze,
    image_spec,
    load_model,
    model_name,
    save_model,
    set_train_mode,
    split_model,
)
from kaggle_kit.models.backbones import can_join, n_stages
from kaggle_kit.models.build import record_of
from kaggle_kit.models.heads import Cosine, GeM, Head, Pool
from kaggle_kit.tables import Classes

CLASSES = Classes(("ant", "bee", "cat"))
OPTIONS = {"linear": {}, "mlp": {"hidden": [16, 8]}, "cosine": {"centres": 3, "margin": 0.3, "hidden": [8]}}
OPTIONS |= {"ordinal": {}, "regression": {}}
RICH = {"batch_norm": "all", "dropout": 0.3, "activation": "gelu"}
IMAGES = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def config(arch="test_resnet", *, drop_rate=0.0, freeze=0, freeze_bn=False, **head):
    return ModelConfig(name=arch, pretrained=False, drop_rate=drop_rate, freeze=freeze, freeze_bn=freeze_bn, head=head)


def built(arch="test_resnet", **options):
    torch.manual_seed(0)
    return build_model(config(arch, **options), len(CLASSES), image_size=64)


def there_and_back(model, path, **changes):
    spec = image_spec(model, DataConfig(image_size=64))
    save_model(path, model, classes=CLASSES, spec=spec, task="multiclass", meta={}, **changes)
    return load_model(path)


@pytest.mark.parametrize("head", [name for name in HEADS if name != "knn"])  # which is no layer that could learn
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_every_head_learns_and_comes_back_from_its_file(name, head, tmp_path):
    model = built(name, name=head, drop_rate=0.2, samples=2, **RICH, **OPTIONS[head])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    targets, losses = torch.tensor([0, 1, 2, 0]), []
    for _ in range(3):
        set_train_mode(model, config())
        logits = model(IMAGES)
        loss = nn.functional.cross_entropy(logits, targets.repeat(len(logits) // 4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in model.get_classifier().parameters())
    model.eval()
    with torch.inference_mode():
        expected = model(IMAGES)
        assert expected.shape == (4, 3)
        loaded = there_and_back(model, tmp_path / "m.safetensors")
        assert torch.equal(loaded.model(IMAGES), expected)
        half = there_and_back(loaded.model, tmp_path / "half.safetensors", half=True)
        assert (half.model(IMAGES).softmax(1) - expected.softmax(1)).abs().max() < 0.02
        if name == "test_resnet":
            logits = make_engine("openvino", loaded.model, loaded.spec).logits(IMAGES)
            assert (logits.softmax(1) - expected.softmax(1)).abs().max() < 1e-4


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_every_pooling_gives_features_to_a_linear_layer(name, pool, tmp_path):
    if (name, pool) == ("test_convnext", "avg-max"):
        with pytest.raises(ConfigError, match="use avg, max, gem or grid"):
            built(name, pool=pool)
        return
    model = built(name, pool=pool).eval()
    with torch.inference_mode():
        expected = model(IMAGES)
        loaded = there_and_back(model, tmp_path / "m.safetensors")
        assert torch.equal(loaded.model(IMAGES), expected)
        if name == "test_resnet":
            logits = make_engine("openvino", loaded.model, loaded.spec).logits(IMAGES)
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-3)
    parts = split_model(model, (64, 64))  # what a probe and kept features rest on
    assert parts is not None
    assert parts.head.in_features == record_of(model).features


def test_poolings_compute_what_they_say():
    maps = torch.rand(2, 5, 6, 4)
    pooled = {name: POOLS[name](config(grid=2).head)(maps) for name in POOLS}
    mean, largest = maps.mean((2, 3)), maps.amax((2, 3))
    torch.testing.assert_close(pooled["avg"].flatten(1), mean)
    torch.testing.assert_close(pooled["max"].flatten(1), largest)
    torch.testing.assert_close(pooled["avg-max"].flatten(1), torch.cat([mean, largest], dim=1))
    torch.testing.assert_close(pooled["gem"].flatten(1), (maps**3).mean((2, 3)) ** (1 / 3))
    torch.testing.assert_close(pooled["grid"][:, :, 1, 0], maps[:, :, 3:, :2].amax((2, 3)))
    torch.testing.assert_close(GeM(1.0)(maps).flatten(1), mean)
    big = torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16)  # whose cube is no float16
    torch.testing.assert_close(GeM()(big), torch.full((1, 1, 1, 1), 300.0, dtype=torch.float16))


def test_a_pooling_reads_channels_where_a_model_has_them_last():
    maps = torch.rand(2, 5, 6, 4)
    plain, last = (Pool(nn.AdaptiveMaxPool2d(2), flatten=True, channels_last=flag) for flag in (False, True))
    assert torch.equal(plain(maps), last(maps.permute(0, 2, 3, 1)))


def test_default_is_what_timm_makes():
    model = built()
    assert record_of(model).features == 0
    assert type(model.fc) is nn.Linear
    assert not any(isinstance(module, Pool | Head) for module in model.modules())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_freezing_the_backbone_leaves_the_whole_head(name):
    pool = "auto" if name == "test_vit" else "gem"
    model = built(name, name="mlp", hidden=[8], batch_norm="all", pool=pool)
    settings = config(name, freeze=-1, name="mlp", hidden=[8])
    freeze(model, settings)
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {id(parameter) for parameter in model.get_classifier().parameters()}
    expected |= {id(module.exponent) for module in model.modules() if isinstance(module, GeM)}
    assert {id(model.get_parameter(key)) for key in trained} == expected
    assert freeze(built(name, name="mlp", hidden=[8]), config(name, freeze=1))


def test_frozen_statistics_are_those_of_the_backbone():
    settings = {"name": "mlp", "hidden": [8], "batch_norm": "all"}
    model = built(freeze_bn=True, **settings)
    set_train_mode(model, config(freeze_bn=True, **settings))
    before = [module.running_mean.clone() for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    model(IMAGES)
    after = [module.running_mean for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    norms = [module for module in model.get_classifier().modules() if isinstance(module, nn.BatchNorm1d)]
    assert len(norms) == 2
    assert all(module.running_mean.abs().sum() > 0 for module in norms)


def test_a_batch_of_one_row_can_be_trained_on():
    model = built(name="mlp", hidden=[8], batch_norm="all", pool="max").train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert torch.isfinite(model(IMAGES[:1])).all()


def test_several_dropout_masks_in_training_only():
    model = built(drop_rate=0.5, samples=4)
    logits = model.train()(IMAGES)
    assert logits.shape == (16, 3)
    assert not torch.allclose(logits[:4], logits[4:8])
    assert model.eval()(IMAGES).shape == (4, 3)


def test_cosine_takes_the_nearest_centre():
    head = Cosine(2, 2, centres=2, scale=10.0)
    head.weight.data = torch.tensor([[1.0, 0], [0, 5], [-1, 0], [-3, -3]])
    logits = head(torch.tensor([[0.0, 2.0], [-1, -1]]))
    torch.testing.assert_close(logits, 10 * torch.tensor([[1.0, 0.0], [-(0.5**0.5), 1.0]]))


def test_pretrained_weights_fill_the_backbone_and_not_the_head(tmp_path):
    source = build_model(ModelConfig(name="test_resnet"), 7)
    save_file({key: value.contiguous() for key, value in source.state_dict().items()}, tmp_path / "w.safetensors")
    found = find_weights(model_name(source), str(tmp_path / "w.safetensors"))
    model = build_model(config(name="mlp", hidden=[8], pool="gem"), 3, weights=found)
    assert torch.equal(source.layer1[0].conv1.weight, model.layer1[0].conv1.weight)
    assert isinstance(model.fc, Head)
    again = copy.deepcopy(model)
    nn.init.ones_(again.fc.last.weight)
    save_file({key: value.contiguous() for key, value in again.state_dict().items()}, tmp_path / "own.safetensors")
    found = find_weights(model_name(source), str(tmp_path / "own.safetensors"))
    assert build_model(config(name="mlp", hidden=[8], pool="gem"), 3, weights=found).fc.last.weight.min() == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["head=mlp"], "mlp needs hidden"),
        (["model.head.hidden=[8]"], "hidden layers need name: mlp"),
        (["model.head.margin=0.2"], "margin and centres need name: cosine"),
        (["model.head.samples=3"], "drop_rate must be above 0"),
        (
            ["head=mlp", "model.head.hidden=[8]", "model.head.samples=3", "model.drop_rate=0.5"],
            r"head\.dropout must be above 0",
        ),
        (["pool=median"], "unknown pooling 'median'"),
    ],
)
def test_heads_that_make_no_sense_are_refused_before_anything_starts(changes, said):
    with pytest.raises(ConfigError, match=said):
        derive(RunConfig(), changes)


def test_models_without_a_place_for_a_head():
    with pytest.raises(ConfigError, match="no pooling of feature maps"):
        built("test_vit", pool="max")
    with pytest.raises(ConfigError, match="no single classifier"):
        build_model(config("deit_tiny_distilled_patch16_224", name="mlp", hidden=[8]), 3)


def test_an_ordinal_head_gives_probabilities_of_a_cumulative_link_model():
    head = HEADS["ordinal"](6, 5, config().head)
    features = 40 * torch.randn(64, 6, generator=torch.Generator().manual_seed(1))  # far beyond where a sigmoid saturates
    log_probs = head(features)
    probs = log_probs.exp()
    assert torch.isfinite(log_probs).all()
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(64))
    torch.testing.assert_close(log_probs.softmax(dim=1), probs)
    score = head.score(features)
    cuts = torch.cat([head.first, nn.functional.softplus(head.steps)]).cumsum(0)
    torch.testing.assert_close(probs.cumsum(dim=1)[:, :-1], torch.sigmoid(cuts - score), atol=1e-5, rtol=1e-4)
    # Undecided at first, and a larger number is never a lower grade.
    torch.testing.assert_close(head(torch.zeros(1, 6)).exp(), torch.full((1, 5), 0.2), atol=1e-4, rtol=1e-4)
    order = score.squeeze(1).argsort()
    assert (probs.argmax(dim=1)[order].diff() >= 0).all()


def test_a_regression_head_has_its_number_as_mean_grade():
    head = HEADS["regression"](1, 5, config().head)
    with torch.no_grad():
        head.score.weight.fill_(1)
        head.score.bias.zero_()
    wanted = torch.linspace(0.5, 3.5, 31)[:, None]
    mean = head(wanted).softmax(dim=1) @ torch.arange(5.0)
    assert (mean - wanted[:, 0]).abs().max() < 0.03
    assert head(torch.tensor([[2.2]])).argmax() == 2


@pytest.mark.parametrize("layer", [-2, -3])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
def test_an_earlier_feature_map_is_that_of_the_whole_network(name, layer, tmp_path):
    torch.manual_seed(1)
    whole = build_model(config(name), len(CLASSES), image_size=64).eval()
    file = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in whole.state_dict().items()}, file)
    model = build_model(config(name, layer=layer), 3, image_size=64, weights=find_weights(name, str(file))).eval()
    parts = split_model(model, (64, 64))
    with torch.inference_mode():
        (maps,) = whole.forward_intermediates(IMAGES, indices=[layer], intermediates_only=True)
        features, logits = parts.backbone(IMAGES), model(IMAGES)
        if name != "test_convnext":  # which has a norm of its own before its classifier
            assert torch.allclose(features, maps.mean((2, 3)), atol=1e-5)
        assert features.shape == (4, maps.shape[1])
        loaded = there_and_back(model, tmp_path / "m.safetensors")
        assert torch.equal(loaded.model(IMAGES), logits)
    assert sum(one.numel() for one in model.parameters()) < sum(one.numel() for one in whole.parameters())
    assert len({backbone_fingerprint(one) for one in (whole, model, build_model(config(name, layer=-1), 3))}) == 3


def test_weights_of_another_port_fill_a_cut_network():
    found = find_weights("tf_efficientnet_lite0", True)
    whole, model = (build_model(config("tf_efficientnet_lite0", layer=one), 3, weights=found).eval() for one in (-1, -2))
    with torch.inference_mode():
        (maps,) = whole.forward_intermediates(IMAGES, indices=[-2], intermediates_only=True)
        assert torch.allclose(split_model(model, (64, 64)).backbone(IMAGES), maps.mean((2, 3)), atol=1e-4)


@pytest.mark.parametrize(("name", "layer"), [("test_resnet", -9), ("alexnet", -2)])
def test_a_feature_map_that_is_not_there_is_refused(name, layer):
    with pytest.raises(ConfigError, match=r"model\.head\.layer: \w+ has no feature map"):
        built(name, layer=layer)


@pytest.mark.parametrize("pool", ["auto", "gem"])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_earlier_feature_maps_are_joined_to_the_last(name, pool, tmp_path):
    torch.manual_seed(1)
    whole = build_model(config(name), len(CLASSES), image_size=64).eval()
    file = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in whole.state_dict().items()}, file)
    found = find_weights(name, str(file))
    model = build_model(config(name, joined=[-2, -3], pool=pool), 3, image_size=64, weights=found).eval()
    with torch.inference_mode():
        last, maps = whole.forward_intermediates(IMAGES, indices=[-3, -2])
        features, logits = split_model(model, (64, 64)).backbone(IMAGES), model(IMAGES)
        pooled = (lambda one: one.mean((2, 3))) if pool == "auto" else (lambda one: GeM()(one).flatten(1))
        assert torch.allclose(features, torch.cat([pooled(one) for one in (last, *maps)], dim=1), atol=1e-5)
        loaded = there_and_back(model, tmp_path / "m.safetensors")
        assert torch.equal(loaded.model(IMAGES), logits)
        assert torch.equal(copy.deepcopy(model)(IMAGES), logits)
    fingerprints = {backbone_fingerprint(build_model(config(name, joined=some), 3, weights=found)) for some in ([], [-2], [-3])}
    assert len(fingerprints) == 3


def test_all_layers_learn_from_joined_feature_maps():
    model = build_model(config("test_resnet", joined=[-2]), 3, image_size=64)
    model(IMAGES).square().mean().backward()
    assert all(one.grad is not None for one in model.parameters())


@pytest.mark.parametrize(
    ("name", "joined"), [("test_resnet", [-9]), ("test_convnext", [-2]), ("test_vit", [-2]), ("alexnet", [-2])]
)
def test_feature_maps_that_cannot_be_joined_are_refused(name, joined):
    with pytest.raises(ConfigError, match=r"model\.head"):
        built(name, joined=joined)


@pytest.mark.parametrize(("name", "possible"), [("test_resnet", True), ("test_efficientnet", True), ("test_vit", False)])
def test_it_is_known_whose_feature_maps_can_be_joined(name, possible):
    assert can_join(name, (-2, -3)) is possible
    assert can_join(name, (-9,)) is False


@pytest.mark.parametrize(
    ("name", "count"), [("resnet10t", 5), ("tf_efficientnet_lite0", 8), ("alexnet", 7), ("no_such_network", 0)]
)
def test_it_is_known_how_many_stages_can_be_frozen(name, count):
    assert n_stages(name) == count
    if count:
        model = build_model(config(name), 3)
        assert freeze(model, config(name, freeze=count))
        with pytest.raises(ConfigError, match=f"has {count} stages, got {count + 1}"):
            freeze(model, config(name, freeze=count + 1))


@pytest.mark.parametrize(("entries", "why"), [({"joined": [-2, -2]}, "once"), ({"joined": [-2], "layer": -2}, "one of them")])
def test_joined_feature_maps_that_make_no_sense_are_refused(entries, why):
    with pytest.raises(ValueError, match=why):
        config(**entries)

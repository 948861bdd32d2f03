import pytest
import timm
import torch

from kaggle_kit.config import OptimizerConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.training.optimizers import build_optimizer, current_lr, head_parameters, parameter_groups


@pytest.fixture(scope="module", params=["test_resnet", "test_vit"])
def model(request):
    return timm.create_model(request.param, num_classes=3)


def test_every_trainable_parameter_stands_in_one_group(model):
    for config in (OptimizerConfig(), OptimizerConfig(layer_decay=0.7, head_lr=0.1), OptimizerConfig(weight_decay=0)):
        members = [id(parameter) for group in parameter_groups(model, config) for parameter in group["params"]]
        assert sorted(members) == sorted(id(parameter) for parameter in model.parameters())


@pytest.mark.parametrize("layer_decay", [None, 0.8])
def test_one_dimensional_parameters_have_no_weight_decay(model, layer_decay):
    groups = parameter_groups(model, OptimizerConfig(weight_decay=0.3, layer_decay=layer_decay))
    for group in groups:
        for parameter in group["params"]:
            if parameter.ndim <= 1:
                assert group["weight_decay"] == 0
    assert any(group["weight_decay"] == 0.3 for group in groups)


def test_the_head_has_its_own_rate(model):
    optimizer = build_optimizer(model, OptimizerConfig(lr=1e-4, head_lr=1e-2))
    head = {id(parameter) for parameter in head_parameters(model)}
    assert len(head) == 2
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["lr"] == (1e-2 if id(parameter) in head else 1e-4)
    assert current_lr(optimizer) == 1e-4


def test_layer_decay_slows_early_layers_most(model):
    groups = parameter_groups(model, OptimizerConfig(layer_decay=0.5))
    scale = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    scales = [scale[id(parameter)] for parameter in model.parameters()]
    assert scales[0] < scales[-1] == 1
    assert all(scale[id(parameter)] == 1 for parameter in head_parameters(model))


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "momentum", "rmsprop", "lion", "lamb", "nadamw", "lookahead_adamw"])
def test_optimizers_take_a_step(name):
    model = torch.nn.Linear(3, 2)
    optimizer = build_optimizer(model, OptimizerConfig(name=name, lr=0.01))
    before = model.weight.clone()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, model.weight)


def test_fused_where_there_is_one():
    model = torch.nn.Linear(3, 2)
    assert build_optimizer(model, OptimizerConfig()).param_groups[0]["fused"] is True
    assert not build_optimizer(model, OptimizerConfig(), fused=False).param_groups[0]["fused"]


def test_wrong_choices_are_refused(model):
    with pytest.raises(ValueError, match=r"unknown optimizer 'adamww'. Did you mean 'adamw'"):
        build_optimizer(model, OptimizerConfig(name="adamww"))
    with pytest.raises(ConfigError, match="speling"):
        build_optimizer(model, OptimizerConfig(options={"speling": 1}))
    frozen = torch.nn.Linear(3, 2).requires_grad_(False)
    with pytest.raises(ConfigError, match="frozen"):
        build_optimizer(frozen, OptimizerConfig())

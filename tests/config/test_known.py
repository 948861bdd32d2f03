"""Names are known without the libraries that define them, and are those that the libraries have."""

import albumentations
import pytest
import timm
from lightning_fabric.strategies import STRATEGY_REGISTRY

from kaggle_kit.config import ModelConfig, RunConfig, derive
from kaggle_kit.config.known import FABRIC_STRATEGIES, OWN_MODELS, _models, _transforms, require_known
from kaggle_kit.errors import ConfigError


def test_every_model_of_timm_and_of_our_own_is_known():
    from kaggle_kit.models import nets

    modules = {name: timm.model_entrypoint(name).__module__ for name in timm.list_models()}
    assert {name for name, module in modules.items() if module.startswith("timm.")} <= _models()
    assert {name for name, module in modules.items() if module == nets.__name__} == set(OWN_MODELS)


def home_made_net(**_: object) -> None:
    """A model that only this process knows."""


def test_a_model_registered_in_this_process_is_known() -> None:
    run = RunConfig(model=ModelConfig(name="home_made_net"))
    with pytest.raises(ConfigError, match="timm has no model 'home_made_net'"):
        require_known(run, "multiclass")
    timm.models.register_model(home_made_net)
    require_known(run, "multiclass")


def test_every_transform_of_albumentations_is_known():
    kinds = (getattr(albumentations, name) for name in dir(albumentations))
    assert {kind.__name__ for kind in kinds if isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform)} <= (
        _transforms()
    )


def test_the_strategies_are_those_of_fabric():
    assert set(STRATEGY_REGISTRY.available_strategies()) | {"auto"} <= set(FABRIC_STRATEGIES)


@pytest.mark.parametrize(
    "entry", ["model=resnet50.a1_in1k", "model=tv_resnext50_32x4d", "hardware.accelerator=cuda:1", "strategy=probe"]
)
def test_what_is_known_passes(entry):
    require_known(derive(RunConfig(), [entry]), "multiclass")


def test_a_loss_for_one_label_a_row_is_refused_for_several():
    with pytest.raises(ConfigError, match="choose bce, focal, asymmetric or auto"):
        require_known(derive(RunConfig(), ["loss=cross_entropy"]), "multilabel")


def test_transforms_within_transforms_are_looked_at():
    with pytest.raises(ConfigError, match="no transform 'Blurr'"):
        require_known(derive(RunConfig(), ["augment.transforms=[{name: OneOf, transforms: [{name: Blurr}]}]"]), "binary")

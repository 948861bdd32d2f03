"""Every recipe trains, in small: with its head, freezing and stages, and random weights on pictures of 32 pixels."""

import huggingface_hub.constants
import pytest

from kaggle_kit.competition import Setup
from kaggle_kit.config import RunConfig, build_run_config
from kaggle_kit.config.recipes import recipes
from kaggle_kit.config.safe_yaml import read_yaml
from kaggle_kit.errors import WeightsError
from kaggle_kit.models import PACKAGES, find_weights
from kaggle_kit.training import TrainOptions, train_run

RECIPES = {name: build_run_config(read_yaml(file), source=name) for name, file in recipes().items()}
LARGER_IMAGES = {"inception_v3.tv_in1k": 80}
"""Sides of images for networks that have no use for 32 pixels."""
SMALLER = {"resnet50.tv_in1k": "resnet10t"}
"""Networks in the place of those that take long even so."""


def in_small(run: RunConfig) -> RunConfig:
    """Return a recipe of an epoch, or an epoch a cycle, without pretrained weights."""
    side = LARGER_IMAGES.get(run.model.name, 32)
    content = run.model_dump(mode="json")
    content["model"] |= {"pretrained": False, "name": SMALLER.get(run.model.name, run.model.name)}
    content["data"] |= {"image_size": side, "batch_size": 12, "workers": 0}
    content["probe"] |= {"views": min(1, run.probe.views), "strengths": [0.1]}
    content["schedule"] |= {"epochs": 1, "warmup_epochs": 0}
    for stage in content["stages"]:
        stage |= {"schedule.epochs": stage.get("schedule.options", {}).get("cycles", 1), "data.batch_size": 12}
        stage |= {"data.image_size": side}
    return build_run_config(content, source="a recipe in small")


@pytest.mark.parametrize("name", RECIPES)
def test_each_trains_a_fold(name, tiny):
    run = in_small(RECIPES[name])
    config = tiny.whole().model_copy(update={"run": run})
    setup = Setup(tiny.workspace, config, tiny.competition)
    summary = train_run(setup, TrainOptions("a", "0"), folds=tiny.folds)
    assert summary.trained == (0,)
    assert summary.n_oof == 12
    cycles = sorted(path.name for path in tiny.workspace.runs_dir.glob("a-cycle*"))
    assert len(cycles) == run.snapshots


@pytest.mark.parametrize("name", [name for name, run in RECIPES.items() if run.model.pretrained is True])
def test_weights_that_are_not_here_are_named_at_once(name, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("kaggle_kit.models.weights.PACKAGES", dict.fromkeys(PACKAGES))
    with pytest.raises(WeightsError, match=RECIPES[name].model.name.partition("_features")[0]):
        find_weights(RECIPES[name].model.name, True)

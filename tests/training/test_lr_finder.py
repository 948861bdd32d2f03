"""The range test: real steps on a model that is thrown away, and a suggestion only where there is something to see."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_competition import make_tiny

from kaggle_kit.errors import ConfigError
from kaggle_kit.report.lr import make_lr_test
from kaggle_kit.training import lr_finder
from kaggle_kit.training.loop import train_step, update
from kaggle_kit.training.lr_finder import Sweep, find_lr, has_diverged, smooth, valley

SWEEP = Sweep(1e-4, 30.0, 40)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def steps(monkeypatch):
    """Rates of the optimizer's groups at each update, and the images of each step."""
    seen = {"rates": [], "images": []}

    def noted_update(learner, *rest):
        seen["rates"].append([(group["part"], group["lr"]) for group in learner.optimizer.param_groups])
        update(learner, *rest)

    def noted_step(learner, batch, *rest):
        seen["images"].append(len(batch.rows))
        return train_step(learner, batch, *rest)

    monkeypatch.setattr(lr_finder, "update", noted_update)
    monkeypatch.setattr(lr_finder, "train_step", noted_step)
    return seen


def test_a_rate_is_found_that_training_can_use(shared):
    found = find_lr(shared.setup("augment=none"), shared.folds, sweep=SWEEP)
    assert found.suggestion is not None, found
    assert SWEEP.lowest < found.suggestion < found.lowest
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert np.argmin(found.smoothed) == found.rates.index(found.lowest)
    assert found.smoothed[found.rates.index(found.lowest)] < 0.8 * found.losses[0]
    assert f"lr={found.suggestion:.2g}" in found.describe()
    assert found.head_lr is None


def test_the_same_call_finds_the_same(shared):
    first, second = (find_lr(shared.setup(), shared.folds, sweep=Sweep(1e-3, 1.0, 20)) for _ in range(2))
    assert first == second


def test_rates_grow_by_one_factor_and_the_head_keeps_its_ratio(shared, steps):
    setup = shared.setup("head_lr=3e-2", "optimizer.accumulate=2", "batch_size=4")
    found = find_lr(setup, shared.folds, sweep=Sweep(1e-5, 1e-2, 25))
    backbone, head = (
        [next(rate for part, rate in update if part == wanted) for update in steps["rates"]] for wanted in ("backbone", "head")
    )
    np.testing.assert_allclose(backbone, found.rates[:-1], rtol=1e-6)  # the last loss needs no update after it
    np.testing.assert_allclose(np.diff(np.log(backbone)), np.log(1e3) / 24, rtol=1e-6)
    np.testing.assert_allclose(np.divide(head, backbone), 10, rtol=1e-6)
    assert (found.rates[0], found.batch_size) == (1e-5, 8)
    assert len(steps["images"]) == 2 * 25


def test_several_devices_are_stood_for_by_accumulation(shared, steps):
    found = find_lr(shared.setup("devices=2"), shared.folds, sweep=Sweep(1e-5, 1e-3, 20))
    assert set(steps["images"]) == {3}
    assert found.batch_size == 6


def test_it_ends_when_the_loss_diverges(shared):
    found = find_lr(shared.setup("optimizer=sgd", "augment=none"), shared.folds, sweep=Sweep(1e-3, 1e9, 60))
    assert found.diverged
    assert len(found.rates) < 60
    assert np.isfinite(found.losses).all()
    assert "diverged at" in found.describe()


def test_mixed_precision_and_mixing_are_those_of_the_run(shared):
    found = find_lr(shared.setup("precision=bf16", "mixup=0.4", "optimizer.clip_norm=1"), shared.folds, sweep=Sweep(updates=20))
    assert found.precision == "bf16"
    assert len(found.losses) <= 20


def test_labels_of_several_classes(tiny_multilabel):
    found = find_lr(tiny_multilabel.setup("loss=asymmetric"), tiny_multilabel.folds, sweep=Sweep(1e-4, 1e-1, 20))
    assert len(found.losses) == 20


def test_nothing_is_left_but_the_page(tiny):
    find_lr(tiny.setup(), tiny.folds, sweep=Sweep(updates=20))  # keeps which images could be read
    before = set(tiny.workspace.root.rglob("*"))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert find_lr(tiny.setup("ema=0.9", "pretrained=false"), tiny.folds, sweep=Sweep(updates=20)).path == ""
    assert torch.rand(1) == expected
    assert set(tiny.workspace.root.rglob("*")) == before


def test_the_page_shows_the_curve_and_the_command(tiny):
    replace(tiny.folds, meta={"competition": "tiny"}).write(tiny.workspace.folds_path("folds"))
    found = make_lr_test(
        tiny.setup("augment=none"), Sweep(1e-4, 30.0, 80), fold=1, entries=["augment=none", "data.crop_pct=1.0"]
    )
    assert found.fold == 1
    assert found.command.startswith("kk train --fold all augment=none data.crop_pct=1.0 lr=")
    text = (tiny.workspace.root / found.path).read_text()
    assert found.path.startswith("report/lr-test_resnet-")
    assert "<svg" in text
    assert found.command in text
    assert found.to_dict()["suggestion"] == found.suggestion


@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        (("strategy=probe",), {}, "strategy finetune, got 'probe'"),
        ((), {"fold": 7}, r"0\.\.2"),
    ],
)
def test_what_cannot_be_tested(shared, overrides, options, message):
    with pytest.raises(ConfigError, match=message):
        find_lr(shared.setup(*overrides), shared.folds, **options)


@pytest.mark.parametrize("values", [(0, 1), (1, 1), (2, 1), (1e-6, float("inf")), (float("nan"), 1), (1e-6, 1, 5)])
def test_a_sweep_that_is_none(values):
    with pytest.raises(ConfigError, match="must be"):
        Sweep(*values)


def curve(rng, depth, noise=0.05):
    """A loss of 100 updates: flat, falling by ``depth`` around update 50, lowest near 75, exploding."""
    places = np.arange(100)
    return 2 - depth / (1 + np.exp(-(places - 50) / 4)) + np.exp((places - 90) / 4) + rng.normal(0, noise, 100)


@pytest.mark.parametrize("seed", range(5))
def test_the_steepest_point_of_a_known_curve(seed):
    losses = curve(np.random.default_rng(seed), depth=1.5)
    steepest, lowest = valley(losses, smooth(losses))
    assert abs(steepest - 50) <= 4
    assert 60 <= lowest <= 85


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_suggests_nothing(seed):
    losses = np.random.default_rng(seed).normal(2, 0.3, 100)
    assert valley(losses, smooth(losses))[0] is None


def test_smoothing_neither_lags_nor_leaves_the_range():
    straight = np.linspace(3, 1, 101)
    smoothed = smooth(straight)
    np.testing.assert_allclose(smoothed[20:80], straight[20:80], atol=1e-6)
    assert smoothed.min() >= 1
    assert smoothed.max() <= 3


def test_divergence_is_told_from_noise_at_a_low_loss():
    rng = np.random.default_rng(0)
    falling = [*np.linspace(1.8, 0.05, 60), *rng.uniform(0.0, 0.3, 40)]
    assert not has_diverged(falling)
    assert has_diverged([*falling, *[5.0] * 5])

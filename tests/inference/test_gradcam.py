"""Grad-CAM, and features for maps, with small real models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from handmade_run import save_fresh

from kaggle_kit import runs
from kaggle_kit.errors import ConfigError
from kaggle_kit.inference.embedding import embed_images
from kaggle_kit.inference.gradcam import explain, heat_of
from kaggle_kit.models import split_model


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_heat_is_the_map_weighted_by_its_gradient(tmp_path, name):
    loaded = save_fresh(tmp_path / "m.safetensors", name=name, size=(32, 32) if name != "test_vit" else (160, 160))
    images = torch.randn(1, 3, *loaded.spec.size, generator=torch.Generator().manual_seed(0))
    found = heat_of(loaded, images, 1)
    assert found.ndim == 2
    assert found.min() >= 0
    assert found.max() == pytest.approx(1, abs=1e-5) or not found.any()
    if name == "test_efficientnet":
        features = loaded.model.forward_features(images).detach().requires_grad_()
        loaded.model.forward_head(features)[0, 1].backward()
        weights = features.grad[0].mean(dim=(1, 2))
        expected = np.maximum(sum(w * f for w, f in zip(weights.numpy(), features.detach()[0].numpy(), strict=True)), 0)
        np.testing.assert_allclose(found, expected / max(expected.max(), 1e-12), atol=1e-4)


def test_of_joined_maps_the_heat_is_that_of_the_last(tmp_path):
    loaded = save_fresh(tmp_path / "m.safetensors", size=(64, 64), joined=(-2, -3))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = heat_of(loaded, images, 1)
    last, *_ = loaded.model.forward_features(images)
    assert found.shape == last.shape[2:]
    weights = loaded.model.get_classifier().weight[1, : last.shape[1]].detach()  # of a mean over places, all the same there
    expected = torch.relu((weights[:, None, None] * last[0].detach()).sum(dim=0))
    np.testing.assert_allclose(found, (expected / expected.max().clamp_min(1e-12)).numpy(), atol=1e-4)


def test_a_model_without_a_map_is_refused(tmp_path):
    loaded = save_fresh(tmp_path / "m.safetensors")
    loaded.model.forward_features = lambda images: images.flatten(1)
    with pytest.raises(ConfigError, match="no feature map"):
        heat_of(loaded, torch.zeros(1, 3, 32, 32), 0)


def test_an_image_is_explained_in_the_size_that_the_model_sees(world):
    loaded = save_fresh(world.workspace.root / "m.safetensors")
    seen, heated = explain(loaded, world.competition.train[0].path, 0)
    assert seen.shape == heated.shape == (*loaded.spec.size, 3)
    assert heated.dtype == np.uint8
    assert not np.array_equal(seen, heated)


def test_features_for_a_map_are_of_images_that_the_fold_has_not_seen(world):
    rows = [(row.id, row.path) for row in world.competition.train]
    folds = world.folds.assignments[0]
    found = embed_images(world.run, rows, folds, cache_dir=world.workspace.cache_dir, seconds=60)
    assert found.rows.tolist() == np.flatnonzero(folds == 0).tolist()
    parts = split_model(save_loaded(world).model, (32, 32))
    assert found.features.shape == (len(found.rows), parts.head.in_features)
    assert "model of fold 0" in found.text


def save_loaded(world):
    from kaggle_kit.models import load_model

    return load_model(world.fold(0) / runs.MODEL)


def test_there_are_no_features_without_a_model(world):
    for fold in range(2):
        (world.fold(fold) / runs.MODEL).write_bytes(b"damaged")
    rows = [(row.id, row.path) for row in world.competition.train]
    assert embed_images(world.run, rows, world.folds.assignments[0], cache_dir=world.workspace.cache_dir, seconds=1) is None

"""Properties that every entry of VIEWS and MERGES must have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kaggle_kit.choices import MERGES, VIEWS
from kaggle_kit.errors import ConfigError
from kaggle_kit.images.transforms import ImageSpec
from kaggle_kit.inference.tta import count_passes, make_views, merge_views, normalised, plan_views, stretch, to_probs

SHAPES = [(32, 32), (32, 48), (17, 31)]
UNDONE = ["hflip", "vflip", "flips", "rot90", "d4"]
COUNTS = {"none": 1, "hflip": 2, "vflip": 2, "flips": 4, "rot90": 4, "d4": 8, "five-crop": 5, "ten-crop": 10, "multiscale": 3}
COUNTS |= {"larger": 1, "tiles": 4, "stretched": 1, "equalized": 1, "clahe": 1}


def merged(probs, merge, **options):
    return normalised(merge_views(probs, merge, **options), "multiclass")


def batch(height, width, *, channels_last):
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", VIEWS)
def test_shape_layout_and_type_stay(name, shape, channels_last):
    images = batch(*shape, channels_last=channels_last)
    before = images.clone()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for view in make_views(name, *shape):
        seen = view(images)
        assert seen.shape == images.shape
        assert seen.dtype == images.dtype
        assert seen.is_contiguous(memory_format=layout)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_a_square_differ_from_each_other(name):
    scale = VIEWS[name].scale
    seen = [view(batch(round(32 * scale), round(32 * scale), channels_last=True)) for view in make_views(name, 32, 32)]
    assert len(seen) == COUNTS[name]
    assert all(not torch.equal(one, other) for place, one in enumerate(seen) for other in seen[:place])


@pytest.mark.parametrize("name", [name for name in VIEWS if name not in ("five-crop", "ten-crop")])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_image_itself_is_among_the_views(name, shape):
    images = batch(*shape, channels_last=True)
    assert any(torch.equal(view(images), images) for view in make_views(name, *shape))


@pytest.mark.parametrize("name", UNDONE)
@pytest.mark.parametrize("shape", SHAPES)
def test_turns_and_flips_lose_no_pixel(name, shape):
    images = batch(*shape, channels_last=True)
    for view, transformer in zip(make_views(name, *shape), VIEWS[name].compose(*shape), strict=True):
        assert torch.equal(transformer.deaugment_mask(view(images)), images)


def test_d4_of_another_shape_than_a_square_has_the_four_that_keep_it():
    assert len(make_views("d4", 32, 48)) == 4


def test_views_see_what_their_names_say():
    images = torch.arange(3.0).view(1, 1, 1, 3).expand(1, 3, 3, 3)  # brighter to the right
    hflip = [view(images)[0, 0, 0].tolist() for view in make_views("hflip", 3, 3)]
    assert hflip == [[0, 1, 2], [2, 1, 0]]
    dot = torch.zeros(1, 3, 32, 32)
    dot[:, :, :2, :2] = 1  # in the corner: only one of five crops sees it
    share = sorted(view(dot).sum().item() > 0 for view in make_views("five-crop", 32, 32))
    assert share == [False, False, False, False, True]


def test_multiscale_keeps_the_centre():
    images = torch.zeros(1, 3, 40, 40)
    images[:, :, 18:22, 18:22] = 1
    grid = torch.arange(40.0)
    for view in make_views("multiscale", 40, 40):
        mass = view(images)[0, 0]
        assert (mass.sum(0) * grid).sum() / mass.sum() == pytest.approx(19.5, abs=0.3)


def test_unknown_views():
    with pytest.raises(ConfigError, match="Did you mean 'hflip'"):
        make_views("hflop", 8, 8)


@pytest.mark.parametrize("merge", MERGES)
def test_merging_equal_views_changes_nothing(merge):
    probs = torch.rand(1, 5, 4).softmax(dim=2).repeat(3, 1, 1)
    torch.testing.assert_close(merged(probs, merge), probs[0])


@pytest.mark.parametrize("merge", MERGES)
def test_merging_does_not_depend_on_the_order_and_rows_sum_to_one(merge):
    probs = torch.randn(4, 6, 3).mul(8).softmax(dim=2)
    found = merged(probs, merge)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(6))
    torch.testing.assert_close(found, merged(probs.flip(0), merge))


@pytest.mark.parametrize("merge", MERGES)
def test_a_class_that_all_views_prefer_wins_even_with_tiny_probabilities(merge):
    views = [torch.tensor([[0.0, -80.0, -95.0]]), torch.tensor([[0.0, -120.0, -99.0]])]  # the last underflow in float32
    found = merged(torch.stack([to_probs(logits, "multiclass") for logits in views]), merge)
    assert torch.isfinite(found).all()
    assert found[0, 0] > 0.99
    assert (found >= 0).all()


def test_merges_of_known_numbers():
    probs = torch.tensor([[[0.1, 0.9]], [[0.4, 0.6]]])
    torch.testing.assert_close(merge_views(probs, "mean"), torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(merge_views(probs, "gmean"), torch.tensor([[0.2, 0.54**0.5]]))
    torch.testing.assert_close(merge_views(probs, "max"), torch.tensor([[0.4, 0.9]]))


def test_probabilities_are_float32_from_half():
    logits = torch.tensor([[10.0, -10.0]], dtype=torch.float16)
    assert to_probs(logits, "multiclass").dtype == torch.float32
    torch.testing.assert_close(to_probs(logits, "multilabel"), torch.tensor([[10.0, -10.0]]).sigmoid())
    torch.testing.assert_close(to_probs(logits, "binary").sum(dim=1), torch.ones(1))


def test_equal_views_of_a_mix_are_computed_once():
    (one,) = plan_views(["0.5*none+0.5*hflip", "hflip", "flips+none"], ImageSpec(32, 32))
    assert len(one.views) == 4
    torch.testing.assert_close(one.weights.sum(dim=0), torch.ones(3))
    torch.testing.assert_close(one.weights[:, 0].sort(descending=True).values, torch.tensor([0.75, 0.25, 0, 0]))
    assert one.names == ("none", "hflip", "flips")


def test_views_of_a_larger_image_are_a_pass_of_their_own():
    passes = plan_views(["larger+none", "tiles"], ImageSpec(64, 64))
    assert [(one.spec.size, one.seen.size, len(one.views)) for one in passes] == [
        ((64, 64), (64, 64), 1),
        ((96, 96), (96, 96), 1),
        ((96, 96), (64, 64), 4),
    ]
    assert [one.share.tolist() for one in passes] == [[0.5, 0], [0.5, 0], [0, 1]]
    assert count_passes(["larger+none"], ImageSpec(64, 64)) == 4  # 1 + (96 / 64)², rounded up


@pytest.mark.parametrize(("side", "larger"), [(224, 288), (32, 64), (30, 38)])
def test_larger_images_suit_the_strides_of_networks(side, larger):
    assert ImageSpec(side, side).scaled(1.25).size == (larger, larger)


def test_tiles_overlap_and_cover_the_image():
    (one,) = plan_views(["tiles"], ImageSpec(64, 64))
    seen = [view.look(torch.arange(96.0 * 96).view(1, 1, 96, 96).expand(1, 3, 96, 96)) for view in one.views]
    values = torch.cat([tile[0, 0].flatten() for tile in seen])
    assert set(values.int().tolist()) == set(range(96 * 96))
    assert len(values) > 96 * 96


def test_a_weighted_merge_is_that_of_repeated_views():
    probs = torch.randn(2, 5, 3).softmax(dim=2)
    weights = torch.tensor([0.75, 0.25])[:, None, None]
    for merge in MERGES:
        repeated = merged(torch.cat([probs[:1]] * 3 + [probs[1:]]), merge)
        torch.testing.assert_close(merged(probs, merge, weights=weights), repeated)
    unused = torch.tensor([1.0, 0.0])[:, None, None]
    for merge in MERGES:
        torch.testing.assert_close(merged(probs, merge, weights=unused), probs[0])


def test_stretching_uses_the_whole_range_and_keeps_grey_grey():
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(100, 150, (20, 20, 1), dtype=np.uint8), 3, axis=2)
    stretched = stretch(grey)
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert (np.diff(stretched.astype(int), axis=2) == 0).all()
    order = np.argsort(grey[:, :, 0], axis=None)
    assert (np.diff(stretched[:, :, 0].flatten()[order].astype(int)) >= 0).all()
    flat = np.full((4, 4, 3), 7, dtype=np.uint8)
    assert np.array_equal(stretch(flat), flat)


@pytest.mark.parametrize("name", ["stretched", "equalized", "clahe"])
def test_changes_of_pixels_raise_contrast(name):
    rng = np.random.default_rng(0)
    image = rng.integers(110, 140, (32, 32, 3), dtype=np.uint8)
    before = image.copy()
    changed = VIEWS[name].change(image)
    assert changed.dtype == np.uint8
    assert changed.shape == image.shape
    assert changed.std() > 1.5 * image.std()
    assert np.array_equal(image, before)

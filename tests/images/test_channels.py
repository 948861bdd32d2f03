"""Images of other channels than colours, from the file to the model's input and back."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from kaggle_kit.choices import AUGMENTATIONS
from kaggle_kit.config import AugmentConfig, CacheConfig, ChannelsConfig, DataConfig, ModelConfig
from kaggle_kit.errors import ConfigError, ImageError
from kaggle_kit.images.decode import decode_image, image_facts, image_size
from kaggle_kit.images.store import open_store
from kaggle_kit.images.transforms import ImageSpec, eval_transform, train_transform
from kaggle_kit.inference.engines import make_engine
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.inference.tta import make_views
from kaggle_kit.models import build_model, image_spec, load_model, save_model
from kaggle_kit.models.build import adapt_input_conv, load_pretrained
from kaggle_kit.models.weights import Weights
from kaggle_kit.stacks import as_colours, channels_in, write_stack
from kaggle_kit.tables import Classes

COUNTS = [2, 4, 7]


def pixels(count: int, *, deep: bool = False) -> np.ndarray:
    rng = np.random.default_rng(count)
    return rng.integers(0, 65536 if deep else 256, (48, 40, count), dtype=np.uint16 if deep else np.uint8)


def config(count: int) -> ChannelsConfig:
    shares = np.linspace(0.2, 0.7, count).round(3).tolist()
    return ChannelsConfig(names=[f"band {at}" for at in range(count)], mean=shares, std=[0.1] * count)


def spec(count: int, **changes) -> ImageSpec:
    return ImageSpec(32, 32, mean=tuple(config(count).mean), std=(0.1,) * count, **changes)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("deep", [False, True])
def test_a_file_gives_its_channels_and_something_to_look_at(tmp_path: Path, count: int, deep: bool):
    stored = pixels(count, deep=deep)
    path = tmp_path / "a.tif"
    path.write_bytes(write_stack(stored))
    assert channels_in(path.read_bytes()) == count
    expected = np.rint(stored / 257).astype(np.uint8) if deep else stored
    np.testing.assert_array_equal(decode_image(path, channels=count), expected)
    np.testing.assert_array_equal(decode_image(path), as_colours(expected))
    assert image_size(path) == (48, 40)
    facts = image_facts(path)
    assert (facts.mode, facts.bits, facts.frames) == (f"{count} channels", 16 if deep else 8, 1)
    with pytest.raises(ImageError, match=f"it has {count} channels, expected {count + 2}"):
        decode_image(path, channels=count + 2)


def test_satellite_tiff_of_many_samples_a_pixel(tmp_path: Path):
    tifffile = pytest.importorskip("tifffile")
    stored = pixels(4, deep=True)
    for name, options in {
        "near infrared": {"photometric": "rgb", "extrasamples": [0]},
        "bands": {"photometric": "minisblack"},
    }.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, stored, planarconfig="contig", **options)
        assert channels_in(path.read_bytes()) == 4
        np.testing.assert_array_equal(decode_image(path, channels=4), np.rint(stored / 257).astype(np.uint8))


def test_transparency_and_pages_of_documents_are_no_channels(tmp_path: Path):
    from PIL import Image

    Image.fromarray(pixels(4), "RGBA").save(tmp_path / "a.tif")
    pages = [Image.fromarray(pixels(3)) for _ in range(5)]
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    assert {channels_in((tmp_path / name).read_bytes()) for name in ("a.tif", "b.tif")} == {3}
    assert decode_image(tmp_path / "b.tif").shape == (48, 40, 3)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("preset", AUGMENTATIONS)
def test_augmentation_never_mixes_channels(count: int, fit: str, preset: str):
    """Of an image that is black in all channels but one, those stay black."""
    image = np.zeros((48, 40, count), np.uint8)
    image[:, :, -1] = pixels(count)[:, :, -1] // 2 + 64
    plain = ImageSpec(32, 32, mean=(0.0,) * count, std=(1.0,) * count, fit=fit)  # borders and holes are black, too
    transform = train_transform(plain, AugmentConfig(preset=preset))
    assert not any("Hue" in step for step in transform.describe())
    for seed in range(12):
        seen = transform(image, seed)
        assert seen.shape == (32, 32, count)
        others = seen[:, :, :-1].reshape(-1, count - 1)
        assert (others == others[0, 0]).mean() > 0.6  # brightness lifts all channels alike; borders and holes stay black
        assert np.ptp(others, axis=1).max() == 0
    assert eval_transform(plain)(image).shape == (32, 32, count)


@pytest.mark.parametrize("count", COUNTS)
def test_a_store_keeps_them_as_they_are(tmp_path: Path, count: int):
    paths = [tmp_path / f"{at}.tif" for at in range(3)]
    for at, path in enumerate(paths):
        path.write_bytes(write_stack(np.roll(pixels(count), at, axis=0)))
    rows = [(path.name, path) for path in paths]
    store = open_store(tmp_path / "cache", rows, (48, 40), CacheConfig(budget=1), channels=count)  # no room for JPEG's quality
    assert store.codec == "raw"
    store = open_store(tmp_path / "other", rows, (48, 40), CacheConfig(), channels=count)
    assert all(path in store for path in paths)
    np.testing.assert_array_equal(store(paths[1]), np.roll(pixels(count), 1, axis=0))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "plantnet_resnet"])
def test_models_take_them_and_come_back_from_their_files(tmp_path: Path, count: int, name: str):
    data = DataConfig(image_size=32)
    model = build_model(ModelConfig(name=name, pretrained=False), 3, image_size=32, channels=config(count)).eval()
    own = image_spec(model, data, config(count))
    assert own.channels == count
    save_model(tmp_path / "m.safetensors", model, classes=Classes(("a", "b", "c")), spec=own, task="multiclass", meta={})
    loaded = load_model(tmp_path / "m.safetensors")
    images = torch.from_numpy(np.stack([eval_transform(own)(pixels(count))])).permute(0, 3, 1, 2)
    batch = to_input(images, own)
    assert batch.shape == (1, count, 32, 32)
    views = [view(batch) for view in make_views("d4", 32, 32)]
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(views[1]), model(views[1]))
    if name == "test_resnet":
        logits = make_engine("openvino", loaded.model, loaded.spec).logits(batch.contiguous())
        torch.testing.assert_close(logits, model(batch).detach(), atol=1e-4, rtol=1e-3)


def test_pretrained_weights_are_adapted_to_the_channels(tmp_path: Path):
    plain = build_model(ModelConfig(name="test_resnet", pretrained=False), 3)
    torch.save(plain.state_dict(), tmp_path / "w.pth")
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in plain.state_dict().items()}, tmp_path / "w.safetensors")
    model = build_model(ModelConfig(name="test_resnet", pretrained=False), 3, channels=config(5))
    load_pretrained(model, Weights("w", tmp_path / "w.safetensors", "file", "f" * 64))
    first = next(key for key, value in plain.state_dict().items() if value.ndim == 4)
    torch.testing.assert_close(model.state_dict()[first], adapt_input_conv(5, plain.state_dict()[first]))
    grey = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():  # the same light in all channels gives the same as before
        torch.testing.assert_close(
            model.eval()(grey.expand(-1, 5, -1, -1)), plain.eval()(grey.expand(-1, 3, -1, -1)), atol=0.2, rtol=0.2
        )


@pytest.mark.parametrize("wrong", [{"names": ["a", "b"]}, {"names": ["a", "b", "c"], "mean": [0.1] * 3, "std": [0.1] * 3}])
def test_channels_that_do_not_fit_are_refused(wrong):
    content = {"names": ["a", "b", "c", "d"], "mean": [0.1] * 4, "std": [0.1] * 4} | wrong
    with pytest.raises(ValueError, match=r"must be as many|read as red, green and blue"):
        ChannelsConfig(**content)


def test_a_transform_of_colours_is_refused_for_them():
    with pytest.raises(ConfigError, match="fails on an 8-bit image of 32x32 and 4 channels"):
        train_transform(spec(4), AugmentConfig(preset="none", transforms=[{"name": "HueSaturationValue"}]))


def test_an_alpha_channel_is_one_of_four_where_four_are_wanted(tmp_path: Path):
    stored = pixels(4)
    cv2.imwrite(str(tmp_path / "a.png"), stored[:, :, [2, 1, 0, 3]])
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png", channels=4), stored)

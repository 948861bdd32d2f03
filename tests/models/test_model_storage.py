from __future__ import annotations

import json

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from kaggle_kit import files
from kaggle_kit.config import DataConfig, ModelConfig
from kaggle_kit.errors import ClassMappingError, DataError, MissingFileError, WeightsError
from kaggle_kit.models import build_model, image_spec, load_model, read_header, save_model
from kaggle_kit.tables import Classes

CLASSES = Classes(("10", "2", 'a, "b"', "été"))
META = {"competition": "leaves", "run": "r", "fold": 2, "seed": 7, "folds_fingerprint": "f" * 64}


def made(path, name="test_efficientnet", **changes):
    data = DataConfig(image_size=(32, 48))
    model = build_model(ModelConfig(name=name), len(CLASSES), image_size=data.image_size)
    spec = image_spec(model, data)
    print_of_file = save_model(path, model, classes=CLASSES, spec=spec, task="multiclass", meta=META, **changes)
    return model, spec, print_of_file


def rewrite(path, change):
    """The file again with its header changed."""
    header = read_header(path)
    change(header)
    save_file(load_file(path), path, metadata={"kaggle_kit": json.dumps(header)})


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "test_resnet"])
def test_everything_comes_back(name, tmp_path):
    model, spec, fingerprint = made(tmp_path / "m.safetensors", name)
    loaded = load_model(tmp_path / "m.safetensors")
    images = torch.rand(3, 3, 32, 48)
    with torch.inference_mode():
        assert torch.equal(model.eval()(images), loaded.model(images))
    assert not loaded.model.training
    assert (loaded.classes, loaded.spec, loaded.task) == (CLASSES, spec, "multiclass")
    assert {key: loaded.meta[key] for key in META} == META
    assert loaded.meta["versions"]["timm"]
    assert loaded.name == f"{name}.r160_in1k"
    assert loaded.fingerprint == fingerprint == files.file_fingerprint(tmp_path / "m.safetensors")


def test_the_header_needs_no_tensors_and_carries_the_classes(tmp_path):
    made(tmp_path / "m.safetensors")
    header = read_header(tmp_path / "m.safetensors")
    assert header["arch"] == "test_efficientnet.r160_in1k"
    assert header["classes"] == list(CLASSES.names)
    assert header["classes_fingerprint"] == CLASSES.fingerprint
    assert header["competition"] == "leaves"


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path):
    model, _, _ = made(tmp_path / "full.safetensors")
    spec = load_model(tmp_path / "full.safetensors").spec
    save_model(tmp_path / "half.safetensors", model, classes=CLASSES, spec=spec, task="multiclass", meta=META, half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = load_model(tmp_path / "half.safetensors").model
    assert all(value.dtype != torch.float16 for value in loaded.state_dict().values())
    for one, other in zip(model.parameters(), loaded.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)


def test_a_model_of_another_number_of_classes_is_not_written(tmp_path):
    model, spec, _ = made(tmp_path / "m.safetensors")
    with pytest.raises(ClassMappingError, match="4 outputs for 2 classes"):
        save_model(tmp_path / "x.safetensors", model, classes=Classes(("a", "b")), spec=spec, task="multiclass", meta={})
    assert not (tmp_path / "x.safetensors").exists()


def swap(header):
    header["classes"] = header["classes"][::-1]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (swap, ClassMappingError, "class list was changed"),
        (lambda header: header.pop("spec"), DataError, "'spec'"),
        (lambda header: header.update(format=99), DataError, "another format"),
        (lambda header: header.update(arch="test_resnet.r160_in1k"), WeightsError, "does not fit test_resnet"),
    ],
    ids=["classes", "spec", "format", "architecture"],
)
def test_a_changed_header_is_refused(change, error, said, tmp_path):
    made(tmp_path / "m.safetensors")
    rewrite(tmp_path / "m.safetensors", change)
    with pytest.raises(error, match=said):
        load_model(tmp_path / "m.safetensors")


def test_a_tag_that_this_timm_does_not_know_is_no_obstacle(tmp_path):
    model, _, _ = made(tmp_path / "m.safetensors")
    rewrite(tmp_path / "m.safetensors", lambda header: header.update(arch="test_efficientnet.of_tomorrow"))
    images = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        assert torch.equal(model.eval()(images), load_model(tmp_path / "m.safetensors").model(images))


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(MissingFileError, match="kk train"):
        load_model(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(DataError, match="damaged"):
        load_model(tmp_path / "cut.safetensors")
    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="no model file of kaggle_kit"):
        load_model(tmp_path / "other.safetensors")


def test_no_pickle_inside(tmp_path):
    made(tmp_path / "m.safetensors")
    with safetensors.safe_open(tmp_path / "m.safetensors", framework="np") as handle:
        assert list(handle.metadata()) == ["kaggle_kit"]

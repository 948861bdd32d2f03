import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from kaggle_kit import runs
from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.kernel.weights import copy_model, without_paths
from kaggle_kit.models import load_model, read_header


@pytest.fixture
def source(world):
    return world.workspace.fold_dir("a", 0) / runs.MODEL


def test_a_copy_is_the_same_model_without_local_paths(source, tmp_path):
    digest = copy_model(source, tmp_path / "copy.safetensors")
    before, after = load_model(source), load_model(tmp_path / "copy.safetensors")
    assert after.fingerprint == digest
    assert after.classes == before.classes
    assert after.spec == before.spec
    for name, value in before.model.state_dict().items():
        assert torch.equal(value, after.model.state_dict()[name])
    assert read_header(source)["config"]["model"]["pretrained"] == "/home/somebody/weights.safetensors"
    assert read_header(tmp_path / "copy.safetensors")["config"]["model"]["pretrained"] == "weights.safetensors"
    assert b"/home/" not in (tmp_path / "copy.safetensors").read_bytes()


def test_half_halves_matrices_only(source, tmp_path):
    copy_model(source, tmp_path / "half.safetensors", half=True)
    before, after = load_file(source), load_file(tmp_path / "half.safetensors")
    kinds = {(value.ndim >= 2, str(value.dtype)) for value in after.values() if value.dtype.kind == "f"}
    assert kinds == {(True, "float16"), (False, "float32")}
    for name, value in before.items():
        np.testing.assert_allclose(after[name].astype(value.dtype), value, rtol=1e-3, atol=1e-6)
    load_model(tmp_path / "half.safetensors")


def test_values_that_16_bits_cannot_hold_stay(tmp_path):
    tensors = {"w": np.full((2, 2), 1e5, np.float32), "v": np.full((2, 2), 2.0, np.float32), "n": np.arange(3)}
    save_file(tensors, tmp_path / "m.safetensors", metadata={"kaggle_kit": json.dumps({"config": {}})})
    copy_model(tmp_path / "m.safetensors", tmp_path / "c.safetensors", half=True)
    copied = load_file(tmp_path / "c.safetensors")
    assert {name: str(value.dtype) for name, value in copied.items()} == {"w": "float32", "v": "float16", "n": "int64"}
    for name, value in tensors.items():
        np.testing.assert_array_equal(copied[name], value)


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: data[:-1], lambda data: b"\xff" * len(data)])
def test_a_damaged_model_is_refused(source, tmp_path, damage):
    (tmp_path / "m.safetensors").write_bytes(damage(source.read_bytes()))
    with pytest.raises(DataError, match="damaged"):
        copy_model(tmp_path / "m.safetensors", tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="kk train"):
        copy_model(tmp_path / "m.safetensors", tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("/a/b/c.pt", "c.pt"),
        ("C:\\x\\y.pt", "y.pt"),
        ("~/w/z.pt", "z.pt"),
        ("relative/x.pt", "relative/x.pt"),
        ({"a": ["/x/y", 3, None]}, {"a": ["y", 3, None]}),
    ],
)
def test_paths_keep_their_last_part(value, kept):
    assert without_paths(value) == kept

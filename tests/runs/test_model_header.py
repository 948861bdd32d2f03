from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.runs.model_header import read_model_record, read_safetensors_header


@pytest.fixture
def model(tmp_path):
    tensors = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.arange(2)}
    save_file(tensors, tmp_path / "m.safetensors", metadata={"kaggle_kit": json.dumps({"classes": ["a"]})})
    return tmp_path / "m.safetensors"


def test_the_header_says_where_the_tensors_lie(model):
    header = read_safetensors_header(model)
    start, end = header.tensors["w"]["data_offsets"]
    data = model.read_bytes()[header.data_start :]
    np.testing.assert_array_equal(np.frombuffer(data[start:end], dtype="<f4"), np.arange(6))
    assert read_model_record(model) == {"classes": ["a"]}


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"\xff" * 40,
        lambda data: (10**5).to_bytes(8, "little") + b"[" * 10**5,
        lambda data: (2).to_bytes(8, "little") + b"[]",
        lambda data: (14).to_bytes(8, "little") + b'{"w": "wrong"}',
    ],
)
def test_what_is_damaged_is_named(model, damage):
    model.write_bytes(damage(model.read_bytes()))
    with pytest.raises(DataError, match=r"m\.safetensors is no model file of kaggle_kit, or it is damaged"):
        read_safetensors_header(model)


@pytest.mark.parametrize("metadata", [None, {"other": "x"}, {"kaggle_kit": "{"}, {"kaggle_kit": "[1]"}])
def test_a_model_of_somebody_else_is_refused(tmp_path, metadata):
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "m.safetensors", metadata=metadata)
    with pytest.raises(DataError, match="no model file of kaggle_kit"):
        read_model_record(tmp_path / "m.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="kk train"):
        read_model_record(tmp_path / "m.safetensors")

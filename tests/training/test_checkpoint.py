import math
import resource
import signal

import numpy as np
import pytest
import torch

from kaggle_kit.errors import DataError, MissingFileError, StorageError
from kaggle_kit.training import checkpoint
from kaggle_kit.training.checkpoint import load_checkpoint, load_latest, save_checkpoint, save_rotating


def state(number=1):
    weight = torch.arange(24.0).reshape(1, 4, 2, 3).to(memory_format=torch.channels_last)
    return {
        "epoch": number,
        "score": math.nan,
        "none": None,
        "text": "élan",
        "model": {"weight": weight, "tied": weight, "half": torch.ones(2, dtype=torch.bfloat16), "empty": torch.zeros(0)},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.999), "fused": True}]},
        "history": [{"loss": 0.1 + 0.2}, []],
    }


def same(first, second):
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return type(first) is type(second) and len(first) == len(second) and all(map(same, first, second))
    return first == second or (first != first and second != second)


def test_what_is_written_comes_back(tmp_path):
    save_checkpoint(tmp_path / "a.ckpt", state())
    assert same(load_checkpoint(tmp_path / "a.ckpt"), state())


def test_a_state_with_something_else_is_refused(tmp_path):
    with pytest.raises(TypeError, match="ndarray"):
        save_checkpoint(tmp_path / "a.ckpt", {"x": np.zeros(1)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 1, 7, 100, 0.5, 0.99])
def test_a_file_cut_short_is_told_from_a_good_one(tmp_path, keep):
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, state())
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(DataError, match="damaged"):
        load_checkpoint(path)


def test_zeros_in_the_tensors_are_found(tmp_path):
    path = tmp_path / "a.ckpt"
    save_checkpoint(path, state())
    content = path.read_bytes()
    path.write_bytes(content[:-40] + bytes(40))
    with pytest.raises(DataError, match="not what was written"):
        load_checkpoint(path)


def test_a_missing_checkpoint(tmp_path):
    assert load_latest(tmp_path) is None
    with pytest.raises(MissingFileError, match="does not exist"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_the_one_before_is_kept_and_used_when_the_last_is_damaged(tmp_path, caplog):
    for number in (1, 2, 3):
        save_rotating(tmp_path, state(number))
    assert load_latest(tmp_path)["epoch"] == 3
    last = tmp_path / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1])
    assert load_latest(tmp_path)["epoch"] == 2
    assert "Going back" in caplog.text
    (tmp_path / "previous.ckpt").write_bytes(b"")
    assert load_latest(tmp_path) is None


@pytest.mark.parametrize("renames", [0, 1])
def test_killed_while_saving_nothing_is_lost(tmp_path, monkeypatch, renames):
    save_rotating(tmp_path, state(1))
    save_rotating(tmp_path, state(2))
    real, calls = checkpoint.os.replace, []

    def killed(source, target):
        if "ckpt" in str(target) and ".tmp" not in str(source):
            calls.append(target)
            if len(calls) > renames:
                raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(checkpoint.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_rotating(tmp_path, state(3))
    monkeypatch.undo()
    assert load_latest(tmp_path)["epoch"] == 3


def test_a_full_disk_leaves_the_previous_checkpoint_and_names_path_and_bytes(tmp_path):
    save_rotating(tmp_path, state(1))
    large = {**state(2), "large": torch.zeros(1_000_000)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # writes beyond it fail, as on a full disk
    try:
        with pytest.raises(StorageError, match=r"last\.ckpt: 4,0\d\d,\d\d\d bytes wanted"):
            save_rotating(tmp_path, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert load_latest(tmp_path)["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]

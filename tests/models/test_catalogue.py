"""The table of models, and folders of weights."""

from __future__ import annotations

import huggingface_hub.constants
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from kaggle_kit import files
from kaggle_kit.errors import ConfigError, WeightsError
from kaggle_kit.machine.device import choose_device, device_text
from kaggle_kit.machine.speeds import keep_speeds
from kaggle_kit.models import find_weights
from kaggle_kit.models.catalogue import fetch_weights, models_table, weights_table


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """A hub cache with the weights of one model, and no way to the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "hub" / "models--timm--resnet18.a1_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c0ffee")
    path = folder / "snapshots" / "c0ffee" / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_file({"x": torch.ones(3)}, path)
    return path


def test_the_most_accurate_come_first_and_unknown_ones_last():
    frame = models_table("resnet50*")
    known = frame["top-1"].notna()
    assert known.sum() > 5
    assert frame["top-1"][known].is_monotonic_decreasing
    assert known.sum() == known.cumprod().sum()
    assert frame["model"].str.startswith("resnet50").all()
    row = frame.set_index("model").loc["resnet50.tv_in1k"]
    assert (row["top-1"], row["parameters"], row["licence"]) == (76.16, 25_560_000, "bsd-3-clause")


def test_a_part_of_a_name_is_a_pattern_and_a_budget_leaves_out_what_is_larger_or_unknown():
    everything, small = models_table("lite"), models_table("lite", under=5_000_000)
    assert 0 < len(small) < len(everything)
    assert (small["parameters"] < 5_000_000).all()
    assert models_table("there is no such model").empty


def test_speeds_are_those_that_were_measured_here_and_a_budget_of_them_leaves_out_the_rest(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models_table("resnet50*")["img/s"].isna().all()
    rows = {"size": "224x224", "engine": "torch", "batch": 8}
    measured = pd.DataFrame(
        [{"model": "resnet50", **rows, "img/s": 12.5}, {"model": "resnet18.a1_in1k", **rows, "img/s": 40.0}]
    )
    keep_speeds(device_text(choose_device("auto")), measured)
    found = models_table("resnet*")
    assert set(found["model"][found["img/s"] == 12.5]) == {name for name in found["model"] if name.startswith("resnet50.")}
    fast = models_table("resnet*", faster_than=20)
    assert len(fast) > 1
    assert fast["model"].str.startswith("resnet18.").all()
    assert fast["measured"].str.startswith("224x224 torch 20").all()
    assert models_table("resnet*", faster_than=40).empty


def test_only_what_is_here(cached):
    frame = models_table(here=True)
    assert "resnet18.a1_in1k" in set(frame["model"])
    assert frame["here"].all()
    assert not models_table("resnet34")["here"].any()
    listed = weights_table().set_index("model")
    assert listed.loc["resnet18.a1_in1k", "from"] == "timm/resnet18.a1_in1k (local hub cache)"


def test_a_folder_is_filled_and_then_used_without_a_network(cached, tmp_path):
    said, folder = [], tmp_path / "weights"
    found = fetch_weights(["resnet18", "resnet18.a1_in1k"], folder, say=said.append)
    (path,) = folder.iterdir()
    assert path.name == "resnet18.a1_in1k.safetensors"
    assert found.rows["sha256"].tolist() == [files.file_fingerprint(cached)] == [files.file_fingerprint(path)]
    before = path.stat().st_mtime_ns
    fetch_weights(["resnet18"], folder, say=said.append)
    assert path.stat().st_mtime_ns == before  # not written again
    path.write_bytes(b"cut off")
    fetch_weights(["resnet18"], folder, say=said.append)
    used = find_weights("resnet18", str(folder))
    assert (used.kind, used.path, used.fingerprint) == ("file", path, files.file_fingerprint(cached))
    with pytest.raises(WeightsError, match=r"no weights of resnet34.*but resnet18\.a1_in1k.*kk weights fetch resnet34"):
        find_weights("resnet34", str(folder))


def test_a_wrong_name_fetches_nothing_and_what_cannot_be_had_is_said(cached, tmp_path):
    with pytest.raises(ConfigError, match="resnet18"):
        fetch_weights(["resnet18", "resnet81"], tmp_path / "w", say=print)
    assert not (tmp_path / "w").exists()
    with pytest.raises(WeightsError, match="resnet34"):
        fetch_weights(["resnet18", "resnet34"], tmp_path / "w", say=print)
    assert len(list((tmp_path / "w").iterdir())) == 1  # what came before is kept

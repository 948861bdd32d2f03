"""Engines: all entries agree, and what cannot work says so."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from handmade_run import CLASSES, save_fresh, write_image
from torch import nn

from kaggle_kit.choices import ENGINES, INT8
from kaggle_kit.errors import ConfigError, DependencyError, DeviceMemoryError
from kaggle_kit.images.loaders import eval_batches
from kaggle_kit.inference.engines import EXPORT_PAYS_FROM, EngineOptions, TorchEngine, choose_engine, make_engine
from kaggle_kit.inference.inputs import to_input
from kaggle_kit.machine.device import half_dtype, memory_errors

CPU = torch.device("cpu")


def need(engine):
    for package in {"torch": (), INT8: ("openvino", "nncf")}.get(engine, (engine,)):
        if importlib.util.find_spec(package) is None:  # without importing it, which import_nncf does in its own way
            pytest.skip(f"{package} is not installed")


def photographs(folder, count=12):
    return [(f"{number}", write_image(folder / f"{number}.png", number)) for number in range(count)]


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != INT8])
@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_engines_agree_for_any_batch_length(engine, name, tmp_path):
    need(engine)
    loaded = save_fresh(tmp_path / "m.safetensors", name=name, size=(32, 48))
    made = make_engine(engine, loaded.model, loaded.spec)
    for length in (1, 5, 21, 2):  # OpenVINO puts 21 together from three pieces
        images = torch.randn(length, 3, 32, 48).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            expected = loaded.model(images).softmax(dim=1)
        logits = made.logits(images)
        assert logits.dtype == torch.float32
        probs = logits.softmax(dim=1)
        assert (probs - expected).abs().max() < 1e-4
        top = expected.sort(dim=1).values
        clear = (top[:, -1] - top[:, -2] > 2e-4).numpy()
        assert np.array_equal(np.array(CLASSES.top(probs))[clear], np.array(CLASSES.top(expected))[clear])


@pytest.mark.parametrize("engine", ENGINES)
def test_results_of_earlier_batches_stay(engine, tmp_path):
    need(engine)
    loaded = save_fresh(tmp_path / "m.safetensors", name="test_resnet")
    made = make_engine(engine, loaded.model, loaded.spec, options=EngineOptions(calibration=photographs(tmp_path)))
    first = made.logits(torch.ones(2, 3, 32, 32))
    copy = first.clone()
    made.logits(torch.zeros(2, 3, 32, 32))
    assert torch.equal(first, copy)


def test_an_export_is_made_once_for_a_checkpoint(tmp_path, monkeypatch):
    openvino = pytest.importorskip("openvino")
    loaded = save_fresh(tmp_path / "m.safetensors", name="test_resnet")
    options = EngineOptions(cache_dir=tmp_path / "cache")
    images = torch.randn(2, 3, 32, 32)
    first = make_engine("openvino", loaded.model, loaded.spec, fingerprint=loaded.fingerprint, options=options).logits(images)

    def never(*args, **kwargs):
        raise RuntimeError("exported again")

    monkeypatch.setattr(openvino, "convert_model", never)
    again = make_engine("openvino", loaded.model, loaded.spec, fingerprint=loaded.fingerprint, options=options).logits(images)
    assert torch.equal(first, again)
    with pytest.raises(RuntimeError, match="exported again"):
        make_engine("openvino", loaded.model, loaded.spec, fingerprint="of another checkpoint", options=options)
    assert not [path for path in (tmp_path / "cache" / "openvino").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_eight_bits_say_nearly_what_floats_say(name, tmp_path):
    need(INT8)
    loaded, rows = save_fresh(tmp_path / "m.safetensors", name=name, size=(32, 48)), photographs(tmp_path)
    made = make_engine(INT8, loaded.model, loaded.spec, options=EngineOptions(calibration=rows))
    images = torch.cat([to_input(batch.images, loaded.spec, CPU) for batch in eval_batches(rows, loaded.spec, batch_size=5)])
    with torch.inference_mode():
        expected = loaded.model(images)
    logits = made.logits(images)
    assert made.name == INT8
    assert logits.dtype == torch.float32
    assert not torch.allclose(logits, expected, atol=1e-4)  # they would be floats
    assert torch.corrcoef(torch.stack([logits.flatten(), expected.flatten()]))[0, 1] > 0.9


def test_a_model_is_calibrated_once(tmp_path, monkeypatch):
    need(INT8)
    loaded = save_fresh(tmp_path / "m.safetensors", name="test_resnet")
    options = EngineOptions(cache_dir=tmp_path / "cache", calibration=photographs(tmp_path))
    images = torch.randn(2, 3, 32, 32)
    first = make_engine(INT8, loaded.model, loaded.spec, fingerprint=loaded.fingerprint, options=options).logits(images)
    exact = make_engine("openvino", loaded.model, loaded.spec, fingerprint=loaded.fingerprint, options=options).logits(images)
    with torch.inference_mode():
        assert torch.allclose(exact, loaded.model(images), atol=1e-4)  # what is kept for one engine is not taken for the other

    def never(*args, **kwargs):
        raise RuntimeError("calibrated again")

    monkeypatch.setattr("kaggle_kit.inference.engines.quantize", never)
    again = make_engine(INT8, loaded.model, loaded.spec, fingerprint=loaded.fingerprint, options=options).logits(images)
    assert torch.equal(first, again)
    others = replace(options, calibration=options.calibration[:5])
    with pytest.raises(RuntimeError, match="calibrated again"):
        make_engine(INT8, loaded.model, loaded.spec, fingerprint=loaded.fingerprint, options=others)


def test_what_eight_bits_cannot_do_is_said(tmp_path, monkeypatch):
    need(INT8)
    loaded, rows = save_fresh(tmp_path / "m.safetensors"), photographs(tmp_path)
    with pytest.raises(ConfigError, match="calibrated on training images"):
        make_engine(INT8, loaded.model, loaded.spec)
    with pytest.raises(ConfigError, match="computes on the CPU"):
        make_engine(INT8, loaded.model, loaded.spec, options=EngineOptions(torch.device("cuda"), calibration=rows))
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(DependencyError, match=r"pip install 'kaggle-kit\[cpu,int8\]'"):
        make_engine(INT8, loaded.model, loaded.spec, options=EngineOptions(calibration=rows))


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(tmp_path):
    pytest.importorskip("openvino")
    loaded = save_fresh(tmp_path / "m.safetensors", name="test_resnet")
    (tmp_path / "file").write_text("not a folder")
    options = EngineOptions(cache_dir=tmp_path / "file")
    made = make_engine("openvino", loaded.model, loaded.spec, fingerprint="f", options=options)
    assert made.logits(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_a_signal_finds_its_handler_after_engines_have_come_and_gone():
    """In a process of its own, which would otherwise be gone with the signal."""
    pytest.importorskip("openvino")
    code = """
import signal, torch
from kaggle_kit.config import DataConfig, ModelConfig
from kaggle_kit.inference.engines import make_engine
from kaggle_kit.models import build_model, image_spec
model = build_model(ModelConfig(name="test_resnet", pretrained=False), 3, image_size=32).eval()
engine = make_engine("openvino", model, image_spec(model, DataConfig(image_size=32)))
engine = make_engine("openvino", model, image_spec(model, DataConfig(image_size=32)))  # now the first one goes
engine = None
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_a_missing_package_names_the_install_command(tmp_path, monkeypatch):
    loaded = save_fresh(tmp_path / "m.safetensors")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DependencyError, match=r"pip install 'kaggle-kit\[cpu\]'"):
        make_engine("openvino", loaded.model, loaded.spec)


def test_auto_takes_openvino_where_the_export_pays(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    assert choose_engine("auto", CPU, EXPORT_PAYS_FROM) == "openvino"
    assert choose_engine("auto", CPU, EXPORT_PAYS_FROM - 1) == "torch"
    assert choose_engine("auto", torch.device("cuda"), EXPORT_PAYS_FROM) == "torch"
    assert choose_engine("openvino", CPU, 1) == "openvino"
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert choose_engine("auto", CPU, EXPORT_PAYS_FROM) == "torch"


def test_an_unknown_engine():
    with pytest.raises(ConfigError, match="Did you mean 'torch'"):
        choose_engine("torhc", CPU, 1)


def test_a_cpu_computes_in_float32():
    assert half_dtype(CPU, "bf16") is None
    assert half_dtype(torch.device("cuda"), "fp32") is None


class Full(nn.Module):
    def forward(self, _images):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def test_an_accelerator_without_memory_says_what_to_lower():
    with pytest.raises(DeviceMemoryError, match=r"Tried to allocate 20.*data\.batch_size"):
        TorchEngine(Full(), EngineOptions()).logits(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="other errors pass"), memory_errors():
        raise ValueError("other errors pass")

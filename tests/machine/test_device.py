import logging

import pytest
import torch

from kaggle_kit.config import HardwareConfig
from kaggle_kit.errors import ConfigError
from kaggle_kit.machine import device
from kaggle_kit.machine.device import choose_device, device_name, make_fabric, precision_of, resolve_precision


def test_the_cpu_computes_in_float32_unless_told():
    fabric = make_fabric(HardwareConfig(accelerator="cpu"))
    assert (fabric.device.type, precision_of(fabric), device_name(fabric)) == ("cpu", "fp32", "cpu")
    assert precision_of(make_fabric(HardwareConfig(accelerator="cpu", precision="bf16"))) == "bf16"


def test_fp16_needs_a_gpu():
    with pytest.raises(ConfigError, match="fp16 needs a CUDA device"):
        make_fabric(HardwareConfig(accelerator="cpu", precision="fp16"))


@pytest.mark.parametrize(("hardware_bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_computes_in_what_it_has_in_hardware(monkeypatch, hardware_bf16, expected):
    asked = []
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: asked.append(including_emulation) or hardware_bf16
    )
    assert resolve_precision("auto", "cuda") == expected
    assert asked == [False]  # a T4 would say yes, and emulate it
    assert resolve_precision("fp32", "cuda") == "fp32"


@pytest.mark.parametrize("wrong", [{"accelerator": "quantum"}, {"accelerator": "cpu", "strategy": "magic"}])
def test_hardware_that_is_not_there(wrong):
    with pytest.raises(ConfigError, match="hardware"):
        make_fabric(HardwareConfig(**wrong))


def test_the_cpu_is_always_there():
    assert choose_device("cpu").type == "cpu"


def test_a_gpu_that_is_listed_but_cannot_compute(monkeypatch, caplog):
    monkeypatch.setattr(device, "_present", lambda: ["cuda"])
    monkeypatch.setattr(device, "refusal", lambda _: "no kernel image is available")
    with caplog.at_level(logging.WARNING):
        assert choose_device("auto").type == "cpu"
    assert "no kernel image" in caplog.text
    with pytest.raises(ConfigError, match="no kernel image"):
        choose_device("gpu")


def test_a_device_that_does_not_exist():
    with pytest.raises(ConfigError, match="'warp9' cannot be used"):
        choose_device("warp9")

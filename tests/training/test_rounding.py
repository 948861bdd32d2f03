"""Which precision a CPU trains in: measured once, where the processor has bfloat16 and there is enough to train."""

import pytest
import torch

from kaggle_kit.config import RunConfig, derive
from kaggle_kit.errors import ConfigError
from kaggle_kit.machine.host import has_bf16
from kaggle_kit.machine.speeds import known_speeds
from kaggle_kit.training import rounding, steps
from kaggle_kit.training.rounding import ways_to_round, with_precision

MODEL = ("model=resnet10t", "image_size=32", "epochs=2", "hardware.accelerator=cpu")


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A processor with bfloat16, whose speeds are not known yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 avx512_bf16 sse\n")
    monkeypatch.setattr(rounding, "CPUINFO", cpuinfo)
    return cpuinfo


@pytest.fixture
def measured(monkeypatch):
    """Let bfloat16 be so many times as fast; returns what was measured."""
    asked = []

    def let(gain):
        monkeypatch.setattr(
            steps, "time_steps", lambda images, ways: asked.append(images.shape) or {"fp32": 10.0, "bf16": 10.0 * gain}
        )
        return asked

    return let


def chosen(*entries: str, images: int = 10**6) -> str:
    return with_precision(derive(RunConfig(), [*MODEL, *entries]), images=images, n_classes=3).hardware.precision


@pytest.mark.parametrize(("gain", "expected"), [(1.5, "bf16"), (1.05, "fp32"), (0.5, "fp32")])
def test_what_is_faster_by_a_margin_is_taken_and_measured_once(measured, gain, expected):
    asked = measured(gain)
    before = torch.random.get_rng_state()
    assert chosen() == chosen("seed=5", "lr=0.1") == expected
    assert asked == [torch.Size([16, 3, 32, 32])]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert chosen("image_size=64") == expected
    assert len(asked) == 2
    assert chosen("batch_size=4") == expected
    assert asked[2:] == [torch.Size([4, 3, 32, 32])]
    assert known_speeds("cpu").empty  # those of prediction are another matter


@pytest.mark.parametrize("entries", [["precision=fp32"], ["precision=bf16"], ["strategy=probe"]])
def test_where_there_is_nothing_to_decide_nothing_is_measured(measured, entries):
    asked = measured(2.0)
    config = derive(RunConfig(), [*MODEL, *entries])
    assert with_precision(config, images=10**6, n_classes=3) == config
    assert chosen(images=100) == "auto"
    assert not asked


def test_a_processor_that_emulates_bfloat16_is_not_asked(measured, machine):
    asked = measured(2.0)
    machine.write_text("flags : fpu avx2 avx512f avx512bw\n")
    assert chosen() == "auto"
    machine.unlink()
    assert chosen() == "auto"
    assert not asked


@pytest.mark.parametrize(
    ("text", "expected"),
    [("flags : amx_bf16 x", True), ("Features\t: fp asimd bf16", True), ("flags : avx512_bf16x", False), ("", False)],
)
def test_what_linux_says_of_the_processor(tmp_path, text, expected):
    path = tmp_path / "info"
    path.write_text(f"model name : bf16\n{text}\n")
    assert has_bf16(path) == expected


def test_steps_are_really_taken_in_both_precisions():
    seen = []

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 2, 1)

        def forward(self, images):
            out = self.layer(images)
            seen.append(out.dtype)
            return out

    net = Net().eval()
    speeds = steps.time_steps(torch.zeros(2, 3, 8, 8), ways_to_round(net))
    assert set(speeds) == {"fp32", "bf16"}
    assert min(speeds.values()) > 0
    assert seen == [torch.float32, torch.bfloat16] * 3
    assert net.layer.weight.grad is not None


def test_a_wrong_model_is_told_as_everywhere(measured):
    measured(2.0)
    with pytest.raises(ConfigError):
        chosen("model=no_such_model")

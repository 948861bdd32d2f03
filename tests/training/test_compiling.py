"""torch.compile: where it is tried, what it leaves behind, and that it is left out where it is slower."""

import os

import pytest
import torch
from test_loop import history, job_of
from tiny_competition import make_tiny

from kaggle_kit.config import derive
from kaggle_kit.machine.device import make_fabric
from kaggle_kit.stop import Stop
from kaggle_kit.training import compiling, steps
from kaggle_kit.training.compiling import compile_pays
from kaggle_kit.training.data import make_data
from kaggle_kit.training.fold import train_fold
from kaggle_kit.training.learner import make_model


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine whose speeds are not known yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def test_compile_falls_back_with_a_line(shared, monkeypatch, caplog):
    def broken(model, **_):
        class Broken(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self._orig_mod = model

            def forward(self, images):
                model(images)
                raise RuntimeError("no compiler\nand a long story")

        return Broken()

    plain = job_of(shared, "epochs=1", "seed=3")
    train_fold(plain)
    expected = history(plain)["train_loss"].iloc[1]
    monkeypatch.setattr(torch, "compile", broken)
    job = job_of(shared, "epochs=1", "seed=3", "model.compile=true")
    train_fold(job)
    assert "training without it: no compiler" in caplog.text
    assert history(job)["train_loss"].iloc[1] == expected  # the trial left nothing behind


def test_what_is_compiled_is_kept_for_the_user_unless_a_place_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    compiling.keep_compiled(tmp_path / "cache" / "compiled")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "elsewhere"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    (tmp_path / "file").touch()
    compiling.keep_compiled(tmp_path / "file" / "compiled")  # cannot be made
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    compiling.keep_compiled(tmp_path / "cache" / "compiled")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "cache" / "compiled")


def test_compiling_is_left_to_long_trainings_and_to_what_was_not_slower_before(shared, monkeypatch):
    def keep(config, speeds):
        monkeypatch.setattr(steps, "time_steps", lambda images, ways: speeds)
        steps.measure_steps(config.model.name, torch.zeros(config.data.batch_size, 3, *spec.size), speeds)

    job = job_of(shared)
    fabric = make_fabric(job.config.hardware)
    _model, spec = make_model(job)
    with make_data(job, spec, fabric, Stop()) as data:
        images = data.loader.images * job.config.schedule.epochs
        least = compiling.COMPILE_PAYS_FROM["cpu"] // (spec.height * spec.width)
        assert images < least
        assert not compile_pays(job.config, data, fabric)
        more = derive(job.config, [f"epochs={-(-least // data.loader.images)}"])
        for speed, expected in ((None, True), (8.0, False), (10.0, False), (12.0, True)):
            if speed is not None:
                keep(more, {"eager fp32": 10.0, "compiled fp32": speed})
            assert compile_pays(more, data, fabric) == expected
            assert not compile_pays(derive(more, ["model.compile=false"]), data, fabric)
            assert compile_pays(derive(job.config, ["model.compile=true"]), data, fabric)
        keep(more, {"eager fp32": 10.0, "compiled fp32": 8.0})
        assert compile_pays(derive(more, ["batch_size=3"]), data, fabric)  # nothing is known of that


@pytest.mark.parametrize("gain", [0.8, 1.3])
def test_what_is_faster_is_taken_measured_once_and_changes_no_number(shared, monkeypatch, caplog, gain):
    """The compiler is a spy, which does as the model does, so that it can be counted and the numbers compared."""
    entries = ("epochs=1", "seed=3", "model.head.dropout=0.5")
    plain = job_of(shared, *entries)
    train_fold(plain)
    expected = history(plain)["train_loss"].iloc[1]

    seen, timed = [], []
    monkeypatch.setattr(torch, "compile", lambda module, **_: lambda images: seen.append(images.shape) or module(images))
    monkeypatch.setattr(compiling, "COMPILE_PAYS_FROM", {"cpu": 0})

    def time_steps(images, ways):
        for way in ways.values():
            way(images).sum().backward()
        timed.append(tuple(ways))
        return dict(zip(ways, (10.0, 10.0 * gain), strict=True))

    monkeypatch.setattr(steps, "time_steps", time_steps)
    caplog.set_level("INFO", logger="kaggle_kit")
    found = []
    for _ in range(2):
        job = job_of(shared, *entries)
        train_fold(job)
        found.append(history(job)["train_loss"].iloc[1])
    assert timed == [("eager fp32", "compiled fp32")]
    assert found == [expected] * 2
    assert ("training compiled" if gain > 1 else "training without it") in caplog.text
    updates = len(seen)
    train_fold(job_of(shared, *entries))
    assert (len(seen) > updates) == (gain > 1)


def test_a_batch_of_another_shape_is_not_compiled(monkeypatch):
    seen = []

    def spy(module, **options):
        assert options == {"dynamic": False}
        return lambda images: seen.append(images.shape) or module(images)

    monkeypatch.setattr(torch, "compile", spy)
    plain = torch.nn.Conv2d(3, 2, 1)
    wrapped = compiling.Compiled(plain, torch.Size((4, 3, 8, 8)))
    assert wrapped(torch.zeros(4, 3, 8, 8)).shape == (4, 2, 8, 8)
    assert wrapped(torch.zeros(3, 3, 8, 8)).shape == (3, 2, 8, 8)
    assert seen == [(4, 3, 8, 8)]
    assert [name for name, _ in wrapped.named_parameters()] == ["module.weight", "module.bias"]

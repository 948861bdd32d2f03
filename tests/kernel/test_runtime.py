import dataclasses
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from kaggle_kit import files
from kaggle_kit.errors import DataError, DeviceMemoryError, MissingFileError
from kaggle_kit.inference import run as inference_run
from kaggle_kit.inference import time_limit, workers
from kaggle_kit.kernel.sandbox.inputs import hidden_images, visible_images, write_test_data
from kaggle_kit.tables import read_predictions


@pytest.fixture
def blended(world):
    return read_predictions(world.workspace.submission_path("blend").with_suffix(".probs.parquet"))


def made(mounted):
    return read_predictions(mounted.working / "submission.probs.parquet")


def distance(one, other):
    return float(np.abs(one.probs - other.take(one.ids).probs).max())


def test_the_visible_test_set_gets_what_kk_blend_gives(mounted, world, blended):
    result = mounted.run()
    assert result.passed
    assert made(mounted).ids == blended.ids
    assert distance(made(mounted), blended) < 1e-5
    own = pd.read_csv(mounted.working / "submission.csv", dtype={"id": str})
    theirs = pd.read_csv(world.workspace.submission_path("blend"), dtype={"id": str})
    assert list(own.columns) == list(theirs.columns)
    np.testing.assert_allclose(own.iloc[:, 1:], theirs.iloc[:, 1:], atol=1e-5)
    assert result.n_prior == 0
    assert result.left_out == ()
    assert "passed: submission.csv, 14 rows" in str(result)


def test_relative_folders_are_those_of_the_notebook(mounted, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    mounted.inputs, mounted.working = mounted.inputs.relative_to(tmp_path), mounted.working.relative_to(tmp_path)
    status = {check.name: check.status for check in mounted.run().checks}
    assert status["form: ids"] == status["form: test images"] == "passed"


def test_form_and_contract_are_checked(mounted):
    result = mounted.run()
    status = {check.name: check.status for check in result.checks}
    for name in ("form: columns", "form: ids", "form: test images", "form: values", "contract: record", "contract: runs"):
        assert status[name] == "passed"
    assert status["contract: fold table"] == "inconclusive"
    assert not any("/tmp" in check.evidence for check in result.checks)
    assert files.read_json(mounted.working / "submission.check.json", made_by="")["passed"]


def test_a_hidden_test_set_with_other_ids_and_number(mounted, world, blended):
    hidden = hidden_images(visible_images(world.competition, world.data, None))
    shutil.rmtree(mounted.data)
    write_test_data(mounted.data, hidden, world.config.competition, world.data)
    result = mounted.run()
    assert result.passed
    found = made(mounted)
    assert set(found.ids) == {image.id for image in hidden}
    assert not set(found.ids) & set(blended.ids)
    sound = [image for image in hidden if image.origin is not None]
    for image in sound:
        np.testing.assert_allclose(found.take([image.id]).probs, blended.take([image.origin]).probs, atol=1e-5)
    assert result.n_prior == len(hidden) - len(sound) == 1
    assert mounted.said("1 image cannot be read", "header is damaged")
    broken = next(image.id for image in hidden if image.origin is None)
    np.testing.assert_allclose(found.take([broken]).probs, 1 / 3, atol=1e-6)


def test_a_damaged_weight_costs_one_fold(mounted, blended):
    path = mounted.dataset / "a-fold1.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    result = mounted.run()
    assert result.passed
    assert mounted.said("a-fold1.safetensors is damaged: its sha256 is", "run a goes on without fold 1")
    assert result.left_out == ("run a fold 1 (damaged)",)
    assert 0 < distance(made(mounted), blended) < 1


def test_a_run_without_any_model_is_stood_in_for(mounted):
    for fold in (0, 1):
        (mounted.dataset / f"b-fold{fold}.safetensors").unlink()
    result = mounted.run()
    assert result.passed
    assert mounted.said("run b has no usable model", "mean of the other runs")
    assert np.allclose(made(mounted).probs.sum(axis=1), 1, atol=1e-5)


def test_without_any_model_there_is_no_submission(mounted):
    for path in mounted.dataset.glob("*.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"all 4 models .* damaged or missing"):
        mounted.run()
    assert not (mounted.working / "submission.csv").exists()


def test_a_damaged_plan_is_an_error(mounted):
    (mounted.dataset / "plan.json").write_text("{}")
    with pytest.raises(DataError, match="nothing can be done without it"):
        mounted.run()


def test_a_missing_wheel_of_views_leaves_views_out(mounted, monkeypatch):
    find_spec = inference_run.importlib.util.find_spec
    monkeypatch.setattr(inference_run.importlib.util, "find_spec", lambda name: None if name == "ttach" else find_spec(name))
    (mounted.dataset / "ttach-0.0.3-py3-none-any.whl").unlink()
    result = mounted.run()
    assert result.passed
    assert mounted.said("wheel ttach-0.0.3-py3-none-any.whl: it is not there")
    assert mounted.said("ttach is not installed: run a is predicted without its hflip views")
    assert "hflip views of run a" in result.left_out


def test_a_session_without_a_gpu_is_told(mounted, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    mounted.run()
    assert mounted.said("there is no GPU; predicting on the CPU, which is slow")


def test_gpus_that_do_not_work_are_left_out(mounted, monkeypatch, blended):
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2)
    monkeypatch.setattr(workers, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(workers, "refusal", lambda name: f"{name}: no kernel image is available")
    result = mounted.run()
    assert result.passed
    assert mounted.said("GPU 0 does not work", "no kernel image")
    assert mounted.said("none of the GPUs works; predicting on the CPU")
    assert distance(made(mounted), blended) < 1e-5


def test_two_devices_share_the_work(mounted, monkeypatch, blended):
    monkeypatch.setattr(inference_run, "usable_devices", lambda *_: ["cpu", "cpu"])
    monkeypatch.setattr(time_limit, "_FIRST", 3)
    monkeypatch.setattr(time_limit, "_SMALLEST", 2)
    assert mounted.run().passed
    assert distance(made(mounted), blended) < 1e-5


def patch_predictor(monkeypatch, before):
    """Call ``before(compute, passes)`` each time that so many passes of images are to be computed; it may raise."""

    class Patched(workers.Predictor):
        def __init__(self, models, rows, *, compute, **options):
            self.compute, self.each = compute, len(models) * (2 if "hflip" in options["tta"] else 1)
            super().__init__(models, rows, compute=dataclasses.replace(compute, device="cpu"), **options)

        def predict(self, part=None, *, progress=None):
            before(self.compute, self.each * len(part))
            return super().predict(part, progress=progress)

    monkeypatch.setattr(workers, "Predictor", Patched)


def test_a_device_that_breaks_down_leaves_its_part_to_the_others(mounted, monkeypatch, blended):
    """The second device is called meta, on which nothing can be computed."""
    monkeypatch.setattr(inference_run, "usable_devices", lambda *_: ["cpu", "meta"])
    monkeypatch.setattr(time_limit, "_FIRST", 3)

    def before(compute, _rows):
        if compute.device == "meta":
            raise RuntimeError("CUDA error: unspecified launch failure\nmore")

    patch_predictor(monkeypatch, before)
    result = mounted.run()
    assert result.passed
    assert result.n_prior == 0
    assert mounted.said("meta stopped working (CUDA error: unspecified launch failure)")
    assert distance(made(mounted), blended) < 1e-5


def test_when_the_last_gpu_breaks_down_the_cpu_goes_on(mounted, monkeypatch, blended):
    monkeypatch.setattr(inference_run, "usable_devices", lambda *_: ["meta"])

    def before(compute, _rows):
        if compute.device == "meta":
            raise RuntimeError("CUDA error: device lost")

    patch_predictor(monkeypatch, before)
    assert mounted.run().n_prior == 0
    assert mounted.said("no GPU is left; going on with the CPU")
    assert distance(made(mounted), blended) < 1e-5


def test_memory_that_is_too_small_means_smaller_batches(mounted, monkeypatch):
    seen = []

    def before(compute, _rows):
        seen.append(compute.batch_size)
        if seen[-1] > 2:
            raise DeviceMemoryError("the GPU's memory is too small for this batch")

    patch_predictor(monkeypatch, before)
    assert mounted.run().n_prior == 0
    assert seen[:3] == [8, 4, 2]
    assert mounted.said("going on with batches of 2")


def test_half_precision_that_overflows_means_single(mounted, monkeypatch):
    monkeypatch.setattr(inference_run, "usable_devices", lambda *_: ["cuda:9"])
    seen = []

    def before(compute, _rows):
        seen.append(compute.precision)
        if compute.precision == "auto":
            raise DataError("3 rows came out without a finite probability")

    monkeypatch.setattr(workers.Compute, "rounding", "fp32")
    patch_predictor(monkeypatch, before)
    assert mounted.run().n_prior == 0
    assert seen[:2] == ["auto", "fp32"]
    assert mounted.said("cuda:9: going on in float32")


@pytest.fixture
def slow(monkeypatch):
    """A clock on which each pass of an image takes a quarter of a second."""
    clock, real = [0.0], time_limit.TimeLimit

    def turned(seconds, *, started):
        return real(seconds, started=started, clock=lambda: clock[0])

    def before(_compute, passes):
        clock[0] += 0.25 * passes

    monkeypatch.setattr(time_limit, "_FIRST", 3)
    monkeypatch.setattr(time_limit, "_SMALLEST", 2)
    monkeypatch.setattr(time_limit, "TimeLimit", turned)
    monkeypatch.setattr(workers.time, "monotonic", lambda: clock[0])
    patch_predictor(monkeypatch, before)


@pytest.mark.usefixtures("slow")
def test_short_of_time_views_are_left_out_of_all_images(mounted, blended):
    """All takes 21 s. When five images are done, after 7.5 s, the rest without views, and run a anew, takes 11.5 s."""
    result = mounted.run(budget_seconds=21.0)
    assert result.passed
    assert result.n_prior == 0
    assert result.left_out == ("the hflip views of run a",)
    assert mounted.said("short of time", "without the hflip views of run a")
    assert "left out: the hflip views of run a" in str(result)
    assert distance(made(mounted), blended) > 1e-4


@pytest.mark.usefixtures("slow")
def test_shorter_still_folds_are_left_out(mounted):
    result = mounted.run(budget_seconds=15.5)
    assert result.passed
    assert result.n_prior == 0
    assert result.left_out == ("the hflip views of run a", "fold 1 of run a", "fold 1 of run b")


@pytest.mark.usefixtures("slow")
def test_out_of_time_the_rest_has_the_shares_of_the_training_data(mounted):
    result = mounted.run(budget_seconds=9.0)
    assert result.passed
    assert 0 < result.n_prior < 14
    assert mounted.said("out of time", "of 14 images are not predicted")
    assert f"{result.n_prior} of them without a prediction" in str(result)
    rows = made(mounted).probs
    assert int(np.isclose(rows, 1 / 3, atol=1e-6).all(axis=1).sum()) == result.n_prior


def test_nothing_attached_is_said(mounted):
    shutil.rmtree(mounted.data)
    with pytest.raises(MissingFileError, match="Attach the competition"):
        mounted.run()
    shutil.rmtree(mounted.dataset)
    with pytest.raises(MissingFileError, match="Attach the dataset"):
        mounted.run()

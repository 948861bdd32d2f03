"""What a blend needs beside models goes with a kernel: views that were chosen for each fold, the package of boosted trees."""

from __future__ import annotations

import importlib.util
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from kernel_world import Mounted, make_world

from kaggle_kit import files, kernel, runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.choices import INT8
from kaggle_kit.errors import DataError, DependencyError
from kaggle_kit.inference import PredictOptions, openvino_models, predict_runs
from kaggle_kit.kernel import runtime
from kaggle_kit.kernel.bundle import find_bundle
from kaggle_kit.kernel.dataset import choose_recipe, write_inference
from kaggle_kit.kernel.image import load_image
from kaggle_kit.runs.blend_record import read_blend_record
from kaggle_kit.tables import read_predictions

ADDRESS = kernel.Address("somebody")


def test_the_kernel_views_as_kk_predict_did(tmp_path):
    world = make_world(tmp_path / "world")
    run = runs.read_run(world.workspace, "a")
    models = {fold.fold: files.file_fingerprint(fold.path / runs.MODEL) for fold in run.folds}
    mixes = {0: "0.70*none+0.30*stretched", 1: "larger"}
    record = runs.ViewsRecord(mixes, ("none", "stretched", "larger"), "x", models, "log_loss", 1.0, 0.9)
    runs.write_views(run.path, record)
    predict_runs(world.setup, ["a"], PredictOptions("auto", control=4))
    blend(world.setup, runs=["a"], name="viewed")
    out = tmp_path / "kernel"
    built = kernel.build_kernel(world.setup, out, ADDRESS, kernel.Content(blend="viewed", force=True))
    mounted = mount(world, built, tmp_path)
    assert mounted.run().left_out == ()
    own = pd.read_csv(mounted.working / "submission.csv", dtype={"id": str})
    theirs = pd.read_csv(world.workspace.submission_path("viewed"), dtype={"id": str})
    np.testing.assert_allclose(own.iloc[:, 1:], theirs.iloc[:, 1:], atol=1e-5)
    plain = pd.read_csv(world.workspace.submission_path("blend"), dtype={"id": str})
    assert np.abs(own.iloc[:, 1:] - plain.iloc[:, 1:]).max(axis=None) > 0.01

    runs.write_views(run.path, runs.ViewsRecord({**mixes, 1: "none"}, record.pool, "x", models, "log_loss", 1.0, 0.9))
    recipe, _ = choose_recipe(world.workspace, world.competition, runs=(), blend="viewed", force=True)
    with pytest.raises(DataError, match="other views were chosen for run a"):
        write_inference(tmp_path / "again", world.setup, recipe, half=False)


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    """A blend of run `a` in 8-bit integers, with views, and run `b` in floating point; and a kernel of it."""
    if importlib.util.find_spec("nncf") is None:
        pytest.skip("nncf is not installed")
    root = tmp_path_factory.mktemp("coarse")
    world = make_world(root / "world")
    predict_runs(world.setup, ["a"], PredictOptions("hflip", engine=INT8, control=4))
    blend(world.setup, name="coarse")
    assert read_blend_record(world.workspace.submission_path("coarse")).runs[0].oof_views == "hflip, int8"
    wheels = root / "wheels"
    wheels.mkdir()
    (wheels / "openvino-2026.1.0-py3-none-any.whl").write_bytes(b"stands for a wheel")
    content = kernel.Content(blend="coarse", force=True)
    return world, kernel.build_kernel(world.setup, root / "kernel", ADDRESS, content, wheels_dir=wheels)


@pytest.fixture
def session(coarse, tmp_path):
    """The kernel where Kaggle mounts it, and what `kk blend` gave."""
    world, built = coarse
    expected = read_predictions(world.workspace.submission_path("coarse").with_suffix(".probs.parquet"))
    return mount(world, built, tmp_path), expected


def furthest(mounted, expected):
    made = read_predictions(mounted.working / "submission.probs.parquet")
    return float(np.abs(made.probs - expected.take(made.ids).probs).max())


def test_a_blend_in_eight_bits_is_repeated_in_eight_bits(coarse, session):
    world, built = coarse
    mounted, expected = session
    assert any(name.startswith("openvino-") for name in built.wheels)
    assert not files.read_json(built.kernel / "kernel-metadata.json", made_by="")["enable_gpu"]
    runs_of_plan = files.read_json(mounted.dataset / "plan.json", made_by="")["runs"]
    assert [len(run.get("graphs", ())) for run in runs_of_plan] == [2, 0]
    assert mounted.run().left_out == ()
    assert furthest(mounted, expected) < 1e-4
    plain = read_predictions(world.workspace.submission_path("blend").with_suffix(".probs.parquet"))
    assert furthest(mounted, plain) > 1e-3


def test_weights_in_16_bits_have_graphs_of_their_own(coarse, session, tmp_path):
    """What a graph was made of is what the kernel finds beside it."""
    world, built = coarse
    content = kernel.Content(blend="coarse", force=True, half=True)
    halved = kernel.build_kernel(world.setup, tmp_path / "half", ADDRESS, content, wheels_dir=built.folder.parent / "wheels")
    assert not {name for name in halved.sizes if name.startswith(INT8)} & built.sizes.keys()
    mounted = mount(world, halved, tmp_path / "of-half")
    assert mounted.run().left_out == ()
    assert furthest(mounted, session[1]) < 0.05


@pytest.mark.parametrize("damage", ["graph", "engine"])
def test_what_cannot_be_computed_in_eight_bits_is_computed_in_floating_point(session, coarse, monkeypatch, damage):
    world, _ = coarse
    mounted, _ = session
    if damage == "graph":
        next(mounted.dataset.glob("int8-*.bin")).write_bytes(b"")
        words = ("is damaged", "run a is computed in floating point instead")
    else:
        monkeypatch.setattr(openvino_models, "openvino_core", _no_openvino)
        words = ("OpenVINO cannot be used (it is not here)", "predicting by PyTorch")
    result = mounted.run()
    assert result.passed
    assert result.left_out == ()
    assert mounted.said(*words)
    plain = read_predictions(world.workspace.submission_path("blend").with_suffix(".probs.parquet"))
    assert furthest(mounted, plain) < 0.2


def test_a_gpu_that_is_there_after_all_is_taken(session, monkeypatch):
    mounted, _ = session
    bundle = find_bundle(mounted.inputs, "inference")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    engines = [compute.engine for compute in runtime._computes(bundle, runtime._read_plan(bundle), print)]
    assert engines == [INT8, "auto"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    engines = [compute.engine for compute in runtime._computes(bundle, runtime._read_plan(bundle), print)]
    assert engines == ["torch", "torch"]


def _no_openvino():
    raise DependencyError("it is not here")


def test_a_kernel_for_a_cpu_takes_openvino_along(tmp_path):
    world = make_world(tmp_path / "world")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "openvino-2026.1.0-py3-none-any.whl").write_bytes(b"stands for a wheel")
    content = kernel.Content(blend="blend", force=True, cpu=True)
    built = kernel.build_kernel(world.setup, tmp_path / "kernel", ADDRESS, content, wheels_dir=wheels)
    assert any(name.startswith("openvino-") for name in built.wheels)
    about = files.read_json(built.kernel / "kernel-metadata.json", made_by="")
    assert not about["enable_gpu"]
    assert "machine_shape" not in about
    mounted = mount(world, built, tmp_path)
    mounted.run()
    expected = read_predictions(world.workspace.submission_path("blend").with_suffix(".probs.parquet"))
    assert furthest(mounted, expected) < 1e-4
    assert not mounted.said("which is slow")


def mount(world, built, folder):
    mounted = Mounted(folder / "input", folder / "working")
    shutil.copytree(built.dataset, mounted.dataset)
    shutil.copytree(world.data / "test", mounted.data / "test")
    shutil.copy(world.data / "sample_submission.csv", mounted.data)
    return mounted


def test_a_blend_of_trees_takes_its_package_along(tmp_path):
    world = make_world(tmp_path / "world")
    blend(world.setup, name="boosted", method="trees")
    recipe, _ = choose_recipe(world.workspace, world.competition, runs=(), blend="boosted", force=True)
    assert recipe.packages == ("lightgbm",)
    image = tmp_path / "image.txt"
    known = load_image().packages
    image.write_text("\n".join(f"{name}=={version or '1'}" for name, version in known.items() if name != "lightgbm"))
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "lightgbm-4.7.0-py3-none-any.whl").write_bytes(b"stands for a wheel")
    content = kernel.Content(blend="boosted", force=True)
    with_it = kernel.build_kernel(world.setup, tmp_path / "a", ADDRESS, content, image_list=image, wheels_dir=wheels)
    assert any(name.startswith("lightgbm") for name in with_it.wheels), with_it.wheels
    without = kernel.build_kernel(world.setup, tmp_path / "b", ADDRESS, content)
    assert not any(name.startswith("lightgbm") for name in without.wheels)

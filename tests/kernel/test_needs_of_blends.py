"""What a blend needs beside models goes with a kernel: views that were chosen for each fold, the package of boosted trees."""

from __future__ import annotations

import importlib.util
import shutil

import numpy as np
import pandas as pd
import pytest
from kernel_world import Mounted, make_world

from kaggle_kit import files, kernel, runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.choices import INT8
from kaggle_kit.errors import DataError
from kaggle_kit.inference import PredictOptions, predict_runs
from kaggle_kit.kernel.dataset import choose_recipe, write_inference
from kaggle_kit.kernel.image import load_image
from kaggle_kit.runs.blend_record import read_blend_record


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
    built = kernel.build_kernel(world.setup, out, kernel.Address("somebody"), kernel.Content(blend="viewed", force=True))
    mounted = Mounted(tmp_path / "input", tmp_path / "working")
    shutil.copytree(built.dataset, mounted.dataset)
    shutil.copytree(world.data / "test", mounted.data / "test")
    shutil.copy(world.data / "sample_submission.csv", mounted.data)
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


def test_a_blend_in_eight_bits_is_no_kernel(tmp_path):
    """It would give other numbers there."""
    if importlib.util.find_spec("nncf") is None:
        pytest.skip("nncf is not installed")
    world = make_world(tmp_path / "world")
    predict_runs(world.setup, ["a"], PredictOptions(engine=INT8, control=4))
    blend(world.setup, runs=["a"], name="coarse")
    assert read_blend_record(world.workspace.submission_path("coarse")).runs[0].oof_views == "none, int8"
    recipe, _ = choose_recipe(world.workspace, world.competition, runs=(), blend="coarse", force=True)
    with pytest.raises(DataError, match="run a was predicted in 8-bit integers"):
        write_inference(tmp_path / "again", world.setup, recipe, half=False)


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
    address, content = kernel.Address("somebody"), kernel.Content(blend="boosted", force=True)
    with_it = kernel.build_kernel(world.setup, tmp_path / "a", address, content, image_list=image, wheels_dir=wheels)
    assert any(name.startswith("lightgbm") for name in with_it.wheels), with_it.wheels
    without = kernel.build_kernel(world.setup, tmp_path / "b", address, content)
    assert not any(name.startswith("lightgbm") for name in without.wheels)

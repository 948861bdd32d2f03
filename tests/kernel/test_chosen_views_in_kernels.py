"""Views that were chosen for each fold go with a kernel."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import Mounted
from kernel_world import make_world

from kaggle_kit import files, kernel, runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.errors import DataError
from kaggle_kit.inference import PredictOptions, predict_runs
from kaggle_kit.kernel.dataset import choose_recipe, write_inference


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

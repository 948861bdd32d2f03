"""Faults inside the predictor, in every fold alike: what the pixels and the control rows say of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kernel_world import make_world, write_image

from kaggle_kit import files, runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.check import check_submission
from kaggle_kit.check.case import Case
from kaggle_kit.check.pixels import check_pixels
from kaggle_kit.inference import predict_runs, workers
from kaggle_kit.tables import Predictions, read_predictions
from kaggle_kit.workspace import Workspace

N_TEST = 150


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A world with many test images and no predictions."""
    world = make_world(tmp_path_factory.mktemp("faults"))
    for row in range(14, N_TEST):
        write_image(world.data / "test" / f"{row:04}.png", 100 + row)
    sample = pd.DataFrame({"id": [f"{row:04}" for row in range(N_TEST)], "blue": 0.3, "green": 0.3, "red": 0.3})
    files.write_table(world.data / "sample_submission.csv", sample)
    return world


@pytest.fixture
def predicted(base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """``predicted(change)``: status of each check after a `kk predict` whose stream went through ``change``."""
    from kaggle_kit.competition import open_setup

    shutil.copytree(base.workspace.root, tmp_path / "w")
    workspace = Workspace(tmp_path / "w")
    setup = open_setup(workspace, ["workers=0", "image_size=32", "batch_size=4", "hardware.engine=torch"])
    real = workers.Predictor.predict

    def run(change: Callable[[Any], Any]) -> dict[str, str]:
        def spoiled(self: Any, part: Any = None, *, progress: Any = None) -> Any:
            return change(real(self, part, progress=progress).copy())

        monkeypatch.setattr(workers.Predictor, "predict", spoiled)
        predict_runs(setup)
        monkeypatch.setattr(workers.Predictor, "predict", real)
        blend(setup, name="spoiled")
        path = workspace.submission_path("spoiled")
        report = check_submission(path, workspace=workspace, config=setup.config, competition=setup.competition)
        return {check.name: check.status for check in report.checks}

    return run


def columns(order: list[int]) -> Callable[[Any], Any]:
    def change(said: Any) -> Any:
        said["probs"] = said["probs"][..., order]
        return said

    return change


def rows(start: int, stop: int, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(said: Any) -> Any:
        said[:, start:stop] = change(said[:, start:stop].copy())
        return said

    return apply


def test_without_a_fault_all_is_well(predicted: Callable[..., dict[str, str]]) -> None:
    found = predicted(lambda said: said)
    assert found["pixels"] == "passed"
    assert found["control: sharp"] == "passed"


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda said: np.roll(said, 1, axis=1), "pixels"),
        (rows(100, 140, lambda part: np.roll(part, 1, axis=1)), "pixels"),
        (rows(N_TEST + 24 - 8, N_TEST + 24, lambda part: part[:, ::-1]), "pixels"),
        (columns([1, 2, 0]), "control: sharp"),
        (columns([1, 0, 2]), "control: sharp"),
    ],
    ids=["rolled by one", "rows 100 to 140 shifted", "last eight reversed", "columns permuted", "two classes swapped"],
)
def test_a_fault_in_the_stream_is_seen(
    predicted: Callable[..., dict[str, str]], change: Callable[[Any], Any], check: str
) -> None:
    assert predicted(change)[check] == "failed"


def spoil(workspace: Workspace, name: str, change: Callable[[Any], Any]) -> None:
    for run in runs.choose_runs(workspace):
        path = run.path / "fold0" / name
        table = read_predictions(path)
        Predictions(table.ids, table.probs, table.classes, table.meta, change(table.pixels)).write(path)


def test_the_same_id_with_other_pixels_in_another_file(base: Any, tmp_path: Path) -> None:
    """Each file agrees with itself: only the comparison over folds sees that one of them was made from other images."""
    shutil.copytree(base.workspace.root, tmp_path / "w")
    workspace = Workspace(tmp_path / "w")
    case = Case(workspace.submission_path("blend"), workspace, base.config)
    assert [check.status for check in check_pixels(case)] == ["passed"]
    spoil(workspace, runs.TEST, lambda pixels: np.roll(pixels, 1, axis=0))
    (found,) = check_pixels(Case(workspace.submission_path("blend"), workspace, base.config))
    assert found.status == "failed"
    assert "saw different images under 14 ids" in found.evidence


def test_files_of_older_versions_say_nothing_of_pixels(base: Any, tmp_path: Path) -> None:
    shutil.copytree(base.workspace.root, tmp_path / "w")
    workspace = Workspace(tmp_path / "w")
    for path in workspace.runs_dir.glob("*/fold*/*.parquet"):
        table = read_predictions(path)
        Predictions(table.ids, table.probs, table.classes, table.meta).write(path)
    (found,) = check_pixels(Case(workspace.submission_path("blend"), workspace, base.config))
    assert found.status == "inconclusive"

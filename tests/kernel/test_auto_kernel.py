"""A kernel that searches: what `kk auto` does, over the sessions of a notebook."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import timm
from safetensors.torch import save_file

from kaggle_kit import Project, kernel
from kaggle_kit.auto import run_auto_kernel
from kaggle_kit.config import load_config
from kaggle_kit.errors import DataError
from kaggle_kit.kernel import Address, AutoPlan, Content

BACKBONE = "test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    tensors = timm.create_model(BACKBONE, pretrained=False).state_dict()
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / f"{BACKBONE}.safetensors")
    return folder


@pytest.fixture(scope="module")
def built(world, weights, tmp_path_factory):
    config = load_config(world.workspace.config_path, [f"pretrained={weights}"])
    setup, out = replace(world.setup, config=config), tmp_path_factory.mktemp("auto") / "k"
    return kernel.build_kernel(setup, out, Address("somebody"), Content(auto=AutoPlan(3600.0, "fast", ("test_*",))))


def session(built, world, root, before=None):
    shutil.copytree(built.dataset, root / "input/datasets/somebody/x")
    shutil.copytree(world.data, root / "input/competitions/colours")
    if before is not None:
        shutil.copytree(before, root / "input/notebooks/somebody/colours-auto")
    return root / "input", root / "working"


def test_a_search_ends_with_a_submission_and_goes_on_in_the_next_session(built, world, weights, tmp_path, monkeypatch):
    assert f"{BACKBONE}.safetensors" in built.sizes
    assert any(BACKBONE in note for note in built.notes)
    source, working = session(built, world, tmp_path / "first")
    monkeypatch.setenv("KK_INPUT_ROOT", str(source))
    monkeypatch.setenv("KK_WORKING_ROOT", str(working))
    cells = [cell["source"] for cell in json.loads(built.notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for cell in (cells[0], *cells[2:]):  # without the one that installs
        exec(cell, names)
    first = names["result"]
    assert any(BACKBONE in run for run in first.runs)
    submitted = pd.read_csv(working / "submission.csv", dtype=str)
    assert submitted.equals(pd.read_csv(first.submission, dtype=str))
    assert list(submitted.columns) == list(pd.read_csv(world.data / "sample_submission.csv", nrows=1).columns)
    assert not (working / "kk/.kk_cache").exists()
    assert str(weights) not in (built.dataset / "plan.json").read_text()

    lines: list[str] = []
    source, working = session(built, world, tmp_path / "second", before=working)
    again = run_auto_kernel(Project.open, source, working, build=built.build, say=lines.append)
    assert any("going on from" in line for line in lines)
    assert (again.runs, again.score) == (first.runs, first.score)
    assert not any("kk train" in line and "auto-probe" in line for line in lines)
    assert (working / "submission.csv").read_bytes() == (tmp_path / "first/working/submission.csv").read_bytes()


def test_a_session_without_time_leaves_what_the_next_begins_with(built, world, tmp_path):
    source, working = session(built, world, tmp_path / "short")
    lines: list[str] = []
    result = run_auto_kernel(Project.open, source, working, budget_seconds=0.0, say=lines.append)
    assert any("the search begins" in line for line in lines)
    assert result.submission is None or (working / "submission.csv").is_file()
    assert (working / "kk/auto/auto.jsonl").is_file()


def test_damaged_weights_are_refused(built, world, tmp_path):
    source, working = session(built, world, tmp_path)
    path = source / f"datasets/somebody/x/{BACKBONE}.safetensors"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(DataError, match="its sha256"):
        run_auto_kernel(Project.open, source, working)

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import nbformat
import pytest

from kaggle_kit import files, kernel, runs
from kaggle_kit.config import load_config
from kaggle_kit.errors import ConfigError, DataError, MissingFileError, SubmissionError
from kaggle_kit.kaggle_api.metadata import read_dataset, read_kernel
from kaggle_kit.kaggle_api.metadata import slug_of as slug_for_upload
from kaggle_kit.kernel import Address, Content
from kaggle_kit.kernel.bundle import read_bundle
from kaggle_kit.kernel.notebook import slug_of
from kaggle_kit.tables import read_predictions
from kaggle_kit.workspace import Workspace


def build(world, out, *, title=None, force=True, **content):
    return kernel.build_kernel(world.setup, out, Address("somebody", title=title), Content(force=force, **content))


def test_both_folders_pass_what_is_asked_before_an_upload(built):
    dataset, notebook = read_dataset(built.dataset), read_kernel(built.kernel)
    assert dataset.ref == built.dataset_ref == "somebody/colours-inference-data"
    assert notebook.ref == built.kernel_ref == "somebody/colours-inference"
    content = notebook.content
    assert content["machine_shape"] == "NvidiaTeslaT4"
    assert (content["enable_gpu"], content["enable_internet"], content["is_private"]) == (True, False, True)
    assert content["dataset_sources"] == [dataset.ref]
    assert content["competition_sources"] == ["colours"]


def test_the_dataset_is_flat_and_its_manifest_names_all(built):
    assert all(path.is_file() for path in built.dataset.iterdir())
    bundle = read_bundle(built.dataset)
    assert bundle.damaged(bundle.files) == {}
    names = {path.name for path in built.dataset.iterdir()} - {"manifest.json", "dataset-metadata.json"}
    assert set(bundle.files) == names
    assert {f"{run}-fold{fold}.safetensors" for run in "ab" for fold in (0, 1)} < names
    assert [name.partition("-")[0] for name in bundle.wheels] == ["kaggle_kit", "ttach"]


def test_the_notebook_is_valid_and_short(built):
    notebook = nbformat.read(built.notebook, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    for source in code:
        compile(source, "cell", "exec")
        assert len(source.splitlines()) <= 26
    assert built.build in code[0]
    assert not re.search(r"@[A-Z]+@", "".join(cell.source for cell in notebook.cells))


def test_nothing_of_home_is_in_it(built, world):
    root = str(world.workspace.root).encode()
    for path in [*built.dataset.iterdir(), *built.kernel.iterdir()]:
        content = path.read_bytes()
        assert root not in content, path.name
        assert b"/home/" not in content or path.suffix == ".whl", path.name
        assert b"t000.png" not in content, path.name  # no training image is named


def test_the_same_work_gives_the_same_build(built, world, tmp_path):
    again = build(world, tmp_path / "k")
    assert again.build == built.build


def test_building_does_not_load_torch(world, tmp_path):
    code = f"""
import sys
from pathlib import Path
from kaggle_kit import kernel
from kaggle_kit.competition import open_setup
from kaggle_kit.workspace import Workspace
setup = open_setup(Workspace(Path({str(world.workspace.root)!r})))
kernel.build_kernel(setup, Path({str(tmp_path / "k")!r}), kernel.Address("x"), kernel.Content(force=True))
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_half_makes_it_smaller(built, world, tmp_path):
    half = build(world, tmp_path / "k", half=True)
    name = "a-fold0.safetensors"
    assert half.sizes[name] < 0.75 * built.sizes[name]
    assert read_bundle(half.dataset).plan()["half"]


def test_runs_instead_of_a_blend_are_averaged(world, tmp_path):
    plan = read_bundle(build(world, tmp_path / "k", runs=["b"]).dataset).plan()
    assert plan["blend_name"] == ""
    assert plan["blend"]["method"] == "mean"
    assert [(run["name"], run["views"]) for run in plan["runs"]] == [("b", "none")]


def test_views_are_those_of_the_test_predictions(built):
    plan = read_bundle(built.dataset).plan()
    assert [(run["name"], run["views"], run["merge"]) for run in plan["runs"]] == [
        ("a", "hflip", "mean"),
        ("b", "none", "mean"),
    ]
    assert plan["prior"] == pytest.approx([1 / 3] * 3)
    assert plan["id_style"] == "bare folder path"


def test_an_earlier_build_is_replaced_and_nothing_else(world, tmp_path):
    out = tmp_path / "k"
    build(world, out)
    (out / "dataset" / "left-over").touch()
    build(world, out)
    assert not (out / "dataset" / "left-over").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(ConfigError, match=r"thesis.txt.*--out"):
        build(world, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_blend_that_failed_its_check_is_refused(world, tmp_path):
    path = world.workspace.submission_path("blend").with_suffix(".check.json")
    before = path.read_bytes()
    try:
        files.write_json(path, {**json.loads(before), "verdict": "FAILED", "passed": False})
        with pytest.raises(SubmissionError, match="did not pass"):
            build(world, tmp_path / "k", force=False)
    finally:
        path.write_bytes(before)
    assert not (tmp_path / "k").exists()


def test_a_missing_blend_is_named(world, tmp_path):
    with pytest.raises(MissingFileError, match="kk blend"):
        build(world, tmp_path / "k", blend="other", force=False)


def test_a_run_trained_on_after_the_blend_is_refused(world, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(world.workspace.root, root)
    record = root / "runs/b/fold1" / runs.FOLD_RECORD
    files.write_json(record, {**json.loads(record.read_text()), "model_fingerprint": "0" * 64})
    with pytest.raises(DataError, match=r"run b was trained further.*kk blend"):
        kernel.build_kernel(replace(world.setup, workspace=Workspace(root)), tmp_path / "k", Address("x"), Content(force=True))


@pytest.mark.parametrize("title", ["abc", "x" * 51, "世界世界世界"])
def test_titles_that_kaggle_refuses_are_refused(world, tmp_path, title):
    with pytest.raises(ConfigError, match="title"):
        build(world, tmp_path / "k", title=title)


@pytest.mark.parametrize("title", ["Ärzte & Söhne: 2. Versuch", "a  b--c_d", "Plain", "x²"])
def test_the_slug_is_that_of_the_upload(title):
    assert slug_of(title) == slug_for_upload(title)


def test_a_training_kernel_takes_configuration_folds_and_weights_along(world, tmp_path):
    weights = tmp_path / "w.safetensors"
    shutil.copy(world.workspace.fold_dir("a", 0) / runs.MODEL, weights)
    config = load_config(world.workspace.config_path, [f"pretrained={weights}", "model=test_efficientnet"])
    made = kernel.build_kernel(replace(world.setup, config=config), tmp_path / "k", Address("somebody"), Content(train=True))
    bundle = read_bundle(made.dataset)
    assert bundle.kind == "training"
    assert {"folds.csv", "folds.json", "plan.json", "pretrained.safetensors"} < set(bundle.files)
    assert any(name.startswith("lightning_fabric-") for name in bundle.wheels)
    assert str(tmp_path) not in (made.dataset / "plan.json").read_text()
    assert read_kernel(made.kernel).ref == "somebody/colours-training"


def test_the_blend_is_found_again(world):
    """The world is what the tests say it is: weights were found, and views differ."""
    assert len(read_predictions(world.workspace.submission_path("blend").with_suffix(".probs.parquet"))) == 14


@pytest.mark.parametrize("username", ['ada"', "ada}", "{__import__('os')}", "a da", "", "ada/x", "-ada"])
def test_what_is_no_user_name_reaches_no_notebook(world, tmp_path, username):
    with pytest.raises(ConfigError, match="username: expected Latin letters"):
        kernel.build_kernel(world.setup, tmp_path / "k", Address(username))
    assert not (tmp_path / "k").exists()


def test_what_is_no_competition_reaches_no_notebook(world, tmp_path):
    with pytest.raises(ConfigError, match="competition: expected Latin letters"):
        kernel.build_kernel(world.setup, tmp_path / "k", Address("ada", 'x"'))

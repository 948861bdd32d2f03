from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from handmade_run import CLASSES, make_world, write_image

from kaggle_kit import files, runs
from kaggle_kit.errors import ImageError, MissingFileError
from kaggle_kit.inference import Compute, find_images, find_models, predict_folder, predict_rows, predict_to_csv
from kaggle_kit.models import load_model

COMPUTE = Compute(batch_size=4, workers=0, device="cpu", engine="torch")


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(["b.png", "a.JPG", "deep/er/a.png", ".hidden/x.png", ".y.png"]):
        write_image(tmp_path / "new" / name, number)
    (tmp_path / "new" / "notes.txt").write_text("no image")
    return tmp_path / "new"


def test_images_are_found_at_any_depth_in_order(folder):
    assert [row_id for row_id, _ in find_images(folder)] == ["a.JPG", "b.png", "deep/er/a.png"]


def test_nothing_to_predict(tmp_path):
    with pytest.raises(MissingFileError, match="no images in"):
        find_images(tmp_path)
    with pytest.raises(MissingFileError, match="is not a folder"):
        find_images(tmp_path / "none")
    with pytest.raises(MissingFileError, match="expected a model file"):
        find_models(tmp_path)


def test_only_the_model_files_are_needed(world, folder, tmp_path):
    for fold in (0, 1):
        target = tmp_path / "carried" / f"fold{fold}"
        target.mkdir(parents=True)
        shutil.copy(world.fold(fold) / runs.MODEL, target)
    models = find_models(tmp_path / "carried")
    assert [path.parent.name for path in models] == ["fold0", "fold1"]
    found = predict_folder(models, folder, tta="hflip", compute=COMPUTE)
    rows = find_images(folder)
    expected = predict_rows([load_model(path) for path in models], rows, tta="hflip", compute=COMPUTE).mean(axis=0)
    assert found.ids == tuple(row_id for row_id, _ in rows)
    assert found.classes == CLASSES
    np.testing.assert_allclose(found.probs, expected, atol=1e-6)


def test_folds_are_found_in_order_of_number(tmp_path):
    for fold in (10, 2, 0):
        (tmp_path / f"fold{fold}").mkdir()
        (tmp_path / f"fold{fold}" / runs.MODEL).touch()
    assert [path.parent.name for path in find_models(tmp_path)] == ["fold0", "fold2", "fold10"]


def test_a_csv_with_the_newest_run_or_a_named_one(world, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(world.workspace.root)
    found = predict_to_csv(folder, tmp_path / "out.csv", engine="torch")
    frame = pd.read_csv(tmp_path / "out.csv", dtype=str)
    assert frame["id"].tolist() == list(found.ids)
    assert list(frame.columns) == ["id", "predicted", *(f"p_{name}" for name in CLASSES)]
    assert CLASSES.top(frame[[f"p_{name}" for name in CLASSES]].astype(float)) == frame["predicted"].tolist()
    for name in ("r", str(world.fold(0)), str(world.fold(0) / runs.MODEL)):
        predict_to_csv(folder, tmp_path / "named.csv", run=name, engine="torch")
    with pytest.raises(MissingFileError, match="There are: r"):
        predict_to_csv(folder, tmp_path / "x.csv", run="other")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match="--run PATH"):
        predict_to_csv(folder, tmp_path / "x.csv")


def test_unreadable_images_are_listed_and_left_out(world, folder, caplog):
    whole = predict_folder(find_models(world.workspace.run_dir("r")), folder, compute=COMPUTE)
    (folder / "b.png").write_bytes(b"")
    found = predict_folder(find_models(world.workspace.run_dir("r")), folder, compute=COMPUTE)
    assert found.ids == ("a.JPG", "deep/er/a.png")
    np.testing.assert_allclose(found.probs, whole.take(found.ids).probs, atol=1e-6)
    assert list(found.meta["unreadable"]) == ["b.png"]
    assert "1 of 3 images cannot be read and are left out" in caplog.text
    for name in found.ids:
        (folder / name).write_bytes(b"")
    with pytest.raises(ImageError, match=r"3 of 3 images cannot be read.*\n.*a\.JPG"):
        predict_folder(find_models(world.workspace.run_dir("r")), folder, compute=COMPUTE)


def test_several_runs_count_alike_whatever_their_folds(world, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(world.workspace.root)
    shutil.copytree(world.workspace.run_dir("r"), world.workspace.run_dir("s"))
    shutil.rmtree(world.workspace.fold_dir("s", 1))
    one, other = (predict_to_csv(folder, tmp_path / "o.csv", run=name, engine="torch").probs for name in "rs")
    both = predict_to_csv(folder, tmp_path / "o.csv", run="r,s", engine="torch").probs
    assert np.abs(one - other).max() > 1e-3
    np.testing.assert_allclose(both, (one + other) / 2, atol=1e-6)


def test_tuned_thresholds_name_the_classes(tmp_path, monkeypatch):
    world = make_world(tmp_path / "w", "multilabel")
    images = write_image(tmp_path / "new" / "a.png", 5).parent
    monkeypatch.chdir(world.workspace.root)

    def predicted():
        predict_to_csv(images, tmp_path / "o.csv", engine="torch")
        return pd.read_csv(tmp_path / "o.csv", dtype=str, keep_default_na=False)["predicted"][0]

    low = {"created": "2026-01-02", "thresholds": [0.0, 0.0, 1.1], "runs": [{"name": "r"}]}
    files.write_json(world.workspace.submission_path("blend").with_suffix(".json"), low)
    assert predicted() == f"{CLASSES.names[0]}|{CLASSES.names[1]}"
    other = {"created": "2026-01-03", "thresholds": [1.1, 1.1, 0.0], "runs": [{"name": "r"}, {"name": "s"}]}
    files.write_json(world.workspace.submission_path("other").with_suffix(".json"), other)
    assert predicted() == f"{CLASSES.names[0]}|{CLASSES.names[1]}"  # of this run alone
    (world.workspace.submission_path("blend").with_suffix(".json")).unlink()
    assert predicted() == CLASSES.names[2]

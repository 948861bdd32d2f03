from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from handmade_run import CLASSES, write_image

from kaggle_kit import runs
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
    found = predict_folder(models, folder, views="hflip", compute=COMPUTE)
    rows = find_images(folder)
    expected = predict_rows([load_model(path) for path in models], rows, views="hflip", compute=COMPUTE).mean(axis=0)
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


def test_unreadable_images_are_listed(world, folder):
    (folder / "b.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"b\.png"):
        predict_folder(find_models(world.workspace.run_dir("r")), folder, compute=COMPUTE)

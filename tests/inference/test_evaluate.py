"""``kk evaluate`` on labelled folders and tables, with small real models."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from handmade_run import CLASSES, make_world, write_image
from sklearn.metrics import log_loss, precision_score

from kaggle_kit.diagnosis import votes
from kaggle_kit.errors import ClassMappingError, ConfigError, DataError, MissingFileError
from kaggle_kit.evaluate import Wanted, evaluate, read_labelled
from kaggle_kit.inference import Compute, find_models, predict_rows
from kaggle_kit.models import load_model

COMPUTE = Compute(batch_size=4, workers=0, device="cpu", engine="torch")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Twelve images, in class folders and named by a table."""
    root = tmp_path_factory.mktemp("labelled")
    rows = [(f"{CLASSES.names[number % 3]}/{number:02}.png", CLASSES.names[number % 3]) for number in range(12)]
    for number, (name, _) in enumerate(rows):
        write_image(root / "images" / name, 70 + number)
    pd.DataFrame(rows, columns=["file", "label"]).to_csv(root / "images" / "labels.csv", index=False)
    return root / "images"


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("two"))
    shutil.copytree(world.workspace.run_dir("r"), world.workspace.run_dir("s"))
    shutil.rmtree(world.workspace.fold_dir("s", 1))
    return world


@pytest.fixture(scope="module")
def found(two_runs, labelled, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "rows.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(two_runs.workspace.root)
        return evaluate(two_runs.workspace, labelled, out, Wanted("r,s"))


def test_each_fold_each_run_and_the_ensemble_are_scored(two_runs, labelled, found):
    assert found.scores[["run", "what"]].to_numpy().tolist() == [
        ["r", "fold 0"],
        ["r", "fold 1"],
        ["r", "mean of folds"],
        ["s", "fold 0"],
        ["ensemble", "mean"],
        ["ensemble", "vote"],
    ]
    rows = [(row_id, path) for row_id, path, _ in read_labelled(labelled, CLASSES, multilabel=False)]
    truth = CLASSES.encode(row_id.split("/")[0] for row_id, _ in rows)
    models = [load_model(path) for path in find_models(two_runs.workspace.run_dir("r"))]
    each = predict_rows(models, rows, compute=COMPUTE)
    first, mean = each[0], (each.mean(axis=0) + each[0]) / 2
    scores = found.scores
    assert scores["accuracy"][0] == pytest.approx(np.mean(first.argmax(1) == truth))
    assert scores["log_loss"][4] == pytest.approx(log_loss(truth, mean.astype(float), labels=range(3)), rel=1e-4)
    assert scores["precision_macro"][4] == pytest.approx(
        precision_score(truth, mean.argmax(1), average="macro", zero_division=0)
    )
    assert np.isnan(scores["log_loss"][5])  # votes are no probabilities


def test_rows_stand_beside_the_truth_and_on_a_page(two_runs, labelled, found):
    frame = pd.read_csv(found.path, dtype=str)
    assert list(frame["truth"]) == [row_id.split("/")[0] for row_id in frame["id"]]
    assert ((frame["truth"] == frame["predicted"]) == (frame["right"] == "yes")).all()
    assert (frame["right"] == "yes").mean() == pytest.approx(found.scores["accuracy"][4])
    page = found.page.path
    assert page == two_runs.workspace.root / "report" / f"evaluation-{labelled.stem}.html"
    text = page.read_text()
    assert "vote" in text
    assert 'id="confusion"' in text
    assert found.plot_confusion()
    assert found.to_dict()["n"] == 12


def test_a_table_says_the_same_as_folders(labelled):
    folders = read_labelled(labelled, CLASSES, multilabel=False)
    table = read_labelled(labelled / "labels.csv", CLASSES, multilabel=False)
    assert sorted((row_id, labels) for row_id, _, labels in table) == sorted((row_id, labels) for row_id, _, labels in folders)


def test_labels_that_no_model_knows_are_named(two_runs, labelled, tmp_path):
    write_image(tmp_path / "new" / "ab" / "1.png", 1)
    write_image(tmp_path / "new" / "2" / "2.png", 1)
    with pytest.raises(ClassMappingError, match=r"1 labels are none of the 3 classes.*'ab' \(1 images\)"):
        evaluate(two_runs.workspace, tmp_path / "new", tmp_path / "o.csv", Wanted(str(two_runs.fold(0))))
    assert not (tmp_path / "o.csv").exists()


def test_what_cannot_be_read_is_said(two_runs, labelled, tmp_path):
    write_image(tmp_path / "loose" / "1.png", 1)
    with pytest.raises(DataError, match="1 images lie in"):
        read_labelled(tmp_path / "loose", CLASSES, multilabel=False)
    table = tmp_path / "rows.csv"
    table.write_text("image,label\nnone.png,2\n")
    with pytest.raises(MissingFileError, match=r"1 of 1 images are missing: .*none\.png"):
        read_labelled(table, CLASSES, multilabel=False)
    table.write_text("a,b\nx,2\n")
    with pytest.raises(DataError, match="no column of images among 'a', 'b'"):
        read_labelled(table, CLASSES, multilabel=False)
    with pytest.raises(ConfigError, match="metric f1_samples is not for rows of 3 classes"):
        evaluate(two_runs.workspace, labelled, tmp_path / "o.csv", Wanted(str(two_runs.fold(0)), ("f1_samples",)))


def test_data_that_are_not_there_are_said_with_what_was_expected(two_runs, tmp_path):
    with pytest.raises(MissingFileError, match="expected a folder with a folder for each class, or a CSV"):
        evaluate(two_runs.workspace, tmp_path / "nowhere", tmp_path / "out.csv")


def test_multilabel_cells_and_switches(tmp_path):
    write_image(tmp_path / "1.png", 1)
    (tmp_path / "cells.csv").write_text("image,label\n1.png,10|ä b\n")
    (tmp_path / "switches.csv").write_text("image,10,2,ä b\n1.png,1,0,1\n")
    for name in ("cells.csv", "switches.csv"):
        assert [labels for _, _, labels in read_labelled(tmp_path / name, CLASSES, multilabel=True)] == [("10", "ä b")]


def test_most_votes_win_and_the_mean_decides_ties():
    each = np.array([[[0.6, 0.3, 0.1]], [[0.5, 0.4, 0.1]], [[0.0, 0.1, 0.9]]])
    assert votes(each, each.mean(0), 0.5, multilabel=False).tolist() == [[1, 0, 0]]
    assert votes(each[1:], each[1:].mean(0), 0.5, multilabel=False).tolist() == [[0, 0, 1]]
    cells = np.array([[[0.9, 0.6]], [[0.2, 0.3]]])
    assert votes(cells, cells.mean(0), 0.5, multilabel=True).tolist() == [[1, 0]]


def test_one_image_file_is_predicted_alone(labelled):
    from kaggle_kit.inference import find_images

    path = next(labelled.rglob("*.png"))
    assert find_images(path) == [(path.name, path)]

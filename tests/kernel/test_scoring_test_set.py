from pathlib import Path

import pandas as pd
import pytest

from kaggle_kit.config import CompetitionConfig
from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.kernel.testset import STYLES, find_test_set, locate, style_of


def config(**changes):
    content = {
        "name": "c",
        "data_dir": ".",
        "task": "multiclass",
        "classes": ["a", "b"],
        "train": {"layout": "folders", "dirs": ["train"]},
        "test": {"dirs": ["test"]},
        "submission": {"sample": "sample.csv", "id_column": "id", "columns": {"label": ""}},
    }
    return CompetitionConfig.model_validate({**content, **changes})


def fill(folder: Path, names=("1.png", "2.png"), ids=("1", "2"), sample="sample.csv", test="test"):
    for name in names:
        path = folder / test / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / test).mkdir(parents=True, exist_ok=True)
    if sample:
        (folder / sample).parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"id": ids, "label": "a"}).to_csv(folder / sample, index=False)
    return folder


def found(root, conf=None, **options):
    lines = []
    return find_test_set(root, conf or config(), say=lines.append, **options), lines


@pytest.mark.parametrize("place", ["c", "competitions/c", "a/b/c"])
def test_the_data_is_found_wherever_it_is_mounted(tmp_path, place):
    folder = fill(tmp_path / place)
    test, _ = found(tmp_path)
    assert test.rows == (("1", folder / "test/1.png"), ("2", folder / "test/2.png"))
    assert test.sample == folder / "sample.csv"
    assert Path(test.config.data_dir) == folder


def test_a_folder_that_only_home_has_is_left_away(tmp_path):
    """At home the data was unpacked into a folder of its own, at Kaggle it lies one level higher."""
    folder = fill(tmp_path / "c")
    home = config(
        train={"layout": "folders", "dirs": ["unpacked/train"]},
        test={"dirs": ["unpacked/test"]},
        submission={"sample": "unpacked/sample.csv"},
    )
    test, _ = found(tmp_path, home)
    assert [path for _, path in test.rows] == [folder / "test/1.png", folder / "test/2.png"]
    assert test.config.test.dirs == ["test"]


def test_another_competition_beside_is_not_taken(tmp_path):
    fill(tmp_path / "another", test="pictures")
    folder = fill(tmp_path / "c")
    assert Path(locate(tmp_path, config()).data_dir) == folder


def test_training_needs_the_training_data(tmp_path):
    fill(tmp_path / "c")
    with pytest.raises(MissingFileError, match="train"):
        locate(tmp_path, config(), training=True)
    (tmp_path / "c" / "train").mkdir()
    assert locate(tmp_path, config(), training=True).train.dirs == ["train"]


def test_data_that_is_not_attached_says_what_is(tmp_path):
    (tmp_path / "weights").mkdir()
    with pytest.raises(MissingFileError, match=r"sample.csv, test; mounted are: weights"):
        found(tmp_path)


def test_an_id_without_image_keeps_its_row(tmp_path):
    fill(tmp_path / "c", ids=("1", "2", "9"))
    test, lines = found(tmp_path)
    assert test.rows[-1] == ("9", None)
    assert any("1 ids have no image" in line and "9" in line for line in lines)


def test_the_table_that_fits_the_images_is_taken(tmp_path):
    """A sample submission of the visible test set has been seen beside a hidden one."""
    folder = fill(tmp_path / "c", ids=("old1", "old2"))
    pd.DataFrame({"image": ["2.png", "1.png"]}).to_csv(folder / "test.csv", index=False)
    test, lines = found(tmp_path, config(test={"dirs": ["test"], "csv": "test.csv", "image_column": "image"}))
    assert [row_id for row_id, _ in test.rows] == ["2.png", "1.png"]
    assert test.sample is None
    assert test.config.submission.sample is None
    assert any("not of sample.csv" in line for line in lines)


def test_without_a_fitting_table_ids_are_made_of_the_files(tmp_path):
    fill(tmp_path / "c", ids=("old1", "old2"))
    test, lines = found(tmp_path, style="stem")
    assert [row_id for row_id, _ in test.rows] == ["1", "2"]
    assert any("another test set" in line for line in lines)


def test_an_unreadable_table_is_passed_over(tmp_path):
    folder = fill(tmp_path / "c")
    (folder / "sample.csv").write_bytes(b"")
    test, lines = found(tmp_path, style="stem")
    assert len(test.rows) == 2
    assert any("sample.csv is passed over" in line for line in lines)


def test_ids_that_occur_twice_are_predicted_once(tmp_path):
    fill(tmp_path / "c", ids=("1", "2", "1"))
    assert [row_id for row_id, _ in found(tmp_path)[0].rows] == ["1", "2"]


def test_nothing_to_predict_is_an_error(tmp_path):
    fill(tmp_path / "c", names=(), ids=())
    with pytest.raises(DataError, match="attached"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("style", "spelled"),
    [("folder path", "s/1.png"), ("bare folder path", "s/1"), ("name", "1.png"), ("stem", "1"), ("path", "test/s/1.png")],
)
def test_the_style_of_ids_is_recognised_and_used(tmp_path, style, spelled):
    fill(tmp_path / "c", names=("s/1.png",), sample=None)
    home = [(spelled, tmp_path / "c/test/s/1.png")]
    assert style_of(home, tmp_path / "c", ["test"]) == style
    test, _ = found(tmp_path, config(submission={}), style=style)
    assert [row_id for row_id, _ in test.rows] == [spelled]


def test_ids_in_no_known_style_have_none(tmp_path):
    assert style_of([("x", tmp_path / "test/1.png")], tmp_path, ["test"]) == ""
    assert set(STYLES) >= {"stem", "name"}

"""Names of folders and files: what they say about their use, and what a cell means by them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.competition.matching import ImageIndex, leaves_folder
from kaggle_kit.competition.order import ORDERS, natural, usual
from kaggle_kit.competition.scan import IMAGE_SUFFIXES, common_folder, role_of, scan, suffix_of, without_suffix
from kaggle_kit.errors import DataError


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("train", "train"),
        ("Training_Set", "train"),
        ("images_train", "train"),
        ("trainImages", "train"),
        ("train1", "train"),
        ("val", "val"),
        ("validation-images", "val"),
        ("TEST", "test"),
        ("test_stage2", "test"),
        ("extra_train", "extra"),
        ("train_val", "train"),
        ("test_tube", None),
        ("training_shoes", None),
        ("images", None),
        ("train_test", None),
    ],
)
def test_role_of_a_folder(name, role):
    assert role_of(name) == role


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("a/1.jpg", ["a/1.jpg"]),
        ("a/1", ["a/1.jpg"]),
        ("./a/1.jpg", ["a/1.jpg"]),
        ("a\\1.jpg", ["a/1.jpg"]),
        ("1.jpg", ["a/1.jpg", "b/1.jpg"]),
        ("1", ["a/1.jpg", "b/1.jpg"]),
        ("2", ["a/2.v3.PNG"][:0]),
        ("2.v3", ["a/2.v3.PNG"]),
        ("3", ["3.jpg"]),
        ("c/1.jpg", []),
        ("../a/1.jpg", []),
        ("", []),
    ],
)
def test_what_a_cell_means(cell, found):
    index = ImageIndex(["3.jpg", "a/1.jpg", "a/2.v3.PNG", "a/3.jpg", "b/1.jpg"])
    assert list(index.find(cell)) == found


def test_cells_relative_to_a_folder():
    index = ImageIndex(["train/cat/1.jpg", "train/dog/1.jpg", "test/1.jpg"], ["train"])
    assert index.find("dog/1.jpg") == index.find("train/dog/1.jpg") == ("train/dog/1.jpg",)
    assert index.find("test/1.jpg") == ()


@pytest.mark.parametrize("cell", ["../a", "a/../../b", "/a", "\\a", "C:\\a", "C:/a", "~/a"])
def test_paths_that_leave(cell):
    assert leaves_folder(cell)


@pytest.mark.parametrize("cell", ["a..b", "a/b.jpg", "..a", "x:y", "C:"])
def test_paths_that_stay(cell):
    assert not leaves_folder(cell)


@given(st.lists(st.text("ab1/.", min_size=1, max_size=6), unique=True), st.sampled_from(sorted(IMAGE_SUFFIXES)))
def test_every_image_is_found_by_its_own_path(stems, suffix):
    images = [stem.strip("/.") + suffix for stem in stems if stem.strip("/.") and "//" not in stem and "./" not in stem]
    images = [image for image in dict.fromkeys(images) if not leaves_folder(image)]
    index = ImageIndex(images)
    assert [index.find(image) for image in images] == [(image,) for image in images]
    assert all(image in index.find(without_suffix(image)) for image in images)


def test_suffixes():
    assert suffix_of("a/b.JPG") == ".jpg"
    assert suffix_of("a.b/c") == suffix_of(".hidden") == ""
    assert without_suffix("img.v2") == "img.v2"


def test_common_folder():
    assert common_folder(["a/b/c", "a/b/d"]) == "a/b"
    assert common_folder(["ab", "a"]) == "."
    assert common_folder([]) == "."


def test_hidden_and_service_folders_are_no_data(tmp_path):
    for name in (".ipynb_checkpoints/1.jpg", "__MACOSX/1.jpg", "a/.1.jpg", "a/1.JPEG", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert scan(tmp_path).images == ("a/1.JPEG",)


def test_file_names_that_are_not_unicode(tmp_path):
    with open(bytes(tmp_path) + b"/\xff.jpg", "wb"):
        pass
    with pytest.raises(DataError, match="not valid Unicode"):
        scan(tmp_path)


names = st.lists(st.text(min_size=1, max_size=5), min_size=1, unique=True)


@given(names)
@pytest.mark.parametrize("arrange", [*ORDERS.values(), usual])
def test_orders_lose_nothing_and_depend_on_names_alone(arrange, names):
    assert sorted(arrange(names)) == sorted(names)
    if arrange is not ORDERS["appearance"]:
        assert arrange(names[::-1]) == arrange(names)


def test_natural_and_usual_orders():
    assert natural(["b10", "b9", "A1"]) == ["A1", "b9", "b10"]
    assert usual(["10", "9", "1"]) == ["1", "9", "10"]
    assert usual(["pos", "neg"]) == ["neg", "pos"]
    assert usual(["cat", "no"]) == ["no", "cat"]

"""Loading: rows, ids and order; and data that is refused with the rows that are wrong."""

from __future__ import annotations

import logging
import os
import time

import pytest

from kaggle_kit.errors import ClassMappingError, ConfigError, DataError, MissingFileError

BASE = {
    "images/a.jpg": None,
    "images/b.jpg": None,
    "images/c.jpg": None,
    "images/t.jpg": None,
    "train.csv": "image,label\nb,dog\na,cat\nc,cat\n",
    "test.csv": "image\nt\n",
    "sample_submission.csv": "image,label\nt,cat\n",
}


def edit(work, old, new):
    path = work.root / "kk.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def work(made):
    work = made(BASE)
    work.init()
    return work


def test_rows_are_sorted_and_ids_are_cells(work):
    competition = work.load()
    assert [row.id for row in competition.train] == ["a", "b", "c"]
    assert [(row.id, row.path.name, row.labels) for row in competition.test] == [("t", "t.jpg", ())]
    assert competition.sample_path == work.data.resolve() / "sample_submission.csv"
    assert not competition.multilabel


def test_order_does_not_depend_on_the_file_system(made, two_folders, monkeypatch):
    work = made(two_folders)
    first = work.both()
    listing = os.scandir

    class Reversed:
        def __init__(self, path):
            with listing(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            return None

    monkeypatch.setattr("kaggle_kit.competition.scan.os.scandir", Reversed)
    assert work.load() == first
    assert [row.id for row in first.test] == ["8", "7"]


def test_fingerprint_follows_what_is_to_be_learnt(work):
    first = work.load().fingerprint
    work.add({"train.csv": "image,label\na,cat\nc,cat\nb,dog\n"})
    assert work.load().fingerprint == first
    work.add({"train.csv": "image,label\na,dog\nc,cat\nb,dog\n"})
    assert work.load().fingerprint != first


def test_a_part_of_the_id_names_its_group(made):
    rows = "".join(f"{owner}_{n},{'cat' if n % 2 else 'dog'}\n" for owner in "ab" for n in range(3))
    files = {f"images/{owner}_{n}.jpg": None for owner in "ab" for n in range(3)}
    work = made({**files, "images/c.jpg": None, "train.csv": f"image,label\n{rows}c,cat\n"})
    work.init()
    edit(work, "group_pattern: null", "group_pattern: '^(.)_'")
    assert {row.id: row.group for row in work.load().train} == {
        **{f"{owner}_{n}": owner for owner in "ab" for n in range(3)},
        "c": None,
    }


@pytest.mark.parametrize(("pattern", "message"), [("(", "no regular expression"), ("a_", "a part in brackets")])
def test_expressions_that_name_no_group_are_refused(made, pattern, message):
    work = made(BASE)
    work.init()
    edit(work, "group_pattern: null", f"group_pattern: '{pattern}'")
    with pytest.raises(ConfigError, match=message):
        work.load()


def test_neither_the_form_nor_the_test_set_is_learnt_from(work):
    first = work.load()
    edit(work, "form: label", "form: labels")
    work.add({"images/u.jpg": None, "test.csv": "image\nt\nu\n", "sample_submission.csv": "image,label\nt,cat\nu,cat\n"})
    second = work.load()
    assert second.fingerprint == first.fingerprint
    assert second.test_fingerprint != first.test_fingerprint


@pytest.mark.parametrize(
    ("files", "kind", "message"),
    [
        ({"train.csv": "image,label\na,cat\nb,dog\na,cat\n"}, DataError, "ids must be unique, found more than once: a"),
        ({"train.csv": "image,label\na,cat\nb,dog\nz,cat\ny,cat\n"}, DataError, "2 of 4 rows have no image: 'z', 'y'"),
        ({"train.csv": "image,label\na,cat\nb,dog\n../c,cat\n"}, DataError, "1 image names leave the data folder: '../c'"),
        ({"train.csv": "image,label\na,cat\nb,dog\n/etc/c,cat\n"}, DataError, "leave the data folder"),
        ({"train.csv": "image,label\na,cat\nb,cow\nc,cow\n"}, ClassMappingError, r"'cow' \(2 rows\).*classes are 'cat', 'dog'"),
        ({"train.csv": "image,label\na,cat\nb,dog\nc,\n"}, DataError, "1 rows have no label: 'c'"),
        ({"train.csv": "image,label\na,cat\nb,dog\nc,nan\n"}, ClassMappingError, "'nan'.*missing value"),
        ({"train.csv": "image,kind\na,cat\n"}, DataError, "lacks the column 'label'; it has 'image', 'kind'"),
        ({"train.csv": "image,label,label\na,cat,cat\n"}, DataError, "'label' more than once"),
        ({"train.csv": "image,label\n"}, DataError, "no rows"),
        ({"train.csv": ""}, DataError, "empty"),
        ({"images/a.png": None}, DataError, r"fit several images: 'a' \(images/a.jpg, images/a.png\)"),
        (
            {"sample_submission.csv": "image,label\nt,cat\nu,cat\n"},
            DataError,
            "1 of 2 rows have no image: 'u'.*another version",
        ),
        ({"sample_submission.csv": "image,label\nt,cat\nt,cat\n"}, DataError, "found more than once: t"),
        ({"sample_submission.csv": "id,label\nt,cat\n"}, DataError, "lacks the column 'image'"),
        ({"test.csv": "image\nt\nb\n"}, DataError, "1 of 2 rows have no image: 'b'.*trained on do not count"),
        (
            {"test.csv": "image\nt\nu\n", "images/u.jpg": None},
            DataError,
            r"only in test.csv: 1 \(images/u.jpg\).*stale",
        ),
    ],
)
def test_data_that_is_refused(work, files, kind, message):
    work.add(files)
    with pytest.raises(kind, match=message):
        work.load()


def test_missing_places(work):
    (work.data / "train.csv").unlink()
    with pytest.raises(MissingFileError, match=r"train.csv does not exist"):
        work.load()
    edit(work, '- "images"', '- "pictures"')
    with pytest.raises(MissingFileError, match="pictures is not a folder"):
        work.load()
    edit(work, '"../data"', '"../gone"')
    with pytest.raises(MissingFileError, match=r"data_dir: ../gone"):
        work.load()


def test_configuration_that_leaves_the_data_folder(work):
    edit(work, 'csv: "train.csv"', 'csv: "../train.csv"')
    with pytest.raises(DataError, match="must lie in the data folder"):
        work.load()


def test_configuration_that_contradicts_itself(work):
    edit(work, '    image_column: "image"  # names', "    # names")
    with pytest.raises(ConfigError, match="needs csv, image_column and label_columns"):
        work.load()


def test_label_map_translates_and_leaves_out(made):
    """Seed P: several labels simplified to exclusive classes by a rule."""
    rows = "1,scab\n2,scab complex\n3,rust\n4,frog\n"
    work = made({**{f"images/{n}.jpg": None for n in range(1, 5)}, "train.csv": "image,labels\n" + rows})
    work.init(label_separator="none")
    edit(
        work,
        "    label_map: {}",
        '    label_map: {"scab complex": complex, frog: null}',
    )
    edit(work, '- "frog"', '- "complex"')
    edit(work, '    - "scab complex"\n', "")
    competition = work.load()
    assert {row.id: row.labels for row in competition.train} == {"1": ("scab",), "2": ("complex",), "3": ("rust",)}


def test_label_map_of_folders(made, two_folders):
    work = made({**two_folders, "train/kitten/1.jpg": None, "train/junk/1.jpg": None})
    work.init()
    edit(work, "    label_map: {}", "    label_map: {kitten: cat, junk: null}")
    edit(work, '    - "junk"\n', "")
    edit(work, '    - "kitten"\n', "")
    assert [row.labels for row in work.load().train] == [("cat",), ("cat",), ("dog",), ("dog",), ("cat",)]


def test_empty_classes_and_extra_test_images_are_warned_of(made, two_folders, caplog):
    work = made(two_folders)
    work.init()
    edit(work, '    - "dog"\n', '    - "dog"\n    - "emu"\n')
    edit(work, "task: binary", "task: multiclass")
    work.add({"test/9.jpg": None, "train/loose.jpg": None})
    with caplog.at_level(logging.WARNING):
        competition = work.load()
    assert len(competition.test) == 2
    assert "1 classes have no training image: 'emu'" in caplog.text
    assert "names 2 of the 3 images in test" in caplog.text
    assert "in no class folder" in caplog.text


def test_folder_without_a_class_of_its_name(made, two_folders):
    work = made(two_folders)
    work.init()
    work.add({"train/cow/1.jpg": None})
    with pytest.raises(ClassMappingError, match=r"'cow' \(1 rows\)"):
        work.load()


@pytest.mark.parametrize("names", [("id", "label"), ("a,b", 'c"d'), ("é", "è"), ("a b", "A B"), ("001", "1")])
def test_awkward_class_names_survive(made, names):
    competition = made({f"train/{name}/x.jpg": None for name in names}).both()
    assert {row.labels[0] for row in competition.train} == set(names) == set(competition.classes)


def test_single_label_task_with_rows_of_several(made):
    files = {f"images/{n}.jpg": None for n in range(1, 4)}
    work = made({**files, "train.csv": "image,x,y,z\n1,1,0,0\n2,0,1,0\n3,0,0,1\n"})
    assert work.both().task == "multiclass"
    work.add({"train.csv": "image,x,y,z\n1,1,0,0\n2,0,1,1\n3,0,0,1\n"})
    with pytest.raises(DataError, match=r"1 rows do not have exactly one label: '2' \(2\)"):
        work.load()
    work.add({"train.csv": "image,x,y,z\n1,1,0,0\n2,0,1,\n3,0,0,1\n"})
    with pytest.raises(DataError, match="column 'z' must hold 0 or 1, found ''"):
        work.load()


def test_train_only_and_fold_columns(work):
    work.add({"train.csv": "image,label,own,part\na,cat,1,\nb,dog,0,1\nc,cat,0,-1\n"})
    edit(work, "    train_only_column: null", "    train_only_column: own")
    edit(work, "    fold_column: null", "    fold_column: part")
    assert [(row.train_only, row.fold) for row in work.load().train] == [(True, None), (False, 1), (False, None)]
    work.add({"train.csv": "image,label,own,part\na,cat,x,0\nb,dog,0,y\n"})
    with pytest.raises(DataError, match="column 'part' must hold fold numbers, found 'y'"):
        work.load()


def test_test_images_without_table_or_sample(made, two_folders):
    del two_folders["sample_submission.csv"]
    work = made({**two_folders, "test/more/7.jpg": None})
    assert [row.id for row in work.both().test] == ["7.jpg", "8.jpg", "more/7.jpg"]


def test_a_linked_folder_is_followed_but_not_in_circles(made, two_folders):
    work = made(two_folders)
    (work.data / "train/cat/loop").symlink_to(work.data / "train", target_is_directory=True)
    (work.data / "train/emu").symlink_to(work.data / "train/dog", target_is_directory=True)
    assert work.both().classes.names == ("cat", "dog", "emu")


def test_many_images_load_fast(made, tmp_path):
    """140,000 are to take seconds; 7,000 must then take well under one."""
    work = made({"train/a/0.jpg": None, "train/b/0.jpg": None})
    for number in range(1, 3500):
        os.link(work.data / "train/a/0.jpg", work.data / f"train/a/{number}.jpg")
        os.link(work.data / "train/a/0.jpg", work.data / f"train/b/{number}.jpg")
    work.init()
    start = time.perf_counter()
    assert len(work.load().train) == 7000
    assert time.perf_counter() - start < 2

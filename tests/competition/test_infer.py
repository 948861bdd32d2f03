"""`kk init` on one made-up folder per layout: what is concluded, what is asked, and what is refused."""

from __future__ import annotations

import pytest

from kaggle_kit.competition import infer_competition
from kaggle_kit.errors import AmbiguousDataError, ConfigError, DataError, MissingFileError

TRAIN = "".join(f"{number},{'cat' if number % 2 else 'dog'}\n" for number in range(1, 7))


def photos(folder, numbers, suffix=".jpg"):
    return {f"{folder}/{number}{suffix}": None for number in numbers}


def labels_by_id(competition):
    return {row.id: row.labels for row in competition.train}


def test_folder_per_class_with_repeated_names(made, two_folders):
    inference = made(two_folders).init()
    assert inference.config.classes == ["cat", "dog"]
    assert (inference.config.task, inference.config.metric, inference.questions) == ("binary", "accuracy", [])
    assert any("2 classes, 4 images" in finding for finding in inference.findings)
    assert any("--metric" in finding for finding in inference.findings)


def test_numeric_folders_are_ordered_by_value_and_stay_labels(made):
    """The fault of seed N: the submission must hold the class, never its place in the alphabetical list."""
    files = {f"images_train/{name}/a.jpg": None for name in range(1, 13)}
    work = made({**files, "images_test/x.jpg": None, "sample.csv": "id,class\nx,10\n"})
    competition = work.both()
    assert competition.classes.names == tuple(map(str, range(1, 13)))
    assert competition.submission.form == "label"


def test_train_and_val_folders(made):
    work = made({f"{part}/{name}/{part}.JPG": None for part in ("train", "val") for name in ("rose", "iris", "lily")})
    inference = work.init()
    assert inference.config.train.val_dirs == ["val"]
    assert inference.folds.scheme == "column"
    rows = work.load().train
    assert {row.id: row.fold for row in rows} == {
        **{f"train/{name}/train.JPG": None for name in ("rose", "iris", "lily")},
        **{f"val/{name}/val.JPG": 0 for name in ("rose", "iris", "lily")},
    }
    assert any("only trained on" in finding for finding in inference.findings)


def test_each_part_is_said_to_hold_its_own_images(made):
    parts = {"train": {"rose": 3, "iris": 2}, "val": {"rose": 1, "iris": 1}, "extra": {"rose": 4, "iris": 1}}
    files = {
        f"{part}/{name}/{part}{number}.jpg": None
        for part, classes in parts.items()
        for name, count in classes.items()
        for number in range(count)
    }
    text = " ".join(made(files).init().findings)
    assert "train holds a folder per class: 2 classes, 5 images, from 2 ('iris') to 3 ('rose') a class." in text
    assert "val holds 2 validation images" in text
    assert "extra looks like additional data of 5 images" in text


def test_class_folders_without_a_train_folder_and_additional_data(made):
    files = {f"{folder}/{name}/1.png": None for folder in ("extra", "sushi_data") for name in ("sushi", "sandwich")}
    competition = made(files).both()
    assert competition.classes.names == ("sandwich", "sushi")
    assert {row.id: row.train_only for row in competition.train} == {
        "sushi/1.png": False,
        "sandwich/1.png": False,
        "extra/sushi/1.png": True,
        "extra/sandwich/1.png": True,
    }


def test_loose_images_beside_class_folders_are_the_test_images(made):
    files = {
        "cat/1.jpg": None,
        "dog/1.jpg": None,
        "1.jpg": None,
        "2.jpg": None,
        "sample_submission.csv": "id,y\n1,cat\n2,cat\n",
    }
    competition = made(files).both()
    assert sorted(labels_by_id(competition)) == ["cat/1.jpg", "dog/1.jpg"]
    assert [row.path.parent.name for row in competition.test] == ["data", "data"]


def test_nested_folders_are_asked_about(made):
    files = {f"train/{site}/{name}/1.jpg": None for site in ("north", "south") for name in ("oak", "fir")}
    work = made(files)
    with pytest.raises(AmbiguousDataError, match=r"(?s)class_level=first.*north.*class_level=last.*fir.*class_level=path"):
        work.init()
    assert not (work.root / "kk.yaml").exists()
    assert work.both(class_level="last").classes.names == ("fir", "oak")
    assert work.both(class_level="path").classes.names == ("north/fir", "north/oak", "south/fir", "south/oak")


def test_folders_of_unusual_names_are_chosen(made):
    files = {f"seg_{part}/seg_{part}/{name}/1.jpg": None for part in ("train", "test") for name in ("sea", "street", "wood")}
    work = made(files)
    with pytest.raises(AmbiguousDataError, match=r"train_dirs=FOLDER and test_dirs=FOLDER"):
        work.init()
    competition = work.both(train_dirs="seg_train/seg_train", test_dirs="seg_test/seg_test")
    assert competition.classes.names == ("sea", "street", "wood")
    assert [row.id for row in competition.test] == ["sea/1.jpg", "street/1.jpg", "wood/1.jpg"]


def test_nested_folders_are_settled_by_the_sample(made):
    files = {f"train/{site}/{name}/1.jpg": None for site in ("north", "south") for name in ("oak", "fir")}
    work = made({**files, "test/9.jpg": None, "sample_submission.csv": "id,tree\n9,oak\n"})
    inference = work.init()
    assert (inference.config.train.class_level, inference.questions) == ("last", [])


def test_unzipped_twice(made):
    files = {"train/train/cat/1.jpg": None, "train/train/dog/1.jpg": None, "test/test/1.jpg": None}
    competition = made(files).both()
    assert sorted(labels_by_id(competition)) == ["cat/1.jpg", "dog/1.jpg"]
    assert [row.id for row in competition.test] == ["1.jpg"]


@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_csv_with_and_without_extension(made, suffix):
    cells = TRAIN.replace(",", f"{suffix},")
    work = made({**photos("train_images", range(1, 7)), "train.csv": "image,label\n" + cells})
    competition = work.both()
    assert labels_by_id(competition)[f"1{suffix}"] == ("cat",)
    assert competition.train[0].path == work.data.resolve() / "train_images/1.jpg"


def test_csv_with_images_in_several_folders(made):
    files = {**photos("part_a", range(1, 4)), **photos("part_b", range(4, 7), ".PNG"), "train.csv": "image,label\n" + TRAIN}
    inference = (work := made(files)).init()
    assert inference.config.train.dirs == ["part_a", "part_b"]
    assert len(work.load().train) == 6


def test_csv_with_paths_through_class_folders_that_agree(made):
    rows = [f"train/{name}/{number}.jpg,{name}" for name in ("cat", "dog") for number in (1, 2)]
    files = {row.split(",")[0]: None for row in rows}
    inference = made({**files, "train.csv": "path,label\n" + "\n".join(rows) + "\n"}).init()
    assert (inference.config.train.layout, inference.questions) == ("csv", [])


def test_csv_and_folders_that_disagree_are_asked_about(made):
    files = {"train/cat/1.jpg": None, "train/dog/2.jpg": None, "train/dog/3.jpg": None}
    work = made({**files, "train.csv": "image,label\n1,cat\n2,cat\n3,dog\n"})
    with pytest.raises(AmbiguousDataError, match=r"(?s)layout=csv.*layout=folders"):
        work.init()
    assert labels_by_id(work.both(layout="csv"))["2"] == ("cat",)
    assert labels_by_id(work.both(layout="folders"))["dog/2.jpg"] == ("dog",)


def test_same_names_in_several_folders_are_asked_about(made):
    files = {**photos("images", range(1, 7)), **photos("images_512", range(1, 7)), "train.csv": "image,label\n" + TRAIN}
    work = made(files)
    with pytest.raises(AmbiguousDataError, match=r"(?s)train_dirs=images\b.*train_dirs=images_512"):
        work.init()
    assert work.both(train_dirs="images_512").train[0].path.parent.name == "images_512"


def test_several_tables_are_asked_about(made):
    files = {**photos("images", range(1, 7)), "a.csv": "image,label\n" + TRAIN, "b.csv": "image,label\n" + TRAIN}
    work = made(files)
    with pytest.raises(AmbiguousDataError, match=r"(?s)train_csv=a.csv.*train_csv=b.csv"):
        work.init()
    assert work.init(train_csv="b.csv").config.train.csv == "b.csv"


def test_a_table_called_train_is_a_stated_default(made):
    files = {**photos("images", range(1, 7)), "train.csv": "image,label\n" + TRAIN, "old.csv": "image,label\n" + TRAIN}
    inference = made(files).init()
    assert [(question.key, question.chosen) for question in inference.questions] == [("train_csv", "train.csv")]


def test_several_label_columns_are_asked_about(made):
    rows = "".join(f"{number},g{number % 2},s{number % 3}\n" for number in range(1, 7))
    work = made({**photos("images", range(1, 7)), "train.csv": "image,genus,species\n" + rows})
    with pytest.raises(AmbiguousDataError, match=r"(?s)label_column=genus.*label_column=species"):
        work.init()
    assert work.both(label_column="species").classes.names == ("s0", "s1", "s2")


def test_label_column_called_as_in_the_sample(made):
    rows = "".join(f"{number},g{number % 2},s{number % 3}\n" for number in range(1, 7))
    files = {**photos("images", range(1, 7)), "test/9.jpg": None, "train.csv": "image,genus,species\n" + rows}
    inference = made({**files, "sample_submission.csv": "image,species\n9,s0\n"}).init()
    assert inference.config.train.label_columns == ["species"]
    assert inference.questions == []


def test_several_image_columns(made):
    rows = "".join(f"{number},{number}.jpg,{'ab'[number % 2]}\n" for number in range(1, 7))
    inference = made({**photos("images", range(1, 7)), "train.csv": "image_id,file,label\n" + rows}).init()
    assert [(question.key, question.chosen) for question in inference.questions] == [("image_column", "image_id")]


@pytest.mark.parametrize(("sign", "word"), [(" ", "space"), (",", "comma"), ("|", "pipe")])
def test_several_labels_in_a_cell(made, sign, word):
    cells = ["scab", "rust", sign.join(("scab", "rust")), "healthy", sign.join(("rust", "scab")), "rust"]
    rows = "".join(f'{number},"{cell}"\n' for number, cell in enumerate(cells, 1))
    work = made({**photos("images", range(1, 7)), "train.csv": "image,labels\n" + rows})
    inference = work.init()
    assert inference.config.task == "multilabel"
    assert [(question.key, question.chosen) for question in inference.questions] == [("label_separator", word)]
    assert work.load().train[2].labels == ("scab", "rust")


def test_names_with_blanks_that_could_be_several_labels(made):
    cells = ["red fox", "red panda", "arctic fox", "red fox", "panda", "panda"]
    rows = "".join(f"{number},{cell}\n" for number, cell in enumerate(cells, 1))
    work = made({**photos("images", range(1, 7)), "train.csv": "image,species\n" + rows})
    with pytest.raises(AmbiguousDataError, match=r"(?s)label_separator=none.*'red fox'.*label_separator=space.*'red', 'fox'"):
        work.init()
    assert work.both(label_separator="none").classes.names == ("arctic fox", "panda", "red fox", "red panda")
    assert work.both(label_separator="space").classes.names == ("arctic", "fox", "panda", "red")


def test_several_labels_settled_by_a_new_combination_in_the_sample(made):
    rows = "1,clear primary\n2,haze primary\n3,clear water\n"
    files = {**photos("train", range(1, 4)), "test/9.jpg": None, "train.csv": "image,tags\n" + rows}
    inference = made({**files, "sample_submission.csv": "image,tags\n9,haze water\n"}).init()
    assert inference.config.classes == ["clear", "haze", "primary", "water"]
    assert inference.questions == []


def test_names_with_blanks_settled_by_probability_columns(made):
    rows = "1,red fox\n2,red panda\n3,arctic fox\n"
    files = {**photos("train", range(1, 4)), "test/9.jpg": None, "train.csv": "image,species\n" + rows}
    sample = "image,red panda,arctic fox,red fox\n9,0.3,0.3,0.3\n"
    inference = made({**files, "sample_submission.csv": sample}).init()
    assert inference.config.classes == ["red panda", "arctic fox", "red fox"]
    assert (inference.config.train.label_separator, inference.questions) == (None, [])


@pytest.mark.parametrize(("last", "task"), [("0,0,1", "multiclass"), ("0,1,1", "multilabel"), ("0,0,0", "multilabel")])
def test_one_switch_column_per_class(made, last, task):
    rows = f"1,1,0,0\n2,0,1,0\n3,{last}\n"
    work = made({**photos("images", range(1, 4)), "train.csv": "image,healthy,rust,scab\n" + rows})
    competition = work.both()
    assert competition.task == task
    assert competition.train[0].labels == ("healthy",)
    assert competition.train[2].labels == tuple(
        name for name, cell in zip(("healthy", "rust", "scab"), last.split(","), strict=True) if cell == "1"
    )


def test_integer_labels_and_group_and_fold_columns(made):
    rows = "".join(f"{number},{number % 3},p{number // 2},{number % 2}\n" for number in range(1, 7))
    work = made({**photos("images", range(1, 7)), "train.csv": "image,label,patient_id,fold\n" + rows})
    inference = work.init()
    assert [(question.key, question.chosen) for question in inference.questions] == [("group_column", "patient_id")]
    row = work.load().train[0]
    assert (row.id, row.labels, row.group, row.fold) == ("1", ("1",), "p0", 1)
    assert work.init(force=True, group_column="none").config.train.group_column is None


def test_validation_table(made):
    files = {**photos("images", range(1, 5)), "train.csv": "image,label\n1,a\n2,b\n", "valid.csv": "image,label\n3,a\n4,b\n"}
    work = made(files)
    inference = work.init()
    assert inference.folds.scheme == "column"
    assert any("valid.csv holds 2 validation rows" in finding for finding in inference.findings)
    assert any("4 of 4 rows of train.csv and valid.csv name images" in finding for finding in inference.findings)
    assert [row.fold for row in work.load().train] == [None, None, 0, 0]


@pytest.mark.parametrize("cell", ["", "nan"])
def test_rows_without_a_label_are_asked_about(made, cell):
    work = made({**photos("images", range(1, 4)), "train.csv": f"image,label\n1,a\n2,b\n3,{cell}\n"})
    with pytest.raises(AmbiguousDataError, match=r"1 rows of column 'label'.*no label"):
        work.init()
    assert len(work.both(missing_labels="drop").train) == 2


def test_na_and_none_are_names(made):
    work = made(
        {**photos("images", ["0001", "NA", "None", "x"]), "train.csv": "image,label\n0001,NA\nNA,None\nNone,0001\nx,NA\n"}
    )
    inference = work.init()
    assert labels_by_id(work.load()) == {"0001": ("NA",), "NA": ("None",), "None": ("0001",), "x": ("NA",)}
    assert any("'NA', 'None' is read as the name" in finding for finding in inference.findings)


def test_names_that_differ_by_case_are_kept_apart_and_said(made):
    inference = made({f"train/{name}/1.jpg": None for name in ("Rose", "rose", "iris")}).init()
    assert inference.config.classes == ["Rose", "iris", "rose"]
    assert any("differ only by case" in finding for finding in inference.findings)


def test_test_table_without_sample(made):
    files = {**photos("images", range(1, 9)), "train.csv": "image,label\n" + TRAIN, "test.csv": "image\n8\n7\n"}
    assert [row.id for row in made(files).both().test] == ["8", "7"]


def test_sample_alone_names_the_test_images(made):
    files = {**photos("images", range(1, 9)), "train.csv": "image,label\n" + TRAIN}
    competition = made({**files, "sample_submission.csv": "id,label\nimages/8.jpg,cat\nimages/7.jpg,cat\n"}).both()
    assert [row.id for row in competition.test] == ["images/8.jpg", "images/7.jpg"]


def test_sample_without_any_test_image(made, two_folders):
    work = made({**two_folders, "sample_submission.csv": "id,label\nq,cat\n"})
    with pytest.raises(AmbiguousDataError, match=r"none of the 1 ids .* names an image"):
        work.init()
    assert work.both(test_images="none").test == ()


def test_training_images_are_never_taken_for_test_images(made):
    files = {"cat/1.jpg": None, "cat/2.jpg": None, "dog/3.jpg": None}
    with pytest.raises(AmbiguousDataError, match=r"test_images=none"):
        made({**files, "sample_submission.csv": "id,label\n1,cat\n3,cat\n"}).init()


def test_label_column_before_the_image_column(made):
    rows = "".join(f"{number % 2 + 1},{number}\n" for number in range(1, 7))
    config = made({**photos("images", range(1, 7)), "train.csv": "label,image\n" + rows}).init().config
    assert (config.train.image_column, config.train.label_columns) == ("image", ["label"])


def test_stale_sample_is_a_finding(made, two_folders):
    inference = made({**two_folders, "sample_submission.csv": "id,label\n7,cat\n9,dog\n"}).init()
    assert sum("may be stale" in finding for finding in inference.findings) == 2


def test_all_open_questions_are_listed_at_once(made):
    files = {**photos("images", range(1, 7)), **photos("copies", range(1, 7))}
    rows = "".join(f"{number},g{number % 2},s{number % 3}\n" for number in range(1, 7))
    work = made({**files, "train.csv": "image,genus,species\n" + rows})
    with pytest.raises(AmbiguousDataError, match=r"(?s)2 questions.*label_column:.*train_dirs:"):
        work.init()


def test_choices_that_do_not_fit(made, two_folders):
    work = made(two_folders)
    with pytest.raises(ConfigError, match=r"form=labl: expected one of label.*Did you mean 'label'"):
        work.init(form="labl")
    with pytest.raises(ConfigError, match=r"no such question.*Did you mean 'form'"):
        work.init(fom="label")
    with pytest.raises(ConfigError, match="has no folder nowhere"):
        work.init(train_dirs="nowhere")


def test_metric_given(made, two_folders):
    work = made(two_folders)
    assert work.init("f1_macro").config.metric == "f1_macro"
    with pytest.raises(ConfigError, match="unknown metric"):
        work.init("acuracy", force=True)
    with pytest.raises(DataError, match="f1_samples is not defined for a binary task"):
        work.init("f1_samples", force=True)


def test_existing_configuration_is_kept(made, two_folders):
    work = made(two_folders)
    work.init()
    (work.root / "kk.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        work.init()
    assert (work.root / "kk.yaml").read_text() == "mine"
    work.init(force=True)
    assert len(work.load().train) == 4


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"readme.txt": "x"}, "no images in"),
        ({"train/cat/1.jpg": None}, "only one class"),
        ({"images/1.jpg": None, "images/2.jpg": None}, "no labels: neither a folder per class nor a CSV"),
        ({"images/1.jpg": None, "train.csv": "image,label\n../1.jpg,a\n../2.jpg,b\n"}, "leave the data folder"),
        ({"images/1.jpg": None, "images/2.jpg": None, "train.csv": "image,label\n1,a\n2,b\n../3,b\n"}, "leave the data folder"),
        ({"images/1.jpg": None, "train.csv": "image,label,label\n1,a,b\n"}, "no labels.*'label' more than once"),
    ],
)
def test_data_that_cannot_be_read(made, files, message):
    with pytest.raises(DataError, match=message):
        made(files).init()


def test_a_chosen_image_column_that_names_no_images_says_what_lacks(made):
    """It was passed over without a word, and labels looked for elsewhere."""
    files = {**photos("images", range(1, 7)), "train.csv": "Id,label\n" + "".join(f"x{n},{n % 2}\n" for n in range(1, 7))}
    with pytest.raises(DataError, match=r"train.csv, column 'Id': 6 of 6 rows have no image: 'x1'"):
        made(files).init(image_column="Id")


def test_a_chosen_image_column_that_no_table_has_is_refused(made, two_folders):
    with pytest.raises(ConfigError, match="image_column=…: this data raises no such question"):
        made(two_folders).init(image_column="Id")


def test_missing_data_folder(tmp_path):
    with pytest.raises(MissingFileError, match="is not a folder"):
        infer_competition(tmp_path / "nowhere", workspace_root=tmp_path)


def test_data_dir_is_relative_where_that_is_sensible(made, two_folders):
    work = made(two_folders)
    assert work.init().config.data_dir == "../data"
    far = infer_competition(work.data, workspace_root=work.root / "a/b/c/d")
    assert far.config.data_dir == work.data.resolve().as_posix()


def test_workspace_inside_the_data_folder_is_no_data(made, two_folders):
    work = made(two_folders)
    work.root = work.data
    before = work.both()
    work.add(
        {"runs/a/picture.png": None, "submissions/sample_submission.csv": "id,label\n8,cat\n", "folds/folds.csv": "id\n1\n"}
    )
    assert work.both().fingerprint == before.fingerprint

"""Sources of labels: each offers itself, concludes a section that loads, and is read back with the labels that stand there."""

from __future__ import annotations

import json

import pytest

from kaggle_kit.choices import LAYOUTS
from kaggle_kit.competition.layouts.names import label_of
from kaggle_kit.errors import AmbiguousDataError, ConfigError, DataError

LABELS = {row: ("ant", "bee")[row % 2] for row in range(8)}


def coco_document():
    images = [{"id": row, "file_name": f"x{row}.jpg"} for row in LABELS]
    marks = [{"id": row, "image_id": row, "category_id": 40 if name == "ant" else 7} for row, name in LABELS.items()]
    categories = [{"id": 40, "name": "ant"}, {"id": 7, "name": "bee"}]
    return json.dumps({"images": images, "annotations": marks, "categories": categories})


DATA = {
    "csv": {**{f"train/x{row}.jpg": None for row in LABELS}}
    | {"train.csv": "image,label\n" + "".join(f"x{row},{name}\n" for row, name in LABELS.items())},
    "coco": {**{f"train/x{row}.jpg": None for row in LABELS}, "train.json": coco_document()},
    "folders": {f"train/{name}/x{row}.jpg": None for row, name in LABELS.items()},
    "names": {f"train/{name}.{row}.jpg": None for row, name in LABELS.items()},
}


def test_every_layout_is_tried():
    assert set(DATA) == set(LAYOUTS)


@pytest.mark.parametrize("layout", DATA)
def test_a_layout_is_found_and_read(made, layout):
    work = made(DATA[layout])
    config = work.init().config
    assert (config.train.layout, len(config.classes)) == (layout, 2)
    rows = work.load().train
    wanted = {"ant": "40", "bee": "7"} if layout == "coco" else {"ant": "ant", "bee": "bee"}
    found = {int("".join(filter(str.isdigit, row.path.stem))): row.labels for row in rows}
    assert found == {row: (wanted[name],) for row, name in LABELS.items()}


def test_gaps_in_the_ids_of_categories_stay(made):
    """A submission of places in the list would score 0 and look right."""
    document = json.loads(DATA["coco"]["train.json"])
    document["annotations"][0]["category_id"] = 2001
    files = {**DATA["coco"], "train.json": json.dumps(document), "test/t.jpg": None}
    config = made({**files, "sample_submission.csv": "Id,Predicted\nt,0\n"}).init().config
    assert (config.submission.form, config.classes) == ("label", ["7", "40", "2001"])


def test_an_image_with_several_categories_is_asked_about(made):
    document = json.loads(DATA["coco"]["train.json"])
    document["annotations"].append({"id": 99, "image_id": 0, "category_id": 7})
    work = made({**DATA["coco"], "train.json": json.dumps(document)})
    assert work.both(label_separator="space").task == "multilabel"


@pytest.mark.parametrize(
    ("name", "pattern", "label"),
    [
        ("cat.0.jpg", "{label}.{number}", "cat"),
        ("train/a b_0017.png", "{label}_{number}", "a b"),
        ("17-dog.png", "{number}-{label}", "dog"),
        ("IMG_cat_x_3.png", "IMG_{label}_x_{number}", "cat"),
        ("0001.jpg", "{label}.{number}", None),
    ],
)
def test_labels_in_names(name, pattern, label):
    assert label_of(name, pattern) == label


def test_a_pattern_is_given(made):
    files = {f"train/{row}-{name}-x.jpg": None for row, name in LABELS.items()}
    work = made(files)
    with pytest.raises(DataError, match=r"pattern=\{label\}"):
        work.init()
    assert work.both(pattern="{number}-{label}-x").classes.names == ("ant", "bee")
    with pytest.raises(ConfigError, match=r"has \{label\} once"):
        work.init(force=True, pattern="{number}")


def test_names_are_names_where_classes_would_have_one_image(made):
    with pytest.raises(DataError, match="no labels"):
        made({f"train/{name}_1.jpg": None for name in ("oak", "fir", "elm", "ash")}).init()


def long_table(values):
    return "ID,Label\n" + "".join(f"x{row}_{name},{value}\n" for row, pair in values.items() for name, value in pair.items())


def test_the_long_form_on_both_sides(made):
    """A row for each image and class, as of intracranial haemorrhages."""
    train = {row: {"any": row % 2, "subdural": int(row % 3 == 0)} for row in range(6)}
    files = {**{f"train/x{row}.png": None for row in train}, **{f"test/x{row}.png": None for row in (8, 9)}}
    sample = {row: {"any": 0.5, "subdural": 0.5} for row in (8, 9)}
    work = made({**files, "train.csv": long_table(train), "sample_submission.csv": long_table(sample)})
    competition = work.both()
    assert (competition.task, competition.submission.form, competition.metric) == ("multilabel", "long", "log_loss")
    assert [row.id for row in competition.test] == ["x8", "x9"]
    assert {row.id: row.labels for row in competition.train}["x3"] == ("any", "subdural")
    assert competition.submission.separator == "_"


def test_tables_beside_are_no_test_lists(made):
    rows = "".join(f"x{row},{name}\n" for row, name in LABELS.items())
    files = {
        **DATA["csv"],
        "train.csv": "image,label\n" + rows,
        "test/t.jpg": None,
        "sample_submission.csv": "image,label\nt,ant\n",
    }
    beside = "image,data\n" + "".join(f"x{row},{row}\n" for row in (0, 0, 1))
    config = made({**files, "train_annotations.csv": beside}).init().config
    assert (config.train.csv, config.test.csv) == ("train.csv", None)


def test_an_index_column_is_no_class(made):
    files = {**DATA["csv"], "test/t.jpg": None, "sample_submission.csv": ",image,label\n0,t,ant\n"}
    config = made(files).init().config
    assert (config.submission.id_column, config.submission.form) == ("image", "label")


@pytest.mark.parametrize("column", ["PatientID", "location", "seq_id", "case_id", "StudyInstanceUID_study"])
def test_groups_are_found_by_words_and_values(made, column):
    rows = "".join(f"x{row},{'ab'[row % 2]},{row // 2}\n" for row in range(40))
    files = {f"train/x{row}.jpg": None for row in range(40)}
    inference = made({**files, "train.csv": f"image,label,{column}\n" + rows}).init()
    assert inference.config.train.group_column == column
    assert any(
        "20 of 20 groups would be parted" in text for question in inference.questions for text in question.options.values()
    )


def test_what_lies_there_instead(made):
    with pytest.raises(DataError, match=r"there are 2 \.tfrec; TFRecords are not read"):
        made({"train/a.tfrec": None, "train/b.tfrec": None}).init()


def test_known_competitions_are_hints_that_the_data_confirms(made):
    files = {**DATA["csv"], "test/t.jpg": None, "sample_submission.csv": "id_code,diagnosis\nt,ant\n"}
    work = made(files)
    assert work.init().config.metric == "quadratic_kappa"
    assert work.init("accuracy", force=True).config.metric == "accuracy"
    work.add({"sample_submission.csv": "image,label\nt,ant\n"})
    assert work.init(force=True).config.metric == "accuracy"


def test_the_command_to_copy_stands_in_the_error(made):
    work = made(
        {**DATA["csv"], "test/t.jpg": None, "train.csv": "image,label\n" + "".join(f"x{row},{row % 2}\n" for row in LABELS)}
    )
    work.add({"sample_submission.csv": "image,label\nt,0\n"})
    with pytest.raises(AmbiguousDataError, match=r"kk init .*data --choose form=positive"):
        work.init()

"""The form of the submission, read from made-up sample submissions."""

from __future__ import annotations

import pytest

from kaggle_kit.competition.form import _match
from kaggle_kit.errors import AmbiguousDataError, ClassMappingError, DataError

NAMES = ("mango 10", "mango 9", "apple")


def folders(names, sample, **tables):
    train = {f"train/{name}/{number}.jpg": None for number, name in enumerate(names)}
    extra = {f"{name}.csv": text for name, text in tables.items()}
    return {**train, "test/x.jpg": None, "test/y.jpg": None, "sample_submission.csv": sample, **extra}


def test_probability_columns_keep_the_order_of_the_sample(made):
    sample = "id,mango 9,apple,mango 10\nx,.3,.3,.4\ny,.3,.3,.4\n"
    config = made(folders(NAMES, sample)).init().config
    assert config.classes == ["mango 9", "apple", "mango 10"]
    assert list(config.submission.columns.items()) == [(name, name) for name in config.classes]
    assert (config.submission.form, config.metric) == ("probability", "log_loss")


@pytest.mark.parametrize(
    ("names", "targets", "expected"),
    [
        (["a", "b"], ["b", "a", "c"], {"b": "b", "a": "a", "c": "c"}),
        (["1", "2", "10"], ["class_1", "class_2", "class_10"], {"class_1": "1", "class_2": "2", "class_10": "10"}),
        (["1", "10", "11"], ["c1", "c10", "c11"], {"c1": "1", "c10": "10", "c11": "11"}),
        (["cat", "dog"], ["p_cat_prob", "p_dog_prob"], {"p_cat_prob": "cat", "p_dog_prob": "dog"}),
        (["Colts foot", "iris"], ["IRIS", "colts_foot"], {"IRIS": "iris", "colts_foot": "Colts foot"}),
        (["cat", "dog"], ["cat", "cow"], None),
        (["a b", "ab"], ["a-b", "a_b"], None),
    ],
)
def test_columns_are_matched_to_classes(names, targets, expected):
    assert _match(names, targets) == expected


def test_probability_columns_that_are_not_the_classes(made):
    sample = "id,mango 9,apple,plum\nx,.3,.3,.4\ny,.3,.3,.4\n"
    with pytest.raises(ClassMappingError, match=r"only in the training data: mango 10; only in sample_submission.csv: plum"):
        made(folders(NAMES, sample)).init()


def test_class_without_training_images_comes_from_the_sample(made):
    sample = "id,mango 9,apple,mango 10,plum\nx,.3,.3,.2,.2\ny,.3,.3,.2,.2\n"
    inference = made(folders(NAMES, sample)).init()
    assert inference.config.classes[-1] == "plum"
    assert any("without any training image: 'plum'" in finding for finding in inference.findings)


def test_integers_for_named_classes_need_a_choice(made):
    """The fault of seed N: an index in somebody's list is never guessed."""
    work = made(folders(NAMES, "id,label\nx,0\ny,2\n"))
    with pytest.raises(
        AmbiguousDataError, match=r"(?s)class_order=lexical.*'apple', 'mango 10'.*class_order=natural.*'mango 9'"
    ):
        work.init()
    lexical = work.init(class_order="lexical").config.submission
    assert (lexical.form, lexical.indices) == ("index", {"apple": 0, "mango 10": 1, "mango 9": 2})
    natural = work.init(force=True, class_order="natural").config.submission
    assert natural.indices == {"apple": 0, "mango 9": 1, "mango 10": 2}


def test_order_of_appearance_is_offered_for_tables_only(made):
    table = {"train/1.jpg": None, "train/2.jpg": None, "train/3.jpg": None, "test/x.jpg": None}
    work = made({**table, "train.csv": "image,label\n1,pear\n2,fig\n3,apple\n", "sample_submission.csv": "image,label\nx,0\n"})
    with pytest.raises(AmbiguousDataError, match="first_index"):  # a single 0 may be a placeholder, and says nothing
        work.init(class_order="appearance")
    config = work.init(class_order="appearance", first_index="0").config
    assert config.submission.indices == {"pear": 0, "fig": 1, "apple": 2}


@pytest.mark.parametrize(
    "text", ["class,index\nmango 10,7\napple,8\nmango 9,9\n", "index,class\n7,mango 10\n8,apple\n9,mango 9\n"]
)
def test_integers_explained_by_a_table(made, text):
    inference = made(folders(NAMES, "id,label\nx,7\ny,8\n", classes=text)).init()
    assert inference.config.submission.indices == {"mango 10": 7, "apple": 8, "mango 9": 9}
    assert inference.questions == []


@pytest.mark.parametrize(("cells", "start"), [(("0", "1"), 0), (("3", "1"), 1)])
def test_first_index_shown_by_the_sample(made, cells, start):
    work = made(folders(NAMES, f"id,label\nx,{cells[0]}\ny,{cells[1]}\n"))
    assert min(work.init(class_order="lexical").config.submission.indices.values()) == start


def test_first_index_that_the_sample_leaves_open(made):
    work = made(folders(NAMES, "id,label\nx,1\ny,2\n"))
    with pytest.raises(AmbiguousDataError, match="first_index=1"):
        work.init(class_order="lexical")
    assert work.init(class_order="lexical", first_index="1").config.submission.indices["apple"] == 1


def test_integers_that_are_class_names_are_labels(made):
    config = made(folders(("1", "2", "10"), "id,label\nx,10\ny,2\n")).init().config
    assert (config.submission.form, config.classes) == ("label", ["1", "2", "10"])


def test_zero_where_classes_start_at_one_is_asked_about(made):
    work = made(folders(("1", "2", "10"), "id,label\nx,0\ny,0\n"))
    with pytest.raises(AmbiguousDataError, match=r"(?s)form=index.*form=label"):
        work.init()
    assert work.init(form="label").config.submission.form == "label"


def test_fractions_of_two_classes_are_the_positive_class(made):
    config = made(folders(("no", "yes"), "id,target\nx,0.5\ny,0.5\n")).init().config
    assert (config.submission.form, config.metric, config.classes) == ("positive", "roc_auc", ["no", "yes"])


def test_positive_class_is_asked_for_where_nothing_says(made):
    work = made(folders(("cat", "dog"), "id,target\nx,0.5\ny,0.5\n"))
    with pytest.raises(AmbiguousDataError, match=r"(?s)positive_class=cat.*positive_class=dog"):
        work.init()
    assert work.init(positive_class="cat").config.classes == ["dog", "cat"]


def test_positive_class_is_what_the_column_is_called(made):
    assert made(folders(("cat", "dog"), "id,Cat\nx,0.5\ny,0.5\n")).init().config.classes == ["dog", "cat"]


@pytest.mark.parametrize(("metric", "form"), [("accuracy", "label"), ("roc_auc", "positive"), ("pF1", "positive")])
def test_zeros_are_labels_or_probabilities_as_the_metric_says(made, metric, form):
    inference = made(folders(("0", "1"), "id,target\nx,0\ny,0\n")).init(metric)
    assert (inference.config.submission.form, inference.questions) == (form, [])


def test_zeros_without_a_metric_are_asked_about(made):
    """Hard labels lose where probabilities are ranked: 0.14 of AUC in a competition of this form."""
    work = made(folders(("0", "1"), "id,target\nx,0\ny,0\n"))
    with pytest.raises(AmbiguousDataError, match=r"(?s)form=positive.*form=label"):
        work.init()
    assert not (work.root / "kk.yaml").exists()
    assert work.init(form="positive").config.submission.form == "positive"


def test_fractions_of_three_classes_are_refused(made):
    with pytest.raises(DataError, match="one column of fractions"):
        made(folders(NAMES, "id,label\nx,0.5\ny,0.5\n")).init()


def test_text_beside_probabilities_is_refused(made):
    with pytest.raises(DataError, match="'usage' holds text"):
        made(folders(NAMES, "id,label,usage\nx,apple,Public\ny,apple,Private\n")).init()


@pytest.mark.parametrize(("cell", "separator"), [("scab rust", " "), ("scab,rust", ","), ("scab", "|")])
def test_several_labels_in_a_cell_of_the_sample(made, cell, separator):
    rows = "1,scab\n2,rust\n3,scab|rust\n"
    train = {"train/1.jpg": None, "train/2.jpg": None, "train/3.jpg": None, "test/x.jpg": None}
    work = made({**train, "train.csv": "image,labels\n" + rows, "sample_submission.csv": f'image,labels\nx,"{cell}"\n'})
    config = work.init().config
    assert (config.submission.form, config.submission.separator, config.metric) == ("labels", separator, "f1_macro")


def test_empty_sample_cells_take_a_stated_default(made):
    inference = made(folders(NAMES, "id,label\nx,\ny,\n")).init()
    assert [(question.key, question.chosen) for question in inference.questions] == [("form", "label")]


def test_sample_without_a_target(made):
    with pytest.raises(DataError, match="no column but 'id'"):
        made(folders(NAMES, "id\nx\ny\n")).init()


def test_two_samples_are_asked_about(made):
    work = made({**folders(NAMES, "id,label\nx,apple\ny,apple\n"), "sub/sample_submission.csv": "id,label\nx,apple\n"})
    with pytest.raises(AmbiguousDataError, match=r"sample=sub/sample_submission.csv"):
        work.init()
    assert work.init(sample="none", test_csv="none").config.submission.sample is None

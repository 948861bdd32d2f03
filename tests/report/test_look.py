"""The page about the data: what it finds, what it shows, and that it is bounded and harmless."""

import dataclasses
import shutil

import numpy as np
import pytest
from factories import make_workspace
from PIL import Image

from kaggle_kit import Project
from kaggle_kit.competition import Setup
from kaggle_kit.config import derive
from kaggle_kit.errors import ConfigError
from kaggle_kit.report import survey
from kaggle_kit.report.data_figures import plot_classes, plot_folds, plot_shift, plot_sizes, short
from kaggle_kit.report.data_page import Look, Wishes, class_samples, shown_groups
from kaggle_kit.report.look import look_at_data
from kaggle_kit.report.shift import measure_shift, pixel_statistics
from kaggle_kit.report.survey import class_table, find_splits, label_combinations, read_headers

PLAIN = Wishes(network=False)
XSS = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$x$ & {{ 7 * 7 }}"]


def fill(made, rng=None):
    """Give every image pixels in which something can be seen."""
    rng = rng or np.random.default_rng(0)
    for row in (*made.competition.train, *made.competition.test):
        tiny = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
        Image.fromarray(tiny).resize((90, 60), Image.Resampling.BICUBIC).save(row.path)


def look(made, **changes):
    competition = dataclasses.replace(made.competition, **changes)
    return look_at_data(Setup(made.workspace, made.config, competition), PLAIN)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A competition with duplicates of three kinds, a damaged image, and class names that try to do harm."""
    built = make_workspace(tmp_path_factory.mktemp("look"), class_names=XSS, n_train=60, n_test=24, n_runs=0)
    fill(built)
    train, test = built.competition.train, built.competition.test
    other = next(row for row in train[1:] if row.labels != train[0].labels)
    shutil.copy(train[0].path, other.path)
    shutil.copy(train[20].path, test[3].path)
    train[30].path.write_bytes(train[30].path.read_bytes()[:60])
    built.workspace.folds_path("folds").unlink()
    return built


@pytest.fixture(scope="module")
def page(made):
    result = look(made)
    return result, result.path.read_text(encoding="utf-8")


def test_names_in_the_data_are_text_on_the_page(page):
    _, text = page
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "$x$ &amp; {{ 7 * 7 }}" in text


def test_what_stands_out_is_counted_and_said(made, page):
    result, text = page
    assert (result.n_train, result.n_test, result.n_classes) == (60, 24, 3)
    assert result.across_labels == 1
    assert result.in_test == 1
    assert result.duplicate_groups == 2
    assert any("different labels" in remark for remark in result.remarks)
    assert "cannot be read" in text
    assert made.competition.train[30].id in text
    assert result.n_bytes == result.path.stat().st_size
    assert "wrote" in result.describe()


def test_the_page_has_its_sections_and_loads_nothing(page):
    _, text = page
    for anchor in ("overview", "classes", "files", "samples", "duplicates", "folds", "shift"):
        assert f'<section id="{anchor}"' in text
        assert f'href="#{anchor}"' in text
    for anchor in ("combinations", "augment", "batch", "imagenet"):
        assert f'id="{anchor}"' not in text
    assert "://" not in text.replace("http://www.w3.org", "").replace("-//W3C//DTD", "")
    assert text.count("data:image/webp") > 20


def test_duplicates_across_labels_come_first_and_side_by_side(page):
    _, text = page
    first = text[text.index("Different labels") : text.index("In the test set, too")]
    assert first.count("<img") == 2


def test_folds_that_were_made_are_shown_with_the_duplicates_they_know(made, monkeypatch):
    from kaggle_kit.folds import create_folds
    from kaggle_kit.images.duplicates import find_competition_duplicates

    found = find_competition_duplicates(made.competition, made.config.folds)
    create_folds(made.workspace, made.competition, made.config.folds, duplicates=found)
    monkeypatch.setattr(survey, "find_duplicates", None)  # would fail if it were called
    try:
        splits = find_splits(made.workspace, made.config, made.competition)
    finally:
        made.workspace.folds_path("folds").unlink()
    assert splits.made
    labels = {row.id: row.labels for row in made.competition.train}
    assert splits.duplicates.different_labels(labels) == found.different_labels(labels)
    assert splits.duplicates.in_test() == found.in_test()


def test_multilabel_data_show_which_labels_stand_together(tmp_path):
    built = make_workspace(tmp_path, form="labels", n_train=30, n_test=4, n_runs=0)
    fill(built)
    found = label_combinations(built.competition)
    assert found.table["images"].sum() == 30
    assert sum(found.per_image.values()) == 30
    place = found.classes.index("class 1")
    assert found.together[place, place] == sum("class 1" in row.labels for row in built.competition.train)
    assert (found.together == found.together.T).all()
    result = look(built, test=())
    text = result.path.read_text(encoding="utf-8")
    assert 'id="combinations"' in text
    assert "Not compared" in text
    assert result.shift_auc is None


def test_groups_are_counted_and_kept_in_one_fold(made):
    rows = tuple(dataclasses.replace(row, group=f"patient {place // 6}") for place, row in enumerate(made.competition.train))
    result = look(made, train=rows)
    text = result.path.read_text(encoding="utf-8")
    assert "The data has 10 groups" in text
    splits = find_splits(made.workspace, made.config, dataclasses.replace(made.competition, train=rows))
    for fold in range(splits.folds.n_folds):
        train, valid = splits.folds.split(fold)
        assert not {rows[row].group for row in train} & {rows[row].group for row in valid}


def test_many_images_are_sampled_and_the_page_says_so(made):
    headers = read_headers(made.competition, most=10)
    assert headers.read == 10
    assert headers.total == 84
    splits = find_splits(made.workspace, made.config, made.competition, most=12)
    assert splits.searched == 12
    assert find_splits(made.workspace, made.config, made.competition).searched is None


def test_of_many_classes_few_samples_are_shown(made):
    from kaggle_kit.tables import Classes

    names = tuple(f"c{number}" for number in range(2000))
    rows = tuple(
        dataclasses.replace(made.competition.train[0], id=f"{place}", labels=(name,)) for place, name in enumerate(names)
    )
    many = dataclasses.replace(made.competition, classes=Classes(names), train=rows)
    samples = class_samples(many)
    assert len(samples) == 600
    assert all(len(ids) == 1 for ids in samples.values())


def test_headers_say_what_kinds_of_files_there_are(tmp_path):
    built = make_workspace(tmp_path, n_train=12, n_test=4, n_runs=0)
    Image.new("RGBA", (40, 50)).save(built.competition.train[0].path)
    Image.fromarray(np.zeros((40, 50), np.uint16)).save(built.competition.train[1].path)
    headers = read_headers(built.competition)
    kinds = headers.kinds()
    assert kinds["train"].sum() == 12
    assert kinds["test"].sum() == 4
    assert set(kinds["mode"]) >= {"RGB", "RGBA"}
    assert kinds.iloc[0]["mode"] == "RGB"
    said = " ".join(headers.remarks())
    assert "1 of 16 images may be transparent" in said
    assert "1 of 16 images have 16 bits" in said
    assert "14 of 16 images have a side below 32" in said
    assert headers.sizes().shape[1] == 9


def test_classes_are_sorted_and_scaled(made):
    table = class_table(made.competition)
    assert table["images"].is_monotonic_decreasing
    assert table["images"].sum() == 60
    import pandas as pd

    scales = []
    for most in (40, 4000):
        axes = plot_classes(pd.DataFrame({"class": ["a", "b"], "images": [most, 10]})).axes[0]
        scales.append(axes.get_xscale())
    assert scales == ["linear", "symlog"]
    names = [f"c{number}" for number in range(153)]
    figure = plot_classes(pd.DataFrame({"class": names, "images": range(153, 0, -1)}))
    assert [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()] == names


def test_a_shift_is_found_where_there_is_one_only():
    rng = np.random.default_rng(0)
    same = measure_shift(rng.normal(size=(150, 20)), rng.normal(size=(150, 20)), "noise")
    other = measure_shift(rng.normal(size=(150, 20)), rng.normal(1.0, size=(100, 20)), "noise")
    assert 0.35 < same.auc < 0.62
    assert other.auc > 0.95
    assert "alike" in same.text
    assert "may not hold" in other.text
    assert other.test_scores.mean() > other.train_scores.mean()
    assert (len(other.train_scores), len(other.test_scores)) == (150, 100)
    assert plot_shift(other).axes[0].get_title() == f"AUC {other.auc:.3f}"


def test_pixel_statistics_know_colour_and_not_size():
    dark, light = np.zeros((50, 70, 3), np.uint8), np.full((200, 90, 3), 250, np.uint8)
    assert pixel_statistics(dark).shape == pixel_statistics(light).shape
    assert pixel_statistics(light)[0] > pixel_statistics(dark)[0]
    np.testing.assert_allclose(pixel_statistics(light), pixel_statistics(light[:64, :64]), atol=1e-6)


def test_figures_are_for_notebooks_too(made):
    headers = read_headers(made.competition)
    assert len(plot_sizes(headers.frame).axes) == 2
    splits = find_splits(made.workspace, made.config, made.competition)
    labels = [label.get_text() for label in plot_folds(splits.folds).axes[0].get_xticklabels()]
    assert labels == [f"fold {number}" for number in range(splits.folds.n_folds)]
    assert short("a" * 50) == "a" * 12 + "…" + "a" * 12
    assert short("a\n b") == "a b"


def test_groups_of_duplicates_are_bounded(made):
    from kaggle_kit.folds.duplicates import Duplicates

    ids = [row.id for row in made.competition.train]
    labels = made.competition.train[0].labels
    rows = tuple(dataclasses.replace(row, labels=labels) for row in made.competition.train)
    pairs = tuple((("train", ids[place]), ("train", ids[place + 1])) for place in range(0, 60, 2))
    huge = tuple(("train", row_id) for row_id in ids)
    competition = dataclasses.replace(made.competition, train=rows)
    splits = survey.Splits(None, False, Duplicates("near", (*pairs, *pairs, huge)))
    found = shown_groups(Look(made.workspace, made.config, competition, PLAIN, read_headers(competition, most=1), splits, None))
    assert len(found) == 30
    assert max(map(len, found)) <= 8


def test_an_augmentation_is_drawn_as_training_does_it(made):
    from kaggle_kit.images.dataset import source_for
    from kaggle_kit.images.transforms import ImageSpec, train_transform
    from kaggle_kit.report.network import draw_augmented
    from kaggle_kit.seeds import derive_seed

    config, spec = derive(made.config.run, ["augment.preset=heavy"]), ImageSpec(32, 32)
    row = made.competition.train[0]
    drawn = draw_augmented(config, spec, row)
    assert len(drawn.images) == 16
    assert len({image.tobytes() for image in drawn.images}) > 10
    expected = train_transform(spec, config.augment)(source_for(spec)(row.path), derive_seed(config.seed, 3))
    np.testing.assert_array_equal(drawn.images[3], expected)
    assert any("RandomResizedCrop" in step for step in drawn.steps)


def test_a_batch_is_shown_with_its_labels_after_mixing(made):
    from kaggle_kit.images.transforms import ImageSpec
    from kaggle_kit.report.network import draw_batch

    rows = tuple(row for row in made.competition.train if row.id != made.competition.train[30].id)
    competition, spec = dataclasses.replace(made.competition, train=rows), ImageSpec(32, 32)
    plain = draw_batch(derive(made.config.run, ["batch_size=8"]), spec, competition)
    truth = {row.id: row.labels[0] for row in rows}
    assert plain.labels == [[(truth[row_id], 1.0)] for row_id in plain.ids]
    assert "off" in plain.note
    mixed = draw_batch(derive(made.config.run, ["batch_size=8", "augment.mixup=1.0"]), spec, competition)
    assert mixed.ids == plain.ids
    assert any(len(labels) == 2 for labels in mixed.labels)
    for labels in mixed.labels:
        assert sum(share for _, share in labels) == pytest.approx(1.0)


def test_the_pretrained_model_says_what_it_sees(made):
    from kaggle_kit.report.network import ask_pretrained, imagenet_names, small_backbone

    assert imagenet_names()[281] == "tabby"
    name = small_backbone()
    if name is None:
        pytest.skip("no weights on this machine")
    rows = made.competition.train[:2]
    competition = dataclasses.replace(made.competition, train=rows)
    said_by, opinions = ask_pretrained(derive(made.config.run, [f"model={name}"]), competition)
    assert said_by == name
    assert [one.row_id for one in opinions] == [row.id for row in rows]
    for one in opinions:
        assert one.raw.shape == one.prepared.shape
        assert len(one.said_raw) == len(one.said_prepared) == 3
        assert set(dict(one.said_prepared)) <= set(imagenet_names())


def test_a_preset_that_is_not_known_is_refused_before_anything_is_read(made):
    with pytest.raises(ConfigError, match="heavy"):
        Project.open(made.workspace.root).look(augment="heavvy")


def test_the_command_draws_what_is_wished_for(made, monkeypatch):
    monkeypatch.setattr("kaggle_kit.report.network.small_backbone", lambda: None)
    rows = made.competition.train
    shutil.copy(rows[31].path, rows[30].path)
    result = Project.open(made.workspace.root).look(
        "model=test_resnet", "image_size=32", "batch_size=8", augment="light", batch=True
    )
    text = result.path.read_text(encoding="utf-8")
    assert "Augmentation light" in text
    assert text.count("draw 16<") == 1
    assert 'id="batch"' in text
    assert "pixel statistics" in text


def test_the_page_is_shown_in_the_browser_when_asked_for(made, monkeypatch):
    from kaggle_kit.report import pages

    shown = []
    monkeypatch.setattr("kaggle_kit.report.network.small_backbone", lambda: None)
    monkeypatch.setattr(pages.webbrowser, "open", shown.append)
    project = Project.open(made.workspace.root)
    project.look()
    assert not shown
    result = project.look(open=True)
    assert shown == [result.path.resolve().as_uri()]


def test_embedding_leaves_pytorch_as_it_was(made):
    import torch

    from kaggle_kit.report.network import embed, small_backbone

    name = small_backbone()
    if name is None:
        pytest.skip("no weights on this machine")
    before = torch.get_num_threads()
    rows = [(row.id, row.path) for row in made.competition.train[10:13]]
    features = embed(name, rows)
    assert features.shape[0] == 3
    assert len(np.unique(features.round(3), axis=0)) == 3
    assert torch.get_num_threads() == before

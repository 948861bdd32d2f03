"""kk.yaml gives back every name that went in, and is explained."""

from __future__ import annotations

import re

import yaml
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.config import CompetitionConfig, FoldsConfig, RunConfig, build_config
from kaggle_kit.config.render import quote, render

AWKWARD = [
    "yes",
    "no",
    "1",
    "0001",
    "a: b",
    "é",
    "#x",
    "~",
    "null",
    "1e3",
    "2020-01-01",
    "- a",
    "{a}",
    "'",
    '"',
    "\\",
    "a\nb",
    "\x85",
]
name = st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(name)
def test_quoted_text_comes_back(text):
    assert yaml.safe_load(quote(text)) == text
    assert "\n" not in quote(text)


@given(st.lists(name, min_size=3, max_size=8, unique=True), name, st.sampled_from(["probability", "index", "labels"]))
def test_every_name_survives(names, other, form):
    config = CompetitionConfig.model_validate(
        {
            "name": other,
            "data_dir": other,
            "task": "multilabel" if form == "labels" else "multiclass",
            "classes": names,
            "train": {
                "layout": "csv",
                "dirs": [other],
                "csv": other,
                "val_csv": other,
                "image_column": other,
                "label_columns": names,
                "label_separator": other,
                "group_column": other,
                "fold_column": other,
                "train_only_dirs": [other],
                "train_only_column": other,
                "label_map": {other: None, f"{other}+": other},
            },
            "test": {"dirs": [other], "csv": other, "image_column": other},
            "submission": {
                "sample": other,
                "id_column": other,
                "form": form,
                "columns": {name: name for name in names} if form == "probability" else {other: ""},
                "indices": {name: number for number, name in enumerate(names)} if form == "index" else {},
                **({"separator": other, "empty_label": other, "threshold": 0.25} if form == "labels" else {}),
            },
        }
    )
    written = build_config(yaml.safe_load(render(config, FoldsConfig(scheme="column"))), source="test")
    assert written.competition == config
    assert list(written.competition.submission.columns) == list(config.submission.columns)
    assert written.folds == FoldsConfig(scheme="column")
    assert written.run == RunConfig()


def test_every_line_of_the_run_section_is_a_known_entry_and_comments_explain():
    config = CompetitionConfig.model_validate(
        {
            "name": "x",
            "data_dir": "d",
            "task": "multiclass",
            "classes": ["a"],
            "train": {"layout": "folders", "dirs": ["t"], "val_dirs": ["t"], "class_level": "last"},
        }
    )
    text = render(config, FoldsConfig())
    assert build_config(yaml.safe_load(text), source="test").competition == config
    assert {"run", "folds", "competition", "cache"} == set(yaml.safe_load(text))
    keys = [line for line in text.splitlines() if re.match(r" +[a-z_]+:", line)]
    assert len(keys) > 30
    assert [line for line in keys if not re.search(r"  # \w.*\w", line)] == []  # a comment beside each

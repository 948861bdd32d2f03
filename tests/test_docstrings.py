"""The examples in docstrings print what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import kaggle_kit

ROOT = Path(kaggle_kit.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
"""What has examples; nothing else is imported."""
MOST_USED = (
    *("tables.classes.Classes", "tables.predictions.Predictions", "tables.fold_table.FoldTable"),
    *("metrics.get_metric", "metrics.predicted_labels", "folds.make.make_folds", "views.parse_views"),
    *("inference.tta.merge_views", "blending.blenders.get_blender", "blending.means.gmean", "units.parse_duration"),
    *("diagnosis.confusion_counts", "project.Project.recipes"),
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried
    assert not failed


@pytest.mark.parametrize("name", MOST_USED)
def test_what_is_used_most_has_an_example(name):
    found = kaggle_kit
    for part in name.split("."):
        found = getattr(found, part, None) or importlib.import_module(f"{found.__name__}.{part}")
    assert ">>> " in (found.__doc__ or "")
